package differ

// The products: where their programs are, how one is started for a play.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"goworkers/internal/pgtest"
)

// product is a pooler that conversations are played through.
type product struct {
	name    string  // as in "differs" lines and names of goldens
	version version // of a PgBouncer; zero for ours
	argv    []string
}

const (
	ours         = "pooler"
	startupLimit = 30 * time.Second
	pgbouncerEnv = "SKYTOOLS_PGBOUNCERS"
)

// products are ours first, then the PgBouncers from old to new.
func products(t *testing.T) []*product {
	t.Helper()
	dir := openTemp(t)
	bin := filepath.Join(dir, "skytools")
	build := []string{"build", "-o", bin}
	if raceDetector {
		build = append(build, "-race")
	}
	if out, err := exec.Command("go", append(build, "goworkers/cmd/skytools")...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	all := []*product{{name: ours, argv: []string{bin, "pooler"}}}
	for _, program := range pgbouncers(t, dir) {
		out, err := exec.Command(program, "-V").Output()
		if err != nil {
			t.Fatalf("%s -V: %v", program, err)
		}
		first, _, _ := strings.Cut(string(out), "\n")
		v, err := parseVersion(strings.TrimPrefix(first, "PgBouncer "))
		if err != nil {
			t.Fatalf("%s -V prints %q: %v", program, first, err)
		}
		all = append(all, &product{fmt.Sprintf("pgbouncer-%d.%d", v.major, v.minor), v, []string{program}})
	}
	slices.SortStableFunc(all[1:], func(a, b *product) int {
		if a.version.less(b.version) {
			return -1
		}
		return 1
	})
	return all
}

// pgbouncers are the programs.
func pgbouncers(t *testing.T, dir string) []string {
	t.Helper()
	if list := os.Getenv(pgbouncerEnv); list != "" {
		return strings.Split(list, ":")
	}
	_, file, _, _ := runtime.Caller(0)
	top := filepath.Join(filepath.Dir(file), "../../../..")
	suites := []string{"bookworm"}
	if _, err := os.Stat(filepath.Join(top, ".build/peers/forky/pgbouncer.list")); err == nil {
		suites = append(suites, "forky")
	}
	var programs []string
	for _, suite := range suites {
		tree := filepath.Join(dir, suite)
		cmd := exec.Command(filepath.Join(top, "scripts/bench/pgbouncer-tree"), tree, suite)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("pgbouncer-tree %s: %v\n%s", suite, err, out)
		}
		programs = append(programs, filepath.Join(tree, "pgbouncer"))
	}
	return programs
}

// openTemp is a folder that another user may enter and write to.
func openTemp(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "differ.") // t.TempDir would be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// instance is a product that runs for one play.
type instance struct {
	dir, addr  string // where it listens
	base       config
	server     string // host=... port=... dbname=...
	serverPort string
	silent     net.Listener // connections to it are never accepted
	silentPort string
	cmd        *exec.Cmd
	log        bytes.Buffer
	exited     chan struct{}
	err        error // of the exit; read after exited
}

const listenPort = "24327"

// plays counts, so that each has an address of its own: nobody can take its port.
var plays atomic.Uint32

// start runs the product until stop is called.
func start(t *testing.T, p *product, c config, db *pgtest.Database) *instance {
	t.Helper()
	n := plays.Add(1)
	in := &instance{
		dir:    openTemp(t),
		addr:   fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()%250, n/250, 1+n%250),
		base:   c.copy(),
		exited: make(chan struct{}),
	}
	for w := range strings.FieldsSeq(db.DSN) {
		switch key, value, _ := strings.Cut(w, "="); key {
		case "port":
			in.serverPort = value
			in.server += w + " "
		case "host":
			in.server += w + " "
		}
	}
	in.server += "dbname=" + db.Name
	var err error
	if in.silent, err = net.Listen("tcp", in.addr+":0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.silent.Close() })
	in.silentPort = strconv.Itoa(in.silent.Addr().(*net.TCPAddr).Port)
	if err := in.write(in.base); err != nil {
		t.Fatal(err)
	}
	in.cmd = exec.Command(p.argv[0], append(p.argv[1:], filepath.Join(in.dir, "pgbouncer.ini"))...)
	in.cmd.Stdout, in.cmd.Stderr = &in.log, &in.log
	if err := in.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		in.err = in.cmd.Wait()
		close(in.exited)
	}()
	for deadline := time.Now().Add(startupLimit); ; {
		// The unix socket comes last.
		err := probe("unix", filepath.Join(in.dir, ".s.PGSQL."+listenPort))
		if err == nil {
			err = probe("tcp", in.addr+":"+listenPort)
		}
		if err == nil {
			return in
		}
		select {
		case <-in.exited:
			t.Fatalf("%s does not start: %v\n%s", p.name, in.err, &in.log)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			in.stop(t)
			t.Fatalf("%s does not listen: %v\n%s", p.name, err, &in.log)
		}
	}
}

// probe opens a connection, and closes it in such a way that it is not counted any more.
func probe(network, addr string) error {
	conn, err := net.Dial(network, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(startupLimit))
	_, err = io.Copy(io.Discard, conn)
	return err
}

// write makes the files of a configuration.
func (in *instance) write(c config) error {
	var b strings.Builder
	section := func(name string, entries ...[]entry) {
		fmt.Fprintf(&b, "[%s]\n", name)
		for _, list := range entries {
			for _, e := range list {
				if e.value == "-" {
					continue
				}
				value := strings.NewReplacer("$server", in.server, "$dir", in.dir, "$port", in.serverPort,
					"$address", in.addr, "$silent", in.silentPort).Replace(e.value)
				fmt.Fprintf(&b, "%s = %s\n", e.key, value)
			}
		}
	}
	with := func(defaults, own []entry) []entry {
		all := append([]entry(nil), defaults...)
		for _, e := range own {
			put(&all, e.key, e.value)
		}
		return all
	}
	users := filepath.Join(in.dir, "users.txt")
	settings := []entry{
		{"listen_addr", in.addr}, {"listen_port", listenPort}, {"unix_socket_dir", in.dir},
		{"auth_type", "trust"}, {"auth_file", users}, {"admin_users", "admin"}, {"stats_users", "stats"},
	}
	if os.Getuid() == 0 {
		settings = append(settings, entry{"user", "nobody"})
	}
	section("databases", with([]entry{{"db", "$server"}}, c.databases))
	if len(c.users) > 0 {
		section("users", c.users)
	}
	section("pgbouncer", with(settings, c.settings))
	var auth strings.Builder
	for _, e := range with([]entry{{"postgres", ""}, {"admin", ""}, {"stats", ""}}, c.secrets) {
		if e.value == "-" {
			continue
		}
		fmt.Fprintf(&auth, "\"%s\" \"%s\"\n", e.key, e.value)
	}
	// A new file each time: the products look at the time of its last change.
	for path, text := range map[string]string{
		filepath.Join(in.dir, "pgbouncer.ini"): b.String(),
		filepath.Join(in.dir, "hba.txt"):       strings.Join(c.hba, "\n") + "\n",
		users:                                  auth.String(),
	} {
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the product at once, and looks at what it said.
func (in *instance) stop(t *testing.T) {
	t.Helper()
	_ = in.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-in.exited:
	case <-time.After(startupLimit):
		t.Error("does not end at SIGQUIT")
		_ = in.cmd.Process.Kill()
		<-in.exited
	}
	for _, bad := range []string{"DATA RACE", "panic: ", "goroutine 1 ["} {
		if strings.Contains(in.log.String(), bad) {
			t.Errorf("the log has %q", bad)
		}
	}
	// An old PgBouncer has no handler for the signal.
	var exit *exec.ExitError
	if errors.As(in.err, &exit) && exit.ExitCode() != 1 && exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGQUIT {
		t.Errorf("ends with %v", in.err)
	}
}
