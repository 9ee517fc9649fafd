package pooler

import (
	"bufio"
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"goworkers/internal/pgtest"
)

// replicates opens a replication connection.
func (r *rig) replicates(db, kind string, more ...string) *pgconn.PgConn {
	r.t.Helper()
	conn, err := pgconn.Connect(background(r.t), r.dsn(db, append(more, "replication="+kind)...))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// rows are the lines of a SHOW for one database.
func (r *rig) rows(show, db string) []map[string]string {
	r.t.Helper()
	var rows []map[string]string
	for _, row := range r.console("show " + show) {
		if row["database"] == db {
			rows = append(rows, row)
		}
	}
	return rows
}

func logicalServer(t *testing.T) *pgtest.PrivateServer {
	return pgtest.Server(t, "wal_level=logical", "max_wal_senders=10", "max_replication_slots=10")
}

func TestReplicationClientsHaveServersOfTheirOwn(t *testing.T) {
	t.Parallel()
	server := logicalServer(t)
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) {
			r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=postgres pool_size=2", server.Port), settings: fmt.Sprintf("threads = %d", threads)})
			shared := r.connect("d")
			pid := value[int](t, shared, backend)
			physical := r.replicates("d", "true")
			res, err := physical.Exec(background(t), "IDENTIFY_SYSTEM").ReadAll()
			if err != nil || len(res[0].Rows) != 1 {
				t.Fatalf("identify_system: %v", err)
			}
			// Options reach the server as they are; pgx's own parameters too.
			logical := r.replicates("d", "database", "options='-c search_path=elsewhere -c enable_seqscan=off'", "application_name=mine")
			for what, want := range map[string]string{"search_path": "elsewhere", "enable_seqscan": "off", "application_name": "mine"} {
				res, err := logical.Exec(background(t), "show "+what).ReadAll()
				if err != nil || string(res[0].Rows[0][0]) != want {
					t.Errorf("%s: %v %v", what, res, err)
				}
			}
			if got := fmt.Sprint(len(r.rows("servers", "d"))); got != "2" {
				t.Errorf("%s servers", got)
			}
			kinds := map[string]int{}
			for _, row := range append(r.rows("servers", "d"), r.rows("clients", "d")...) {
				kinds[row["type"]+row["replication"]]++
			}
			// The idle shared server made room for the second one.
			if got := fmt.Sprint(kinds); got != "map[Cnone:1 Clogical:1 Cphysical:1 Slogical:1 Sphysical:1]" && kinds["Snone"] != 0 {
				t.Errorf("connections: %s", got)
			}
			r.waitFor("the log tells", func() bool { return strings.Contains(r.log.String(), "closing because: evicted") })
			// The pool is full: others wait until a replication client has gone.
			got := make(chan error, 1)
			go func() {
				_, err := shared.Exec(context.Background(), "select 1")
				got <- err
			}()
			r.waitFor("a client waits", func() bool { return r.pool("d")["cl_waiting"] == "1" })
			physical.Close(background(t))
			if err := <-got; err != nil {
				t.Fatal(err)
			}
			if now := value[int](t, shared, backend); now == pid {
				t.Error("the server that was evicted serves")
			}
			logical.Close(background(t))
			r.waitFor("their servers are closed", func() bool { return len(r.rows("servers", "d")) == 1 })
			(&pgtest.Database{DSN: server.DSN}).WaitFor(t, "select not exists (select from pg_stat_activity where backend_type = 'walsender')")
		})
	}
}

func TestLogicalReplicationRunsThroughThePool(t *testing.T) {
	t.Parallel()
	server := logicalServer(t)
	db := server.DB(t)
	db.Exec(t, "create table public.t(x int)")
	r := start(t, config{databases: entry("d", db, "pool_size=3"), settings: "query_wait_notify = 0"})
	stop := r.traffic("d", 4)
	conn := r.replicates("d", "database")
	ctx := background(t)
	ask := func(sql string) *pgconn.Result {
		t.Helper()
		res, err := conn.Exec(ctx, sql).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return res[0]
	}
	at := string(ask("CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding").Rows[0][1])
	begin := func() {
		t.Helper()
		conn.Frontend().Send(&pgproto3.Query{String: "START_REPLICATION SLOT s LOGICAL " + at})
		if err := conn.Frontend().Flush(); err != nil {
			t.Fatal(err)
		}
		if msg, err := conn.ReceiveMessage(ctx); err != nil {
			t.Fatal(err)
		} else if _, ok := msg.(*pgproto3.CopyBothResponse); !ok {
			t.Fatalf("got %T", msg)
		}
	}
	begin()
	db.Exec(t, "insert into public.t select * from pg_catalog.generate_series(1, 1000)")
	status := append([]byte{'r'}, make([]byte, 33)...) // nothing is confirmed
	for seen := 0; seen < 1000; {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		data, ok := msg.(*pgproto3.CopyData)
		switch {
		case !ok:
			t.Fatalf("got %T", msg)
		case strings.Contains(string(data.Data), "INSERT"):
			seen++
		default:
			conn.Frontend().Send(&pgproto3.CopyData{Data: status})
			if err := conn.Frontend().Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// It ends and begins again on the same connection.
	conn.Frontend().Send(&pgproto3.CopyDone{})
	if err := conn.Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	for done := false; !done; {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, done = msg.(*pgproto3.ReadyForQuery)
	}
	ask("IDENTIFY_SYSTEM")
	begin()
	lose(conn.Conn(), true)
	db.WaitFor(t, "select not exists (select from pg_stat_activity where backend_type = 'walsender')")
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestPostgreSQLsReplicationProgramsWork(t *testing.T) {
	t.Parallel()
	server := logicalServer(t)
	db := server.DB(t)
	db.Exec(t, "create table public.t as select * from pg_catalog.generate_series(1, 10000)")
	// Physical connections ask for the database "replication".
	r := start(t, config{databases: fmt.Sprintf("replication = host=127.0.0.1 port=%d pool_size=3\n", server.Port) + entry("d", db, "pool_size=3"), settings: "threads = 2"})
	dir := t.TempDir()
	run(t, "pg_basebackup", "-d", r.dsn("replication"), "-D", filepath.Join(dir, "backup"), "-X", "stream", "-c", "fast")
	run(t, "pg_verifybackup", filepath.Join(dir, "backup"))
	ctx, stop := context.WithCancel(background(t))
	defer stop()
	wal := filepath.Join(dir, "wal")
	if err := os.Mkdir(wal, 0o700); err != nil {
		t.Fatal(err)
	}
	receive := osexec.CommandContext(ctx, program(t, "pg_receivewal"), "-d", r.dsn("replication"), "-D", wal, "-n")
	if err := receive.Start(); err != nil {
		t.Fatal(err)
	}
	r.waitFor("pg_receivewal streams", func() bool {
		row := r.pool("replication")
		return row["cl_active"] == "1" && row["sv_active"] == "1"
	})
	db.WaitFor(t, "select exists (select from pg_stat_replication where state = 'streaming')")
	db.Exec(t, "create table public.more(x int)")
	db.Exec(t, "select pg_catalog.pg_switch_wal()")
	r.waitFor("a whole segment comes", func() bool {
		found, _ := filepath.Glob(filepath.Join(wal, "000000010000*[0-9A-F]"))
		return len(found) > 0
	})
	run(t, "pg_recvlogical", "-d", r.dsn("d"), "-S", "s", "--create-slot", "-P", "test_decoding")
	db.Exec(t, "insert into public.t values (-7)")
	decode := osexec.CommandContext(ctx, program(t, "pg_recvlogical"), "-d", r.dsn("d"), "-S", "s", "--start", "-n", "-f", "-")
	out, err := decode.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := decode.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	found := false
	for !found && lines.Scan() {
		found = strings.Contains(lines.Text(), "-7")
	}
	if !found {
		t.Error("pg_recvlogical does not tell of the row")
	}
	stop()
	_, _ = receive.Wait(), decode.Wait() // killed
	r.waitFor("their servers are closed", func() bool { return len(r.rows("servers", "d"))+len(r.rows("servers", "replication")) == 0 })
}

// The login of a replication client that fails is its own affair.
func TestFailedReplicationLoginsHarmNobodyElse(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, "max_wal_senders=1")
	r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=postgres", server.Port), settings: "server_login_retry = 10"})
	a := r.connect("d")
	exec(t, a, "begin")
	first := r.replicates("d", "true")
	e := r.refused("d", "replication=true")
	if e.Code != "53300" {
		t.Errorf("got %v", e)
	}
	exec(t, a, "commit")
	began := time.Now()
	exec(t, r.connect("d"), "begin")
	exec(t, a, "select 1")
	if time.Since(began) > 5*time.Second {
		t.Error("others had to wait")
	}
	if _, err := first.Exec(background(t), "IDENTIFY_SYSTEM").ReadAll(); err != nil {
		t.Error(err)
	}
}
