package pgwire

// Secrets and SCRAM: kinds, known answers, what is kept hidden, and hostile peers.

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSecretKinds(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	short := base64.StdEncoding.EncodeToString(make([]byte, 31))
	for text, want := range map[string]SecretKind{
		"":                                     SecretNone,
		"x":                                    SecretPlain,
		"md50123456789abcdef0123456789abcdef":  SecretMD5,
		"md50123456789abcdef0123456789abcdeg":  SecretPlain,
		"md50123456789abcdef0123456789abcdef0": SecretPlain,
		"SCRAM-SHA-256$4096:c2FsdA==$" + key + ":" + key:                 SecretSCRAM,
		"SCRAM-SHA-256$4096:$" + key + ":" + key:                         SecretPlain,
		"SCRAM-SHA-256$0:c2FsdA==$" + key + ":" + key:                    SecretPlain,
		"SCRAM-SHA-256$x:c2FsdA==$" + key + ":" + key:                    SecretPlain,
		"SCRAM-SHA-256$4096:c2FsdA==$" + short + ":" + key:               SecretPlain,
		"SCRAM-SHA-256$4096:c2FsdA==$" + key + ":" + short:               SecretPlain,
		"SCRAM-SHA-256$4096:c2FsdA==$" + key:                             SecretPlain,
		"SCRAM-SHA-256$99999999999999999999:c2FsdA==$" + key + ":" + key: SecretPlain,
	} {
		if got := NewSecret(text).Kind(); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	type holder struct {
		Public  Secret
		private Secret
		keys    SCRAMKeys
	}
	const text = "geheim"
	h := holder{NewSecret(text), NewSecret(text), SCRAMKeys{[]byte(text), []byte(text)}}
	scram, err := BuildSCRAMSecret(text, []byte("salt"), 1)
	if err != nil {
		t.Fatal(err)
	}
	js, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	said := string(js) + fmt.Sprintf("%v %+v %#v %s %q %v %v %+v", h, h, h, h.Public, h.private, scram, h.keys, &ClientAuth{Secret: h.Public, Keys: h.keys})
	if strings.Contains(said, text) || strings.Contains(said, scram.Text()) {
		t.Error(said)
	}
	if h.Public.Reveal() != text || !h.Public.Equal(h.private) || h.Public.Equal(Secret{}) {
		t.Error("the secret itself is lost")
	}
}

func TestNoSecretMatchesNothing(t *testing.T) {
	if (Secret{}).MatchPassword("u", "") || NewSecret("").MatchPassword("u", "") {
		t.Error("an empty password opens an empty secret")
	}
}

// Known answers: RFC 7677 section 3 for SCRAM, the manual's formula for md5.
func TestKnownAnswers(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := BuildSCRAMSecret("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	// The RFC's exchange has a user name and fixed nonces: check its proof by hand.
	const auth = "n=user,r=rOprNGfwEbeRWgbNEkqO," +
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," +
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	if got := base64.StdEncoding.EncodeToString(scramHMAC(secret.ServerKey, auth)); got != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("server signature %s", got)
	}
	if got := MD5Secret("user", "password"); got != "md54d45974e13472b5a0be3533de4666414" {
		t.Errorf("md5 secret %s", got)
	}
	parsed, err := ParseSCRAMSecret(secret.Text())
	if err != nil || parsed.Text() != secret.Text() {
		t.Errorf("%v %v", parsed, err)
	}
}

func TestMockSecretLooksLikeATrueOne(t *testing.T) {
	a, b := MockSCRAMSecret([]byte("k"), "u", 4096), MockSCRAMSecret([]byte("k"), "u", 4096)
	if !bytes.Equal(a.Salt, b.Salt) || len(a.Salt) != scramSaltSize {
		t.Errorf("salts %x %x", a.Salt, b.Salt)
	}
	if bytes.Equal(a.StoredKey, b.StoredKey) || bytes.Equal(MockSCRAMSecret([]byte("k"), "v", 4096).Salt, a.Salt) ||
		bytes.Equal(MockSCRAMSecret([]byte("l"), "u", 4096).Salt, a.Salt) {
		t.Error("mock secrets repeat")
	}
}

func TestSCRAMClientRefusesFalseServers(t *testing.T) {
	secret, err := BuildSCRAMSecret("pw", nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	server := NewSCRAMServer(secret)
	learnt := NewSCRAMClient("pw")
	first, _ := learnt.First()
	challenge, err := server.First(first)
	if err != nil {
		t.Fatal(err)
	}
	final, err := learnt.Final(challenge)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := server.Keys(); ok {
		t.Error("keys before the proof")
	}
	if _, err := server.Final(final); err != nil {
		t.Fatal(err)
	}
	keys, _ := server.Keys()

	for name, start := range map[string]func() *SCRAMClient{
		"password": func() *SCRAMClient { return NewSCRAMClient("pw") },
		"keys":     func() *SCRAMClient { return NewSCRAMClientFromKeys(keys) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, s1 := range []string{
				"", "r=x", "r=,s=,i=", "m=x,r=NONCEx,s=c2FsdA==,i=1", "r=NONCEx,s=c2FsdA==,i=0", "r=NONCEx,s=c2FsdA==,i=-1",
				"r=NONCEx,s=c2FsdA==,i=x", "r=otherx,s=c2FsdA==,i=1", "r=NONCEx,s=c2FsdA==,i=2147483647",
				strings.Repeat("r", maxSCRAMMessage+1),
			} {
				c := start()
				first, err := c.First()
				if err != nil {
					t.Fatal(err)
				}
				_, nonce, _ := strings.Cut(string(first), ",r=")
				if _, err := c.Final([]byte(strings.ReplaceAll(s1, "NONCE", nonce))); err == nil {
					t.Errorf("server-first %q is taken", shorten(s1))
				}
			}
			for _, s2 := range []string{"", "v=", "v=AAAA", "e=other-error", "v=!!", "v=" + base64.StdEncoding.EncodeToString(make([]byte, 32))} {
				c := start()
				first, _ := c.First()
				challenge, err := NewSCRAMServer(secret).First(first)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Final(challenge); err != nil {
					t.Fatal(err)
				}
				if err := c.Verify([]byte(s2)); err == nil {
					t.Errorf("server-final %q is taken", s2)
				}
			}
			c := start()
			if _, err := c.Final(nil); err == nil {
				t.Error("Final before First")
			}
			if err := c.Verify(nil); err == nil {
				t.Error("Verify before Final")
			}
		})
	}
}

func shorten(s string) string { return s[:min(len(s), 40)] }

func TestClientAuthRefusesServersThatSkipTheProof(t *testing.T) {
	body := func(code AuthCode, data string) []byte {
		return AppendAuthentication(nil, code, []byte(data))[HeaderSize:]
	}
	sasl := AppendSASLMechanisms(nil, MechanismSCRAM)[HeaderSize:]
	for _, c := range []struct {
		name  string
		steps [][]byte
	}{
		{"Ok in the middle of SCRAM", [][]byte{sasl, body(AuthOK, "")}},
		{"password after SCRAM began", [][]byte{sasl, body(AuthCleartextPassword, "")}},
		{"password asked twice", [][]byte{body(AuthCleartextPassword, ""), body(AuthCleartextPassword, "")}},
		{"SCRAM continued before it began", [][]byte{body(AuthSASLContinue, "r=x,s=x,i=1")}},
		{"SCRAM ended before it began", [][]byte{body(AuthSASLFinal, "v=x")}},
		{"unknown mechanism", [][]byte{AppendSASLMechanisms(nil, "PLAIN")[HeaderSize:]}},
		{"unknown method", [][]byte{body(AuthGSS, "")}},
		{"anything after Ok", [][]byte{body(AuthOK, ""), body(AuthOK, "")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			auth := &ClientAuth{User: "u", Secret: NewSecret("p")}
			for i, s := range c.steps {
				_, err := auth.Answer(nil, s)
				if last := i == len(c.steps)-1; (err != nil) != last {
					t.Errorf("step %d: %v", i, err)
				}
			}
		})
	}
}

func TestServerAuthRefusesWhatIsOutOfTurn(t *testing.T) {
	s := &ServerAuth{Method: MethodPlain, User: "u", Secret: NewSecret("p")}
	answer := AppendPassword(nil, "p")[HeaderSize:]
	if _, _, err := s.Answer(nil, answer); err == nil {
		t.Error("password before it was asked for")
	}
	s = &ServerAuth{Method: MethodPlain, User: "u", Secret: NewSecret("p")}
	if _, _, err := s.Begin(nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Begin(nil); err == nil {
		t.Error("begun twice")
	}
	if _, _, err := s.Answer(nil, AppendPassword(nil, "wrong")[HeaderSize:]); !errors.Is(err, ErrPassword) {
		t.Error(err)
	}
	if _, _, err := s.Answer(nil, answer); err == nil {
		t.Error("a second try is taken")
	}
}

// FuzzServerAuth plays a hostile client: nothing but the true proof opens.
func FuzzServerAuth(f *testing.F) {
	scram, err := BuildSCRAMSecret("a password that no fuzzer finds", []byte("salt"), 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(MethodSCRAM), AppendSASLInitialResponse(nil, MechanismSCRAM, []byte("n,,n=,r=abc"))[HeaderSize:], []byte("c=biws,r=abc,p=AAAA"))
	f.Add(uint8(MethodSCRAM), AppendSASLInitialResponse(nil, MechanismSCRAM, []byte("y,a=b,n=x,r=abc,m=z"))[HeaderSize:], []byte("c=,r=,p="))
	f.Add(uint8(MethodMD5), []byte("md5\x00"), []byte{})
	f.Add(uint8(MethodPlain), []byte("x\x00"), []byte{})
	f.Fuzz(func(t *testing.T, method uint8, first, second []byte) {
		s := &ServerAuth{Method: MethodPlain + AuthMethod(method%3), User: "u", Secret: NewSecret(scram.Text())}
		_, _, err := s.Begin(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range [][]byte{first, second, second} {
			if out, done, err := s.Answer(nil, message); done && err == nil {
				t.Fatalf("%q then %q opens: %q", first, second, out)
			}
		}
		if _, ok := s.Keys(); ok {
			t.Fatal("keys without a login")
		}
	})
}

// FuzzClientAuth plays a hostile server: a login by SCRAM never ends well.
func FuzzClientAuth(f *testing.F) {
	f.Add([]byte("r=NONCEabc,s=c2FsdA==,i=1"), []byte("v=AAAA"))
	f.Add([]byte("r=NONCEabc,s=,i=4096,x=y"), []byte("e=other"))
	f.Add([]byte("r=NONCE,s=c2FsdA=="), []byte("v="))
	f.Fuzz(func(t *testing.T, challenge, final []byte) {
		c := &ClientAuth{User: "u", Secret: NewSecret("p")}
		first, err := c.Answer(nil, AppendSASLMechanisms(nil, MechanismSCRAM)[HeaderSize:])
		if err != nil {
			t.Fatal(err)
		}
		_, nonce, _ := bytes.Cut(first, []byte(",r="))
		challenge = bytes.ReplaceAll(challenge, []byte("NONCE"), nonce)
		if _, i, ok := bytes.Cut(challenge, []byte("i=")); ok && len(i) > 4 {
			return // a test of PBKDF2's speed
		}
		if _, err := c.Answer(nil, AppendAuthentication(nil, AuthSASLContinue, challenge)[HeaderSize:]); err != nil {
			return
		}
		if _, err := c.Answer(nil, AppendAuthentication(nil, AuthSASLFinal, final)[HeaderSize:]); err == nil {
			t.Fatalf("%q then %q is taken for a proof", challenge, final)
		}
		if _, err := c.Answer(nil, AppendAuthentication(nil, AuthOK, nil)[HeaderSize:]); err == nil || c.Done() {
			t.Fatal("logged in without a proof")
		}
	})
}

func FuzzSecret(f *testing.F) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	f.Add("SCRAM-SHA-256$4096:c2FsdA==$" + key + ":" + key)
	f.Add("md50123456789abcdef0123456789abcdef")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseSCRAMSecret(text)
		if (err == nil) != (NewSecret(text).Kind() == SecretSCRAM) {
			t.Fatalf("%q is %s, but %v", text, NewSecret(text).Kind(), err)
		}
		if err != nil {
			return
		}
		again, err := ParseSCRAMSecret(v.Text())
		if err != nil || again.Text() != v.Text() || len(v.StoredKey) != scramKeySize || len(v.ServerKey) != scramKeySize || len(v.Salt) == 0 {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
