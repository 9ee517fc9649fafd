package differ

// How what comes back is written: a line a message, every field of it. What varies by
// nature is written as *: keys, salts and nonces, where in its source the server raised
// an error, its version. Process ids become numbers in the order of their appearance.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"goworkers/pgwire"
)

// renderer writes the messages of one play.
type renderer struct {
	hidden  map[string]bool
	pids    map[string]string
	replace *strings.Replacer
}

// columns are what the last RowDescription of a client named, and how rows are shown.
type columns struct {
	names []string
	only  []string // nil: all
}

// maxShown is the number of bytes of a value that are written; longer ones are told by
// their size and ends.
const maxShown = 400

// masked are the columns and parameters that are never the same.
var masked = map[string]bool{"server_version": true, "pgbouncer.version": true}

// ofPgBouncer are ParameterStatus that newer PgBouncers send at login, about themselves.
var ofPgBouncer = regexp.MustCompile(`^ParameterStatus "pgbouncer\.`)

func (r *renderer) text(value []byte) string {
	if len(value) > maxShown {
		return fmt.Sprintf("%s...%s %d bytes", strconv.Quote(string(value[:20])), strconv.Quote(string(value[len(value)-20:])), len(value))
	}
	return strconv.Quote(r.replace.Replace(string(value)))
}

// message writes a message of the server's side.
func (r *renderer) message(cols *columns, typ byte, body []byte) string {
	d := &decoder{buf: body}
	name := pgwire.TypeName(typ, false)
	var out string
	switch typ {
	case pgwire.MsgAuthentication:
		return r.authentication(body)
	case pgwire.MsgParameterStatus:
		key, value := d.cstring(), d.cstring()
		out = r.text(key) + " "
		if masked[string(key)] {
			out += "*"
		} else {
			out += r.text(value)
		}
	case pgwire.MsgBackendKeyData:
		out = fmt.Sprintf("%d bytes", len(d.rest()))
	case pgwire.MsgReadyForQuery:
		out = string(d.take(1))
	case pgwire.MsgCommandComplete:
		out = r.text(d.cstring())
	case pgwire.MsgErrorResponse, pgwire.MsgNoticeResponse:
		out = r.report(d)
	case pgwire.MsgRowDescription:
		out = r.rowDescription(cols, d)
	case pgwire.MsgDataRow:
		out = r.dataRow(cols, d)
	case pgwire.MsgParameterDescription:
		for range d.uint16() {
			out += fmt.Sprintf("%d ", d.uint32())
		}
	case pgwire.MsgCopyInResponse, pgwire.MsgCopyOutResponse, pgwire.MsgCopyBothResponse:
		out = fmt.Sprintf("format %d columns", d.take(1)[0])
		for range d.uint16() {
			out += fmt.Sprintf(" %d", d.uint16())
		}
	case pgwire.MsgCopyData:
		out = r.text(d.rest())
	case pgwire.MsgNegotiateProtocolVersion:
		out = fmt.Sprintf("%d", d.uint32())
		for range d.uint32() {
			out += " " + r.text(d.cstring())
		}
	case pgwire.MsgFunctionCallResponse:
		out = r.value("", d)
	case pgwire.MsgNotificationResponse:
		d.uint32()
		out = fmt.Sprintf("pid %s %s", r.text(d.cstring()), r.text(d.cstring()))
	}
	if d.bad {
		return fmt.Sprintf("%s malformed: %x", name, body)
	}
	if rest := d.rest(); len(rest) > 0 {
		out += " and " + r.text(rest)
	}
	return strings.TrimRight(name+" "+out, " ")
}

func (r *renderer) authentication(body []byte) string {
	code, data, err := pgwire.ParseAuthentication(body)
	if err != nil {
		return fmt.Sprintf("Authentication malformed: %x", body)
	}
	out := code.String()
	switch code {
	case pgwire.AuthMD5Password:
		return fmt.Sprintf("%s salt of %d bytes", out, len(data))
	case pgwire.AuthSASL:
		return out + " " + r.text(data)
	case pgwire.AuthSASLContinue:
		var iterations string
		for part := range strings.SplitSeq(string(data), ",") {
			if strings.HasPrefix(part, "i=") {
				iterations = part
			}
		}
		return out + " " + iterations
	case pgwire.AuthSASLFinal:
		return fmt.Sprintf("%s %d bytes", out, len(data))
	}
	if len(data) > 0 {
		out += " and " + r.text(data)
	}
	return out
}

func (r *renderer) report(d *decoder) string {
	var out []string
	for {
		field := d.take(1)[0]
		if field == 0 || d.bad {
			return strings.Join(out, " ")
		}
		value := r.text(d.cstring())
		if strings.IndexByte("FLR", field) >= 0 {
			value = "*"
		}
		out = append(out, string(field)+" "+value)
	}
}

func (r *renderer) rowDescription(cols *columns, d *decoder) string {
	var out []string
	cols.names = cols.names[:0]
	for range d.uint16() {
		name := string(d.cstring())
		cols.names = append(cols.names, name)
		table, number := d.uint32(), d.uint16()
		typ, size, modifier, format := d.uint32(), int16(d.uint16()), int32(d.uint32()), d.uint16()
		text := fmt.Sprintf("%s:%d/%d/%d/%d", name, typ, size, modifier, format)
		switch {
		case table >= 12000: // not one that every server has under that number
			text += fmt.Sprintf("@table.%d", number)
		case table != 0 || number != 0:
			text += fmt.Sprintf("@%d.%d", table, number)
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func (r *renderer) dataRow(cols *columns, d *decoder) string {
	var out []string
	for i := range int(d.uint16()) {
		name := fmt.Sprint(i)
		if i < len(cols.names) {
			name = cols.names[i]
		}
		value := r.value(name, d)
		if cols.only == nil || slices.Contains(cols.only, name) {
			out = append(out, value)
		}
	}
	return strings.Join(out, " ")
}

func (r *renderer) value(column string, d *decoder) string {
	n := int32(d.uint32())
	if n == -1 {
		return "NULL"
	}
	value := d.take(int(n))
	switch {
	case column == "pg_backend_pid":
		pid, ok := r.pids[string(value)]
		if !ok {
			pid = fmt.Sprintf("pid#%d", len(r.pids)+1)
			r.pids[string(value)] = pid
		}
		return pid
	case masked[column] || r.hidden[column]:
		return "*"
	}
	return r.text(value)
}

// decoder reads a body; after too short a read it is bad and gives zeros.
type decoder struct {
	buf []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.buf) {
		d.bad, d.buf = true, nil
		return make([]byte, max(1, min(n, 8)))
	}
	out := d.buf[:n]
	d.buf = d.buf[n:]
	return out
}

func (d *decoder) rest() []byte   { return d.take(len(d.buf)) }
func (d *decoder) uint16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }

func (d *decoder) cstring() []byte {
	end := bytes.IndexByte(d.buf, 0)
	if end < 0 {
		d.bad, d.buf = true, nil
		return nil
	}
	out := d.take(end)
	d.take(1)
	return out
}
