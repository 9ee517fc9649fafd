package pooler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
)

func asPgError(err error) (*pgconn.PgError, bool) {
	var e *pgconn.PgError
	ok := errors.As(err, &e)
	return e, ok
}

const backend = "select pg_catalog.pg_backend_pid()"

func TestTransactionModeSharesAServerBetweenTransactions(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_size=1")})
	a, b := r.connect("d"), r.connect("d")
	pid := value[int](t, a, backend)
	if other := value[int](t, b, backend); other != pid {
		t.Fatalf("servers %d and %d for two idle clients", pid, other)
	}
	exec(t, a, "begin")
	got := make(chan error, 1)
	ctx := background(t)
	go func() {
		_, err := b.Exec(ctx, "select 1")
		got <- err
	}()
	r.waitFor("b waits", func() bool { return r.pool("d")["cl_waiting"] == "1" })
	exec(t, a, "commit")
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestSessionModeKeepsTheServerAndResetsIt(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_size=1 pool_mode=session")})
	a := r.connect("d")
	pid := value[int](t, a, backend)
	exec(t, a, "create temp table left_over(x int)")
	exec(t, a, "prepare p as select 1")
	a.Close(background(t))
	b := r.connect("d")
	if got := value[int](t, b, backend); got != pid {
		t.Fatalf("server %d, the reset one is %d", got, pid)
	}
	if n := value[int](t, b, "select count(*)::int from pg_catalog.pg_class where relname = 'left_over'"); n != 0 {
		t.Fatal("a temporary table of the client before is left")
	}
	if n := value[int](t, b, "select count(*)::int from pg_catalog.pg_prepared_statements where name = 'p'"); n != 0 {
		t.Fatal("a prepared statement of the client before is left")
	}
}

func TestStatementModeRefusesTransactions(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_mode=statement")})
	a := r.connect("d")
	exec(t, a, "select 1")
	// BEGIN is answered, then the client is cut off.
	_, err := a.Exec(background(t), "begin")
	if err == nil {
		_, err = a.Exec(background(t), "select 1")
	}
	if e := pgError(t, err); e.Message != "transaction blocks not allowed in statement pooling mode" || e.Code != "08P01" || e.Severity != "FATAL" {
		t.Fatalf("got %v", e)
	}
}

// Many clients on few servers: each marks its transaction's server as its own and
// looks whether anybody else was there. It does so in all the ways to send a query.
func TestNoTwoClientsAreOnOneServer(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=3")})
	const clients, rounds = 20, 30
	modes := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec}
	var wg sync.WaitGroup
	for i := range clients {
		conn := r.connect("d")
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			for round := range rounds {
				if err := markAndLook(ctx, conn, modes[(i+round)%len(modes)], fmt.Sprintf("%d/%d", i, round)); err != nil {
					t.Errorf("client %d round %d: %v", i, round, err)
					return
				}
			}
		})
	}
	wg.Wait()
	row := r.pool("d")
	if row["sv_active"] != "0" || row["cl_waiting"] != "0" {
		t.Fatalf("left over: %v", row)
	}
	// server_assignment_count and the rest are exact.
	for _, s := range r.console("show stats") {
		if s["database"] == "d" {
			if want := fmt.Sprint(clients * rounds); s["total_xact_count"] != want || s["total_server_assignment_count"] != want {
				t.Fatalf("%s transactions, %s assignments, want %s", s["total_xact_count"], s["total_server_assignment_count"], want)
			}
		}
	}
}

func markAndLook(ctx context.Context, conn *pgx.Conn, mode pgx.QueryExecMode, me string) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	var mark string
	if err := tx.QueryRow(ctx, "select pg_catalog.set_config('test.owner', $1, true)", mode, me).Scan(&mark); err != nil {
		return err
	}
	for range 3 {
		if err := tx.QueryRow(ctx, "select pg_catalog.current_setting('test.owner')", mode).Scan(&mark); err != nil {
			return err
		}
		if mark != me {
			return fmt.Errorf("the server belongs to %q", mark)
		}
	}
	if strings.HasSuffix(me, "7") {
		// An error in the middle, and the transaction goes on to its end.
		if _, err := tx.Exec(ctx, "select 1/0", mode); err == nil {
			return errors.New("1/0 has a value")
		}
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

func TestPipelinesHoldTheServerToTheirEnd(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=2")})
	var wg sync.WaitGroup
	for range 5 {
		conn := r.connect("d")
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			for range 10 {
				batch := &pgx.Batch{}
				for i := range 100 {
					batch.Queue("select $1::int, pg_catalog.repeat('x', 100)", i)
				}
				results := conn.SendBatch(ctx, batch)
				for i := range 100 {
					var n int
					var s string
					if err := results.QueryRow().Scan(&n, &s); err != nil || n != i || len(s) != 100 {
						t.Errorf("answer %d is %d, %d characters: %v", i, n, len(s), err)
					}
				}
				if err := results.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Several Syncs within one pipeline, an error between them: each part is a
// transaction of its own.
func TestPipelineWithErrorsAndSyncs(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=1")})
	a, b := r.connect("d"), r.connect("d")
	ctx := background(t)
	for range 20 {
		p := a.PgConn().StartPipeline(ctx)
		p.SendQueryParams("select 1", nil, nil, nil, nil)
		p.SendPipelineSync()
		p.SendQueryParams("select 1/0", nil, nil, nil, nil)
		p.SendQueryParams("select 2", nil, nil, nil, nil)
		p.SendPipelineSync()
		p.SendQueryParams("select 3", nil, nil, nil, nil)
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
		var said []string
		for {
			results, err := p.GetResults()
			if results == nil && err == nil {
				break
			}
			switch res := results.(type) {
			case *pgconn.ResultReader:
				rd := res.Read()
				if rd.Err != nil {
					said = append(said, "error")
				} else {
					said = append(said, string(rd.Rows[0][0]))
				}
			case *pgconn.PipelineSync:
				said = append(said, "sync")
			default:
				said = append(said, "error")
			}
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(said, " "), "1 sync error sync 3 sync"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if got := value[int](t, b, "select 4"); got != 4 {
			t.Fatalf("the next client got %d", got)
		}
	}
}

func TestClientThatDiesInATransactionTakesItsServerAlong(t *testing.T) {
	db := pgtest.DB(t)
	db.Exec(t, "create table public.t(x int)")
	r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: "rescue_transactions = 0"})
	for _, mode := range []string{"simple", "extended without a sync"} {
		a := r.connect("d")
		pid := value[int](t, a, backend)
		if mode == "simple" {
			exec(t, a, "begin")
			exec(t, a, "insert into public.t values (1)")
		} else {
			p := a.PgConn().StartPipeline(background(t))
			p.SendQueryParams("insert into public.t values (1)", nil, nil, nil, nil)
			p.SendFlushRequest()
			if err := p.Flush(); err != nil {
				t.Fatal(err)
			}
			if _, err := p.GetResults(); err != nil {
				t.Fatal(err)
			}
		}
		// As kill -9 does: the socket is closed, nothing is said.
		a.PgConn().Conn().Close()
		r.waitFor("the server is gone", func() bool { return r.pool("d")["sv_active"] == "0" })
		b := r.connect("d")
		if other := value[int](t, b, backend); other == pid {
			t.Fatalf("%s: the next client has the dead one's server", mode)
		}
		if n := value[int](t, b, "select count(*)::int from public.t"); n != 0 {
			t.Fatalf("%s: an open transaction was committed", mode)
		}
		b.Close(background(t))
		r.waitFor("clients are gone", func() bool { return r.pool("d")["cl_active"] == "0" })
	}
	r.waitFor("the log tells why the server was closed", func() bool {
		return strings.Contains(r.log.String(), "client disconnect while server was not ready")
	})
}

func TestParametersFollowTheClientFromServerToServer(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=1")})
	a := r.connect("d", "application_name=first", "timezone=Europe/Tallinn")
	b := r.connect("d", "application_name=second")
	for range 3 {
		if got := value[string](t, a, "select pg_catalog.current_setting('application_name') || ' ' || pg_catalog.current_setting('timezone')"); got != "first Europe/Tallinn" {
			t.Fatalf("a has %q", got)
		}
		if got := value[string](t, b, "select pg_catalog.current_setting('application_name') || ' ' || pg_catalog.current_setting('timezone')"); strings.Contains(got, "Tallinn") || !strings.HasPrefix(got, "second") {
			t.Fatalf("b has %q", got)
		}
	}
	exec(t, a, "set datestyle = 'German'")
	if got := value[string](t, b, "show datestyle"); strings.Contains(got, "German") {
		t.Fatalf("b has a's %q", got)
	}
	if got := value[string](t, a, "show datestyle"); !strings.Contains(got, "German") {
		t.Fatalf("a has lost its datestyle, has %q", got)
	}
	if e := r.refused("d", "options='-c enable_seqscan=off'"); e.Message != "unsupported startup parameter in options: enable_seqscan" {
		t.Fatalf("got %v", e)
	}
	if e := r.refused("d", "work_mem=1MB"); e.Message != "unsupported startup parameter: work_mem" || e.Code != "08P01" {
		t.Fatalf("got %v", e)
	}
	bad := r.connect("d", "timezone=Nowhere/Land")
	if _, err := bad.Exec(background(t), "select 1"); err == nil || pgError(t, err).Message != "invalid server parameter" {
		t.Fatalf("got %v", err)
	}
}

func TestServersSpellingOfAParameterIsTakenOver(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=1"), settings: "verbose = 1"})
	a := r.connect("d", "timezone=europe/TALLINN")
	if got := value[string](t, a, "show timezone"); got != "Europe/Tallinn" {
		t.Fatalf("got %q", got)
	}
	r.waitFor("the log tells", func() bool {
		return strings.Contains(r.log.String(), "varcache_set_canonical: setting TimeZone to its canonical version europe/TALLINN -> Europe/Tallinn")
	})
}

func TestNoticesAndErrorsReachTheClient(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	cfg, err := pgx.ParseConfig(r.dsn("d"))
	if err != nil {
		t.Fatal(err)
	}
	var notices []string
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	conn, err := pgx.ConnectConfig(background(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	exec(t, conn, "do $$ begin raise notice 'hear me'; end $$")
	if len(notices) != 1 || notices[0] != "hear me" {
		t.Fatalf("notices: %q", notices)
	}
	_, err = conn.Exec(background(t), "do $$ begin raise exception 'no' using errcode = 'PGQ01', hint = 'go'; end $$")
	if e := pgError(t, err); e.Code != "PGQ01" || e.Hint != "go" {
		t.Fatalf("got %v", e)
	}
	exec(t, conn, "select 1")
}

func TestCancelHitsTheQueryAndNobodyElse(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_size=1")})
	a, b := r.connect("d"), r.connect("d")
	ctx := background(t)
	for range 5 {
		got := make(chan error, 1)
		go func() {
			_, err := a.Exec(ctx, "select pg_catalog.pg_sleep(60)")
			got <- err
		}()
		// The server drops a request that comes before the query: wait until it sleeps.
		db.WaitFor(t, "select exists (select from pg_stat_activity"+
			" where datname = current_database() and wait_event = 'PgSleep')")
		if err := a.PgConn().CancelRequest(ctx); err != nil {
			t.Fatal(err)
		}
		if e := pgError(t, <-got); e.Code != "57014" {
			t.Fatalf("got %v", e)
		}
		exec(t, b, "select pg_catalog.pg_sleep(0.01)")
	}
	// Of a client without a query.
	if err := a.PgConn().CancelRequest(ctx); err != nil {
		t.Fatal(err)
	}
	exec(t, b, "select 1")
	// Many at random moments while others work: none of theirs is hit.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := a.PgConn().CancelRequest(ctx); err != nil {
					t.Error(err)
				}
			}
		}
	})
	wg.Go(func() {
		defer close(stop)
		for range 300 {
			if _, err := a.Exec(ctx, "select 1"); err != nil {
				if e, ok := asPgError(err); !ok || e.Code != "57014" {
					t.Error(err)
				}
			}
			if _, err := b.Exec(ctx, "select 2"); err != nil {
				t.Errorf("somebody else's query was cancelled: %v", err)
			}
		}
	})
	wg.Wait()
}
