package pgwire

// A readable line a message: for debug logs, and for tests that compare what went over
// the wire with a file.

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

// Tracer writes messages as lines: F or B for the sender (frontend, backend), the
// message's name and what it holds. Proofs and secrets are never written.
type Tracer struct {
	// Steady leaves out what differs from run to run: keys, salts, values of
	// ParameterStatus, and where in its source the server raised an error.
	Steady bool

	// Limit is the number of bytes of a value that are shown, default 64.
	Limit int
}

// Append appends the line for one message, without a line end.
func (t *Tracer) Append(dst []byte, fromClient bool, typ byte, body []byte) []byte {
	if fromClient {
		dst = append(dst, "F "...)
	} else {
		dst = append(dst, "B "...)
	}
	dst = append(dst, TypeName(typ, fromClient)...)
	mark := len(dst)
	var err error
	if fromClient {
		dst, err = t.client(dst, typ, body)
	} else {
		dst, err = t.server(dst, typ, body)
	}
	if err != nil {
		dst = append(dst[:mark], ' ')
		dst = append(dst, err.Error()...)
	}
	return dst
}

func (t *Tracer) client(dst []byte, typ byte, body []byte) ([]byte, error) {
	switch typ {
	case MsgQuery:
		sql, err := ParseQuery(body)
		return t.text(dst, sql), err
	case MsgParse:
		p, err := ParseParse(body)
		if err != nil {
			return dst, err
		}
		dst = t.text(t.text(dst, p.Name), p.Query)
		for types := p.Types[2:]; len(types) > 0; types = types[4:] {
			dst = number(dst, int64(binary.BigEndian.Uint32(types)))
		}
		return dst, nil
	case MsgBind:
		portal, statement, head, ok := BindNames(body)
		if !ok {
			return dst, (&reader{bad: true}).done("Bind")
		}
		return size(t.text(t.text(dst, portal), statement), len(body)-head), nil
	case MsgDescribe, MsgClose:
		kind, name, err := ParseTarget(body)
		return t.text(append(dst, ' ', kind), name), err
	case MsgExecute:
		portal, rows, err := ParseExecute(body)
		return number(t.text(dst, portal), int64(rows)), err
	case MsgSync, MsgFlush, MsgTerminate, MsgCopyDone:
		return dst, (&reader{buf: body}).done(TypeName(typ, true))
	}
	// Passwords among them.
	return size(dst, len(body)), nil
}

func (t *Tracer) server(dst []byte, typ byte, body []byte) ([]byte, error) {
	switch typ {
	case MsgAuthentication:
		code, _, err := ParseAuthentication(body)
		return append(append(dst, ' '), code.String()...), err
	case MsgParameterStatus:
		name, value, err := ParseParameterStatus(body)
		dst = t.text(dst, name)
		if !t.Steady {
			dst = t.text(dst, value)
		}
		return dst, err
	case MsgReadyForQuery:
		state, err := ParseReadyForQuery(body)
		return append(dst, ' ', state), err
	case MsgCommandComplete:
		tag, err := ParseCommandComplete(body)
		return t.text(dst, tag), err
	case MsgRowDescription:
		columns, err := ParseRowDescription(body)
		for _, c := range columns {
			dst = number(t.text(dst, []byte(c.Name)), int64(c.OID))
		}
		return dst, err
	case MsgDataRow:
		row, err := ParseDataRow(nil, body)
		for _, v := range row {
			if v == nil {
				dst = append(dst, " NULL"...)
			} else {
				dst = t.text(dst, v)
			}
		}
		return dst, err
	case MsgErrorResponse, MsgNoticeResponse:
		rep, err := ParseReport(body)
		if err != nil {
			return dst, err
		}
		for i := range len(reportOrder) {
			field := reportOrder[i]
			if value := *rep.field(field); value != "" && !(t.Steady && (field == 'F' || field == 'L' || field == 'R')) {
				dst = t.text(append(dst, ' ', field), []byte(value))
			}
		}
		return dst, nil
	case MsgBackendKeyData:
		_, err := ParseBackendKeyData(body)
		return dst, err
	case MsgParseComplete, MsgBindComplete, MsgCloseComplete, MsgNoData, MsgPortalSuspended, MsgEmptyQueryResponse, MsgCopyDone:
		return dst, (&reader{buf: body}).done(TypeName(typ, false))
	}
	return size(dst, len(body)), nil
}

// text appends a value in quotes, cut at the limit.
func (t *Tracer) text(dst, value []byte) []byte {
	limit := t.Limit
	if limit == 0 {
		limit = 64
	}
	dst = append(dst, ' ')
	if len(value) <= limit {
		return strconv.AppendQuote(dst, string(value))
	}
	for limit > 0 && !utf8.RuneStart(value[limit]) {
		limit--
	}
	dst = strconv.AppendQuote(dst, string(value[:limit]))
	return size(append(dst, "..."...), len(value))
}

func number(dst []byte, n int64) []byte {
	return strconv.AppendInt(append(dst, ' '), n, 10)
}

func size(dst []byte, n int) []byte {
	return append(number(dst, int64(n)), " bytes"...)
}
