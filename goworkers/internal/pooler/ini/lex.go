package ini

// The line grammar: sections, keys, values, comments and %include.

import (
	"fmt"
	"os"
	"strings"
)

// maxInclude is how deep %include may nest.
const maxInclude = 10

// place says where something stands in which file.
type place struct {
	file string
	line int
}

func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// Error is one thing wrong with a configuration.
type Error struct {
	File    string
	Line    int    // 0: the file as a whole
	Section string // may be empty
	Key     string // may be empty
	Value   string // may be empty, and is when it could hold a secret
	Problem string
	Fix     string // what to do
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(place{e.File, e.Line}.String())
	b.WriteString(": ")
	if e.Section != "" {
		b.WriteString("[" + e.Section + "] ")
	}
	if e.Key != "" {
		b.WriteString(e.Key)
		if e.Value != "" {
			b.WriteString(" = " + shown(e.Value))
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Problem)
	if e.Fix != "" {
		b.WriteString("; " + e.Fix)
	}
	return oneLine(b.String())
}

// shown cuts what is too long for a line of log.
func shown(s string) string {
	const limit = 120
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}

// oneLine replaces control characters, so that a message cannot break into several.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// entry is a key with its value, as it stands in a file.
type entry struct {
	place
	section    string
	key, value string
}

// lexer walks a file and the files that it includes. The section goes on into an
// included file and comes back as that left it.
type lexer struct {
	section string
	emit    func(entry)
	enter   func(place, string) // a section begins
	report  func(*Error)
}

func (l *lexer) fail(at place, problem, fix string) {
	l.report(&Error{File: at.file, Line: at.line, Section: l.section, Problem: problem, Fix: fix})
}

// load reads a file; from is the line that includes it, or zero.
func (l *lexer) load(file string, from place, depth int) {
	text, err := os.ReadFile(file)
	if err != nil {
		at := place{file: file}
		fix := "give the path of a readable file"
		if depth > 0 {
			at, fix = from, "%include takes a path relative to the working directory"
		}
		l.fail(at, err.Error(), fix)
		return
	}
	l.scan(file, string(text), depth)
}

func (l *lexer) scan(file, text string, depth int) {
	at := place{file: file}
	for raw := range strings.Lines(text) {
		at.line++
		line := strings.Trim(raw, " \t\r\n\f\v")
		if strings.IndexByte(line, 0) >= 0 {
			l.fail(at, "a zero byte", "write plain text")
			continue
		}
		switch {
		case line == "" || line[0] == ';' || line[0] == '#':
		case line[0] == '[':
			name, rest, ok := strings.Cut(line[1:], "]")
			if !ok || strings.TrimSpace(rest) != "" {
				l.fail(at, "section is not [name]", "close it with ] and put nothing behind it")
				continue
			}
			l.section = strings.TrimSpace(name)
			l.enter(at, l.section)
		case line[0] == '%':
			word, file, _ := strings.Cut(line, " ")
			file = strings.TrimSpace(file)
			switch {
			case word != "%include" || file == "":
				l.fail(at, fmt.Sprintf("unknown directive %q", shown(word)), "the only one is %include FILE")
			case depth == maxInclude:
				l.fail(at, fmt.Sprintf("%%include nested deeper than %d", maxInclude), "look for a file that includes itself")
			default:
				l.load(file, at, depth+1)
			}
		default:
			key, value, problem := splitEntry(line)
			if problem != "" {
				// The line is not shown: a password may stand in it.
				l.fail(at, problem, "write key = value")
				continue
			}
			l.emit(entry{at, l.section, key, value})
		}
	}
}

// splitEntry parts "key = value". A key is letters, digits and _ . - *, or quoted by ”
// or "", where a doubled quote is one.
func splitEntry(line string) (key, value, problem string) {
	rest := line
	if q := line[0]; q == '\'' || q == '"' {
		var ok bool
		if key, rest, ok = unquote(line); !ok {
			return "", "", fmt.Sprintf("key lacks its closing %c", q)
		}
	} else {
		n := 0
		for n < len(line) && isKeyByte(line[n]) {
			n++
		}
		key, rest = line[:n], line[n:]
	}
	rest = strings.TrimLeft(rest, " \t")
	if key == "" {
		return "", "", "line does not start with a key (letters, digits and _.-*, or quoted)"
	}
	if !strings.HasPrefix(rest, "=") {
		return "", "", fmt.Sprintf("no = after the key %q", shown(key))
	}
	return key, strings.TrimLeft(rest[1:], " \t"), ""
}

func isKeyByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '_' || c == '.' || c == '-' || c == '*' || c >= 0x80
}

// unquote takes a quoted string off the start of s; the quote is s[0], doubled it
// stands for itself.
func unquote(s string) (value, rest string, ok bool) {
	q := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] == q {
			if i+1 < len(s) && s[i+1] == q {
				i++
			} else {
				return b.String(), s[i+1:], true
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// splitConnString parts blank-separated key=value, where a value may be quoted by ” to
// hold blanks, and must not be empty. problem and fix tell what stopped it.
func splitConnString(s string, each func(key, value string)) (problem, fix string) {
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			return "", ""
		}
		n := 0
		for n < len(s) && isKeyByte(s[n]) {
			n++
		}
		key := s[:n]
		s = strings.TrimLeft(s[n:], " \t")
		if key == "" || !strings.HasPrefix(s, "=") {
			return "connection string is not key=value pairs parted by blanks", "quote values that hold blanks: key='a b'"
		}
		s = strings.TrimLeft(s[1:], " \t")
		var value string
		if strings.HasPrefix(s, "'") {
			var ok bool
			if value, s, ok = unquote(s); !ok {
				return "value of " + key + " lacks its closing '", "close it; within it, '' is one quote"
			}
			if s != "" && s[0] != ' ' && s[0] != '\t' {
				return "no blank after the quoted value of " + key, "part the pairs by blanks; within quotes, '' is one quote"
			}
		} else {
			n = strings.IndexAny(s, " \t")
			if n < 0 {
				n = len(s)
			}
			value, s = s[:n], s[n:]
		}
		if value == "" {
			return "value of " + key + " is empty", "give a value or leave the key out"
		}
		each(key, value)
	}
}
