package shell

// Cutting text into statements: at each ; that stands outside of quotes, comments,
// parentheses and bodies of functions, as psql does.

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"goworkers/internal/sqltext"
)

// split cuts complete statements off the front of text. rest is what is left: a
// statement that goes on, or "" when only space and comments are left.
func split(text string) (statements []string, rest string) {
	start := 0
	l := lexer{text: text}
	for l.next() {
		if l.kind != tokenEnd {
			continue
		}
		if s := strings.TrimSpace(text[start : l.pos-1]); l.seen {
			statements = append(statements, s)
		}
		start = l.pos
		l.restart()
	}
	if !l.seen && !l.open {
		return statements, ""
	}
	return statements, text[start:]
}

type tokenKind int

const (
	tokenWord tokenKind = iota // a name or keyword, unquoted
	tokenQuoted
	tokenOther
	tokenEnd // the ; that ends a statement
)

// lexer reads SQL token by token, as far as that matters for where statements end.
type lexer struct {
	text string
	pos  int

	kind  tokenKind
	token string // as it stands in the text
	open  bool   // the text ends within quotes or a comment

	seen    bool // something was read of this statement
	parens  int
	words   []string // the first words of the statement, lower case
	routine bool     // it makes a function or procedure
	blocks  int      // begin and case that wait for their end
}

func (l *lexer) restart() {
	l.seen, l.parens, l.words, l.routine, l.blocks = false, 0, nil, false, 0
}

// next reads one token; it says false at the end of the text.
func (l *lexer) next() bool {
	for l.pos < len(l.text) {
		rest := l.text[l.pos:]
		c, size := utf8.DecodeRuneInString(rest)
		switch {
		case unicode.IsSpace(c):
			l.pos += size
		case strings.HasPrefix(rest, "--"):
			if end := strings.IndexByte(rest, '\n'); end >= 0 {
				l.pos += end + 1
			} else {
				l.pos = len(l.text)
			}
		case strings.HasPrefix(rest, "/*"):
			n, closed := sqltext.Comment(rest)
			l.pos += n
			l.open = !closed
		case c == ';' && l.parens == 0 && l.blocks == 0:
			l.take(tokenEnd, 1)
			return true
		default:
			l.read(rest, c, size)
			l.seen = true
			return true
		}
	}
	return false
}

func (l *lexer) take(kind tokenKind, n int) {
	l.kind, l.token = kind, l.text[l.pos:l.pos+n]
	l.pos += n
}

func (l *lexer) read(rest string, c rune, size int) {
	quoted := func(n int, closed bool) {
		l.open = !closed
		l.take(tokenQuoted, n)
	}
	if n, closed := sqltext.DollarQuoted(rest); n > 0 {
		quoted(n, closed)
		return
	}
	switch {
	case (c == 'e' || c == 'E') && strings.HasPrefix(rest[1:], "'"):
		n, closed := sqltext.Quoted(rest[1:], true)
		quoted(n+1, closed)
	case c == '\'' || c == '"':
		quoted(sqltext.Quoted(rest, false))
	case isNameRune(c) && !unicode.IsDigit(c):
		n := strings.IndexFunc(rest, func(r rune) bool { return !isNameRune(r) && r != '$' })
		if n < 0 {
			n = len(rest)
		}
		l.take(tokenWord, n)
		l.word(strings.ToLower(l.token))
	default:
		switch c {
		case '(':
			l.parens++
		case ')':
			l.parens = max(l.parens-1, 0)
		}
		l.take(tokenOther, size)
	}
}

// word follows the blocks of a function's body in SQL: begin atomic … end.
func (l *lexer) word(word string) {
	if len(l.words) < 4 {
		l.words = append(l.words, word)
		if l.words[0] == "create" && (word == "function" || word == "procedure") {
			l.routine = true
		}
	}
	if !l.routine || l.parens > 0 {
		return
	}
	switch word {
	case "begin":
		l.blocks++
	case "case":
		if l.blocks > 0 {
			l.blocks++
		}
	case "end":
		l.blocks = max(l.blocks-1, 0)
	}
}

func isNameRune(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || r >= utf8.RuneSelf
}

// words cuts a command into its words. Quotes hold one together and vanish; = and ,
// stand alone.
func words(text string) []string {
	var list []string
	for i := 0; i < len(text); {
		c, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case unicode.IsSpace(c):
			i += size
		case c == '\'' || c == '"':
			n, _ := sqltext.Quoted(text[i:], false)
			q := string(c)
			list = append(list, strings.ReplaceAll(strings.TrimSuffix(text[i+1:i+n], q), q+q, q))
			i += n
		case c == '=' || c == ',':
			list = append(list, string(c))
			i += size
		default:
			n := strings.IndexFunc(text[i:], func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`'"=,`, r) })
			if n < 0 {
				n = len(text) - i
			}
			list = append(list, text[i:i+n])
			i += n
		}
	}
	return list
}
