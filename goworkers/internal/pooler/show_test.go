package pooler

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The columns of each SHOW, their order and types: monitoring reads them by name and place.
func TestShowColumns(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	r.connect("d")
	conn, err := pgconn.Connect(background(t), r.dsn("pgbouncer"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	types := map[uint32]string{pgwire.OIDText: "text", pgwire.OIDInt4: "int4", pgwire.OIDInt8: "int8", pgwire.OIDNumeric: "numeric", pgwire.OIDBytea: "bytea"}
	var text strings.Builder
	for _, what := range slices.Sorted(maps.Keys(shows)) {
		results := conn.Exec(background(t), "show "+what)
		if !results.NextResult() {
			t.Fatalf("%s: %v", what, results.Close())
		}
		fmt.Fprintf(&text, "%s\n", what)
		for _, f := range results.ResultReader().FieldDescriptions() {
			fmt.Fprintf(&text, "    %s %s\n", f.Name, types[f.DataTypeOID])
		}
		tag, err := results.ResultReader().Close()
		if err != nil || tag.String() != "SHOW" {
			t.Errorf("show %s: tag %q: %v", what, tag, err)
		}
		if err := results.Close(); err != nil {
			t.Error(err)
		}
	}
	const golden = "testdata/show.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("SHOW has other columns than %s; if that is meant, run with -update:\n%s", golden, text.String())
	}
}

// where gives the rows of a SHOW that have a value in a column.
func (r *rig) where(what, column, value string) []map[string]string {
	r.t.Helper()
	var list []map[string]string
	for _, row := range r.console("show " + what) {
		if row[column] == value {
			list = append(list, row)
		}
	}
	return list
}

func TestShowTellsTheStatesOfConnections(t *testing.T) {
	db := pgtest.DB(t)
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) {
			r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: fmt.Sprintf("threads = %d", threads)})
			a := r.connect("d", "application_name=first")
			b := r.connect("d", "application_name=second", "host="+r.dir)
			ctx := background(t)
			if _, err := a.Prepare(ctx, "one", "select 1"); err != nil {
				t.Fatal(err)
			}
			exec(t, a, "begin")
			waiting := make(chan error, 1)
			go func() {
				_, err := b.Exec(ctx, "select 2")
				waiting <- err
			}()
			// A client that has not said who it is, and one that has not ended its message.
			silent, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			r.waitFor("both have come", func() bool {
				return len(r.where("clients", "state", "waiting")) == 1 && len(r.where("sockets", "state", "cl_login")) == 1
			})

			rows := r.where("clients", "application_name", "first")
			servers := r.where("servers", "database", "d")
			if len(rows) != 1 || len(servers) != 1 {
				t.Fatalf("clients %v, servers %v", rows, servers)
			}
			c, s := rows[0], servers[0]
			pid := fmt.Sprint(value[int](t, a, "select pg_backend_pid()"))
			host, port, _ := net.SplitHostPort(a.PgConn().Conn().LocalAddr().String())
			for _, tc := range []struct {
				row          map[string]string
				column, want string
			}{
				{c, "type", "C"}, {c, "user", "postgres"}, {c, "database", "d"}, {c, "replication", "none"}, {c, "state", "active"},
				{c, "addr", host}, {c, "port", port}, {c, "local_addr", "127.0.0.1"}, {c, "local_port", strconv.Itoa(r.port)},
				{c, "wait", "0"}, {c, "wait_us", "0"}, {c, "close_needed", "0"}, {c, "link", s["ptr"]}, {c, "remote_pid", "0"}, {c, "tls", ""},
				{c, "prepared_statements", "1"},
				{s, "type", "S"}, {s, "user", "postgres"}, {s, "database", "d"}, {s, "state", "active"}, {s, "link", c["ptr"]},
				{s, "remote_pid", pid}, {s, "application_name", "first"}, {s, "prepared_statements", "1"}, {s, "close_needed", "0"},
			} {
				if tc.row[tc.column] != tc.want {
					t.Errorf("%s of %s: %q, not %q", tc.column, tc.row["type"], tc.row[tc.column], tc.want)
				}
			}
			if id, err := strconv.ParseUint(c["id"], 10, 64); err != nil || c["ptr"] != fmt.Sprintf("0x%x", id) {
				t.Errorf("id %q, ptr %q", c["id"], c["ptr"])
			}
			for _, column := range []string{"connect_time", "request_time"} {
				at, err := time.Parse("2006-01-02 15:04:05 UTC", c[column])
				if err != nil || time.Since(at) > time.Minute || time.Since(at) < 0 {
					t.Errorf("%s: %q: %v", column, c[column], err)
				}
			}
			w := r.where("clients", "state", "waiting")[0]
			r.waitFor("it waits", func() bool { return r.where("clients", "state", "waiting")[0]["wait"] != "0" })
			if w["application_name"] != "second" || w["addr"] != "unix" || w["port"] != strconv.Itoa(r.port) || w["link"] != "" ||
				w["remote_pid"] != strconv.Itoa(os.Getpid()) {
				t.Errorf("the client that waits: %v", w)
			}
			if rows := r.where("clients", "database", "pgbouncer"); len(rows) != 1 || rows[0]["state"] != "idle" {
				t.Errorf("the console: %v", rows)
			}
			if rows := r.where("sockets", "state", "cl_login"); rows[0]["database"] != "(nodb)" || rows[0]["user"] != "(nouser)" {
				t.Errorf("login: %v", rows)
			}
			if len(r.where("clients", "state", "login")) != 0 {
				t.Error("SHOW CLIENTS tells of a client that is not logged in")
			}
			for state, n := range map[string]int{"cl_active": 2, "cl_waiting": 1, "sv_active": 1} { // with the console
				if rows := r.where("sockets", "state", state); len(rows) != n {
					t.Errorf("%d sockets are %s, not %d", len(rows), state, n)
				}
			}
			// The request of the client that waits is held.
			if rows := r.where("active_sockets", "state", "cl_waiting"); len(rows) != 1 || rows[0]["pkt_avail"] == "0" {
				t.Errorf("active sockets: %v", rows)
			}
			// RECONNECT marks the server, which is in use.
			r.console("reconnect")
			if s := r.where("servers", "database", "d")[0]; s["close_needed"] != "1" {
				t.Errorf("after RECONNECT: %v", s)
			}
			if row := r.pool("d"); row["cl_active"] != "1" || row["cl_waiting"] != "1" || row["sv_active"] != "1" || row["maxwait"] == "0" {
				t.Errorf("pool: %v", row)
			}
			exec(t, a, "commit")
			if err := <-waiting; err != nil {
				t.Fatal(err)
			}
			if c := r.where("clients", "application_name", "first")[0]; c["state"] != "idle" || c["link"] != "" {
				t.Errorf("after COMMIT: %v", c)
			}
		})
	}
}

// A cancel request is told of while its server does not answer.
func TestShowTellsOfCancelRequests(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db)})
	conn, err := pgconn.Connect(background(t), r.dsn("d"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	got := asleep(t, conn, db)
	// The request goes to a server that takes it and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	addr := silent.Addr().(*net.TCPAddr).AddrPort()
	turned := make(chan struct{})
	r.p.main.loop.Post(func() {
		c, _ := r.p.keys.find(pgwire.CancelKey(keyOf(conn)), 0)
		c.srv.target = ipTarget(addr.Addr(), int(addr.Port()))
		close(turned)
	})
	<-turned
	to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	to.Write(pgwire.AppendCancelRequest(nil, keyOf(conn)))
	taken, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r.waitFor("the request is sent", func() bool { return len(r.where("clients", "state", "active_cancel_req")) == 1 })
	c, s := r.where("clients", "state", "active_cancel_req")[0], r.where("servers", "state", "active_cancel")
	if len(s) != 1 || c["link"] != s[0]["ptr"] || s[0]["link"] != c["ptr"] || c["database"] != "d" || s[0]["port"] != strconv.Itoa(int(addr.Port())) {
		t.Errorf("client %v, servers %v", c, s)
	}
	if row := r.pool("d"); row["cl_active_cancel_req"] != "1" || row["sv_active_cancel"] != "1" {
		t.Errorf("pool: %v", row)
	}
	taken.Close()
	if n, _ := to.Read(make([]byte, 1)); n != 0 {
		t.Error("a cancel request is answered")
	}
	r.waitFor("it is over", func() bool { return len(r.where("clients", "state", "active_cancel_req")) == 0 })
	db.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()")
	<-got
}

func TestShowMemAndListsCount(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t)), users: "other = pool_size=3"})
	exec(t, r.connect("d"), "select 1")
	for _, row := range r.console("show mem") {
		size, _ := strconv.Atoi(row["size"])
		used, _ := strconv.Atoi(row["used"])
		total, _ := strconv.Atoi(row["memtotal"])
		if size <= 0 || total < used {
			t.Errorf("%v", row)
		}
		if want, ok := map[string]int{"client_cache": 2, "server_cache": 1, "pool_cache": 1, "db_cache": 1}[row["name"]]; ok && (used != want || total != used*size) {
			t.Errorf("%v: want %d", row, want)
		}
	}
	lists := map[string]string{}
	for _, row := range r.console("show lists") {
		lists[row["list"]] = row["items"]
	}
	for name, want := range map[string]string{"databases": "2", "users": "3", "pools": "2", "used_clients": "2", "used_servers": "1", "login_clients": "0"} {
		if lists[name] != want {
			t.Errorf("%s: %q, not %s", name, lists[name], want)
		}
	}
	users := r.console("show users")
	if len(users) != 3 || users[0]["name"] != "other" || users[0]["pool_size"] != "3" || users[2]["current_client_connections"] != "2" ||
		users[2]["pool_size"] != "" {
		t.Errorf("users: %v", users)
	}
}
