package pgwire

// Authentication messages. Manual: protocol-message-formats.html, Authentication… and
// PasswordMessage, SASLInitialResponse, SASLResponse.

import (
	"encoding/binary"
	"fmt"
)

// AuthCode is the subtype of an Authentication message.
type AuthCode uint32

// Subtypes of Authentication messages.
const (
	AuthOK                AuthCode = 0
	AuthKerberosV5        AuthCode = 2
	AuthCleartextPassword AuthCode = 3
	AuthMD5Password       AuthCode = 5
	AuthGSS               AuthCode = 7
	AuthGSSContinue       AuthCode = 8
	AuthSSPI              AuthCode = 9
	AuthSASL              AuthCode = 10
	AuthSASLContinue      AuthCode = 11
	AuthSASLFinal         AuthCode = 12
)

func (c AuthCode) String() string {
	switch c {
	case AuthOK:
		return "AuthenticationOk"
	case AuthKerberosV5:
		return "AuthenticationKerberosV5"
	case AuthCleartextPassword:
		return "AuthenticationCleartextPassword"
	case AuthMD5Password:
		return "AuthenticationMD5Password"
	case AuthGSS:
		return "AuthenticationGSS"
	case AuthGSSContinue:
		return "AuthenticationGSSContinue"
	case AuthSSPI:
		return "AuthenticationSSPI"
	case AuthSASL:
		return "AuthenticationSASL"
	case AuthSASLContinue:
		return "AuthenticationSASLContinue"
	case AuthSASLFinal:
		return "AuthenticationSASLFinal"
	}
	return fmt.Sprintf("authentication method %d", uint32(c))
}

// ParseAuthentication decodes the body of an Authentication message: its code and what
// belongs to it (the salt, the mechanisms, SASL or GSS data).
func ParseAuthentication(body []byte) (code AuthCode, data []byte, err error) {
	r := reader{buf: body}
	code, data = AuthCode(r.uint32()), r.buf
	if r.bad {
		return 0, nil, r.done("Authentication")
	}
	switch code {
	case AuthOK, AuthKerberosV5, AuthCleartextPassword, AuthGSS, AuthSSPI:
	case AuthMD5Password:
		r.take(4)
	default:
		return code, data, nil
	}
	if err := r.done(code.String()); err != nil {
		return 0, nil, err
	}
	return code, data, nil
}

// AppendAuthentication appends an Authentication message with its data.
func AppendAuthentication(dst []byte, code AuthCode, data []byte) []byte {
	dst = AppendHeader(dst, MsgAuthentication, 4+len(data))
	return append(binary.BigEndian.AppendUint32(dst, uint32(code)), data...)
}

// AppendSASLMechanisms appends an AuthenticationSASL that offers the mechanisms.
func AppendSASLMechanisms(dst []byte, mechanisms ...string) []byte {
	var data []byte
	for _, m := range mechanisms {
		data = appendCString(data, m)
	}
	return AppendAuthentication(dst, AuthSASL, append(data, 0))
}

// ParseSASLMechanisms decodes the data of an AuthenticationSASL.
func ParseSASLMechanisms(data []byte) (mechanisms []string, err error) {
	r := reader{buf: data}
	for {
		m := r.cstring()
		if len(m) == 0 {
			break
		}
		mechanisms = append(mechanisms, string(m))
	}
	if err := r.done("AuthenticationSASL"); err != nil {
		return nil, err
	}
	return mechanisms, nil
}

// AppendPassword appends a PasswordMessage: a password in clear or an MD5Answer.
func AppendPassword(dst []byte, password string) []byte {
	dst, mark := beginMessage(dst, MsgPassword)
	return endMessage(appendCString(dst, password), mark)
}

// ParsePassword decodes the body of a PasswordMessage.
func ParsePassword(body []byte) (password string, err error) {
	r := reader{buf: body}
	p := r.cstring()
	if err := r.done("PasswordMessage"); err != nil {
		return "", err
	}
	return string(p), nil
}

// AppendSASLInitialResponse appends a SASLInitialResponse.
func AppendSASLInitialResponse(dst []byte, mechanism string, data []byte) []byte {
	dst, mark := beginMessage(dst, MsgPassword)
	dst = appendCString(dst, mechanism)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(data)))
	return endMessage(append(dst, data...), mark)
}

// ParseSASLInitialResponse decodes the body of a SASLInitialResponse; data is nil if
// the client sent none.
func ParseSASLInitialResponse(body []byte) (mechanism string, data []byte, err error) {
	r := reader{buf: body}
	m := r.cstring()
	if size := int32(r.uint32()); size != -1 {
		data = r.take(int(size))
	}
	if err := r.done("SASLInitialResponse"); err != nil {
		return "", nil, err
	}
	return string(m), data, nil
}

// AppendSASLResponse appends a SASLResponse.
func AppendSASLResponse(dst, data []byte) []byte {
	return AppendMessage(dst, MsgPassword, data)
}
