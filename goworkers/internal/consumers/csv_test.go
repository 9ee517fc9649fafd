package consumers

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// readCSV gives all rows, the fields joined by | and NULL for nil.
func readCSV(text string, delimiter, quote byte, emptyNull bool) (names []string, rows []string, err error) {
	c, err := newCSV(strings.NewReader(text), delimiter, quote, emptyNull)
	if err != nil {
		return nil, nil, err
	}
	for {
		row, err := c.row()
		if errors.Is(err, io.EOF) {
			return c.names, rows, nil
		}
		if err != nil {
			return c.names, rows, err
		}
		var fields []string
		for _, field := range row {
			if field == nil {
				fields = append(fields, "NULL")
			} else {
				fields = append(fields, string(field))
			}
		}
		rows = append(rows, strings.Join(fields, "|"))
	}
}

func TestCSVIsReadAsItWasWritten(t *testing.T) {
	for _, c := range []struct {
		name, text       string
		delimiter, quote byte
		null             bool
		want             []string
	}{
		{"plain", "a,b\n1,2\n3,4\n", ',', '"', false, []string{"1|2", "3|4"}},
		{"no end of the last line, CRLF, a mark at the start", "\ufeffa,b\r\n1,2\r\n3,4", ',', '"', false, []string{"1|2", "3|4"}},
		{"quotes", "a,b\n\"x, \"\"y\"\"\n\r\nz\",\"\"\n", ',', '"', false, []string{"x, \"y\"\n\r\nz|"}},
		{"another quote and delimiter", "a;b\n'it''s; \"õ\"';2\n", ';', '\'', false, []string{"it's; \"õ\"|2"}},
		{"tabs", "a\tb\n1 \t 2\n", '\t', '"', false, []string{"1 | 2"}},
		{"a quote within", "a,b\n5\" wide,x\n", ',', '"', false, []string{"5\" wide|x"}},
		{"empty fields", "a,b\n,\"\"\n\"\",\n", ',', '"', false, []string{"|", "|"}},
		{"empty fields as COPY writes them", "a,b\n,\"\"\n\"\",\n", ',', '"', true, []string{"NULL|", "|NULL"}},
		{"empty lines", "a\n\n1\n\r\n\n2\n", ',', '"', false, []string{"1", "2"}},
		{"no rows", "a,b\n", ',', '"', false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, got, err := readCSV(c.text, c.delimiter, c.quote, c.null); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v\nwant %q", got, err, c.want)
			}
		})
	}
}

func TestCSVThatIsBrokenIsRefusedWithItsLine(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no line", "", "the file is empty; its first line has to name the columns"},
		{"a field too many", "a,b\n1,2\n1,2,3\n", "line 3 has 3 fields, but the first line names 2 columns"},
		{"a field too few", "a,b\n\"1\n\",2\n1\n", "line 4 has 1 fields"},
		{"a quote without end", "a,b\n1,2\n1,\"2\n3\n", "line 3: a quote is not closed"},
		{"text behind a quote", "a,b\n\"1\"x,2\n", `line 2: 'x' stands behind a closing quote`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, rows, err := readCSV(c.text, ',', '"', false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, %v, want %q", rows, err, c.want)
			}
		})
	}
}

// What encoding/csv writes is read as it was.
func FuzzCSV(f *testing.F) {
	f.Add("a", "b", "1", "it's \"5\n")
	f.Add("\ufeffa", "", "\r\n", ",")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		_, _, _ = readCSV(a+b+c+d, ',', '"', true) // must only end
		for _, field := range []*string{&a, &b, &c, &d} {
			*field = strings.ReplaceAll("x"+*field, "\r", "") // encoding/csv changes them
		}
		var out strings.Builder
		w := csv.NewWriter(&out)
		_ = w.WriteAll([][]string{{a, b}, {c, d}})
		names, rows, err := readCSV(out.String(), ',', '"', false)
		if err != nil || !slices.Equal(names, []string{a, b}) || !slices.Equal(rows, []string{c + "|" + d}) {
			t.Errorf("%q was read as %q, %q, %v", out.String(), names, rows, err)
		}
	})
}
