package consumers

// Rows out of a CSV file, whose first line names the columns.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// csvFile reads rows. Fields may stand in quotes; a quote within is doubled. Unlike
// encoding/csv it takes any quote, and tells empty fields with quotes from those without.
type csvFile struct {
	in        *bufio.Reader
	delimiter byte
	quote     byte // 0: none
	emptyNull bool // an empty field without quotes is NULL
	line      int  // that is read next, from 1
	names     []string
	wide      int // fields of a row; 0 before the first line
}

// newCSV reads the first line.
func newCSV(in io.Reader, delimiter, quote byte, emptyNull bool) (*csvFile, error) {
	c := &csvFile{in: bufio.NewReaderSize(in, 64<<10), delimiter: delimiter, quote: quote, line: 1}
	if mark, err := c.in.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = c.in.Discard(3) // it was there
	}
	first, err := c.row()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty; its first line has to name the columns")
	}
	if err != nil {
		return nil, err
	}
	for _, name := range first {
		c.names = append(c.names, string(name))
	}
	c.wide, c.emptyNull = len(first), emptyNull
	return c, nil
}

// row reads the next row, passing by empty lines. A nil field is NULL.
func (c *csvFile) row() ([][]byte, error) {
	for {
		line := c.line
		row, err := c.record()
		switch {
		case err != nil:
			return nil, err
		case row == nil: // an empty line
			continue
		case c.wide > 0 && len(row) != c.wide:
			return nil, fmt.Errorf("line %d has %d fields, but the first line names %d columns", line, len(row), c.wide)
		}
		return row, nil
	}
}

// record reads up to the end of a line that is not in quotes.
func (c *csvFile) record() (row [][]byte, err error) {
	start := c.line
	field := []byte{}
	const (
		begin  = iota // of a field
		plain         // in a field without quotes
		inside        // of quotes
		behind        // the closing quote
	)
	state := begin
	empty := true // no byte of the line was seen
	end := func() {
		if state == begin && c.emptyNull {
			field = nil
		}
		row = append(row, field)
		field, state = []byte{}, begin
	}
	for {
		b, err := c.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && state == inside:
			return nil, fmt.Errorf("line %d: a quote is not closed until the end of the file", start)
		case errors.Is(err, io.EOF) && empty:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			end()
			return row, nil
		case err != nil:
			return nil, err
		}
		if b == '\n' {
			c.line++
		}
		if b == '\r' && state != inside {
			if next, err := c.in.Peek(1); err == nil && next[0] == '\n' {
				continue
			}
		}
		switch {
		case state == inside && b == c.quote:
			state = behind
		case state == inside:
			field = append(field, b)
		case b == '\n' && empty:
			return nil, nil
		case b == '\n':
			end()
			return row, nil
		case b == c.delimiter:
			end()
		case state == behind && b == c.quote:
			field = append(field, b)
			state = inside
		case state == behind:
			return nil, fmt.Errorf("line %d: %q stands behind a closing quote; a quote inside of quotes is doubled", c.line, b)
		case state == begin && c.quote != 0 && b == c.quote:
			state = inside
		default:
			field = append(field, b)
			state = plain
		}
		empty = false
	}
}
