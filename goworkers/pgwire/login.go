package pgwire

// Whole logins as step objects: ClientAuth answers a server, ServerAuth asks a client.

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
)

// ErrWrongPasswordType marks a login that cannot succeed: the server asks for a proof
// which our secret cannot give (md5 from a SCRAM secret, for one).
var ErrWrongPasswordType = errors.New("wrong password type")

// ClientAuth answers the Authentication messages of a server. The zero value with User
// and Secret set is ready; it serves one login.
type ClientAuth struct {
	User   string
	Secret Secret

	// Keys, when set, are used for SCRAM in place of Secret.
	Keys SCRAMKeys

	scram    *SCRAMClient
	started  bool
	verified bool
	done     bool
}

// Slow tells whether Answer will compute PBKDF2 for this message body.
func (c *ClientAuth) Slow(body []byte) bool {
	code, _, err := ParseAuthentication(body)
	return err == nil && code == AuthSASLContinue && c.Keys.ClientKey == nil
}

// Done tells that the server has said AuthenticationOk.
func (c *ClientAuth) Done() bool { return c.done }

// Answer takes the body of an Authentication message and appends to dst what goes
// back, which may be nothing. The error is ErrWrongPasswordType when we have no secret
// of the kind that is asked for.
func (c *ClientAuth) Answer(dst, body []byte) ([]byte, error) {
	code, data, err := ParseAuthentication(body)
	if err != nil {
		return dst, err
	}
	if c.done {
		return dst, fmt.Errorf("%w: %s after AuthenticationOk", ErrMalformed, code)
	}
	switch code {
	case AuthOK:
		// A server that breaks off SCRAM has not proved that it knows the password.
		if c.scram != nil && !c.verified {
			return dst, fmt.Errorf("%w: AuthenticationOk before the end of SCRAM", ErrMalformed)
		}
		c.done = true
		return dst, nil
	case AuthCleartextPassword, AuthMD5Password, AuthSASL:
		if c.started {
			return dst, fmt.Errorf("%w: %s as a second request", ErrMalformed, code)
		}
		c.started = true
	}

	kind := c.Secret.Kind()
	switch code {
	case AuthCleartextPassword:
		if kind != SecretPlain {
			return dst, c.wrongType(code)
		}
		return AppendPassword(dst, c.Secret.Reveal()), nil
	case AuthMD5Password:
		stored := c.Secret.Reveal()
		switch kind {
		case SecretMD5:
		case SecretPlain:
			stored = MD5Secret(c.User, stored)
		default:
			return dst, c.wrongType(code)
		}
		return AppendPassword(dst, MD5Answer(stored, [4]byte(data))), nil
	case AuthSASL:
		mechanisms, err := ParseSASLMechanisms(data)
		if err != nil {
			return dst, err
		}
		if !slices.Contains(mechanisms, MechanismSCRAM) {
			return dst, fmt.Errorf("server offers no SASL mechanism that we have: %q", mechanisms)
		}
		switch {
		case c.Keys.ClientKey != nil:
			c.scram = NewSCRAMClientFromKeys(c.Keys)
		case kind == SecretPlain:
			c.scram = NewSCRAMClient(c.Secret.Reveal())
		default:
			return dst, c.wrongType(code)
		}
		first, err := c.scram.First()
		if err != nil {
			return dst, err
		}
		return AppendSASLInitialResponse(dst, MechanismSCRAM, first), nil
	case AuthSASLContinue:
		if c.scram == nil {
			break
		}
		final, err := c.scram.Final(data)
		if err != nil {
			return dst, err
		}
		return AppendSASLResponse(dst, final), nil
	case AuthSASLFinal:
		if c.scram == nil {
			break
		}
		if err := c.scram.Verify(data); err != nil {
			return dst, err
		}
		c.verified = true
		return dst, nil
	default:
		return dst, fmt.Errorf("server asks for %s, which is not supported", code)
	}
	return dst, fmt.Errorf("%w: %s out of turn", ErrMalformed, code)
}

func (c *ClientAuth) wrongType(code AuthCode) error {
	return fmt.Errorf("%w: server sends %s, our secret is %s", ErrWrongPasswordType, code, c.Secret.Kind())
}

// AuthMethod is how ServerAuth lets a client prove itself.
type AuthMethod uint8

// Methods of ServerAuth.
const (
	MethodTrust AuthMethod = iota
	MethodPlain
	MethodMD5 // SCRAM if the secret is SCRAM
	MethodSCRAM
)

// ServerAuth asks a client for its proof. Fill in the exported fields, then call Begin,
// and Answer for each message of type MsgPassword until done. It serves one login.
type ServerAuth struct {
	Method AuthMethod
	User   string
	Secret Secret // none: the user is unknown, the exchange runs and then fails

	// MockKey is random and lives as long as the process: see MockSCRAMSecret.
	MockKey []byte

	// Iterations for SCRAM with a plain secret, default DefaultIterations.
	Iterations int

	// Verifier, when set, is the SCRAM secret of a plain Secret, derived before: with it
	// Begin is never slow. Begin sets it; a caller may keep it for the next login.
	Verifier *SCRAMSecret

	salt  [4]byte
	scram *SCRAMServer
	state uint8 // 0 new, 1 asked, 2 SCRAM challenged, 3 done
}

// Slow tells whether Begin, or Answer to a password, will compute PBKDF2.
func (s *ServerAuth) Slow() bool {
	kind := s.Secret.Kind()
	switch s.method() {
	case MethodPlain:
		return kind == SecretSCRAM
	case MethodSCRAM:
		return kind == SecretPlain && s.Verifier == nil
	}
	return false
}

func (s *ServerAuth) method() AuthMethod {
	if s.Method == MethodMD5 && s.Secret.Kind() == SecretSCRAM {
		return MethodSCRAM
	}
	return s.Method
}

// Begin appends the request for the proof. done is true when none is wanted: then
// AuthenticationOk stands in dst, or err refuses.
func (s *ServerAuth) Begin(dst []byte) (out []byte, done bool, err error) {
	if s.state != 0 {
		return dst, true, errors.New("login begun twice")
	}
	s.state = 1
	switch s.method() {
	case MethodTrust:
		s.state = 3
		return AppendAuthentication(dst, AuthOK, nil), true, nil
	case MethodPlain:
		return AppendAuthentication(dst, AuthCleartextPassword, nil), false, nil
	case MethodMD5:
		rand.Read(s.salt[:])
		return AppendAuthentication(dst, AuthMD5Password, s.salt[:]), false, nil
	case MethodSCRAM:
		secret, err := s.scramSecret()
		if err != nil {
			s.state = 3
			return dst, true, err
		}
		s.scram = NewSCRAMServer(secret)
		return AppendSASLMechanisms(dst, MechanismSCRAM), false, nil
	}
	s.state = 3
	return dst, true, fmt.Errorf("unknown authentication method %d", s.Method)
}

func (s *ServerAuth) scramSecret() (*SCRAMSecret, error) {
	iterations := s.Iterations
	if iterations == 0 {
		iterations = DefaultIterations
	}
	switch s.Secret.Kind() {
	case SecretSCRAM:
		return ParseSCRAMSecret(s.Secret.Reveal())
	case SecretPlain:
		if s.Verifier == nil {
			v, err := BuildSCRAMSecret(s.Secret.Reveal(), nil, iterations)
			if err != nil {
				return nil, err
			}
			s.Verifier = v
		}
		return s.Verifier, nil
	}
	return MockSCRAMSecret(s.MockKey, s.User, iterations), nil
}

// Answer takes the body of a message of type MsgPassword and appends what goes back:
// while done is false another request, at the end AuthenticationOk. The error is
// ErrPassword for a wrong proof, and wraps ErrMechanism when SCRAM is not what the client
// answers with; any error ends the login.
func (s *ServerAuth) Answer(dst, body []byte) (out []byte, done bool, err error) {
	state := s.state
	s.state = 3
	switch state {
	case 0, 3:
		return dst, true, fmt.Errorf("%w: PasswordMessage out of turn", ErrMalformed)
	case 2:
		final, err := s.scram.Final(body)
		if err != nil {
			return dst, true, err
		}
		dst = AppendAuthentication(dst, AuthSASLFinal, final)
		return AppendAuthentication(dst, AuthOK, nil), true, nil
	}
	if s.scram != nil {
		_, data, err := ParseSASLInitialResponse(body)
		if name, _, _ := bytes.Cut(body, []byte{0}); string(name) != MechanismSCRAM {
			return dst, true, ErrMechanism
		}
		if err != nil {
			return dst, true, err
		}
		challenge, err := s.scram.First(data)
		if err != nil {
			return dst, true, err
		}
		s.state = 2
		return AppendAuthentication(dst, AuthSASLContinue, challenge), false, nil
	}
	password, err := ParsePassword(body)
	if err != nil {
		return dst, true, err
	}
	if !s.matches(password) {
		return dst, true, ErrPassword
	}
	return AppendAuthentication(dst, AuthOK, nil), true, nil
}

func (s *ServerAuth) matches(answer string) bool {
	if s.Method == MethodPlain {
		return s.Secret.MatchPassword(s.User, answer)
	}
	stored := s.Secret.Reveal()
	switch s.Secret.Kind() {
	case SecretMD5:
	case SecretPlain:
		stored = MD5Secret(s.User, stored)
	default:
		return false
	}
	return subtle.ConstantTimeCompare([]byte(MD5Answer(stored, s.salt)), []byte(answer)) == 1
}

// Keys returns what a SCRAM login told: see SCRAMServer.Keys.
func (s *ServerAuth) Keys() (keys SCRAMKeys, ok bool) {
	if s.scram == nil {
		return SCRAMKeys{}, false
	}
	return s.scram.Keys()
}
