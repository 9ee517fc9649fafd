package pgwire

// Message types and framing: the only part that the hot path needs.
// Manual: "Message Formats", protocol-message-formats.html.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// HeaderSize is the size of a message header: one type byte, four length bytes.
const HeaderSize = 5

// ErrMalformed marks errors about bytes that break the protocol.
var ErrMalformed = errors.New("protocol violation")

// Types of the messages that clients send.
const (
	MsgBind         byte = 'B'
	MsgClose        byte = 'C'
	MsgDescribe     byte = 'D'
	MsgExecute      byte = 'E'
	MsgFunctionCall byte = 'F'
	MsgFlush        byte = 'H'
	MsgParse        byte = 'P'
	MsgPassword     byte = 'p' // PasswordMessage, SASLInitialResponse, SASLResponse, GSSResponse
	MsgQuery        byte = 'Q'
	MsgSync         byte = 'S'
	MsgTerminate    byte = 'X'
	MsgCopyFail     byte = 'f'
)

// Types of the messages that servers send.
const (
	MsgAuthentication           byte = 'R'
	MsgBackendKeyData           byte = 'K'
	MsgBindComplete             byte = '2'
	MsgCloseComplete            byte = '3'
	MsgCommandComplete          byte = 'C'
	MsgCopyInResponse           byte = 'G'
	MsgCopyOutResponse          byte = 'H'
	MsgCopyBothResponse         byte = 'W'
	MsgDataRow                  byte = 'D'
	MsgEmptyQueryResponse       byte = 'I'
	MsgErrorResponse            byte = 'E'
	MsgFunctionCallResponse     byte = 'V'
	MsgNegotiateProtocolVersion byte = 'v'
	MsgNoData                   byte = 'n'
	MsgNoticeResponse           byte = 'N'
	MsgNotificationResponse     byte = 'A'
	MsgParameterDescription     byte = 't'
	MsgParameterStatus          byte = 'S'
	MsgParseComplete            byte = '1'
	MsgPortalSuspended          byte = 's'
	MsgReadyForQuery            byte = 'Z'
	MsgRowDescription           byte = 'T'
)

// Types of the messages that both sides send while copying.
const (
	MsgCopyData byte = 'd'
	MsgCopyDone byte = 'c'
)

// errLength is returned as it is: a malformed header must not cost an allocation
// for each byte that an attacker sends.
var errLength = fmt.Errorf("%w: message length below 4 or above 2147483646", ErrMalformed)

// ParseHeader reads the header at the start of buf. size is the size of the whole
// message on the wire, header included: what a middleman forwards. ok is false while
// buf is shorter than a header; then nothing is consumed and the caller comes back
// with more. An err ends the connection: framing is lost.
//
// The type is not judged here: unknown messages pass through or are refused by those
// who know the state. Nor is the size, beyond what fits the protocol: a limit belongs
// to the caller, before it holds anything.
func ParseHeader(buf []byte) (typ byte, size int, ok bool, err error) {
	if len(buf) < HeaderSize {
		return 0, 0, false, nil
	}
	n := binary.BigEndian.Uint32(buf[1:5])
	if n < 4 || n > 1<<31-2 {
		return buf[0], 0, false, errLength
	}
	return buf[0], int(n) + 1, true, nil
}

// AppendHeader appends the header of a message whose body has bodySize bytes.
func AppendHeader(dst []byte, typ byte, bodySize int) []byte {
	dst = append(dst, typ)
	return binary.BigEndian.AppendUint32(dst, uint32(bodySize+4))
}

// AppendMessage appends a message with the given body.
func AppendMessage(dst []byte, typ byte, body []byte) []byte {
	return append(AppendHeader(dst, typ, len(body)), body...)
}

// beginMessage appends a header whose length endMessage fills in.
func beginMessage(dst []byte, typ byte) (buf []byte, mark int) {
	return append(dst, typ, 0, 0, 0, 0), len(dst)
}

func endMessage(dst []byte, mark int) []byte {
	binary.BigEndian.PutUint32(dst[mark+1:], uint32(len(dst)-mark-1))
	return dst
}

// appendCString appends s and a zero byte. What stands behind a zero byte within s is
// dropped: it would be read as another field.
func appendCString(dst []byte, s string) []byte {
	if i := strings.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	return append(append(dst, s...), 0)
}

// TypeName is the manual's name of a message type, as a message from a client or
// from a server; what is unknown is shown as its byte.
func TypeName(typ byte, fromClient bool) string {
	names := &serverNames
	if fromClient {
		names = &clientNames
	}
	if n := names[typ]; n != "" {
		return n
	}
	if typ > ' ' && typ < 0x7f {
		return fmt.Sprintf("unknown message '%c'", typ)
	}
	return fmt.Sprintf("unknown message 0x%02x", typ)
}

var clientNames = [256]string{
	MsgBind: "Bind", MsgClose: "Close", MsgDescribe: "Describe", MsgExecute: "Execute",
	MsgFunctionCall: "FunctionCall", MsgFlush: "Flush", MsgParse: "Parse",
	MsgPassword: "PasswordMessage", MsgQuery: "Query", MsgSync: "Sync",
	MsgTerminate: "Terminate", MsgCopyFail: "CopyFail", MsgCopyData: "CopyData",
	MsgCopyDone: "CopyDone",
}

var serverNames = [256]string{
	MsgAuthentication: "Authentication", MsgBackendKeyData: "BackendKeyData",
	MsgBindComplete: "BindComplete", MsgCloseComplete: "CloseComplete",
	MsgCommandComplete: "CommandComplete", MsgCopyInResponse: "CopyInResponse",
	MsgCopyOutResponse: "CopyOutResponse", MsgCopyBothResponse: "CopyBothResponse",
	MsgDataRow: "DataRow", MsgEmptyQueryResponse: "EmptyQueryResponse",
	MsgErrorResponse: "ErrorResponse", MsgFunctionCallResponse: "FunctionCallResponse",
	MsgNegotiateProtocolVersion: "NegotiateProtocolVersion", MsgNoData: "NoData",
	MsgNoticeResponse: "NoticeResponse", MsgNotificationResponse: "NotificationResponse",
	MsgParameterDescription: "ParameterDescription", MsgParameterStatus: "ParameterStatus",
	MsgParseComplete: "ParseComplete", MsgPortalSuspended: "PortalSuspended",
	MsgReadyForQuery: "ReadyForQuery", MsgRowDescription: "RowDescription",
	MsgCopyData: "CopyData", MsgCopyDone: "CopyDone",
}

// reader walks a body. After the first read beyond its end it is bad, and gives zero
// values: a decoder reads everything, then asks done once.
type reader struct {
	buf []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.buf) {
		r.bad = true
		return nil
	}
	b := r.buf[:n:n]
	r.buf = r.buf[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// cstring takes up to the next zero byte, which is eaten and not returned.
func (r *reader) cstring() []byte {
	i := bytes.IndexByte(r.buf, 0)
	if i < 0 {
		r.bad = true
		return nil
	}
	s := r.take(i)
	r.take(1)
	return s
}

// done tells whether all reads stood within the body and nothing is left of it.
func (r *reader) done(what string) error {
	if r.bad {
		return fmt.Errorf("%w: %s ends too early", ErrMalformed, what)
	}
	if len(r.buf) != 0 {
		return fmt.Errorf("%w: %s has %d bytes too many", ErrMalformed, what, len(r.buf))
	}
	return nil
}
