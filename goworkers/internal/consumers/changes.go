package consumers

// What events of logutriga and jsontriga say beside the row: operation, key and table.

import (
	"strings"

	"goworkers/pgq"
)

// change is what the type of an event says.
type change struct {
	op  byte     // I, U, D, or R for TRUNCATE
	key []string // columns of the primary key
}

// changes remembers the types that it has read: there are few.
type changes map[string]change

// of reads an event's type: I:id,name, or a JSON object.
func (c changes) of(ev *pgq.Event) (change, error) {
	if known, found := c[ev.Type.String]; found {
		return known, nil
	}
	text := strings.Clone(ev.Type.String) // not all of the event with it
	if strings.HasPrefix(text, "{") {
		typed, err := pgq.DecodeJSONType(text)
		if err != nil {
			return change{}, badRowf("its type is none of pgq.jsontriga: %v", err)
		}
		c[text] = change{typed.Op, typed.Keys}
		return c[text], nil
	}
	op, list, found := strings.Cut(text, ":")
	if len(op) != 1 || !strings.Contains("IUDR", op) || !found && op != "R" {
		return change{}, badRowf("its type %q is none of pgq.logutriga, which writes I:, U: or D: and the columns of the primary key, nor of pgq.jsontriga", text)
	}
	ch := change{op: op[0]}
	if list != "" {
		ch.key = strings.Split(list, ",")
	}
	c[text] = ch
	return ch, nil
}

// keyed is the change of a row that has a key.
func (c changes) keyed(ev *pgq.Event) (change, error) {
	ch, err := c.of(ev)
	if err == nil && ch.op != 'R' && len(ch.key) == 0 {
		err = badRowf("its table %s has no primary key; give it one, or name the columns to the trigger with pkey=", ev.Extra1.String)
	}
	return ch, err
}

// tableOf is the table that the event is about.
func tableOf(ev *pgq.Event) (string, error) {
	if ev.Extra1.String == "" {
		return "", badRowf("it names no table in ev_extra1, as the triggers of pgq do")
	}
	return fullTable(ev.Extra1.String), nil
}

// tablePairs reads a list of from:to.
func tablePairs(entries []string) (pairs map[string]string, wrong string) {
	pairs = map[string]string{}
	for _, entry := range entries {
		from, to, found := strings.Cut(entry, ":")
		from, to = strings.TrimSpace(from), strings.TrimSpace(to)
		if !found || from == "" || to == "" {
			return nil, "is not a list of table:table; write for example orders:archive.orders"
		}
		pairs[fullTable(from)] = fullTable(to)
	}
	return pairs, ""
}
