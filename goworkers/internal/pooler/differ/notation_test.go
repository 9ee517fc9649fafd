package differ

// The notation itself: what is refused, what becomes which bytes.

import (
	"errors"
	"strings"
	"testing"
)

func TestConversationsThatAreWrongAreRefused(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"no title", "needs 1.21\n---\nc login", "line 1: want: # what is compared"},
		{"no steps", "# t\nneeds 1.21\n", "no steps"},
		{"unknown word", "# t\nnonsense x = 1\n---\nc login", `line 2: unknown word "nonsense"`},
		{"no value", "# t\nset pool_mode\n---\nc login", "line 2: want: set KEY = VALUE"},
		{"no reason", "# t\ndiffers pooler\n---\nc login", "line 2: want: differs PRODUCT: reason"},
		{"no version", "# t\nneeds one\n---\nc login", `line 2: "one" is no version`},
		{"unknown step", "# t\n---\nc jump", `line 3: unknown step "c jump"`},
		{"open quote", "# t\n---\nc> Query \"x", "line 3: a quote that does not end"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := parseConversation(tc.text); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, want %s...", err, tc.want)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	key := func(client string) ([]byte, error) {
		if client != "c" {
			return nil, errors.New("no such client")
		}
		return []byte("12345678"), nil
	}
	for _, tc := range []struct{ line, want, err string }{
		{`Query "a b"`, "Q\x00\x00\x00\x08a b\x00", ""},
		{`Query "ab"*2`, "Q\x00\x00\x00\x09abab\x00", ""},
		{`Parse s1 "select $1" 23`, "P\x00\x00\x00\x17s1\x00select $1\x00\x00\x01\x00\x00\x00\x17", ""},
		{`Bind "" s NULL "NULL" 0x01`, "B\x00\x00\x00\x1e\x00s\x00\x00\x00\x00\x03\xff\xff\xff\xff\x00\x00\x00\x04NULL\x00\x00\x00\x01\x01\x00\x00", ""},
		{`Bind p s params=binary results=binary "v"`, "B\x00\x00\x00\x17p\x00s\x00\x00\x01\x00\x01\x00\x01\x00\x00\x00\x01v\x00\x01\x00\x01", ""},
		{`Execute "" 2`, "E\x00\x00\x00\x09\x00\x00\x00\x00\x02", ""},
		{`Startup/3.2 user=u`, "\x00\x00\x00\x10\x00\x03\x00\x02user\x00u\x00\x00", ""},
		{`CancelRequest c`, "\x00\x00\x00\x10\x04\xd2\x16\x2e12345678", ""},
		{`CancelRequest d`, "", "CancelRequest: no such client"},
		{`bytes 0x0102 "0x03"`, "\x01\x020x03", ""},
		{`header Q 3`, "Q\x00\x00\x00\x03", ""},
		{`Sync now`, "", `Sync: too many words: "now"`},
		{`Query`, "", "Query: a word is missing"},
		{`Execute p many`, "", `Execute: "many" is no number`},
		{`Nonsense`, "", "Nonsense: unknown message"},
	} {
		t.Run(tc.line, func(t *testing.T) {
			words, err := splitWords(tc.line)
			if err != nil {
				t.Fatal(err)
			}
			got, err := encode(nil, words, key)
			switch {
			case tc.err != "":
				if err == nil || err.Error() != tc.err {
					t.Errorf("got error %v, want %s", err, tc.err)
				}
			case err != nil || string(got) != tc.want:
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestDiffNamesTheStep(t *testing.T) {
	got := lineDiff("c> x\n  one\n  two\nc> y\n  three\n", "c> x\n  one\nc> y\n  three\n  four\n")
	if want := "  c> x\n-   two\n  c> y\n+   four\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
