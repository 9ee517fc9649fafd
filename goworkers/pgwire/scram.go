package pgwire

// SCRAM-SHA-256, both sides, without channel binding. Manual: "SASL Authentication",
// sasl-authentication.html; RFC 5802 and RFC 7677. The exchange itself is xdg-go/scram's;
// what stands here is PostgreSQL's way with it: no user name within SCRAM, passwords
// that SASLprep refuses are used as they are, stored secrets, mock secrets, and the
// keys that a middleman may learn and pass on.

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/xdg-go/scram"
)

// MechanismSCRAM is the SASL mechanism that we speak.
const MechanismSCRAM = "SCRAM-SHA-256"

const (
	// DefaultIterations is PostgreSQL's scram_iterations.
	DefaultIterations = 4096

	// MaxIterations bounds what a peer can make us compute (about a minute).
	MaxIterations = 1 << 26

	scramKeySize  = sha256.Size
	scramSaltSize = 16

	// maxSCRAMMessage bounds what is parsed: true messages have some 200 bytes.
	maxSCRAMMessage = 4096
)

// ErrMechanism marks a login refused because the client chose a mechanism of its own.
var ErrMechanism = errors.New("client selected an invalid SASL authentication mechanism")

// ErrPassword marks a login refused because the secret does not fit.
var ErrPassword = errors.New("password authentication failed")

// newSCRAMClient normalises the password as the server does: SASLprep, or the bytes as
// they are when that refuses them.
func newSCRAMClient(password string) *scram.Client {
	c, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		c, _ = scram.SHA256.NewClientUnprepped("", password, "") // cannot fail: it only stores
	}
	return c.WithMinIterations(1)
}

// BuildSCRAMSecret derives the secret of a password; a nil salt means a random one.
// PBKDF2: some milliseconds at 4096 iterations.
func BuildSCRAMSecret(password string, salt []byte, iterations int) (*SCRAMSecret, error) {
	if iterations < 1 || iterations > MaxIterations {
		return nil, fmt.Errorf("%d SCRAM iterations (allowed: 1 to %d)", iterations, MaxIterations)
	}
	if salt == nil {
		salt = make([]byte, scramSaltSize)
		rand.Read(salt)
	}
	c, err := newSCRAMClient(password).GetStoredCredentialsWithError(
		scram.KeyFactors{Salt: string(salt), Iters: iterations})
	if err != nil {
		return nil, err
	}
	return &SCRAMSecret{Iterations: iterations, Salt: salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey}, nil
}

// MockSCRAMSecret makes the secret for a user who does not exist or has none that fits
// SCRAM: nothing matches it, and the same key and user give the same salt each time,
// so that a client cannot tell. key is random and kept as long as the process lives.
func MockSCRAMSecret(key []byte, user string, iterations int) *SCRAMSecret {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(user))
	v := &SCRAMSecret{
		Iterations: iterations,
		Salt:       mac.Sum(nil)[:scramSaltSize],
		StoredKey:  make([]byte, scramKeySize),
		ServerKey:  make([]byte, scramKeySize),
	}
	rand.Read(v.StoredKey)
	rand.Read(v.ServerKey)
	return v
}

// SCRAMKeys let who holds them log in as the user, without the password, to any server
// that stores the very same SCRAM secret.
type SCRAMKeys struct {
	ClientKey, ServerKey []byte
}

// String tells nothing: keys do not belong into logs.
func (SCRAMKeys) String() string { return "<scram keys>" }

// GoString tells nothing.
func (SCRAMKeys) GoString() string { return "<scram keys>" }

// SCRAMServer is the server's side of one exchange: First, then Final. Neither is
// slow.
type SCRAMServer struct {
	conv   *scram.ServerConversation
	secret *SCRAMSecret
	first  string // client-first-message-bare
	answer string // server-first-message
	keys   SCRAMKeys
}

// NewSCRAMServer starts an exchange against a secret.
func NewSCRAMServer(secret *SCRAMSecret) *SCRAMServer {
	s, _ := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) {
		return scram.StoredCredentials{
			KeyFactors: scram.KeyFactors{Salt: string(secret.Salt), Iters: secret.Iterations},
			StoredKey:  secret.StoredKey,
			ServerKey:  secret.ServerKey,
		}, nil
	}) // cannot fail: it only stores
	return &SCRAMServer{conv: s.NewConversation(), secret: secret}
}

// First takes the data of the SASLInitialResponse and gives that of
// AuthenticationSASLContinue.
func (s *SCRAMServer) First(message []byte) (answer []byte, err error) {
	if s.answer != "" {
		return nil, errors.New("SCRAM: first message given twice")
	}
	text, err := scramText(message)
	if err != nil {
		return nil, err
	}
	out, err := s.conv.Step(text)
	if err != nil {
		return nil, fmt.Errorf("%w: SCRAM client-first-message: %w", ErrMalformed, err)
	}
	// gs2-header is all up to the second comma; the library has checked it.
	parts := strings.SplitN(text, ",", 3)
	s.first, s.answer = parts[2], out
	return []byte(out), nil
}

// Final takes the data of the SASLResponse and gives that of AuthenticationSASLFinal.
// The error is ErrPassword when the proof is wrong.
func (s *SCRAMServer) Final(message []byte) (answer []byte, err error) {
	if s.answer == "" || s.conv.Done() {
		return nil, errors.New("SCRAM: final message out of turn")
	}
	text, err := scramText(message)
	if err != nil {
		return nil, err
	}
	out, err := s.conv.Step(text)
	if err != nil {
		if out == scram.ErrInvalidProof {
			return nil, ErrPassword
		}
		return nil, fmt.Errorf("%w: SCRAM client-final-message: %w", ErrMalformed, err)
	}
	s.keys = SCRAMKeys{ServerKey: s.secret.ServerKey}
	// ClientKey = proof XOR HMAC(StoredKey, AuthMessage), RFC 5802 section 3.
	withoutProof, proof, _ := cutLast(text, ",p=")
	clientKey, err := base64.StdEncoding.DecodeString(proof)
	if err != nil || len(clientKey) != scramKeySize {
		return nil, ErrPassword
	}
	xorInto(clientKey, scramHMAC(s.secret.StoredKey, s.first+","+s.answer+","+withoutProof))
	s.keys.ClientKey = clientKey
	return []byte(out), nil
}

// Keys returns what the exchange told about the user; ok is false before it succeeded.
func (s *SCRAMServer) Keys() (keys SCRAMKeys, ok bool) {
	return s.keys, s.keys.ClientKey != nil
}

// SCRAMClient is the client's side of one exchange: First, Final, Verify.
type SCRAMClient struct {
	conv      *scram.ClientConversation // with a password
	keys      SCRAMKeys                 // without
	nonce     string
	signature []byte
	state     uint8
}

// NewSCRAMClient starts an exchange with a password.
func NewSCRAMClient(password string) *SCRAMClient {
	return &SCRAMClient{conv: newSCRAMClient(password).NewConversation()}
}

// NewSCRAMClientFromKeys starts an exchange with keys that SCRAMServer.Keys gave.
func NewSCRAMClientFromKeys(keys SCRAMKeys) *SCRAMClient {
	return &SCRAMClient{keys: keys}
}

// First gives the data of the SASLInitialResponse.
func (c *SCRAMClient) First() (message []byte, err error) {
	if c.state != 0 {
		return nil, errors.New("SCRAM: first message asked twice")
	}
	c.state = 1
	if c.conv != nil {
		out, err := c.conv.Step("")
		return []byte(out), err
	}
	nonce := make([]byte, 18)
	rand.Read(nonce)
	c.nonce = base64.StdEncoding.EncodeToString(nonce)
	return []byte("n,,n=,r=" + c.nonce), nil
}

// Final takes the data of AuthenticationSASLContinue and gives that of the
// SASLResponse. With a password it computes PBKDF2: some milliseconds, or as many as
// the server asks for, up to MaxIterations.
func (c *SCRAMClient) Final(challenge []byte) (message []byte, err error) {
	if c.state != 1 {
		return nil, errors.New("SCRAM: server-first-message out of turn")
	}
	c.state = 2
	text, err := scramText(challenge)
	if err != nil {
		return nil, err
	}
	// r=nonce,s=salt,i=iterations
	nonce, rest, _ := strings.Cut(text, ",s=")
	_, iterations, _ := strings.Cut(rest, ",i=")
	iterations, _, _ = strings.Cut(iterations, ",")
	if n, ok := parseIterations(iterations); !ok {
		return nil, fmt.Errorf("%w: SCRAM server-first-message without a usable iteration count", ErrMalformed)
	} else if n > MaxIterations {
		return nil, fmt.Errorf("%w: SCRAM server asks for %d iterations (at most %d)", ErrMalformed, n, MaxIterations)
	}
	if c.conv != nil {
		out, err := c.conv.Step(text)
		if err != nil {
			return nil, fmt.Errorf("%w: SCRAM server-first-message: %w", ErrMalformed, err)
		}
		return []byte(out), nil
	}
	nonce, ok := strings.CutPrefix(nonce, "r=")
	if !ok || !strings.HasPrefix(nonce, c.nonce) || nonce == c.nonce {
		return nil, fmt.Errorf("%w: SCRAM server nonce does not extend ours", ErrMalformed)
	}
	withoutProof := "c=biws,r=" + nonce // biws: base64 of "n,,"
	auth := "n=,r=" + c.nonce + "," + text + "," + withoutProof
	stored := sha256.Sum256(c.keys.ClientKey)
	proof := append([]byte(nil), c.keys.ClientKey...)
	if len(proof) != scramKeySize {
		return nil, errors.New("SCRAM: no client key")
	}
	xorInto(proof, scramHMAC(stored[:], auth))
	c.signature = scramHMAC(c.keys.ServerKey, auth)
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// Verify takes the data of AuthenticationSASLFinal: an error means that the server
// does not know the secret, so it is not the one that we meant.
func (c *SCRAMClient) Verify(message []byte) error {
	if c.state != 2 {
		return errors.New("SCRAM: server-final-message out of turn")
	}
	c.state = 3
	text, err := scramText(message)
	if err != nil {
		return err
	}
	if c.conv != nil {
		if _, err := c.conv.Step(text); err != nil || !c.conv.Valid() {
			return errors.New("server did not prove that it knows the password")
		}
		return nil
	}
	verifier, ok := strings.CutPrefix(text, "v=")
	got, err := base64.StdEncoding.DecodeString(verifier)
	if !ok || err != nil || !hmac.Equal(got, c.signature) {
		return errors.New("server did not prove that it knows the password")
	}
	return nil
}

func scramText(message []byte) (string, error) {
	if len(message) > maxSCRAMMessage {
		return "", fmt.Errorf("%w: SCRAM message of %d bytes", ErrMalformed, len(message))
	}
	return string(message), nil
}

func parseIterations(s string) (n int, ok bool) {
	if s == "" || len(s) > 10 {
		return 0, false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n > 0
}

func scramHMAC(key []byte, message string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}

// xorInto needs two slices of one length.
func xorInto(dst, src []byte) {
	for i := range dst {
		dst[i] ^= src[i]
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
