package pgwire

// Messages from the client: the simple query, and what a middleman needs of the
// extended query protocol, which is names. Manual: "Extended Query",
// protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// Kinds of objects that Describe and Close name.
const (
	TargetStatement byte = 'S'
	TargetPortal    byte = 'P'
)

// AppendQuery appends a Query.
func AppendQuery(dst []byte, sql string) []byte {
	dst, mark := beginMessage(dst, MsgQuery)
	return endMessage(appendCString(dst, sql), mark)
}

// ParseQuery returns the text of a Query.
func ParseQuery(body []byte) (sql []byte, err error) {
	r := reader{buf: body}
	sql = r.cstring()
	if err := r.done("Query"); err != nil {
		return nil, err
	}
	return sql, nil
}

// Parse is a decoded Parse message.
type Parse struct {
	Name  []byte // empty: the unnamed statement
	Query []byte
	Types []byte // the count and the type ids as they stand in the message
}

// ParseParse decodes the body of a Parse.
func ParseParse(body []byte) (Parse, error) {
	r := reader{buf: body}
	p := Parse{Name: r.cstring(), Query: r.cstring()}
	p.Types = r.buf
	r.take(4 * int(r.uint16()))
	if err := r.done("Parse"); err != nil {
		return Parse{}, err
	}
	return p, nil
}

// AppendParse appends a Parse; types is as Parse.Types, nil means none.
func AppendParse(dst, name, query, types []byte) []byte {
	if types == nil {
		types = []byte{0, 0}
	}
	dst = AppendHeader(dst, MsgParse, len(name)+1+len(query)+1+len(types))
	dst = append(append(dst, name...), 0)
	dst = append(append(dst, query...), 0)
	return append(dst, types...)
}

// BindNames reads the two names with which the body of a Bind begins; body may be a
// part of it, so long as both names are there, else ok is false. head is the number of
// bytes that they take: what follows can be streamed through behind AppendBindHead.
func BindNames(body []byte) (portal, statement []byte, head int, ok bool) {
	i := bytes.IndexByte(body, 0)
	if i < 0 {
		return nil, nil, 0, false
	}
	j := bytes.IndexByte(body[i+1:], 0)
	if j < 0 {
		return nil, nil, 0, false
	}
	return body[:i], body[i+1 : i+1+j], i + j + 2, true
}

// AppendBindHead appends header and names of a Bind; the caller sends rest more bytes
// of the body (formats, parameters), which are the same whatever the names are.
func AppendBindHead(dst, portal, statement []byte, rest int) []byte {
	dst = AppendHeader(dst, MsgBind, len(portal)+1+len(statement)+1+rest)
	dst = append(append(dst, portal...), 0)
	return append(append(dst, statement...), 0)
}

// AppendBind appends a Bind whose parameters and results are texts; a nil value is NULL.
func AppendBind(dst, portal, statement []byte, values [][]byte) []byte {
	buf, mark := beginMessage(dst, MsgBind)
	buf = append(append(buf, portal...), 0)
	buf = append(append(buf, statement...), 0)
	buf = binary.BigEndian.AppendUint16(buf, 0)
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			buf = binary.BigEndian.AppendUint32(buf, math.MaxUint32)
			continue
		}
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(v)))
		buf = append(buf, v...)
	}
	buf = binary.BigEndian.AppendUint16(buf, 0)
	return endMessage(buf, mark)
}

// ParseTarget decodes the body of a Describe or a Close: what kind of object it names
// and how it is called.
func ParseTarget(body []byte) (kind byte, name []byte, err error) {
	r := reader{buf: body}
	kind, name = r.byte(), r.cstring()
	if err := r.done("Describe or Close"); err != nil {
		return 0, nil, err
	}
	if kind != TargetStatement && kind != TargetPortal {
		return 0, nil, fmt.Errorf("%w: Describe or Close of kind 0x%02x", ErrMalformed, kind)
	}
	return kind, name, nil
}

// AppendDescribe appends a Describe.
func AppendDescribe(dst []byte, kind byte, name []byte) []byte {
	return appendTarget(dst, MsgDescribe, kind, name)
}

// AppendClose appends a Close.
func AppendClose(dst []byte, kind byte, name []byte) []byte {
	return appendTarget(dst, MsgClose, kind, name)
}

func appendTarget(dst []byte, typ, kind byte, name []byte) []byte {
	dst = append(AppendHeader(dst, typ, len(name)+2), kind)
	return append(append(dst, name...), 0)
}

// ParseExecute decodes the body of an Execute; maxRows 0 means all.
func ParseExecute(body []byte) (portal []byte, maxRows uint32, err error) {
	r := reader{buf: body}
	portal, maxRows = r.cstring(), r.uint32()
	if err := r.done("Execute"); err != nil {
		return nil, 0, err
	}
	return portal, maxRows, nil
}

// AppendExecute appends an Execute.
func AppendExecute(dst, portal []byte, maxRows uint32) []byte {
	dst = AppendHeader(dst, MsgExecute, len(portal)+5)
	dst = append(append(dst, portal...), 0)
	return binary.BigEndian.AppendUint32(dst, maxRows)
}

// AppendSync appends a Sync.
func AppendSync(dst []byte) []byte { return AppendHeader(dst, MsgSync, 0) }

// AppendFlush appends a Flush.
func AppendFlush(dst []byte) []byte { return AppendHeader(dst, MsgFlush, 0) }

// AppendTerminate appends a Terminate.
func AppendTerminate(dst []byte) []byte { return AppendHeader(dst, MsgTerminate, 0) }
