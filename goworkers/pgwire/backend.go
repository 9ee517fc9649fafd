package pgwire

// Messages from the server that a middleman reads or makes itself (its console, its
// welcome). Manual: "Message Formats", protocol-message-formats.html.

import (
	"encoding/binary"
	"fmt"
)

// Transaction states in ReadyForQuery.
const (
	TxIdle   byte = 'I'
	TxInside byte = 'T'
	TxFailed byte = 'E'
)

// AppendParameterStatus appends a ParameterStatus.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	dst, mark := beginMessage(dst, MsgParameterStatus)
	return endMessage(appendCString(appendCString(dst, name), value), mark)
}

// ParseParameterStatus decodes the body of a ParameterStatus.
func ParseParameterStatus(body []byte) (name, value []byte, err error) {
	r := reader{buf: body}
	name, value = r.cstring(), r.cstring()
	if err := r.done("ParameterStatus"); err != nil {
		return nil, nil, err
	}
	return name, value, nil
}

// AppendBackendKeyData appends a BackendKeyData; key is process id and secret.
func AppendBackendKeyData(dst, key []byte) []byte {
	return AppendMessage(dst, MsgBackendKeyData, key)
}

// ParseBackendKeyData returns process id and secret in one, as a CancelRequest wants
// them: 8 bytes in protocol 3.0, up to 260 in 3.2.
func ParseBackendKeyData(body []byte) (key []byte, err error) {
	if len(body) < 8 || len(body) > maxCancelSize-8 {
		return nil, fmt.Errorf("%w: BackendKeyData of %d bytes", ErrMalformed, len(body))
	}
	return body, nil
}

// AppendReadyForQuery appends a ReadyForQuery with a transaction state.
func AppendReadyForQuery(dst []byte, state byte) []byte {
	return append(dst, MsgReadyForQuery, 0, 0, 0, 5, state)
}

// ParseReadyForQuery returns the transaction state. It does not allocate but for an
// error.
func ParseReadyForQuery(body []byte) (state byte, err error) {
	if len(body) != 1 {
		return 0, fmt.Errorf("%w: ReadyForQuery of %d bytes", ErrMalformed, len(body))
	}
	switch body[0] {
	case TxIdle, TxInside, TxFailed:
		return body[0], nil
	}
	return 0, fmt.Errorf("%w: transaction state 0x%02x in ReadyForQuery", ErrMalformed, body[0])
}

// Type ids of the columns that a console sends.
const (
	OIDBytea       = 17
	OIDInt8        = 20
	OIDInt4        = 23
	OIDText        = 25
	OIDTimestamptz = 1184
	OIDNumeric     = 1700
)

// Column describes a result column; its values go as text.
type Column struct {
	Name string
	OID  uint32
}

// size is pg_type.typlen of the column's type.
func (c Column) size() uint16 {
	switch c.OID {
	case OIDInt8, OIDTimestamptz:
		return 8
	case OIDInt4:
		return 4
	}
	return 0xffff // -1: variable
}

// AppendRowDescription appends a RowDescription of columns that belong to no table.
func AppendRowDescription(dst []byte, columns []Column) []byte {
	dst, mark := beginMessage(dst, MsgRowDescription)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(columns)))
	for _, c := range columns {
		dst = appendCString(dst, c.Name)
		dst = append(dst, 0, 0, 0, 0, 0, 0) // table, column number
		dst = binary.BigEndian.AppendUint32(dst, c.OID)
		dst = binary.BigEndian.AppendUint16(dst, c.size())
		dst = append(dst, 0xff, 0xff, 0xff, 0xff, 0, 0) // no type modifier, text format
	}
	return endMessage(dst, mark)
}

// ParseRowDescription returns names and types of the columns.
func ParseRowDescription(body []byte) ([]Column, error) {
	r := reader{buf: body}
	n := int(r.uint16())
	// A column takes 19 bytes at least: allocate for what was received only.
	if n > len(r.buf)/19 {
		return nil, fmt.Errorf("%w: RowDescription counts %d columns in %d bytes", ErrMalformed, n, len(r.buf))
	}
	columns := make([]Column, n)
	for i := range columns {
		columns[i].Name = string(r.cstring())
		r.take(6)
		columns[i].OID = r.uint32()
		r.take(8)
	}
	if err := r.done("RowDescription"); err != nil {
		return nil, err
	}
	return columns, nil
}

// AppendDataRow appends a DataRow; a nil value is NULL.
func AppendDataRow(dst []byte, values [][]byte) []byte {
	dst, mark := beginMessage(dst, MsgDataRow)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
		dst = append(dst, v...)
	}
	return endMessage(dst, mark)
}

// ParseDataRow appends the values to dst and returns it; a NULL is nil.
func ParseDataRow(dst [][]byte, body []byte) ([][]byte, error) {
	r := reader{buf: body}
	n := int(r.uint16())
	if n > len(r.buf)/4 {
		return dst, fmt.Errorf("%w: DataRow counts %d values in %d bytes", ErrMalformed, n, len(r.buf))
	}
	for ; n > 0 && !r.bad; n-- {
		size := int32(r.uint32())
		if size == -1 {
			dst = append(dst, nil)
			continue
		}
		dst = append(dst, r.take(int(size)))
	}
	return dst, r.done("DataRow")
}

// AppendCommandComplete appends a CommandComplete with a tag such as "SHOW".
func AppendCommandComplete(dst []byte, tag string) []byte {
	dst, mark := beginMessage(dst, MsgCommandComplete)
	return endMessage(appendCString(dst, tag), mark)
}

// ParseCommandComplete returns the command tag.
func ParseCommandComplete(body []byte) (tag []byte, err error) {
	r := reader{buf: body}
	tag = r.cstring()
	if err := r.done("CommandComplete"); err != nil {
		return nil, err
	}
	return tag, nil
}

// AppendEmptyQueryResponse appends the answer to a query without a command.
func AppendEmptyQueryResponse(dst []byte) []byte {
	return AppendHeader(dst, MsgEmptyQueryResponse, 0)
}
