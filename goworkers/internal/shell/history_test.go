package shell

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestHistoryKeepsStatementsAsLines(t *testing.T) {
	t.Parallel()
	h := history{filepath.Join(t.TempDir(), "history")}
	if lines, err := h.load(); err != nil || lines != nil {
		t.Fatalf("a new one: %v, %v", lines, err)
	}
	for _, c := range []struct{ statement, want string }{
		{"select 1;", "select 1;"},
		{"select\n  2;", "select   2;"},
		{" \n", ""},
		{"alter role joe password 'x';", ""},
		{"connect dbname=a PASSWORD=b", ""},
		{"select dblink('postgres://joe:secret@host/db');", ""},
		{"select 'passwd';", ""},
		{"show queue", "show queue"},
	} {
		if got, err := h.add(c.statement); err != nil || got != c.want {
			t.Errorf("add(%q) = %q, %v, want %q", c.statement, got, err, c.want)
		}
	}
	lines, err := h.load()
	if want := []string{"select 1;", "select   2;", "show queue"}; err != nil || !slices.Equal(lines, want) {
		t.Errorf("load = %q, %v, want %q", lines, err, want)
	}
	if info, err := os.Stat(h.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestHistoryIsBoundedAndClosedToOthers(t *testing.T) {
	t.Parallel()
	h := history{filepath.Join(t.TempDir(), "history")}
	var all []string
	for n := range historyLines + 500 {
		all = append(all, fmt.Sprintf("select %d;", n))
	}
	if err := os.WriteFile(h.path, []byte(strings.Join(all, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	lines, err := h.load()
	if err != nil || !slices.Equal(lines, all[500:]) {
		t.Errorf("%d lines, %v", len(lines), err)
	}
	data, err := os.ReadFile(h.path)
	if want := strings.Join(all[500:], "\n") + "\n"; err != nil || string(data) != want {
		t.Errorf("the file has %d bytes, %v, want %d", len(data), err, len(want))
	}
	if info, err := os.Stat(h.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// Few long lines are bounded, too.
	long := strings.Repeat("x", historyBytes/4) + "\n"
	if err := os.WriteFile(h.path, []byte(strings.Repeat(long, 6)), 0o600); err != nil {
		t.Fatal(err)
	}
	if lines, err := h.load(); err != nil || len(lines) != 3 {
		t.Errorf("%d long lines are left, %v, want 3", len(lines), err)
	}
}

func TestNoHistoryIsKeptWithoutAFile(t *testing.T) {
	t.Parallel()
	h := history{}
	if line, err := h.add("select 1;"); line != "select 1;" || err != nil {
		t.Errorf("add = %q, %v", line, err)
	}
	if lines, err := h.load(); lines != nil || err != nil {
		t.Errorf("load = %q, %v", lines, err)
	}
}
