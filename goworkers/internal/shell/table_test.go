package shell

import (
	"strings"
	"testing"
)

func TestTablesLookLikeThoseOfPsql(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	for _, c := range []struct {
		name string
		in   table
		want string
	}{
		{"numbers right, null empty", table{columns: []string{"id", "a_name"}, right: []bool{true, false},
			rows: [][]*string{{text("1"), text("first")}, {text("100"), nil}}},
			" id  | a_name\n-----+--------\n   1 | first\n 100 |\n(2 rows)\n\n"},
		{"one row", table{columns: []string{"x"}, right: []bool{false}, rows: [][]*string{{text("y")}}}, " x\n---\n y\n(1 row)\n\n"},
		{"no row", table{columns: []string{"x"}, right: []bool{false}}, " x\n---\n(0 rows)\n\n"},
		{"lines within a value", table{columns: []string{"a", "b"}, right: []bool{false, true}, rows: [][]*string{{text("1\n22\n3"), text("4")}}},
			" a  | b\n----+---\n 1 +| 4\n 22+|\n 3  |\n(1 row)\n\n"},
		{"what would steer the terminal", table{columns: []string{"a"}, right: []bool{false}, rows: [][]*string{{text("\x1b[2J\ta\r\u009b")}}},
			"         a\n--------------------\n \\x1B[2J    a\\r\\x9B\n(1 row)\n\n"},
		{"other letters", table{columns: []string{"größe", "b"}, right: []bool{true, false}, rows: [][]*string{{text("1"), text("ü")}}},
			" größe | b\n-------+---\n     1 | ü\n(1 row)\n\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			if err := c.in.print(&out); err != nil || out.String() != c.want {
				t.Errorf("%v, got\n%s\nwant\n%s", err, out.String(), c.want)
			}
		})
	}
}
