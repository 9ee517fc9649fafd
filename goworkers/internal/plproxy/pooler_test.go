package plproxy

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"goworkers/internal/pooler"
	"goworkers/internal/pooler/ini"
)

// pooled is a transaction pooler in front of a rig's partitions.
type pooled struct {
	port int
	conf string
	p    *pooler.Pooler
	done chan error
}

func newPooled(t *testing.T, r *rig) *pooled {
	t.Helper()
	// t.TempDir would be too long for a socket's path.
	dir, err := os.MkdirTemp("", "plproxy.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &pooled{port: listener.Addr().(*net.TCPAddr).Port, conf: filepath.Join(dir, "pooler.ini")}
	listener.Close()
	var text strings.Builder
	fmt.Fprintln(&text, "[databases]")
	for i, part := range r.parts {
		fmt.Fprintf(&text, "%s = host=127.0.0.1 port=%d user=postgres\n", part.Name, r.ports[i])
	}
	users := filepath.Join(dir, "users.txt")
	fmt.Fprintf(&text, "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = trust\nauth_file = %s\npool_mode = transaction\n", o.port, users)
	for path, text := range map[string]string{o.conf: text.String(), users: `"postgres" ""` + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.start(t)
	t.Cleanup(func() { o.stop(t) })
	return o
}

func (o *pooled) start(t *testing.T) {
	t.Helper()
	cfg, warnings, err := ini.Load(o.conf)
	if err != nil {
		t.Fatal(err)
	}
	if o.p, err = pooler.New(cfg, pooler.Options{Log: io.Discard, Warnings: warnings}); err != nil {
		t.Fatal(err)
	}
	o.done = make(chan error, 1)
	go func(p *pooler.Pooler) { o.done <- p.Run() }(o.p)
}

// stop ends the pooler at once, with all that runs through it, if it runs.
func (o *pooled) stop(t *testing.T) {
	t.Helper()
	if o.done == nil {
		return
	}
	o.p.Signal(syscall.SIGQUIT)
	if err := <-o.done; err != nil {
		t.Error(err)
	}
	o.done = nil
}

// Between two calls nobody notices that a pooler was restarted; in a call it is
// 08006, and while it is gone 08001.
func TestPoolerRestart(t *testing.T) {
	r := newRig(t)
	o := newPooled(t, r)
	var parts [4]string
	for i, part := range r.parts {
		parts[i] = fmt.Sprintf("host=127.0.0.1 port=%d dbname=%s user=postgres", o.port, part.Name)
	}
	c := &cluster{rig: r, name: "pooled", conn: r.proxy.Conn(t)}
	r.server(t, c.name, parts[:], "query_timeout '0'", "connect_timeout '0'")

	for range 3 {
		before := c.call(t, "pids")
		o.stop(t)
		o.start(t)
		after := c.call(t, "pids")
		if slices.ContainsFunc(after, func(pid string) bool { return slices.Contains(before, pid) }) {
			t.Errorf("the pooler's servers were not replaced: %v became %v", before, after)
		}
	}

	answers := c.later(t, "slow_all")
	r.busy(t, 0, 1, 2, 3)
	o.stop(t)
	a := <-answers
	a.fails(t, "08006")
	c.try(t, "pids").fails(t, "08001")
	o.start(t)
	if after := c.call(t, "pids"); len(after) != 4 {
		t.Errorf("%d partitions answer, want 4", len(after))
	}

	// A cancel goes through the pooler too. (What the stopped pooler had asked for
	// goes on: a sleeping server does not look whether somebody still listens.)
	for _, part := range r.parts {
		part.Exec(t, `select pg_terminate_backend(pid, 10000) from pg_stat_activity
			where datname = current_database() and query like '%slow()%' and pid <> pg_backend_pid()`)
	}
	c.call(t, "pids")
	c.set(t, "set statement_timeout = '500ms'")
	c.try(t, "slow_all").fails(t, "57014")
	r.quiet(t)
}
