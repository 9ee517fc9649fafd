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
	err := DecodeColumns(data, func(name string, value pgtype.Text) error {
		row[name] = value
		return nil
	})
	if err != nil {
		return nil, err
	}
	return row, nil
}

// DecodeColumns is DecodeRow without a map: f gets the columns in the order in which
// they are written, one of a name that was there before included. An error of f ends
// it and is returned as it is. Names and values share the memory of data, or of one
// copy of it when something in it is escaped: clone what shall outlive them.
func DecodeColumns(data string, f func(name string, value pgtype.Text) error) error {
	var room strings.Builder
	if strings.IndexByte(data, '%') >= 0 || strings.IndexByte(data, '+') >= 0 {
		room.Grow(len(data)) // for all of it, so that it never moves
	}
	for rest := data; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			continue
		}
		encoded, value, valid := strings.Cut(pair, "=")
		name, err := unescape(&room, encoded)
		if err == nil {
			value, err = unescape(&room, value)
		}
		if err != nil {
			return fmt.Errorf("decode row: in %s: %w", excerpt(pair), err)
		}
		if err := f(name, pgtype.Text{String: value, Valid: valid}); err != nil {
			return err
		}
	}
	return nil
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

// unescape returns s itself, or writes it to room when something in it is escaped.
func unescape(room *strings.Builder, s string) (string, error) {
	if room.Cap() == 0 { // nothing in the whole row is
		return s, nil
	}
	start := room.Len()
	from := 0 // what comes before is in room
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			room.WriteString(s[from:i])
			room.WriteByte(' ')
			from = i + 1
		case '%':
			if i+2 >= len(s) {
				return "", fmt.Errorf("%q is no escape: two hex digits must follow the %%", s[i:])
			}
			high, low := hexValue(s[i+1]), hexValue(s[i+2])
			if high < 0 || low < 0 {
				return "", fmt.Errorf("%q is no escape: two hex digits must follow the %%", s[i:i+3])
			}
			room.WriteString(s[from:i])
			room.WriteByte(byte(high<<4 | low))
			i += 2
			from = i + 1
		}
	}
	if from == 0 {
		return s, nil
	}
	room.WriteString(s[from:])
	return room.String()[start:], nil
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

// excerpt quotes the beginning of a text for an error.
func excerpt(text string) string {
	const shown = 60
	if len(text) > shown {
		return fmt.Sprintf("%q…", text[:shown])
	}
	return fmt.Sprintf("%q", text)
}
