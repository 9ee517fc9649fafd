package pooler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/tlsconn/tlstest"
	"goworkers/pgwire"
)

// ledger is what clients have inserted, each line once.
type ledger struct {
	mu    sync.Mutex
	count map[int]int // by worker: lines 0 to count-1 are committed
	errs  []error
}

func (l *ledger) done(worker, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[worker] = n
}

func (l *ledger) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

func (l *ledger) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.count {
		n += k
	}
	return n
}

// slowCopy is the data of a COPY: a piece of a line whenever there is a pulse.
type slowCopy struct {
	ctx   context.Context
	pulse <-chan struct{}
	text  string
}

func (s *slowCopy) Read(b []byte) (int, error) {
	select {
	case <-s.pulse:
	case <-s.ctx.Done():
	}
	if s.text == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), 7)], s.text)
	s.text = s.text[n:]
	return n, nil
}

// insert are the ways in which line n of a worker gets into the table; each is one
// transaction.
var inserts = []struct {
	name string
	run  func(ctx context.Context, conn *pgx.Conn, worker, n int) error
}{
	{"simple", func(ctx context.Context, conn *pgx.Conn, worker, n int) error {
		_, err := conn.Exec(ctx, "insert into public.line values ($1, $2)", pgx.QueryExecModeSimpleProtocol, worker, n)
		return err
	}},
	{"extended", func(ctx context.Context, conn *pgx.Conn, worker, n int) error {
		_, err := conn.Exec(ctx, "insert into public.line values ($1, $2)", pgx.QueryExecModeExec, worker, n)
		return err
	}},
	{"prepared", func(ctx context.Context, conn *pgx.Conn, worker, n int) error {
		// Some texts, so that servers have to prepare what others have.
		text := fmt.Sprintf("insert into public.line values ($1, $2) /* %d */", rand.N(5))
		_, err := conn.Exec(ctx, text, pgx.QueryExecModeCacheStatement, worker, n)
		return err
	}},
	{"transaction", func(ctx context.Context, conn *pgx.Conn, worker, n int) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		me := fmt.Sprintf("%d/%d", worker, n)
		if _, err := tx.Exec(ctx, "select set_config('test.owner', $1, true)", pgx.QueryExecModeExec, me); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into public.line values ($1, $2)", pgx.QueryExecModeExec, worker, n); err != nil {
			return err
		}
		var owner string
		if err := tx.QueryRow(ctx, "select current_setting('test.owner')", pgx.QueryExecModeExec).Scan(&owner); err != nil {
			return err
		}
		if owner != me {
			return fmt.Errorf("the server belongs to %q, not to %q", owner, me)
		}
		return tx.Commit(ctx)
	}},
	{"pipeline", func(ctx context.Context, conn *pgx.Conn, worker, n int) error {
		b := &pgx.Batch{}
		b.Queue("insert into public.line values ($1, $2)", worker, n)
		for i := range 10 {
			b.Queue("select $1::int, repeat('x', 1000)", i)
		}
		results := conn.SendBatch(ctx, b)
		if _, err := results.Exec(); err != nil {
			return errors.Join(err, results.Close())
		}
		for i := range 10 {
			var k int
			var x string
			if err := results.QueryRow().Scan(&k, &x); err != nil || k != i || len(x) != 1000 {
				return errors.Join(fmt.Errorf("answer %d is %d with %d characters: %w", i, k, len(x), err), results.Close())
			}
		}
		return results.Close()
	}},
	{"large result", func(ctx context.Context, conn *pgx.Conn, worker, n int) error {
		var text string
		err := conn.QueryRow(ctx, "with t as (insert into public.line values ($1, $2)) select repeat('y', 3000000)", pgx.QueryExecModeExec, worker, n).Scan(&text)
		if err == nil && (len(text) != 3000000 || strings.Trim(text, "y") != "") {
			err = fmt.Errorf("%d characters, not all of them right", len(text))
		}
		return err
	}},
	{"error", func(ctx context.Context, conn *pgx.Conn, worker, n int) error {
		_, err := conn.Exec(ctx, "select 1/0", pgx.QueryExecModeCacheDescribe)
		if e, ok := asPgError(err); !ok || e.Code != "22012" {
			return fmt.Errorf("1/0 gives %w", err)
		}
		_, err = conn.Exec(ctx, "insert into public.line values ($1, $2)", pgx.QueryExecModeExec, worker, n)
		return err
	}},
}

func TestTakeoverUnderLoadLosesNothing(t *testing.T) {
	for _, threads := range []string{"1", "3", "changing"} {
		t.Run("threads "+threads, func(t *testing.T) {
			db := pgtest.DB(t)
			db.Exec(t, "create table public.line (worker int, n int)")
			at := func(round int) config {
				n := threads
				if n == "changing" {
					n = fmt.Sprint(1 + round*2%5)
				}
				return config{
					// More clients than servers, so that some always wait.
					databases: entry("d", db, "pool_size=3") + "\n" + entry("e", db, "pool_size=2") + "\n" + entry("s", db, "pool_mode=session pool_size=10"),
					settings:  "stats_period = 1\nmax_prepared_statements = 3\nthreads = " + n,
				}
			}
			r := processRig(t, at(0))
			now := r.process().says("up")

			book := &ledger{count: map[int]int{}}
			ctx, stop := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			workers := 0
			for _, name := range []string{"d", "d", "e", "s"} {
				for _, way := range inserts {
					worker := workers
					workers++
					conn := r.connect(name)
					wg.Go(func() {
						limit, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
						defer cancel()
						for n := 0; ctx.Err() == nil; n++ {
							if err := way.run(limit, conn, worker, n); err != nil {
								book.failed(fmt.Errorf("%s: line %d of worker %d on %s: %w", way.name, n, worker, name, err))
								return
							}
							book.done(worker, n+1)
						}
					})
				}
			}
			// One COPY lasts over all the takeovers; its data come in pieces of lines.
			pulse := make(chan struct{})
			copying := r.connect("e")
			var text strings.Builder
			for n := range 200 {
				fmt.Fprintf(&text, "-1\t%d\n", n)
			}
			copied := make(chan error, 1)
			go func() {
				_, err := copying.PgConn().CopyFrom(background(t), &slowCopy{ctx, pulse, text.String()}, "copy public.line from stdin")
				copied <- err
			}()

			r.waitFor("work is done", func() bool { return book.total() > workers })
			for round := range 6 {
				before := book.total()
				r.write(at(round + 1))
				r.share()
				now = r.takeOver(now)
				for range 10 {
					pulse <- struct{}{}
				}
				r.waitFor("the new process works", func() bool { return book.total() > before+2*workers || len(book.errs) > 0 })
			}
			stop()
			wg.Wait()
			if err := <-copied; err != nil {
				t.Errorf("COPY: %v", err)
			}
			for _, err := range book.errs {
				t.Error(err)
			}
			for worker, n := range book.count {
				var lines, distinct, last int
				row := db.Conn(t).QueryRow(background(t), "select count(*), count(distinct n), coalesce(max(n), -1) from public.line where worker = $1", worker)
				if err := row.Scan(&lines, &distinct, &last); err != nil {
					t.Fatal(err)
				}
				if lines != n || distinct != n || last != n-1 {
					t.Errorf("worker %d has inserted %d lines: %d are there, %d different, up to %d", worker, n, lines, distinct, last)
				}
			}
			var lines int
			if err := db.Conn(t).QueryRow(background(t), "select count(distinct n) from public.line where worker = -1").Scan(&lines); err != nil || lines != 200 {
				t.Errorf("COPY has brought %d lines: %v", lines, err)
			}
			r.waitFor("all servers are given back", func() bool { return r.pool("d")["sv_active"] == "0" && r.pool("e")["sv_active"] == "0" })
			if log := now.stderr.String(); strings.Contains(log, "ERROR") || strings.Contains(log, "got dirty") || strings.Contains(log, "was not taken over") {
				t.Errorf("the log tells of faults:\n%s", log)
			}
		})
	}
}

// What a process knows of its clients and servers, the next one knows too.
func TestTakeoverKeepsConnectionsAsTheyAre(t *testing.T) {
	db := pgtest.DB(t)
	r := processRig(t, config{databases: entry("d", db, "pool_size=4") + "\n" + entry("held", db) + "\n" + entry("off", db) + "\n" + "* = " + strings.TrimPrefix(entry("x", db), "x = "),
		settings: "track_extra_parameters = IntervalStyle\nmax_client_conn = 50"})
	old := r.process().says("up")

	inBlock := r.connect("d", "application_name=block")
	exec(t, inBlock, "begin")
	exec(t, inBlock, "set local work_mem = '7MB'")
	pid := value[int](t, inBlock, backend)
	idle := r.connect("d")
	exec(t, idle, "set timezone = 'Asia/Tokyo'")
	exec(t, idle, "set intervalstyle = 'iso_8601'")
	auto := r.connect(db.Name) // from the entry *
	exec(t, auto, "select 1")

	// Names of statements, in the protocol's own words, and a query that is on its way.
	raw := r.rawLogin("d")
	if got := talk(t, raw, 1, "P:mine=select 40 + $1::int", "S"); got != "1 Z" {
		t.Fatalf("Parse: %s", got)
	}
	sleeper := r.connect("d")
	slept := make(chan error, 1)
	ctx := background(t)
	go func() {
		_, err := sleeper.Exec(ctx, "select pg_sleep(60)")
		slept <- err
	}()
	held := r.connect("held")
	exec(t, held, "select 1")
	r.console("pause held")
	heldDone := make(chan error, 1)
	go func() {
		_, err := held.Exec(ctx, "select 1")
		heldDone <- err
	}()
	r.console("disable off")
	r.waitFor("clients stand as they should", func() bool {
		return r.pool("held")["cl_waiting"] == "1" && r.pool("d")["sv_active"] == "2"
	})
	servers, clients := r.ids("show servers"), r.ids("show clients")
	since := r.connected("block")
	count := r.stat("d", "total_xact_count")

	for range 3 {
		old = r.takeOver(old)
	}

	if got := r.ids("show servers"); got != servers {
		t.Errorf("servers were\n%s and are\n%s", servers, got)
	}
	if got := r.ids("show clients"); got != clients {
		t.Errorf("clients were\n%s and are\n%s", clients, got)
	}
	if got := r.connected("block"); got.Sub(since).Abs() > time.Second {
		t.Errorf("a client was connected at %s and now at %s", since, got)
	}
	if got := value[int](t, inBlock, backend); got != pid {
		t.Errorf("the transaction was on server %d and is on %d", pid, got)
	}
	if got := value[string](t, inBlock, "show work_mem"); got != "7MB" {
		t.Errorf("work_mem of the transaction is %s", got)
	}
	exec(t, inBlock, "commit")
	for sql, want := range map[string]string{
		"show timezone": "Asia/Tokyo", "show intervalstyle": "iso_8601",
	} {
		if got := value[string](t, idle, sql); got != want {
			t.Errorf("%s gives %s", sql, got)
		}
	}
	if got := value[string](t, inBlock, "show application_name"); got != "block" {
		t.Errorf("application_name is %s", got)
	}
	if got := talk(t, raw, 1, "B:mine,2", "E", "S"); got != "2 D:42 C Z" {
		t.Errorf("the prepared statement gives %s", got)
	}
	if err := sleeper.PgConn().CancelRequest(ctx); err != nil {
		t.Fatal(err)
	}
	if e := pgError(t, <-slept); e.Code != "57014" {
		t.Errorf("the cancelled query ends with %v", e)
	}
	if rows := r.console("show databases"); len(rows) == 0 {
		t.Fatal("no databases")
	}
	if r.database("held")["paused"] != "1" || r.database("off")["disabled"] != "1" {
		t.Errorf("PAUSE and DISABLE are forgotten: %v, %v", r.database("held"), r.database("off"))
	}
	r.console("resume held")
	if err := <-heldDone; err != nil {
		t.Errorf("the client that waited in the paused database: %v", err)
	}
	exec(t, auto, "select 1")
	if got := r.stat("d", "total_xact_count"); got < count {
		t.Errorf("total_xact_count was %d and is %d", count, got)
	}
	if e := r.refused("off"); e.Message != `database "off" is disabled` {
		t.Errorf("got %v", e)
	}
	// Newcomers get the welcome of old.
	exec(t, r.connect("d"), "select 1")
	if got := r.pool("d")["sv_login"]; got != "0" {
		t.Errorf("servers log in: %s", got)
	}
}

// ids are the connections of databases other than the console, with their states.
func (r *rig) ids(sql string) string {
	r.t.Helper()
	var b strings.Builder
	for _, row := range r.console(sql) {
		if row["database"] != consoleName {
			fmt.Fprintln(&b, row["id"], row["user"], row["database"], row["state"], row["addr"], row["port"], row["local_port"],
				row["link"], row["remote_pid"], row["application_name"])
		}
	}
	return b.String()
}

// connected is when the client of an application came.
func (r *rig) connected(app string) time.Time {
	r.t.Helper()
	for _, row := range r.console("show clients") {
		if row["application_name"] == app {
			at, err := time.Parse("2006-01-02 15:04:05 MST", row["connect_time"])
			if err != nil {
				r.t.Fatal(err)
			}
			return at
		}
	}
	r.t.Fatalf("no client of application %s", app)
	return time.Time{}
}

func (r *rig) stat(db, name string) (n int) {
	r.t.Helper()
	for _, row := range r.console("show stats") {
		if row["database"] == db {
			if _, err := fmt.Sscan(row[name], &n); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return n
}

// Whatever ends the new process before its SHUTDOWN, the old one goes on.
func TestTakeoverThatFailsChangesNothing(t *testing.T) {
	for _, threads := range []int{1, 2} {
		c := config{databases: entry("d", pgtest.DB(t), "pool_size=3"), settings: fmt.Sprintf("suspend_timeout = 1\nthreads = %d", threads)}
		r := processRig(t, c)
		old := r.process().says("up")
		stop := r.traffic("d", 8)
		inBlock := r.connect("d")
		exec(t, inBlock, "begin")
		pid := value[int](t, inBlock, backend)
		servers := func() string {
			if rows := r.console("show state"); rows[2]["value"] != "no" {
				t.Errorf("still suspended: %v", rows)
			}
			if got := value[int](t, inBlock, backend); got != pid {
				t.Errorf("the transaction was on server %d and is on %d", pid, got)
			}
			return old.stderr.String()
		}
		for _, step := range []string{"connected", "suspended", "rows", "received", "adopted"} {
			next := r.process(takeOverEnv+"=1", stopAtEnv+"="+step+"=kill").says("at " + step)
			if err := next.wait(); err == nil {
				t.Errorf("killed at step %s, it ends well", step)
			}
			servers()
		}
		// One that stands still is given up after suspend_timeout, and learns of it.
		next := r.process(takeOverEnv+"=1", stopAtEnv+"=adopted=wait").says("at adopted")
		r.waitFor("the old process goes on", func() bool { return strings.Contains(old.stderr.String(), "going on") })
		servers()
		next.stdin.Close()
		next.fails("SHUTDOWN")
		servers()
		// A configuration that cannot be.
		for _, fault := range []string{"logfile = /nonexistent/log", "client_tls_sslmode = require", "track_extra_parameters = a,b,c,d,e,f,g,h,i,j,k,l,m"} {
			c := c
			c.settings += "\n" + fault
			r.write(c)
			r.share()
			key, _, _ := strings.Cut(fault, " ")
			r.process(takeOverEnv + "=1").fails(key)
			servers()
		}
		r.write(c)
		r.share()
		if n, err := stop(); err != nil {
			t.Errorf("after %d queries: %v", n, err)
		}
		exec(t, inBlock, "commit")
		// And then one that succeeds.
		r.takeOver(old)
		exec(t, inBlock, "select 1")
	}
}

// A database or a user that the new configuration does not have any more.
func TestTakeoverClosesWhatIsNotConfiguredAnyMore(t *testing.T) {
	db := pgtest.DB(t)
	file := "\"postgres\" \"\"\n\"guest\" \"\"\n"
	pg := entry("d", db)
	r := processRig(t, config{databases: pg + "\n" + entry("gone", db) + "\n" + entry("other", db, "user=postgres"), authFile: file})
	old := r.process().says("up")
	kept, gone, other := r.connect("d"), r.connect("gone"), r.connect("other", "user=guest")
	for _, conn := range []*pgx.Conn{kept, gone, other} {
		exec(t, conn, "select 1")
	}
	exec(t, gone, "begin")
	r.write(config{databases: pg + "\n" + entry("other", db, "user=postgres")})
	r.share()
	r.takeOver(old)
	exec(t, kept, "select 1")
	for conn, want := range map[*pgx.Conn]string{gone: "database removed", other: "user removed"} {
		_, err := conn.Exec(background(t), "select 1")
		if e := pgError(t, err); e.Message != want || e.Severity != "FATAL" {
			t.Errorf("got %v, want %s", e, want)
		}
	}
}

// Who logs in, or has TLS, is told to connect again.
func TestTakeoverTellsThoseItLeavesBehind(t *testing.T) {
	db := pgtest.DB(t)
	r := processRig(t, config{databases: entry("d", db), settings: "auth_type = plain", authFile: "\"postgres\" \"secret\"\n"})
	old := r.process().says("up")
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "d"}})); err != nil {
		t.Fatal(err)
	}
	if typ, _, err := message1(conn); err != nil || typ != pgwire.MsgAuthentication {
		t.Fatalf("%c, %v", typ, err)
	}
	r.process(takeOverEnv + "=1").says("alone")
	old.endsWell()
	typ, body, err := message1(conn)
	if err != nil || typ != pgwire.MsgErrorResponse {
		t.Fatalf("%c, %v", typ, err)
	}
	if rep, err := pgwire.ParseReport(body); err != nil || rep.Code != "57P01" || !strings.Contains(rep.Message, "login") {
		t.Errorf("%v, %v", rep, err)
	}
	if log := old.stderr.String(); !strings.Contains(log, "closing because: the pooler restarts, and connections in login are not carried over") {
		t.Errorf("the log does not tell:\n%s", log)
	}
}

// A client with TLS cannot go on, and neither can one in a transaction on a server with
// TLS; who has neither does.
func TestTakeoverLeavesTLSBehind(t *testing.T) {
	db := pgtest.DB(t)
	cert := tlstest.NewCA(t, "ca").Issue(t, "pooler", tlstest.Leaf{Names: []string{"127.0.0.1"}})
	c := config{databases: entry("d", db)}
	r := processRig(t, c)
	for name, path := range map[string]string{"crt": cert.Cert, "key": cert.Key} {
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(r.dir, name), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.settings = fmt.Sprintf("client_tls_sslmode = allow\nclient_tls_cert_file = %s/crt\nclient_tls_key_file = %s/key", r.dir, r.dir)
	r.write(c)
	r.share()
	old := r.process().says("up")
	plain, tls := r.connect("d"), r.connect("d", "sslmode=require")
	exec(t, tls, "begin")
	exec(t, plain, "select 1")
	r.takeOver(old)
	exec(t, plain, "select 1")
	_, err := tls.Exec(background(t), "select 1")
	if e, ok := asPgError(err); !ok || e.Code != "57P01" || !strings.Contains(e.Message, "TLS") {
		t.Errorf("the client with TLS gets %v", err)
	}
	if got := db.Rows(t, "select count(*)::text from pg_catalog.pg_stat_activity where state like 'idle in transaction%' and datname = pg_catalog.current_database()"); got[0] != "0" {
		t.Errorf("%s transactions are left open", got[0])
	}
	exec(t, r.connect("d", "sslmode=require"), "select 1")
}

func TestTakeoverKeepsReplication(t *testing.T) {
	db := pgtest.DB(t)
	r := processRig(t, config{databases: entry("d", db, "pool_size=2")})
	old := r.process().says("up")
	conn := r.connect("d", "replication=database")
	pid := value[int](t, conn, backend, pgx.QueryExecModeSimpleProtocol)
	for range 2 {
		old = r.takeOver(old)
		if got := value[int](t, conn, backend, pgx.QueryExecModeSimpleProtocol); got != pid {
			t.Errorf("the server was %d and is %d", pid, got)
		}
	}
	if _, err := conn.PgConn().Exec(background(t), "IDENTIFY_SYSTEM").ReadAll(); err != nil {
		t.Error(err)
	}
	conn.Close(background(t))
	r.waitFor("its server goes with it", func() bool {
		return db.Rows(t, "select count(*)::text from pg_catalog.pg_stat_activity where pid = $1", pid)[0] == "0"
	})
}

// The service manager hears from the old process, which it knows, who the new one is.
func TestTakeoverTellsTheServiceManager(t *testing.T) {
	r := processRig(t, config{databases: entry("d", pgtest.DB(t))})
	path := filepath.Join(r.dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	old := r.process("NOTIFY_SOCKET=" + path).says("up")
	next := r.takeOver(old)
	_ = manager.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 1000)
	n, err := manager.Read(buf)
	if want := fmt.Sprintf("MAINPID=%d", next.cmd.Process.Pid); err != nil || string(buf[:n]) != want {
		t.Errorf("it hears %q, %v; want %s", buf[:n], err, want)
	}
}

// Metrics go on where they were, on the same address.
func TestTakeoverKeepsCounting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	l.Close()
	r := processRig(t, config{databases: entry("d", pgtest.DB(t)), settings: "metrics_listen = " + listen})
	old := r.process().says("up")
	conn := r.connect("d")
	for range 10 {
		exec(t, conn, "select 1")
	}
	// Figures are those of the last sweep.
	figure := func(name string) string {
		resp, err := http.Get("http://" + listen + "/metrics")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err.Error()
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, name+`{database="d",user="postgres"} `); ok {
				return strings.TrimSpace(rest)
			}
		}
		return ""
	}
	for range 2 {
		r.waitFor("queries are counted", func() bool {
			return figure("pooler_queries_total") == "10" && figure("pooler_query_duration_seconds_count") == "10"
		})
		old = r.takeOver(old)
	}
	exec(t, conn, "select 1")
	r.waitFor("queries are counted", func() bool {
		return figure("pooler_queries_total") == "11" && figure("pooler_query_duration_seconds_count") == "11"
	})
}

// Two processes on one port: the first leaves, and nobody is refused.
func TestRollingRestartOnOnePort(t *testing.T) {
	db := pgtest.DB(t)
	c := config{databases: entry("d", db, "pool_size=3"), settings: "so_reuseport = 1"}
	a, b := processRig(t, c), processRig(t, c)
	b.port = a.port
	b.write(c)
	b.share()
	first := a.process().says("up")
	stays := a.connect("d")
	exec(t, stays, "begin")
	b.process().says("up")

	// Clients that come and go all the time.
	var come, resets atomic.Int64
	ctx, stop := context.WithCancel(context.Background())
	errs := make(chan error, 4)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				limit, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				conn, err := pgconn.Connect(limit, a.dsn("d"))
				if err == nil {
					_, err = conn.Exec(limit, "select 1").ReadAll()
					conn.Close(limit)
				}
				cancel()
				if errors.Is(err, syscall.ECONNRESET) && come.Load() > 0 && resets.Add(1) == 1 {
					// The kernel forgets who is in the middle of the handshake of TCP when the
					// socket goes, unless net.ipv4.tcp_migrate_req is set.
					continue
				}
				if err != nil {
					errs <- err
					return
				}
				come.Add(1)
			}
		})
	}
	a.waitFor("clients come", func() bool { return come.Load() > 20 })
	admin, err := pgconn.Connect(background(t), fmt.Sprintf("host=%s port=%d user=postgres dbname=pgbouncer", a.dir, a.port))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(background(t), "shutdown wait_for_clients").ReadAll(); err != nil {
		t.Fatal(err)
	}
	n := come.Load()
	a.waitFor("clients come to the other process", func() bool { return come.Load() > n+20 || len(errs) > 0 })
	stop()
	wg.Wait()
	select {
	case err := <-errs:
		t.Error(err)
	default:
	}
	exec(t, stays, "commit")
	stays.Close(background(t))
	first.endsWell()
}
