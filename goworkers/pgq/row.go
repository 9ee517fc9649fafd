// Rows as pgq.logutriga writes them into events: url-encoded columns.

package pgq

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// Row is a row of a table, its values as text by column. A NULL and an empty text
// are two things: the former is not Valid.
type Row map[string]pgtype.Text

// Encode writes the row as DecodeRow reads it, columns in order of their names:
// name=value pairs with & between; a NULL is the name alone. Letters, digits, and
// the characters _ . - stand for themselves, + for a space, and %xx for any other
// byte.
func (r Row) Encode() string {
	names := make([]string, 0, len(r))
	for name := range r {
		names = append(names, name)
	}
	slices.Sort(names)
	var out strings.Builder
	for i, name := range names {
		if i > 0 {
			out.WriteByte('&')
		}
		escape(&out, name)
		if value := r[name]; value.Valid {
			out.WriteByte('=')
			escape(&out, value.String)
		}
	}
	return out.String()
}

// DecodeRow reads an event's data as logutriga writes it. An empty text is a row
// without columns, as for TRUNCATE. Of two columns of one name the later counts.
func DecodeRow(data string) (Row, error) {
	row := make(Row)
	for rest := data; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			continue
		}
		encoded, value, valid := strings.Cut(pair, "=")
		name, err := unescape(encoded)
		if err == nil {
			value, err = unescape(value)
		}
		if err != nil {
			return nil, fmt.Errorf("decode row: in %q: %w", pair, err)
		}
		row[name] = pgtype.Text{String: value, Valid: valid}
	}
	return row, nil
}

func escape(out *strings.Builder, s string) {
	const hex = "0123456789abcdef"
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
			out.WriteByte(c)
		case c == ' ':
			out.WriteByte('+')
		default:
			out.WriteByte('%')
			out.WriteByte(hex[c>>4])
			out.WriteByte(hex[c&15])
		}
	}
}

func unescape(s string) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			out = append(out, ' ')
		case '%':
			if i+2 >= len(s) {
				return "", fmt.Errorf("%q is no escape: two hex digits must follow the %%", s[i:])
			}
			high, low := hexValue(s[i+1]), hexValue(s[i+2])
			if high < 0 || low < 0 {
				return "", fmt.Errorf("%q is no escape: two hex digits must follow the %%", s[i:i+3])
			}
			out = append(out, byte(high<<4|low))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return string(out), nil
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
