// Events of the queue triggers, in whichever of their formats.

package pgq

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Change is the change of a table that a trigger wrote into an event.
type Change struct {
	Op    byte     // I insert, U update, D delete, R truncate
	Table string   // schema.table, without quotes
	Keys  []string // the columns of the key; sqltriga does not tell them of an INSERT
	Row   Row      // the new row, of a DELETE the old one; see DecodeSQL for sqltriga
	Old   Row      // the row before an UPDATE, if the trigger has the argument backup
}

// DecodeEvent reads an event that pgq.jsontriga, pgq.logutriga or pgq.sqltriga wrote;
// its type tells which. Triggers whose arguments put something else into ev_type,
// ev_data or ev_extra2 write events that it cannot read.
func DecodeEvent(ev *Event) (Change, error) {
	c := Change{Table: ev.Extra1.String}
	fault := func(field string, err error) (Change, error) {
		return Change{}, fmt.Errorf("event %d: %s: %w", ev.ID, field, err)
	}
	kind := ev.Type.String
	decode, decodeOld := DecodeRow, DecodeRow
	op, keys, url := strings.Cut(kind, ":")
	switch {
	case strings.HasPrefix(kind, "{"):
		typed, err := DecodeJSONType(kind)
		if err != nil {
			return fault("ev_type", err)
		}
		c.Op, c.Keys = typed.Op, typed.Keys
		if typed.Table != "" {
			c.Table = typed.Table
		}
		decode, decodeOld = DecodeJSON, DecodeJSON
	case kind == "R":
		c.Op = 'R'
	case url && isRowOp(op):
		c.Op = op[0]
	case isRowOp(kind):
		c.Op = kind[0]
		decode = func(data string) (row Row, err error) {
			row, c.Keys, err = DecodeSQL(c.Op, data)
			return row, err
		}
	default:
		return fault("ev_type", fmt.Errorf("%s is not written by a queue trigger: want I, U or D with or without a colon, R, or a JSON object", excerpt(kind)))
	}
	if c.Op == 'R' { // of no row, so that it has no key either
		c.Row, c.Keys = Row{}, nil
		return c, nil
	}
	if !ev.Data.Valid {
		return fault("ev_data", errIsNull)
	}
	var err error
	if c.Row, err = decode(ev.Data.String); err != nil {
		return fault("ev_data", err)
	}
	if url && !strings.HasPrefix(kind, "{") {
		c.Keys = keyColumns(keys, c.Row)
	}
	if c.Op == 'U' && ev.Extra2.Valid {
		if c.Old, err = decodeOld(ev.Extra2.String); err != nil {
			return fault("ev_extra2", err)
		}
	}
	return c, nil
}

var errIsNull = fmt.Errorf("is NULL, and must be a row")

func isRowOp(op string) bool { return op == "I" || op == "U" || op == "D" }

var jsonOps = map[string]byte{"INSERT": 'I', "UPDATE": 'U', "DELETE": 'D', "TRUNCATE": 'R'}

// DecodeJSONType reads what the type of an event of jsontriga tells of the change: Op,
// Table and Keys.
func DecodeJSONType(text string) (Change, error) {
	var kind struct {
		Op    string
		Table []string
		PKey  []string
	}
	if err := json.Unmarshal([]byte(text), &kind); err != nil {
		return Change{}, fmt.Errorf("decode json: %w", err)
	}
	c := Change{Op: jsonOps[kind.Op], Table: strings.Join(kind.Table, "."), Keys: kind.PKey}
	if c.Op == 0 {
		return Change{}, fmt.Errorf("%s has no \"op\" that is INSERT, UPDATE, DELETE or TRUNCATE", excerpt(text))
	}
	return c, nil
}

// keyColumns reads the list of an event of logutriga: commas stand between names, and
// in one that the trigger's argument pkey= gave perhaps blanks.
func keyColumns(list string, row Row) (keys []string) {
	if list == "" {
		return nil
	}
	for _, item := range strings.Split(list, ",") {
		if _, found := row[item]; found {
			keys = append(keys, item)
		} else {
			keys = append(keys, strings.Fields(item)...)
		}
	}
	return keys
}
