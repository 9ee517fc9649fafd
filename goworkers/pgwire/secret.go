package pgwire

// Secrets: what a password file or pg_authid holds for a user. Manual: "pg_authid",
// column rolpassword.

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// SecretKind tells how a Secret is stored.
type SecretKind uint8

// Kinds of secrets.
const (
	SecretNone  SecretKind = iota // empty: nothing is known, nothing matches
	SecretPlain                   // the password itself
	SecretMD5                     // md5 + hex(md5(password + user))
	SecretSCRAM                   // SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey
)

func (k SecretKind) String() string {
	switch k {
	case SecretNone:
		return "none"
	case SecretPlain:
		return "plain"
	case SecretMD5:
		return "md5"
	case SecretSCRAM:
		return "scram-sha-256"
	}
	return fmt.Sprintf("SecretKind(%d)", uint8(k))
}

// MaxSecretSize is the longest secret that we take; longer ones are refused by those
// who read them.
const MaxSecretSize = 65530

// Secret is a stored password in any form. It prints as its kind, never as its text:
// the text lies behind a pointer, so that %+v of a struct which holds it privately
// shows no more than an address. The zero value is no secret, which nothing matches.
type Secret struct {
	text *string
}

// NewSecret takes a secret in any of its forms.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text. Who calls it answers for where it goes.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String tells the kind only.
func (s Secret) String() string { return "<" + s.Kind().String() + " secret>" }

// GoString tells the kind only.
func (s Secret) GoString() string { return s.String() }

// MarshalText tells the kind only.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Equal tells whether both are the same text, in a time that does not tell where
// they differ.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(o.Reveal())) == 1
}

// Kind classifies the text as the server does: what is no well-formed md5 or SCRAM
// secret is a plain password.
func (s Secret) Kind() SecretKind {
	text := s.Reveal()
	switch {
	case text == "":
		return SecretNone
	case isMD5(text):
		return SecretMD5
	}
	if _, err := ParseSCRAMSecret(text); err == nil {
		return SecretSCRAM
	}
	return SecretPlain
}

func isMD5(text string) bool {
	if len(text) != 35 || !strings.HasPrefix(text, "md5") {
		return false
	}
	for _, c := range []byte(text[3:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// MatchPassword tells whether a password that came in clear fits the secret, whatever
// its form. Against a SCRAM secret it computes PBKDF2: some milliseconds.
func (s Secret) MatchPassword(user, password string) bool {
	switch s.Kind() {
	case SecretPlain:
		return s.Equal(NewSecret(password))
	case SecretMD5:
		return s.Equal(NewSecret(MD5Secret(user, password)))
	case SecretSCRAM:
		v, err := ParseSCRAMSecret(s.Reveal())
		if err != nil {
			return false
		}
		w, err := BuildSCRAMSecret(password, v.Salt, v.Iterations)
		return err == nil && subtle.ConstantTimeCompare(v.StoredKey, w.StoredKey) == 1
	}
	return false
}

// MD5Secret is the md5 secret of a user's password.
func MD5Secret(user, password string) string {
	sum := md5.Sum([]byte(password + user))
	return "md5" + hex.EncodeToString(sum[:])
}

// MD5Answer is what a client sends when asked by AuthenticationMD5Password: md5 of the
// secret's hex digits and the salt. The secret must be an md5 secret (MD5Secret makes
// it of a plain password).
func MD5Answer(md5Secret string, salt [4]byte) string {
	sum := md5.Sum(append([]byte(strings.TrimPrefix(md5Secret, "md5")), salt[:]...))
	return "md5" + hex.EncodeToString(sum[:])
}

// SCRAMSecret is a decoded SCRAM-SHA-256 secret (RFC 5803 in PostgreSQL's spelling).
type SCRAMSecret struct {
	Iterations int
	Salt       []byte
	StoredKey  []byte
	ServerKey  []byte
}

// Text is the form in which pg_authid and password files keep it.
func (v *SCRAMSecret) Text() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", v.Iterations, b64(v.Salt), b64(v.StoredKey), b64(v.ServerKey))
}

// String tells nothing: keys do not belong into logs.
func (v *SCRAMSecret) String() string { return "<scram-sha-256 secret>" }

// ParseSCRAMSecret decodes a SCRAM-SHA-256 secret.
func ParseSCRAMSecret(text string) (*SCRAMSecret, error) {
	rest, ok := strings.CutPrefix(text, "SCRAM-SHA-256$")
	if !ok {
		return nil, fmt.Errorf("secret does not start with SCRAM-SHA-256$")
	}
	if len(text) > MaxSecretSize {
		return nil, fmt.Errorf("SCRAM secret of %d bytes (at most %d)", len(text), MaxSecretSize)
	}
	factors, keys, ok1 := strings.Cut(rest, "$")
	iterations, salt, ok2 := strings.Cut(factors, ":")
	stored, server, ok3 := strings.Cut(keys, ":")
	if !ok1 || !ok2 || !ok3 {
		return nil, fmt.Errorf("SCRAM secret is not iterations:salt$StoredKey:ServerKey")
	}
	var v SCRAMSecret
	var err error
	if v.Iterations, err = strconv.Atoi(iterations); err != nil || v.Iterations < 1 || v.Iterations > MaxIterations {
		return nil, fmt.Errorf("SCRAM secret with an iteration count that is not 1 to %d", MaxIterations)
	}
	decode := func(name, s string, size int) []byte {
		b, e := base64.StdEncoding.DecodeString(s)
		if err == nil && (e != nil || len(b) == 0 || size > 0 && len(b) != size) {
			err = fmt.Errorf("SCRAM secret with a bad %s", name)
		}
		return b
	}
	v.Salt = decode("salt", salt, 0)
	v.StoredKey = decode("StoredKey", stored, scramKeySize)
	v.ServerKey = decode("ServerKey", server, scramKeySize)
	if err != nil {
		return nil, err
	}
	return &v, nil
}
