package pgwire

// Opening packets: what is read, what is refused, and that both ways agree.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// rawStartup builds an opening packet with a true length from a code and what follows.
func rawStartup(code uint32, rest string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(rest)))
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, rest...)
}

func TestParseStartupHeader(t *testing.T) {
	for _, c := range []struct {
		name   string
		packet []byte
		kind   StartupKind
		err    error
	}{
		{"startup", AppendStartup(nil, []Param{{"user", "u"}}), StartupMessage, nil},
		{"startup 3.2", rawStartup(3<<16|2, "user\x00u\x00\x00"), StartupMessage, nil},
		{"largest startup", rawStartup(3<<16, strings.Repeat("x", MaxStartupSize-8)), StartupMessage, nil},
		{"too large", rawStartup(3<<16, strings.Repeat("x", MaxStartupSize-7)), 0, ErrMalformed},
		{"too small", []byte{0, 0, 0, 7, 0, 3, 0, 0}, 0, ErrMalformed},
		{"protocol 2", rawStartup(2<<16, "x"), 0, ErrProtocolVersion},
		{"protocol 4", rawStartup(4<<16, "x"), 0, ErrProtocolVersion},
		{"SSLRequest", AppendSSLRequest(nil), SSLRequest, nil},
		{"SSLRequest with more", rawStartup(codeSSL, "x"), 0, ErrMalformed},
		{"GSSENCRequest", AppendGSSENCRequest(nil), GSSENCRequest, nil},
		{"GSSENCRequest with more", rawStartup(codeGSSENC, "x"), 0, ErrMalformed},
		{"cancel", AppendCancelRequest(nil, make([]byte, 8)), CancelRequest, nil},
		{"cancel of protocol 3.2", AppendCancelRequest(nil, make([]byte, 260)), CancelRequest, nil},
		{"cancel too short", AppendCancelRequest(nil, make([]byte, 7)), CancelRequest, ErrMalformed},
		{"cancel too long", AppendCancelRequest(nil, make([]byte, 261)), CancelRequest, ErrMalformed},
		{"TLS handshake", []byte{DirectTLS, 3, 1, 2, 0, 1, 0, 1}, 0, ErrMalformed},
		{"HTTP", []byte("GET / HTTP/1.1\r\n"), 0, ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			kind, size, ok, err := ParseStartupHeader(c.packet)
			if kind != c.kind || !errors.Is(err, c.err) || ok != (c.err == nil) || ok && size != len(c.packet) {
				t.Errorf("%s size=%d ok=%v err=%v", kind, size, ok, err)
			}
			if _, _, ok, err := ParseStartupHeader(c.packet[:StartupHeaderSize-1]); ok || err != nil {
				t.Errorf("part of a header: ok=%v err=%v", ok, err)
			}
		})
	}
}

func TestParseStartup(t *testing.T) {
	const v3 = 3 << 16
	for _, c := range []struct {
		name   string
		packet []byte
		want   []Param
		bad    string
	}{
		{"parameters", rawStartup(v3, "user\x00u\x00database\x00\x00\x00"), []Param{{"user", "u"}, {"database", ""}}, ""},
		{"none", rawStartup(v3, "\x00"), nil, ""},
		{"no terminator", rawStartup(v3, "user\x00u\x00"), nil, "lacks the terminator"},
		{"nothing at all", rawStartup(v3, ""), nil, "lacks the terminator"},
		{"name runs to the end", rawStartup(v3, "user"), nil, "lacks the terminator"},
		{"name without value", rawStartup(v3, "user\x00"), nil, `parameter "user" lacks a value`},
		{"value runs to the end", rawStartup(v3, "user\x00u"), nil, `parameter "user" lacks a value`},
		{"bytes behind the terminator", rawStartup(v3, "user\x00u\x00\x00x"), nil, "1 bytes after its terminator"},
		{"bytes behind the packet", append(rawStartup(v3, "\x00"), 'x'), nil, "1 bytes after StartupMessage"},
		{"cut", rawStartup(v3, "user\x00u\x00\x00")[:12], nil, "ends too early"},
		{"another packet", AppendSSLRequest(nil), nil, "SSLRequest where a StartupMessage is due"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseStartup(c.packet)
			if c.bad == "" && err != nil || c.bad != "" && (!errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.bad)) {
				t.Fatalf("got %v, want %q", err, c.bad)
			}
			if !slices.Equal(s.Params, c.want) {
				t.Errorf("got %v, want %v", s.Params, c.want)
			}
		})
	}
	s, err := ParseStartup(rawStartup(v3|2, "user\x00a\x00user\x00b\x00_pq_.x\x001\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	if u, _ := s.Get("user"); u != "b" {
		t.Errorf("user is %q, the last one counts", u)
	}
	if _, ok := s.Get("database"); ok {
		t.Error("found what is not there")
	}
	if options, need := s.Negotiate(); !need || !slices.Equal(options, []string{"_pq_.x"}) {
		t.Errorf("negotiate %v %v", options, need)
	}
}

func FuzzStartup(f *testing.F) {
	f.Add(AppendStartup(nil, []Param{{"user", "u"}, {"options", "-c a=b"}}))
	f.Add(rawStartup(3<<16|2, "user\x00u\x00_pq_.a\x00\x00\x00"))
	f.Add(AppendCancelRequest(nil, make([]byte, 8)))
	f.Add(AppendSSLRequest(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, size, ok, err := ParseStartupHeader(b)
		if ok && (err != nil || size < 8 || size > MaxStartupSize || kind == 0) {
			t.Fatalf("%s size %d err %v", kind, size, err)
		}
		if s, err := ParseStartup(b); err == nil {
			if again := AppendStartup(nil, s.Params); s.Minor == 0 && !bytes.Equal(again, b) {
				t.Fatalf("%q read, %q written", b, again)
			}
		}
		if key, err := ParseCancelRequest(b); err == nil && !bytes.Equal(AppendCancelRequest(nil, key), b[:size]) {
			t.Fatalf("cancel key %x from %x", key, b)
		}
	})
}

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Param
		bad  string
	}{
		{"", nil, ""},
		{"  \t ", nil, ""},
		{"-c a=b", []Param{{"a", "b"}}, ""},
		{"-ca=b --work-mem=4MB", []Param{{"a", "b"}, {"work-mem", "4MB"}}, ""},
		{`-c a=b\ c\\d\'`, []Param{{"a", `b c\d'`}}, ""},
		{`--a=b\`, []Param{{"a", "b"}}, ""},
		{"--a=b=c", []Param{{"a", "b=c"}}, ""},
		{"--a=", []Param{{"a", ""}}, ""},
		{"--a-b.c-d=x-y", []Param{{"a-b.c-d", "x-y"}}, ""},
		{"-c", nil, "-c lacks its NAME=VALUE"},
		{"-c ab", nil, `"ab" is not NAME=VALUE`},
		{"--=b", nil, `"=b" is not NAME=VALUE`},
		{"-e a=b", nil, `"-e" is neither`},
		{"a=b", nil, `"a=b" is neither`},
	} {
		got, err := ParseOptions(c.text)
		if c.bad == "" && err != nil || c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)) {
			t.Errorf("%q: got error %v, want %q", c.text, err, c.bad)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: got %v, want %v", c.text, got, c.want)
		}
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add(`-c a=b --c-d=e\ f -cg=h\\`)
	f.Add(`\ \`)
	f.Fuzz(func(t *testing.T, s string) {
		params, err := ParseOptions(s)
		if err != nil {
			return
		}
		// Written with every byte escaped, it means the same.
		var b strings.Builder
		for _, p := range params {
			b.WriteString(" --")
			for _, c := range []byte(p.Name + "=" + p.Value) {
				b.WriteByte('\\')
				b.WriteByte(c)
			}
		}
		again, err := ParseOptions(b.String())
		if err != nil || !slices.Equal(again, params) {
			t.Fatalf("%q gives %v; %q gives %v, %v", s, params, b.String(), again, err)
		}
	})
}

func TestNegotiateProtocolVersionRoundTrip(t *testing.T) {
	msg := AppendNegotiateProtocolVersion(nil, []string{"_pq_.a", "_pq_.b"})
	minor, options, err := ParseNegotiateProtocolVersion(msg[HeaderSize:])
	if minor != 0 || !reflect.DeepEqual(options, []string{"_pq_.a", "_pq_.b"}) || err != nil {
		t.Errorf("%d %v %v", minor, options, err)
	}
	if _, _, err := ParseNegotiateProtocolVersion([]byte{0, 3, 0, 0, 0xff, 0xff, 0xff, 0xff, 'a', 0}); !errors.Is(err, ErrMalformed) {
		t.Errorf("false count: %v", err)
	}
}

func TestCancelKeysAreRandomAndPositive(t *testing.T) {
	seen := map[CancelKey]bool{}
	for range 1000 {
		k := NewCancelKey()
		if k[0]&0x80 != 0 || seen[k] {
			t.Fatalf("key %x", k)
		}
		seen[k] = true
	}
}
