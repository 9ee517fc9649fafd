package pgwire

// The untyped packets that open a connection.
// Manual: "Start-up", protocol-flow.html#PROTOCOL-FLOW-START-UP, and the formats of
// StartupMessage, SSLRequest, GSSENCRequest and CancelRequest.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// StartupKind tells the four opening packets apart.
type StartupKind uint8

// The kinds of opening packets.
const (
	StartupMessage StartupKind = iota + 1
	SSLRequest
	GSSENCRequest
	CancelRequest
)

func (k StartupKind) String() string {
	switch k {
	case StartupMessage:
		return "StartupMessage"
	case SSLRequest:
		return "SSLRequest"
	case GSSENCRequest:
		return "GSSENCRequest"
	case CancelRequest:
		return "CancelRequest"
	}
	return fmt.Sprintf("StartupKind(%d)", uint8(k))
}

const (
	// MaxStartupSize is the largest opening packet, its four length bytes included.
	// Servers themselves take 10004 bytes, but a pooler gives them much of it by SET.
	MaxStartupSize = 64 << 10

	// StartupHeaderSize is what ParseStartupHeader needs.
	StartupHeaderSize = 8

	// DirectTLS is the first byte of a connection that starts with a TLS handshake
	// (PostgreSQL 17 and later, sslnegotiation=direct).
	DirectTLS byte = 0x16

	codeCancel = 1234<<16 | 5678
	codeSSL    = 1234<<16 | 5679
	codeGSSENC = 1234<<16 | 5680

	minCancelSize = 16       // 4 length, 4 code, 4 pid, at least 4 key
	maxCancelSize = 12 + 256 // protocol 3.2 allows keys of up to 256 bytes
	protocol30    = 3 << 16  // what we speak
)

// ErrProtocolVersion marks a StartupMessage of a protocol other than 3.x.
var ErrProtocolVersion = errors.New("unsupported frontend protocol")

// ParseStartupHeader reads the first bytes of a connection and tells the kind and the
// whole size of the packet, so that a caller can wait for it: ok is false while buf is
// shorter than StartupHeaderSize. size is never above MaxStartupSize. A CancelRequest of
// a wrong size is an error that tells the kind. A first byte of DirectTLS is the caller's
// to test before.
func ParseStartupHeader(buf []byte) (kind StartupKind, size int, ok bool, err error) {
	if len(buf) < StartupHeaderSize {
		return 0, 0, false, nil
	}
	n := binary.BigEndian.Uint32(buf)
	code := binary.BigEndian.Uint32(buf[4:])
	if n < 8 || n > MaxStartupSize {
		return 0, 0, false, fmt.Errorf("%w: startup packet of %d bytes (allowed: 8 to %d)", ErrMalformed, n, MaxStartupSize)
	}
	size = int(n)
	switch code {
	case codeSSL:
		kind = SSLRequest
	case codeGSSENC:
		kind = GSSENCRequest
	case codeCancel:
		if size < minCancelSize || size > maxCancelSize {
			return CancelRequest, 0, false, fmt.Errorf("%w: CancelRequest of %d bytes", ErrMalformed, size)
		}
		return CancelRequest, size, true, nil
	default:
		if major := code >> 16; major != 3 {
			return 0, 0, false, fmt.Errorf("%w %d.%d: only 3.x is supported", ErrProtocolVersion, major, code&0xffff)
		}
		return StartupMessage, size, true, nil
	}
	if size != 8 {
		return 0, 0, false, fmt.Errorf("%w: %s of %d bytes (must be 8)", ErrMalformed, kind, size)
	}
	return kind, size, true, nil
}

// Param is a name with its value, as in a StartupMessage.
type Param struct {
	Name, Value string
}

// Startup is a decoded StartupMessage.
type Startup struct {
	Minor  uint16  // of protocol 3.Minor
	Params []Param // in the order given, duplicates included; _pq_. ones too
}

// Get returns the last value given for name, as the server takes it.
func (s *Startup) Get(name string) (value string, ok bool) {
	for i := len(s.Params) - 1; i >= 0; i-- {
		if s.Params[i].Name == name {
			return s.Params[i].Value, true
		}
	}
	return "", false
}

// Negotiate tells whether the client must be sent a NegotiateProtocolVersion before
// anything else, since it asked for a minor version or for _pq_. options which we do
// not have, and which options these are.
func (s *Startup) Negotiate() (options []string, need bool) {
	for _, p := range s.Params {
		if strings.HasPrefix(p.Name, "_pq_.") {
			options = append(options, p.Name)
		}
	}
	return options, s.Minor > 0 || len(options) > 0
}

// ParseStartup decodes a whole StartupMessage, length bytes included.
func ParseStartup(packet []byte) (Startup, error) {
	var s Startup
	kind, size, ok, err := ParseStartupHeader(packet)
	switch {
	case err != nil:
		return s, err
	case !ok || size > len(packet):
		return s, fmt.Errorf("%w: StartupMessage ends too early", ErrMalformed)
	case kind != StartupMessage:
		return s, fmt.Errorf("%w: %s where a StartupMessage is due", ErrMalformed, kind)
	case size < len(packet):
		return s, fmt.Errorf("%w: %d bytes after StartupMessage", ErrMalformed, len(packet)-size)
	}
	s.Minor = binary.BigEndian.Uint16(packet[6:])
	r := reader{buf: packet[8:]}
	s.Params = make([]Param, 0, min(bytes.Count(r.buf, []byte{0})/2, 16))
	for {
		name := r.cstring()
		if r.bad {
			return Startup{}, fmt.Errorf("%w: StartupMessage lacks the terminator", ErrMalformed)
		}
		if len(name) == 0 {
			break
		}
		value := r.cstring()
		if r.bad {
			return Startup{}, fmt.Errorf("%w: startup parameter %q lacks a value", ErrMalformed, name)
		}
		s.Params = append(s.Params, Param{string(name), string(value)})
	}
	if len(r.buf) != 0 {
		return Startup{}, fmt.Errorf("%w: StartupMessage has %d bytes after its terminator", ErrMalformed, len(r.buf))
	}
	return s, nil
}

// AppendStartup appends a StartupMessage of protocol 3.0. Names and values must not
// hold zero bytes.
func AppendStartup(dst []byte, params []Param) []byte {
	mark := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, protocol30)
	for _, p := range params {
		dst = appendCString(dst, p.Name)
		dst = appendCString(dst, p.Value)
	}
	dst = append(dst, 0)
	binary.BigEndian.PutUint32(dst[mark:], uint32(len(dst)-mark))
	return dst
}

// AppendSSLRequest appends an SSLRequest; the answer is one byte, S or N.
func AppendSSLRequest(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, 8), codeSSL)
}

// AppendGSSENCRequest appends a GSSENCRequest; the answer is one byte, G or N.
func AppendGSSENCRequest(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, 8), codeGSSENC)
}

// ParseCancelRequest decodes a whole CancelRequest, length bytes included. key holds
// the process id's four bytes and the secret behind it, in the order of the wire: 8
// bytes in protocol 3.0, up to 260 in 3.2.
func ParseCancelRequest(packet []byte) (key []byte, err error) {
	kind, size, ok, err := ParseStartupHeader(packet)
	switch {
	case err != nil:
		return nil, err
	case !ok || size > len(packet):
		return nil, fmt.Errorf("%w: CancelRequest ends too early", ErrMalformed)
	case kind != CancelRequest:
		return nil, fmt.Errorf("%w: %s where a CancelRequest is due", ErrMalformed, kind)
	}
	return packet[8:size:size], nil
}

// AppendCancelRequest appends a CancelRequest with a key as BackendKeyData gave it.
func AppendCancelRequest(dst, key []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(8+len(key)))
	dst = binary.BigEndian.AppendUint32(dst, codeCancel)
	return append(dst, key...)
}

// AppendNegotiateProtocolVersion appends the answer to a client that asked for more
// than protocol 3.0; options are the names that Startup.Negotiate found.
func AppendNegotiateProtocolVersion(dst []byte, options []string) []byte {
	dst, mark := beginMessage(dst, MsgNegotiateProtocolVersion)
	dst = binary.BigEndian.AppendUint32(dst, protocol30)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(options)))
	for _, o := range options {
		dst = appendCString(dst, o)
	}
	return endMessage(dst, mark)
}

// ParseNegotiateProtocolVersion decodes the body: the newest minor version that the
// server has, and the options that it does not know.
func ParseNegotiateProtocolVersion(body []byte) (minor uint16, options []string, err error) {
	r := reader{buf: body}
	minor = uint16(r.uint32())
	n := r.uint32()
	// Each name takes a byte at least: a count beyond the body is a lie.
	if n > uint32(len(r.buf)) {
		return 0, nil, fmt.Errorf("%w: NegotiateProtocolVersion counts %d options in %d bytes", ErrMalformed, n, len(r.buf))
	}
	for ; n > 0 && !r.bad; n-- {
		options = append(options, string(r.cstring()))
	}
	if err := r.done("NegotiateProtocolVersion"); err != nil {
		return 0, nil, err
	}
	return minor, options, nil
}

// ParseOptions decodes the startup parameter "options" as far as it sets parameters:
// words parted by blanks, a backslash takes the next character as it is; each word is
// -c NAME=VALUE, -cNAME=VALUE or --NAME=VALUE. Names come as they stand; in those of
// parameters '-' means '_'.
// Manual: "libpq connection parameters", options.
func ParseOptions(options string) ([]Param, error) {
	var params []Param
	words := splitOptions(options)
	for i := 0; i < len(words); i++ {
		w := words[i]
		var setting string
		switch {
		case strings.HasPrefix(w, "--"):
			setting = w[2:]
		case w == "-c":
			i++
			if i == len(words) {
				return nil, errors.New("options: -c lacks its NAME=VALUE")
			}
			setting = words[i]
		case strings.HasPrefix(w, "-c"):
			setting = w[2:]
		default:
			return nil, fmt.Errorf("options: %q is neither -c NAME=VALUE nor --NAME=VALUE", w)
		}
		name, value, found := strings.Cut(setting, "=")
		if !found || name == "" {
			return nil, fmt.Errorf("options: %q is not NAME=VALUE", setting)
		}
		params = append(params, Param{name, value})
	}
	return params, nil
}

// splitOptions parts a string into words as the server does.
func splitOptions(s string) []string {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			inWord = true
			if c == '\\' {
				i++
				if i == len(s) {
					continue // the server drops a lone backslash at the end
				}
			}
			word.WriteByte(s[i])
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}
