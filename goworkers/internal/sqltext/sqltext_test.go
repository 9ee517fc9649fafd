package sqltext_test

import (
	"testing"

	"goworkers/internal/sqltext"
)

func TestPiecesEndWhereTheServerEndsThem(t *testing.T) {
	quoted := func(text string) (int, bool) { return sqltext.Quoted(text, false) }
	escaped := func(text string) (int, bool) { return sqltext.Quoted(text, true) }
	for _, c := range []struct {
		name   string
		piece  func(text string) (int, bool)
		text   string
		length int
		closed bool
	}{
		{"text", quoted, `'a"b' x'`, 5, true},
		{"text of nothing", quoted, `''`, 2, true},
		{"doubled quote", quoted, `'a''b'c`, 6, true},
		{"backslash that is none", quoted, `'a\'b'`, 4, true},
		{"backslash", escaped, `'a\'b\\'c`, 8, true},
		{"name", quoted, `"a'b""c"d`, 8, true},
		{"text without an end", quoted, `'a''`, 4, false},
		{"nothing but a quote", quoted, `'`, 1, false},
		{"backslash at the end", escaped, `'\`, 2, false},
		{"comment", sqltext.Comment, "/* a */ */", 7, true},
		{"comment in a comment", sqltext.Comment, "/*/* a */*/b", 11, true},
		{"comment without an end", sqltext.Comment, "/*/ /* */", 9, false},
		{"dollars", sqltext.DollarQuoted, "$$a$b$$c", 7, true},
		{"dollars with a tag", sqltext.DollarQuoted, "$õ_1$ $$ $õ_1$$", 16, true},
		{"dollars without an end", sqltext.DollarQuoted, "$a$ $$", 6, false},
		{"parameter", sqltext.DollarQuoted, "$1$ $1$", 0, false},
		{"a name with dollars", sqltext.DollarQuoted, "a$b$", 0, false},
		{"dollar alone", sqltext.DollarQuoted, "$", 0, false},
	} {
		if length, closed := c.piece(c.text); length != c.length || closed != c.closed {
			t.Errorf("%s: %q: %d, %t, want %d, %t", c.name, c.text, length, closed, c.length, c.closed)
		}
	}
}
