// Rows as pgq.sqltriga writes them into events: the tail of an SQL statement.

package pgq

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// DecodeSQL reads an event's data as sqltriga writes it for an operation: I, U or D.
// The row of an INSERT has all columns, that of an UPDATE those that changed and the
// key, that of a DELETE the key. keys are the key's columns, which an INSERT does not
// tell. Values are literals or null; anything else that SQL knows is refused.
func DecodeSQL(op byte, data string) (row Row, keys []string, err error) {
	r := sqlReader{text: data}
	row = make(Row)
	switch op {
	case 'I':
		err = r.insert(row)
	case 'U':
		if _, err = r.assign(row, func() bool { return r.take(',') }); err == nil && !r.word("where") {
			err = r.want("where")
		}
		if err == nil {
			keys, err = r.where(row)
		}
	case 'D':
		keys, err = r.where(row)
	default:
		err = fmt.Errorf("%q is not one of the operations I, U and D", op)
	}
	if err == nil && r.skip() < len(data) {
		err = r.want("the end")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("decode sql: %w", err)
	}
	return row, keys, nil
}

// sqlReader reads the few words of SQL that sqltriga writes.
type sqlReader struct {
	text string
	at   int // of what is to be read
}

// insert reads (a,b) values ('1',null), or default values.
func (r *sqlReader) insert(row Row) error {
	if r.word("default") {
		if !r.word("values") {
			return r.want("values")
		}
		return nil
	}
	var names []string
	if err := r.list(func() error {
		name, err := r.name()
		names = append(names, name)
		return err
	}); err != nil {
		return err
	}
	if !r.word("values") {
		return r.want("values")
	}
	n := 0
	if err := r.list(func() error {
		if n == len(names) {
			return r.want(fmt.Sprintf("as many values as columns, %d", n))
		}
		value, err := r.value()
		row[names[n]] = value
		n++
		return err
	}); err != nil {
		return err
	}
	if n < len(names) {
		return r.want(fmt.Sprintf("as many values as columns, %d", len(names)))
	}
	return nil
}

// list reads things in parentheses with commas between.
func (r *sqlReader) list(one func() error) error {
	if !r.take('(') {
		return r.want("(")
	}
	for {
		if err := one(); err != nil {
			return err
		}
		if r.take(')') {
			return nil
		}
		if !r.take(',') {
			return r.want(", or )")
		}
	}
}

// where reads a='1' and b='2'. A column that was set keeps its new value.
func (r *sqlReader) where(row Row) (keys []string, err error) {
	old := make(Row)
	keys, err = r.assign(old, func() bool { return r.word("and") })
	for name, value := range old {
		if _, set := row[name]; !set {
			row[name] = value
		}
	}
	return keys, err
}

// assign reads name=value pairs into row, and says which in their order.
func (r *sqlReader) assign(row Row, another func() bool) (names []string, err error) {
	for {
		name, err := r.name()
		if err != nil {
			return nil, err
		}
		if !r.take('=') {
			return nil, r.want("=")
		}
		if row[name], err = r.value(); err != nil {
			return nil, err
		}
		names = append(names, name)
		if !another() {
			return names, nil
		}
	}
}

// skip goes past blanks.
func (r *sqlReader) skip() int {
	for r.at < len(r.text) && strings.IndexByte(" \t\r\n", r.text[r.at]) >= 0 {
		r.at++
	}
	return r.at
}

func (r *sqlReader) take(c byte) bool {
	if r.skip() < len(r.text) && r.text[r.at] == c {
		r.at++
		return true
	}
	return false
}

// word takes a key word in small letters, however it is written.
func (r *sqlReader) word(word string) bool {
	end := r.skip() + len(word)
	if end > len(r.text) || !strings.EqualFold(r.text[r.at:end], word) || end < len(r.text) && inName(r.text[end]) {
		return false
	}
	r.at = end
	return true
}

func inName(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

// name takes a column's name, in quotes or without.
func (r *sqlReader) name() (string, error) {
	start := r.skip()
	if r.take('"') {
		return r.quoted('"')
	}
	for r.at < len(r.text) && inName(r.text[r.at]) {
		r.at++
	}
	name := r.text[start:r.at]
	if name == "" || '0' <= name[0] && name[0] <= '9' || name[0] == '$' {
		r.at = start
		return "", r.want("a column")
	}
	return strings.Map(func(c rune) rune { // as SQL does with names out of quotes
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}, name), nil
}

func (r *sqlReader) value() (pgtype.Text, error) {
	if r.word("null") {
		return pgtype.Text{}, nil
	}
	if rest := r.text[r.skip():]; strings.HasPrefix(rest, "E'") || strings.HasPrefix(rest, "e'") {
		r.at += 2
		value, err := r.escaped()
		return pgtype.Text{String: value, Valid: err == nil}, err
	}
	if !r.take('\'') {
		return pgtype.Text{}, r.want("a value in quotes, or null")
	}
	value, err := r.quoted('\'')
	return pgtype.Text{String: value, Valid: err == nil}, err
}

// quoted reads to the closing quote; two of them are one in the text.
func (r *sqlReader) quoted(quote byte) (string, error) {
	start := r.at
	doubled := false
	for {
		n := strings.IndexByte(r.text[r.at:], quote)
		if n < 0 {
			r.at = len(r.text)
			return "", r.want("the quote that closes what begins at byte " + fmt.Sprint(start))
		}
		r.at += n + 1
		if r.at == len(r.text) || r.text[r.at] != quote {
			break
		}
		r.at++
		doubled = true
	}
	text := r.text[start : r.at-1]
	if doubled {
		text = strings.ReplaceAll(text, string([]byte{quote, quote}), string(quote))
	}
	return text, nil
}

// escaped reads what follows E'.
func (r *sqlReader) escaped() (string, error) {
	start := r.at
	var out []byte
	for ; r.at < len(r.text); r.at++ {
		c := r.text[r.at]
		next := byte(0)
		if r.at+1 < len(r.text) {
			next = r.text[r.at+1]
		}
		switch {
		case c == '\'' && next != '\'':
			r.at++
			return string(out), nil
		case c == '\'':
			r.at++
		case c == '\\':
			i := strings.IndexByte(`\'bfnrt`, next)
			if i < 0 {
				return "", r.want(`one of the escapes \\ \' \b \f \n \r \t`)
			}
			c = "\\'\b\f\n\r\t"[i]
			r.at++
		}
		out = append(out, c)
	}
	return "", r.want("the quote that closes what begins at byte " + fmt.Sprint(start))
}

// want is the error for what does not stand where it should.
func (r *sqlReader) want(what string) error {
	if r.at >= len(r.text) {
		return fmt.Errorf("at its end: want %s", what)
	}
	return fmt.Errorf("at byte %d: want %s, found %s", r.at, what, excerpt(r.text[r.at:]))
}
