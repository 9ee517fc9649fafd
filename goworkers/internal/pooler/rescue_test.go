package pooler

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

func appendExtended(b []byte, sql string) []byte {
	b = pgwire.AppendMessage(b, pgwire.MsgParse, []byte("\x00"+sql+"\x00\x00\x00"))
	b = pgwire.AppendMessage(b, pgwire.MsgBind, []byte("\x00\x00\x00\x00\x00\x00\x00\x00"))
	return pgwire.AppendMessage(b, pgwire.MsgExecute, []byte("\x00\x00\x00\x00\x00"))
}

// lose ends a connection as a client that dies does (FIN), or as its machine (RST).
func lose(conn net.Conn, reset bool) {
	if reset {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	conn.Close()
}

// lostCase is something that a client may be in the middle of when it is lost.
type lostCase struct {
	name  string
	send  []byte
	await byte   // a message to the client before it goes
	at    string // wait event of the server then
}

var lostAmid = lostCases(1)

// lostCases are the cases in which a row of public.t is inserted and must not stay.
func lostCases(row int64) []lostCase {
	insertOne := fmt.Sprintf("insert into public.t values (%d)", row)
	return []lostCase{
		{"a simple query", pgwire.AppendQuery(nil, insertOne+"; select pg_catalog.pg_sleep(60)"), 0, "PgSleep"},
		{"an extended query", pgwire.AppendSync(appendExtended(appendExtended(nil, insertOne), "select pg_catalog.pg_sleep(60)")), 0, "PgSleep"},
		{"an extended query without Sync", pgwire.AppendMessage(appendExtended(appendExtended(nil, insertOne), "select pg_catalog.pg_sleep(60)"), pgwire.MsgFlush, nil), 0, "PgSleep"},
		{"a pipeline without Sync", pgwire.AppendMessage(appendExtended(nil, insertOne), pgwire.MsgFlush, nil), pgwire.MsgCommandComplete, "ClientRead"},
		{"a failed pipeline without Sync", pgwire.AppendMessage(appendExtended(appendExtended(nil, insertOne), "select 1/0"), pgwire.MsgFlush, nil), pgwire.MsgErrorResponse, "ClientRead"},
		{"a transaction", pgwire.AppendQuery(nil, "begin; "+insertOne), pgwire.MsgReadyForQuery, "ClientRead"},
		{"a transaction of extended queries", pgwire.AppendSync(appendExtended(appendExtended(nil, "begin"), insertOne)), pgwire.MsgReadyForQuery, "ClientRead"},
		{"a failed transaction", pgwire.AppendQuery(pgwire.AppendQuery(nil, "begin; "+insertOne), "select 1/0"), pgwire.MsgErrorResponse, "ClientRead"},
		{"a query in a transaction", pgwire.AppendQuery(pgwire.AppendQuery(nil, "begin; "+insertOne), "select pg_catalog.pg_sleep(60)"), 0, "PgSleep"},
		{"COPY in", pgwire.AppendMessage(pgwire.AppendQuery(nil, "copy public.t from stdin"), pgwire.MsgCopyData, fmt.Appendf(nil, "%d\n", row)), pgwire.MsgCopyInResponse, "ClientRead"},
		{"COPY in of a transaction", pgwire.AppendQuery(nil, "begin; "+insertOne+"; copy public.t from stdin"), pgwire.MsgCopyInResponse, "ClientRead"},
		{"COPY in of an extended query", pgwire.AppendSync(appendExtended(nil, "copy public.t from stdin")), pgwire.MsgCopyInResponse, "ClientRead"},
		{"COPY in of an extended query without Sync", pgwire.AppendMessage(appendExtended(nil, "copy public.t from stdin"), pgwire.MsgFlush, nil), pgwire.MsgCopyInResponse, "ClientRead"},
		{"COPY out", pgwire.AppendQuery(nil, insertOne+"; copy (select pg_catalog.repeat('x', 1000) from pg_catalog.generate_series(1, 10000000)) to stdout"), pgwire.MsgCopyData, "ClientWrite"},
		{"a result that it does not read", pgwire.AppendQuery(nil, insertOne+"; select pg_catalog.repeat('x', 1000) from pg_catalog.generate_series(1, 10000000)"), pgwire.MsgDataRow, "ClientWrite"},
		{"two queries", pgwire.AppendQuery(pgwire.AppendQuery(nil, "begin"), insertOne+"; select pg_catalog.pg_sleep(60)"), 0, "PgSleep"},
	}
}

func TestServersOfLostClientsAreKept(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transaction", "session"} {
		for _, threads := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s threads=%d", mode, threads), func(t *testing.T) {
				t.Parallel()
				db := pgtest.DB(t)
				db.Exec(t, "create table public.t(x int)")
				r := start(t, config{databases: entry("d", db, "pool_size=1 pool_mode="+mode), settings: fmt.Sprintf("threads = %d\ntcp_socket_buffer = 8192", threads)})
				look := func() (pid int, rows int) {
					b := r.connect("d")
					defer b.Close(context.Background())
					pid = value[int](t, b, backend)
					if n := value[int](t, b, "select pg_catalog.count(*)::int from pg_catalog.pg_class where relname = 'mine'"); n != 0 {
						t.Error("the lost client's temporary table is left")
					}
					return pid, value[int](t, b, "select pg_catalog.count(*)::int from public.t")
				}
				pid, _ := look()
				for i, tc := range lostAmid {
					a := r.rawLogin("d")
					if mode == "session" {
						a.Write(pgwire.AppendQuery(nil, "create temp table mine(x int)"))
						skipTo(t, a, pgwire.MsgReadyForQuery)
					}
					a.Write(tc.send)
					if tc.await != 0 {
						skipTo(t, a, tc.await)
					}
					db.WaitFor(t, fmt.Sprintf("select exists (select from pg_stat_activity where pid = %d and wait_event = '%s')", pid, tc.at))
					lose(a, i%2 == 0)
					if now, rows := look(); now != pid {
						t.Fatalf("lost amid %s: the server was not kept", tc.name)
					} else if rows != 0 {
						t.Fatalf("lost amid %s: %d rows are left", tc.name, rows)
					}
				}
				if log := r.log.String(); strings.Contains(log, "S-1: d/postgres@127.0.0.1") && strings.Contains(log, "server was not ready") {
					t.Error("a server was closed")
				}
			})
		}
	}
}

func TestWithoutRescueServersOfLostClientsAreClosed(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	db.Exec(t, "create table public.t(x int)")
	r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: "rescue_transactions = 0\ntcp_socket_buffer = 8192"})
	for _, tc := range lostAmid {
		pid := value[int](t, r.connect("d"), backend)
		a := r.rawLogin("d")
		a.Write(tc.send)
		if tc.await != 0 {
			skipTo(t, a, tc.await)
		}
		db.WaitFor(t, fmt.Sprintf("select exists (select from pg_stat_activity where pid = %d and wait_event = '%s')", pid, tc.at))
		lose(a, false)
		if now := value[int](t, r.connect("d"), backend); now == pid {
			t.Fatalf("lost amid %s: the server was kept", tc.name)
		}
		// Nobody cancels what runs there.
		db.Exec(t, fmt.Sprintf("select pg_catalog.pg_terminate_backend(%d)", pid))
	}
}

// A part of a message must never be completed by something else: "select f()" and the
// first two bytes of Terminate would be a query.
func TestHalfAMessageOfALostClientDoesNothing(t *testing.T) {
	t.Parallel()
	for _, rescue := range []int{0, 1} {
		db := pgtest.DB(t)
		db.Exec(t, "create table public.t(x int); create function public.f() returns int language sql as 'insert into public.t values (1) returning x'")
		r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: fmt.Sprintf("rescue_transactions = %d\nquery_timeout = 0.5", rescue)})
		whole := pgwire.AppendQuery(nil, "select f() ")
		for _, timeout := range []bool{false, true} {
			for lost := 1; lost <= 7; lost++ {
				b := r.connect("d")
				pid := value[int](t, b, backend)
				a := r.rawLogin("d")
				a.Write(whole[:len(whole)-lost])
				r.waitFor("the server has it", func() bool { return r.pool("d")["sv_active"] == "1" })
				if timeout {
					skipTo(t, a, pgwire.MsgErrorResponse)
				} else {
					lose(a, lost%2 == 0)
				}
				if now := value[int](t, b, backend); now == pid {
					t.Fatalf("the server that has a message but for %d bytes was kept", lost)
				}
				db.WaitFor(t, fmt.Sprintf("select not exists (select from pg_stat_activity where pid = %d)", pid))
				if n := value[int](t, b, "select pg_catalog.count(*)::int from public.t"); n != 0 {
					t.Fatalf("a message without its last %d bytes was carried out", lost)
				}
				b.Close(context.Background())
			}
		}
	}
}

// A statement that goes on in spite of being cancelled costs its server, not the pool.
func TestRescueThatTakesTooLongClosesTheServer(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_size=1")})
	b := r.connect("d")
	pid := value[int](t, b, backend)
	done := make(chan struct{})
	r.p.main.loop.Post(func() {
		r.p.databases["d"].pools["postgres"].settings.RescueTimeout = 2 * time.Second
		close(done)
	})
	<-done
	a := r.rawLogin("d")
	a.Write(pgwire.AppendQuery(nil, "do $$ begin loop begin perform pg_catalog.pg_sleep(60); exception when query_canceled then null; end; end loop; end $$"))
	db.WaitFor(t, fmt.Sprintf("select exists (select from pg_stat_activity where pid = %d and wait_event = 'PgSleep')", pid))
	lose(a, true)
	if now := value[int](t, b, backend); now == pid {
		t.Error("the server was kept")
	}
	r.waitFor("the log tells", func() bool { return strings.Contains(r.log.String(), "closing because: rescue timeout") })
	db.Exec(t, fmt.Sprintf("select pg_catalog.pg_terminate_backend(%d)", pid))
}

// A cancel request that comes before its query is dropped by the server; another one follows.
func TestRescueCancelsAgain(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_size=1")})
	b := r.connect("d")
	pid := value[int](t, b, backend)
	a := r.rawLogin("d")
	// The first two cancels are lost.
	a.Write(pgwire.AppendQuery(nil, "do $$ begin for i in 1..2 loop begin perform pg_catalog.pg_sleep(60); exception when query_canceled then null; end; end loop; perform pg_catalog.pg_sleep(60); end $$"))
	db.WaitFor(t, fmt.Sprintf("select exists (select from pg_stat_activity where pid = %d and wait_event = 'PgSleep')", pid))
	lose(a, false)
	if now := value[int](t, b, backend); now != pid {
		t.Error("the server was not kept")
	}
}

// What a lost client has left in its session is handled as for others.
func TestStateOfLostClientsIsGuarded(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: "session_state_guard = reset"})
	b := r.connect("d")
	pid := value[int](t, b, backend)
	a := r.rawLogin("d")
	a.Write(pgwire.AppendQuery(nil, "set search_path = nowhere; begin; select 1"))
	skipTo(t, a, pgwire.MsgReadyForQuery)
	lose(a, false)
	if got := value[string](t, b, "show search_path"); strings.Contains(got, "nowhere") {
		t.Errorf("search_path is %s", got)
	}
	if now := value[int](t, b, backend); now != pid {
		t.Error("the server was not kept")
	}
}

// Clients are lost at random moments, also before the server has begun what they asked
// for, while others work on the same servers: none of these has an error.
func TestRescuesHarmNobody(t *testing.T) {
	t.Parallel()
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) {
			db := pgtest.DB(t)
			db.Exec(t, "create table public.t(x int)")
			r := start(t, config{databases: entry("d", db, "pool_size=3") + "\n" + entry("e", db, "pool_size=3"),
				settings: fmt.Sprintf("threads = %d\nlog_connections = 0\nmax_client_conn = 1000", threads)})
			const lost = 300
			var left atomic.Int64
			left.Store(lost)
			ctx := background(t)
			var wg sync.WaitGroup
			for i := range 8 {
				conn, err := pgconn.Connect(ctx, r.dsn([]string{"d", "e"}[i%2]))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(context.Background())
				wg.Go(func() {
					for n := 0; left.Load() > 0; n++ {
						want := fmt.Sprintf("%d-%d", i, n)
						res, err := conn.Exec(ctx, "select '"+want+"' from pg_catalog.pg_sleep(0.001)").ReadAll()
						if err != nil {
							t.Errorf("client %d: %v", i, err)
							return
						}
						if got := string(res[0].Rows[0][0]); got != want {
							t.Errorf("client %d got %s, not %s", i, got, want)
						}
					}
				})
			}
			for i := range 6 {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
						if err != nil {
							t.Error(err)
							return
						}
						conn.SetDeadline(time.Now().Add(time.Minute))
						conn.Write(pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: []string{"d", "e"}[i%2]}}))
						send := lostAmid[rand.N(len(lostAmid))].send
						if rand.N(10) == 0 {
							send = send[:rand.N(len(send))]
						}
						conn.Write(send)
						conn.SetReadDeadline(time.Now().Add(rand.N(10 * time.Millisecond)))
						io.Copy(io.Discard, conn)
						lose(conn, rand.N(2) == 0)
					}
				})
			}
			wg.Wait()
			for _, name := range []string{"d", "e"} {
				r.waitFor("all is over", func() bool {
					row := r.pool(name)
					return row["sv_active"] == "0" && row["sv_tested"] == "0" && row["sv_being_canceled"] == "0" && row["cl_waiting"] == "0"
				})
			}
			if n := value[int](t, r.connect("d"), "select pg_catalog.count(*)::int from public.t"); n != 0 {
				t.Errorf("%d rows of lost clients are left", n)
			}
			if log := r.log.String(); strings.Contains(log, "could not be ended") || strings.Contains(log, "rescue timeout") || strings.Contains(log, "crashed") {
				t.Error("a rescue has failed")
			}
		})
	}
}
