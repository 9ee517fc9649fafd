// Package law holds the test of the import law: who may know whom.
package law

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "goworkers/"

// pkg is what go list tells about a package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// in says whether a package is one of the rooms or lies below one.
func in(path string, rooms ...string) bool {
	for _, room := range rooms {
		if path == module+room || strings.HasPrefix(path, module+room+"/") {
			return true
		}
	}
	return false
}

func external(path string, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// The rooms whose packages do a product's work. Each but split stands alone.
var workers = []string{
	"internal/ticker", "internal/consumers", "internal/londiste", "internal/replay",
	"internal/pooler", "internal/walmgr", "internal/split", "internal/scriptmgr",
}

var public = []string{"pgq", "batch", "pgwire", "sodi"}

// rule forbids some imports; reason is what the developer reads.
type rule struct {
	name   string
	broken func(from, to string) bool
	reason string
}

var rules = []rule{
	{"public imports no internal", func(from, to string) bool {
		return in(from, public...) && in(to, "internal", "cmd")
	}, "users build on the public packages alone"},
	{"pgq and pgwire stand below batch", func(from, to string) bool {
		return in(from, "pgq", "pgwire", "sodi") && in(to, "batch")
	}, "the layers are cmd, internal/cli, workers, batch, pgq, pgx"},
	{"workers do not import each other", func(from, to string) bool {
		room := func(path string) string {
			for _, w := range workers {
				if in(path, w) {
					return w
				}
			}
			return ""
		}
		a, b := room(from), room(to)
		if a == "internal/split" && (b == "internal/londiste" || b == "internal/pooler") {
			return false
		}
		return a != "" && b != "" && a != b
	}, "only split drives londiste and the pooler"},
	{"workers do not know the command line", func(from, to string) bool {
		return (in(from, workers...) || in(from, "internal/service")) && in(to, "internal/cli")
	}, "a command builds a config and calls the worker"},
	{"the command line library", func(from, to string) bool {
		return external(to, "github.com/urfave/cli") && !in(from, "cmd", "internal/cli")
	}, "urfave/cli stays in cmd and internal/cli"},
	{"the pooler speaks pgwire", func(from, to string) bool {
		return (in(from, "internal/pooler") || in(from, "pgwire")) && external(to, "github.com/jackc/pgx/v5")
	}, "the pooler and pgwire never use pgx"},
	{"pglogrepl", func(from, to string) bool {
		return external(to, "github.com/jackc/pglogrepl") && !in(from, "internal/replay", "internal/walmgr")
	}, "only replay and walmgr stream WAL"},
	{"nobody imports cmd", func(from, to string) bool { return in(to, "cmd") }, "cmd is the outermost layer"},
}

// broken lists the rules that one import breaks.
func broken(from, to string) []rule {
	var list []rule
	for _, r := range rules {
		if r.broken(from, to) {
			list = append(list, r)
		}
	}
	return list
}

func TestImportLaw(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		for _, to := range p.Imports {
			for _, r := range broken(p.ImportPath, to) {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, r.reason)
			}
			if in(to, "internal/pgtest") && !in(p.ImportPath, "internal/pgtest") {
				t.Errorf("%s imports %s: only tests may", p.ImportPath, to)
			}
		}
		// Tests may use pgtest and drivers, but must not couple the workers.
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			for _, r := range broken(p.ImportPath, to) {
				if r.name == "workers do not import each other" || r.name == "nobody imports cmd" {
					t.Errorf("the tests of %s import %s: %s", p.ImportPath, to, r.reason)
				}
			}
		}
	}
	if seen < 5 {
		t.Errorf("go list named %d packages: the law was not looked at", seen)
	}
}

// The rules themselves: what each forbids and what it lets pass.
func TestRulesForbid(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		want     string // name of the rule, "" when allowed
	}{
		{"batch", "internal/service", "public imports no internal"},
		{"pgq", "batch", "pgq and pgwire stand below batch"},
		{"batch", "pgq", ""},
		{"internal/ticker", "internal/consumers/queuemover", "workers do not import each other"},
		{"internal/consumers/a", "internal/consumers/b", ""},
		{"internal/split", "internal/londiste", ""},
		{"internal/split", "internal/walmgr", "workers do not import each other"},
		{"internal/ticker", "internal/cli", "workers do not know the command line"},
		{"internal/cli", "internal/ticker", ""},
		{"batch", "github.com/urfave/cli/v2", "the command line library"},
		{"cmd/skytools", "github.com/urfave/cli/v2", ""},
		{"internal/pooler/pool", "github.com/jackc/pgx/v5/pgconn", "the pooler speaks pgwire"},
		{"internal/ticker", "github.com/jackc/pgx/v5", ""},
		{"internal/ticker", "github.com/jackc/pglogrepl", "pglogrepl"},
		{"internal/replay", "github.com/jackc/pglogrepl", ""},
		{"internal/cli", "cmd/skytools", "nobody imports cmd"},
	} {
		to := tc.to
		if !strings.Contains(to, ".") {
			to = module + to
		}
		list := broken(module+tc.from, to)
		got := ""
		if len(list) > 0 {
			got = list[0].name
		}
		if got != tc.want {
			t.Errorf("%s imports %s: breaks %q, want %q", tc.from, tc.to, got, tc.want)
		}
	}
}
