package pooler

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/ini"
	"goworkers/pgwire"
)

// admin is a connection to the console that stays: while all is suspended, none can be made.
type admin struct {
	t    testing.TB
	conn *pgconn.PgConn
}

func (r *rig) admin() *admin {
	r.t.Helper()
	conn, err := pgconn.Connect(background(r.t), r.dsn("pgbouncer"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close(context.Background()) })
	return &admin{r.t, conn}
}

func (a *admin) command(sql string) ([][][]byte, error) {
	results, err := a.conn.Exec(background(a.t), sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	return results[0].Rows, nil
}

func (a *admin) do(sql string) [][][]byte {
	a.t.Helper()
	rows, err := a.command(sql)
	if err != nil {
		a.t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

func (a *admin) refused(sql, want string) {
	a.t.Helper()
	if _, err := a.command(sql); err == nil || pgError(a.t, err).Message != want {
		a.t.Errorf("%s: %v, want %s", sql, err, want)
	}
}

// state is SHOW STATE in one word.
func (a *admin) state() string {
	a.t.Helper()
	for _, row := range a.do("show state") {
		if string(row[1]) == "yes" {
			return string(row[0])
		}
	}
	return ""
}

// queries is how many are done in database d.
func (a *admin) queries() string {
	a.t.Helper()
	for _, row := range a.do("show stats_totals") {
		if string(row[0]) == "d" {
			return string(row[3])
		}
	}
	return ""
}

func TestSuspendStopsTrafficAndResumeLosesNothing(t *testing.T) {
	for _, threads := range []int{1, 3} {
		for _, how := range []string{"suspend", "suspend extended"} {
			t.Run(fmt.Sprintf("%s with %d threads", how, threads), func(t *testing.T) {
				db := pgtest.DB(t)
				r := start(t, config{databases: entry("d", db, "pool_size=3") + "\n" + entry("e", db, "pool_size=2"), settings: fmt.Sprintf("threads = %d", threads)})
				stop, stopE := r.traffic("d", 8), r.traffic("e", 4)
				a, b := r.admin(), r.admin()
				for range 5 {
					a.do(how)
					if got := a.state(); got != "suspended" {
						t.Fatalf("the state is %s", got)
					}
					a.refused("suspend", "already suspended/paused")
					b.refused("suspend", "already suspended/paused")
					b.refused("pause", "already suspended/paused")
					n := a.queries()
					for range 20 {
						b.do("show pools")
					}
					if got := a.queries(); got != n {
						t.Fatalf("%s queries, and then %s", n, got)
					}
					come := make(chan error, 1)
					go func() {
						conn, err := pgconn.Connect(background(t), r.dsn("d"))
						if err == nil {
							err = conn.Close(background(t))
						}
						come <- err
					}()
					b.do("show clients")
					if len(come) > 0 {
						t.Fatalf("a new client is taken in: %v", <-come)
					}
					b.do("resume")
					if got := a.state(); got != "active" {
						t.Fatalf("the state is %s", got)
					}
					b.refused("resume", "pooler is not paused/suspended")
					if err := <-come; err != nil {
						t.Fatal(err)
					}
					r.waitFor("traffic goes on", func() bool { return a.queries() != n })
				}
				// Who has suspended leaves.
				c := r.admin()
				c.do(how)
				if got := a.state(); got != "suspended" {
					t.Fatalf("the state is %s", got)
				}
				c.conn.Close(background(t))
				r.waitFor("all goes on", func() bool { return a.state() == "active" })
				a.do("pause")
				if how == "suspend" {
					a.refused("suspend", "already suspended/paused")
				}
				a.do("resume")
				for _, stop := range []func() (int64, error){stop, stopE} {
					if n, err := stop(); err != nil {
						t.Errorf("after %d queries: %v", n, err)
					}
				}
			})
		}
	}
}

// copyIn begins a COPY that has as much of a message behind it as n bytes.
func copyIn(t *testing.T, r *rig, message []byte, n int) net.Conn {
	t.Helper()
	conn := r.rawLogin("d")
	if _, err := conn.Write(pgwire.AppendQuery(nil, "copy public.t from stdin")); err != nil {
		t.Fatal(err)
	}
	if typ, _, err := message1(conn); err != nil || typ != pgwire.MsgCopyInResponse {
		t.Fatalf("%c, %v", typ, err)
	}
	if _, err := conn.Write(message[:n]); err != nil {
		t.Fatal(err)
	}
	r.waitFor("it is forwarded", func() bool { return r.stat("d", "total_received") > n })
	return conn
}

func TestSuspendBringsMessagesToTheirEnd(t *testing.T) {
	db := pgtest.DB(t)
	db.Exec(t, "create table public.t (x text)")
	for _, cut := range []int{3, pgwire.HeaderSize + 1000, pgwire.HeaderSize + 100000} {
		r := start(t, config{databases: entry("d", db)})
		a, b := r.admin(), r.admin()
		message := pgwire.AppendMessage(nil, pgwire.MsgCopyData, []byte(strings.Repeat("x", 199999)+"\n"))
		conn := copyIn(t, r, message, cut)
		suspended := make(chan error, 1)
		go func() {
			_, err := a.command("suspend")
			suspended <- err
		}()
		r2 := func() string { return b.state() }
		pgtest.Eventually(t, 20*time.Second, "suspended", func() bool { return r2() == "suspended" })
		b.do("show clients")
		if len(suspended) > 0 {
			t.Fatalf("SUSPEND is done within a message: %v", <-suspended)
		}
		rest := append([]byte(nil), message[cut:]...)
		rest = append(rest, message...)
		rest = pgwire.AppendMessage(rest, pgwire.MsgCopyDone, nil)
		go conn.Write(rest)
		if err := <-suspended; err != nil {
			t.Fatal(err)
		}
		a.do("resume")
		if got := hear(t, conn, 1); got != "C Z" {
			t.Errorf("cut at %d: %s", cut, got)
		}
		if got := db.Rows(t, "select count(*)::text || ' ' || sum(length(x))::text from public.t"); got[0] != "2 399998" {
			t.Errorf("cut at %d: %v", cut, got)
		}
		db.Exec(t, "truncate public.t")
	}
}

func TestSuspendTimeoutEndsWhatCannotBeFlushed(t *testing.T) {
	db := pgtest.DB(t)
	db.Exec(t, "create table public.t (x text)")
	r := start(t, config{databases: entry("d", db), settings: "suspend_timeout = 0.5"})
	a := r.admin()
	kept := r.connect("d")
	exec(t, kept, "begin")
	conn := copyIn(t, r, pgwire.AppendMessage(nil, pgwire.MsgCopyData, []byte(strings.Repeat("x", 9999)+"\n")), 5000)
	a.do("suspend")
	typ, body, err := message1(conn)
	if err != nil || typ != pgwire.MsgErrorResponse {
		t.Fatalf("%c, %v", typ, err)
	}
	if rep, err := pgwire.ParseReport(body); err != nil || rep.Message != "suspend_timeout" {
		t.Errorf("%v, %v", rep, err)
	}
	a.do("resume")
	exec(t, kept, "commit")
}

// ownConsole is the console as a process of the pooler's own user has it.
func (r *rig) ownConsole() *predecessor {
	r.t.Helper()
	cfg, _, err := ini.Load(r.conf)
	if err != nil {
		r.t.Fatal(err)
	}
	o, err := callPredecessor(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(o.close)
	return o
}

func TestShowFDsHandsOutSocketsToTheOwnUserAlone(t *testing.T) {
	db := pgtest.DB(t)
	secret := "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$Yyhr4Yux0F5vXnNfmB6SGyU7mO3AuYLRfu+jWKHzGiU=:yZKbVvNmKpJ1LfTGrS1Ou5BO0bOKhmQH6H0qG8BbYqk="
	r := start(t, config{databases: entry("d", db), settings: "threads = 2", authFile: "\"postgres\" \"\"\n\"other\" \"" + secret + "\"\n"})
	block := r.connect("d")
	exec(t, block, "set timezone = 'Asia/Tokyo'")
	exec(t, block, "begin")
	pid := value[int](t, block, backend)
	const want = "fd task user database addr port cancel link client_encoding std_strings datestyle timezone password scram_client_key scram_server_key"

	results, err := r.admin().conn.Exec(background(t), "show fds").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range results[0].FieldDescriptions {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("columns %s", got)
	}
	for _, row := range results[0].Rows {
		if string(row[6]) != "0" || row[12] != nil || row[13] != nil || row[14] != nil {
			t.Errorf("a secret for an admin who is not the own user: %q", row)
		}
	}

	own := r.ownConsole()
	rows, err := own.queryFDs("SHOW FDS", func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	byFD := map[int]consoleRow{}
	for _, row := range rows {
		defer syscall.Close(row.fd)
		kinds[row.text("task")]++
		n, err := row.number("fd")
		if err != nil {
			t.Fatal(err)
		}
		byFD[n] = row
		peer, local, unix := peerOf(row.fd)
		switch row.text("task") {
		case taskListener:
			if unix != (row.text("addr") == "unix") || !unix && fmt.Sprint(local.Port()) != row.text("port") {
				t.Errorf("a listener of %s:%s is bound to %s", row.text("addr"), row.text("port"), local)
			}
		default:
			if got := netip.MustParseAddrPort(row.text("addr") + ":" + row.text("port")); got != peer {
				t.Errorf("the socket of a %s leads to %s, the row says %s", row.text("task"), peer, got)
			}
			if row.text("timezone") != "Asia/Tokyo" || row.text("std_strings") != "on" || row.text("database") != "d" {
				t.Errorf("values %q", row.values)
			}
		}
	}
	if kinds[taskListener] != 2 || kinds[taskClient] != 1 || kinds[taskServer] != 1 {
		t.Fatalf("rows: %v", kinds)
	}
	for _, row := range rows {
		if row.text("task") != taskServer {
			continue
		}
		link, _ := row.number("link")
		client := byFD[link]
		if back, _ := client.number("link"); client.text("task") != taskClient || fmt.Sprint(back) != row.text("fd") {
			t.Errorf("the server's link %d leads to %q", link, client.values)
		}
		var key [8]byte
		var n uint64
		fmt.Sscan(row.text("cancel"), &n)
		binary.BigEndian.PutUint64(key[:], n)
		if got := int(binary.BigEndian.Uint32(key[:])); got != pid {
			t.Errorf("the server's cancel key is for process %d, not %d", got, pid)
		}
		fmt.Sscan(client.text("cancel"), &n)
		binary.BigEndian.PutUint64(key[:], n)
		if got := binary.BigEndian.Uint32(key[:]); got != block.PgConn().PID() {
			t.Errorf("the client's cancel key begins with %d, not %d", got, block.PgConn().PID())
		}
	}
	exec(t, block, "commit")
}

// Between SHOW FDS and SHUTDOWN nothing happens to any socket; RESUME and the end of the
// connection mean that the other process does not want them.
func TestSocketsAreLeftAloneWhileAnotherProcessHasThem(t *testing.T) {
	for _, threads := range []int{1, 3} {
		for _, more := range []string{"", " EXTENDED"} {
			r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=3"), settings: fmt.Sprintf("threads = %d", threads)})
			stop := r.traffic("d", 6)
			a := r.admin()
			for _, end := range []string{"RESUME", "close"} {
				own := r.ownConsole()
				if more != "" {
					if _, err := own.query("SHOW FDS_EXTENDED"); err == nil || !strings.Contains(err.Error(), "SUSPEND EXTENDED") {
						t.Errorf("SHOW FDS_EXTENDED without SUSPEND: %v", err)
					}
				}
				if _, err := own.query("SUSPEND" + more); err != nil {
					t.Fatal(err)
				}
				rows, err := own.queryFDs("SHOW FDS"+strings.ReplaceAll(more, " ", "_"), func(int) {})
				if err != nil {
					t.Fatal(err)
				}
				for _, row := range rows {
					if row.fd >= 0 {
						syscall.Close(row.fd)
					}
				}
				for _, sql := range []string{"RELOAD", "KILL d", "SET verbose = 1", "SHOW FDS"} {
					if _, err := own.query(sql); err == nil || !strings.Contains(err.Error(), "another process") {
						t.Errorf("%s: %v", sql, err)
					}
				}
				if _, err := own.query("SHOW POOLS"); err != nil {
					t.Error(err)
				}
				if end == "RESUME" {
					if _, err := own.query("RESUME"); err != nil {
						t.Error(err)
					}
				}
				own.close()
				r.waitFor("all goes on", func() bool { return a.state() == "active" })
				n := a.queries()
				r.waitFor("traffic goes on", func() bool { return a.queries() != n })
			}
			if n, err := stop(); err != nil {
				t.Errorf("after %d queries: %v", n, err)
			}
		}
	}
}

func FuzzWhatAnotherProcessHands(f *testing.F) {
	w := newHandedWriter()
	for _, v := range []any{&handedPooler{Version: 1, Tracked: []string{"a"}}, &handedClient{Conn: handedConn{ID: 7}}, &handedServer{Queue: []byte("QS")}} {
		part, err := w.next(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(part, part)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		r := newHandedReader()
		var p handedPooler
		if r.next(a, &p) == nil {
			var c handedClient
			r.next(b, &c)
		}
	})
}

func TestWhatIsHandedComesOutAsItWentIn(t *testing.T) {
	w, r := newHandedWriter(), newHandedReader()
	for i := range 3 {
		in := handedClient{Conn: handedConn{ID: uint64(i), Out: []byte{0, 255}, Vars: []string{"\xff", ""}, Remain: 5}, Names: []handedName{{"n\x00", "t", true}}, Link: 1 << 63}
		part, err := w.next(&in)
		if err != nil {
			t.Fatal(err)
		}
		var out handedClient
		if err := r.next(part, &out); err != nil || fmt.Sprint(in) != fmt.Sprint(out) {
			t.Errorf("%v becomes %v: %v", in, out, err)
		}
	}
}

// A server that becomes free while all is suspended goes to a waiter at the end: that one's
// requests pass once the two are linked, and the server stays its own until all are answered.
func TestWaiterMeetsItsServerOnceAfterSuspend(t *testing.T) {
	for _, how := range []string{"suspend", "suspend extended"} {
		for _, threads := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s with %d threads", how, threads), func(t *testing.T) {
				r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=1"), settings: fmt.Sprintf("threads = %d", threads)})
				holder := r.connect("d")
				exec(t, holder, "begin")
				ask := func(queries ...string) net.Conn {
					conn := r.rawLogin("d")
					var out []byte
					for _, q := range queries {
						out = pgwire.AppendQuery(out, q)
					}
					conn.Write(out)
					return conn
				}
				first := ask("select 'first 1'", "select 'first 2' from pg_catalog.pg_sleep(0.3)", "select 'first 3'")
				r.waitFor("it waits", func() bool { return r.pool("d")["cl_waiting"] == "1" })
				second := ask("select 'second 1'", "select 'second 2'")
				r.waitFor("both wait", func() bool { return r.pool("d")["cl_waiting"] == "2" })
				a := r.admin()
				a.do(how)
				holder.Close(background(t))
				r.waitFor("the server is free", func() bool {
					const name, idle = 0, 9 // columns
					for _, row := range a.do("show pools") {
						if string(row[name]) == "d" {
							return string(row[idle]) == "1"
						}
					}
					return false
				})
				a.do("resume")
				for name, conn := range map[string]net.Conn{"first": first, "second": second} {
					n := 3
					if name == "second" {
						n = 2
					}
					for i := range n {
						row := skipTo(t, conn, pgwire.MsgDataRow)
						if got, want := string(row[6:]), fmt.Sprintf("%s %d", name, i+1); got != want {
							t.Errorf("got %q, want %q", got, want)
						}
						skipTo(t, conn, pgwire.MsgReadyForQuery)
					}
				}
			})
		}
	}
}
