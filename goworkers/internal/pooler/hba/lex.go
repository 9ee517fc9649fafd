package hba

// The words of a line, as PostgreSQL parts them.

import (
	"errors"
	"strings"
)

// token is a word; in quotes it has no special meaning.
type token struct {
	text   string
	quoted bool
}

// eachLine gives each line that says something as its fields: a field is words parted
// by commas. A backslash at the end of a line joins it with the next; n is the number of
// the first of them.
func eachLine(text string, each func(n int, fields [][]token, err error)) {
	n, first := 0, 1
	var joined strings.Builder
	end := func() {
		fields, err := split(joined.String())
		if len(fields) > 0 || err != nil {
			each(first, fields, err)
		}
		joined.Reset()
		first = n + 1
	}
	for line := range strings.Lines(text) {
		n++
		line, goesOn := strings.CutSuffix(strings.TrimRight(line, "\r\n"), "\\")
		joined.WriteString(line)
		if !goesOn {
			end()
		}
	}
	end()
}

func split(line string) (fields [][]token, err error) {
	var field []token
	comma := false // directly behind the last word: its field goes on
	for i := 0; i < len(line); {
		switch c := line[i]; {
		case c == ',' || isBlank(c):
			i++
		case c == '#':
			i = len(line)
		case c == 0:
			return nil, errors.New("a zero byte")
		default:
			t, next, err := word(line, i)
			if err != nil {
				return nil, err
			}
			if !comma && field != nil {
				fields = append(fields, field)
				field = nil
			}
			field = append(field, t)
			comma = next < len(line) && line[next] == ','
			i = next
		}
	}
	if field != nil {
		fields = append(fields, field)
	}
	return fields, nil
}

// word takes a word off line at i. Quotes may stand anywhere in it, so that
// ldapserver="a b" is one word; a doubled quote is one. It counts as quoted when it
// begins with a quote.
func word(line string, i int) (t token, next int, err error) {
	var b strings.Builder
	t.quoted = line[i] == '"'
	inQuotes := false
	for ; i < len(line); i++ {
		c := line[i]
		if c == '"' {
			if inQuotes && i+1 < len(line) && line[i+1] == '"' {
				b.WriteByte('"')
				i++
				continue
			}
			inQuotes = !inQuotes
			continue
		}
		if !inQuotes && (isBlank(c) || c == ',' || c == '#' || c == 0) {
			break
		}
		b.WriteByte(c)
	}
	if inQuotes {
		return t, 0, errors.New("a quote is not closed")
	}
	t.text = b.String()
	return t, i, nil
}

func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
