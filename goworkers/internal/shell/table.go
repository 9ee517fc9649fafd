package shell

// Results as psql shows them.

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// table is a result to print. A nil cell is NULL, which is shown as nothing.
type table struct {
	columns []string
	right   []bool // columns that are aligned to the right: numbers
	rows    [][]*string
}

// isNumber tells which types are aligned to the right.
func isNumber(oid uint32) bool {
	switch oid {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.XIDOID, pgtype.Float4OID, pgtype.Float8OID,
		pgtype.NumericOID, moneyOID:
		return true
	}
	return false
}

const moneyOID = 790

func (t *table) print(out io.Writer) error {
	widths := make([]int, len(t.columns))
	cells := make([][][]string, len(t.rows)) // row, column, line
	header := make([]string, len(t.columns))
	for c, name := range t.columns {
		header[c] = Printable(name)
		widths[c] = utf8.RuneCountInString(header[c])
	}
	for r, row := range t.rows {
		cells[r] = make([][]string, len(row))
		for c, cell := range row {
			text := ""
			if cell != nil {
				text = *cell
			}
			for _, line := range strings.Split(text, "\n") {
				line = Printable(line)
				cells[r][c] = append(cells[r][c], line)
				widths[c] = max(widths[c], utf8.RuneCountInString(line))
			}
		}
	}
	var b strings.Builder
	for c, name := range header {
		left := (widths[c] - utf8.RuneCountInString(name)) / 2
		t.cell(&b, c, strings.Repeat(" ", left)+name+strings.Repeat(" ", widths[c]-left-utf8.RuneCountInString(name)), " ")
	}
	b.WriteByte('\n')
	for c, width := range widths {
		if c > 0 {
			b.WriteByte('+')
		}
		b.WriteString(strings.Repeat("-", width+2))
	}
	b.WriteByte('\n')
	for _, row := range cells {
		height := 1
		for _, lines := range row {
			height = max(height, len(lines))
		}
		for n := range height {
			for c, lines := range row {
				text, more := "", " "
				if n < len(lines) {
					text = lines[n]
				}
				if n+1 < len(lines) {
					more = "+" // the value goes on in the next line
				}
				pad := strings.Repeat(" ", widths[c]-utf8.RuneCountInString(text))
				if t.right[c] {
					text = pad + text
				} else {
					text += pad
				}
				t.cell(&b, c, text, more)
			}
			b.WriteByte('\n')
		}
	}
	if len(t.rows) == 1 {
		b.WriteString("(1 row)\n\n")
	} else {
		fmt.Fprintf(&b, "(%d rows)\n\n", len(t.rows))
	}
	_, err := io.WriteString(out, trimLines(b.String()))
	return err
}

func (t *table) cell(b *strings.Builder, column int, text, more string) {
	if column > 0 {
		b.WriteByte('|')
	}
	b.WriteString(" " + text + more)
}

// trimLines removes spaces at the ends of lines.
func trimLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// Printable makes control characters visible: what a queue holds must not steer the
// terminal.
func Printable(text string) string {
	if strings.IndexFunc(text, isControl) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString("    ")
		case isControl(r):
			fmt.Fprintf(&b, `\x%02X`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }
