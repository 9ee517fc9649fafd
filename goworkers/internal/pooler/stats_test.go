package pooler

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

// stats is the line of SHOW STATS for a database, of one of the groups total and avg.
func (r *rig) stats(db, group string) map[string]int64 {
	r.t.Helper()
	values := map[string]int64{}
	for _, row := range r.where("stats", "database", db) {
		for name, v := range row {
			if short, ok := strings.CutPrefix(name, group+"_"); ok {
				n, err := strconv.ParseInt(v, 10, 64)
				if err != nil {
					r.t.Fatalf("%s = %q", name, v)
				}
				values[short] = n
			}
		}
	}
	return values
}

// readReady reads up to and with n ReadyForQuery and tells how many bytes that were.
func readReady(t *testing.T, conn net.Conn, n int) (bytes int64) {
	t.Helper()
	for n > 0 {
		var head [pgwire.HeaderSize]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			t.Fatal(err)
		}
		typ, size, _, err := pgwire.ParseHeader(head[:])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, conn, int64(size-len(head))); err != nil {
			t.Fatal(err)
		}
		bytes += int64(size)
		if typ == pgwire.MsgReadyForQuery {
			n--
		}
	}
	return bytes
}

// counted is what a step is to add to the counters that are neither times nor bytes.
type counted struct{ assignments, xacts, queries, clientParses, serverParses, binds int64 }

// Every column, to the byte, for traffic that is known.
func TestStatsCountEverything(t *testing.T) {
	parse := func(name, sql string) []byte {
		return pgwire.AppendMessage(nil, pgwire.MsgParse, []byte(name+"\x00"+sql+"\x00\x00\x00"))
	}
	bind := func(name string) []byte {
		return pgwire.AppendMessage(nil, pgwire.MsgBind, []byte("\x00"+name+"\x00\x00\x00\x00\x00\x00\x00"))
	}
	run := pgwire.AppendMessage(nil, pgwire.MsgExecute, []byte("\x00\x00\x00\x00\x00"))
	closed := func(name string) []byte {
		return pgwire.AppendMessage(nil, pgwire.MsgClose, []byte("S"+name+"\x00"))
	}
	sync := pgwire.AppendSync(nil)
	query := func(sql string) []byte { return pgwire.AppendQuery(nil, sql) }
	msgs := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	type step struct {
		name  string
		send  []byte
		ready int // ReadyForQuery that it is answered with
		want  counted
	}
	transaction := []step{
		{"query", query("select 1"), 1, counted{1, 1, 1, 0, 0, 0}},
		{"empty query", query(";"), 1, counted{1, 1, 1, 0, 0, 0}},
		{"several statements in a query", query("select 1; select 2"), 1, counted{1, 1, 1, 0, 0, 0}},
		{"two queries at once", msgs(query("select 1"), query("select 2")), 2, counted{1, 2, 2, 0, 0, 0}},
		{"begin", query("begin"), 1, counted{1, 0, 1, 0, 0, 0}},
		{"query in a transaction", query("select 1"), 1, counted{0, 0, 1, 0, 0, 0}},
		{"error in a transaction", query("select 1/0"), 1, counted{0, 0, 1, 0, 0, 0}},
		{"query in a failed transaction", query("select 1"), 1, counted{0, 0, 1, 0, 0, 0}},
		{"rollback", query("rollback"), 1, counted{0, 1, 1, 0, 0, 0}},
		{"begin again", query("begin"), 1, counted{1, 0, 1, 0, 0, 0}},
		{"commit", query("commit"), 1, counted{0, 1, 1, 0, 0, 0}},
		{"unnamed statement", msgs(parse("", "select 1"), bind(""), run, sync), 1, counted{1, 1, 1, 0, 0, 0}},
		{"named statement", msgs(parse("a", "select 3"), sync), 1, counted{1, 1, 1, 1, 1, 0}},
		{"bind of it", msgs(bind("a"), run, sync), 1, counted{1, 1, 1, 0, 0, 1}},
		{"two binds of it", msgs(bind("a"), run, bind("a"), run, sync), 1, counted{1, 1, 1, 0, 0, 2}},
		{"the same text by another name", msgs(parse("b", "select 3"), bind("b"), run, sync), 1, counted{1, 1, 1, 1, 0, 1}},
		{"close", msgs(closed("a"), sync), 1, counted{1, 1, 1, 0, 0, 0}},
		{"named statement with an error", msgs(parse("e", "select nothing"), bind("e"), run, sync), 1, counted{1, 1, 1, 1, 1, 1}},
		{"sync", sync, 1, counted{1, 1, 1, 0, 0, 0}},
		{"copy out", query("copy (select repeat('x', 100000)) to stdout"), 1, counted{1, 1, 1, 0, 0, 0}},
	}
	session := []step{
		{"query", query("select 1"), 1, counted{1, 1, 1, 0, 0, 0}},
		{"another", query("select 1"), 1, counted{0, 1, 1, 0, 0, 0}},
		{"named statement", msgs(parse("a", "select 3"), bind("a"), run, sync), 1, counted{0, 1, 1, 0, 0, 0}},
	}
	db := pgtest.DB(t)
	for _, mode := range []struct {
		name  string
		steps []step
	}{{"transaction", transaction}, {"session", session}} {
		t.Run(mode.name, func(t *testing.T) {
			r := start(t, config{databases: entry("d", db, "pool_mode="+mode.name)})
			before := r.stats("d", "total")
			conn := r.rawLogin("d")
			after := r.stats("d", "total")
			for name, v := range after {
				want := before[name]
				if name == "client_login_count" {
					want++
				}
				if v != want {
					t.Errorf("a login: %s %d, not %d", name, v, want)
				}
			}
			for _, s := range mode.steps {
				before := r.stats("d", "total")
				if _, err := conn.Write(s.send); err != nil {
					t.Fatal(err)
				}
				sent := readReady(t, conn, s.ready)
				after := r.stats("d", "total")
				for name, want := range map[string]int64{
					"server_assignment_count": s.want.assignments, "xact_count": s.want.xacts, "query_count": s.want.queries,
					"received": int64(len(s.send)), "sent": sent, "client_parse_count": s.want.clientParses,
					"server_parse_count": s.want.serverParses, "bind_count": s.want.binds, "client_login_count": 0,
				} {
					if got := after[name] - before[name]; got != want {
						t.Errorf("%s: %s %d, not %d", s.name, name, got, want)
					}
				}
			}
		})
	}
	t.Run("times", func(t *testing.T) {
		r := start(t, config{databases: entry("d", db, "pool_size=1")})
		a, b := r.rawLogin("d"), r.rawLogin("d")
		before := r.stats("d", "total")
		a.Write(query("begin"))
		readReady(t, a, 1)
		b.Write(query("select 1"))
		r.waitFor("it waits", func() bool { return r.pool("d")["cl_waiting"] == "1" })
		a.Write(query("select pg_catalog.pg_sleep(0.1)"))
		readReady(t, a, 1)
		a.Write(query("commit"))
		readReady(t, a, 1)
		readReady(t, b, 1)
		after := r.stats("d", "total")
		delta := func(name string) int64 { return after[name] - before[name] }
		if q, x, w := delta("query_time"), delta("xact_time"), delta("wait_time"); q < 100_000 || x < q || w < 100_000 || x > 60_000_000 || w > x {
			t.Errorf("microseconds of queries %d, transactions %d, waiting %d", q, x, w)
		}
	})
}

// The other tables say the same by other names.
func TestStatsTablesAgree(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: "log_stats = 1"})
	conn := r.rawLogin("d")
	period := func() {
		done := make(chan struct{})
		r.p.main.loop.Post(func() { r.p.main.loop.Tick(); r.p.alone(r.p.endPeriod); close(done) })
		<-done
	}
	period()
	for range 300 {
		conn.Write(pgwire.AppendQuery(nil, "select 1"))
		readReady(t, conn, 1)
	}
	at := time.Now()
	r.waitFor("some time", func() bool { return time.Since(at) > 50*time.Millisecond })
	period()
	elapsed := make(chan time.Duration, 1)
	r.p.main.loop.Post(func() { elapsed <- r.p.periodEnds[0] - r.p.periodEnds[1] })
	seconds := (<-elapsed).Seconds()
	totals, averages := r.stats("d", "total"), r.stats("d", "avg")
	if totals["query_count"] != 300 || totals["received"] != 300*14 {
		t.Fatalf("totals: %v", totals)
	}
	for name, want := range map[string]int64{
		"query_count": 300, "xact_count": 300, "server_assignment_count": 300, "recv": totals["received"], "sent": totals["sent"],
		"client_login_count": 0, "client_parse_count": 0,
	} {
		if got := averages[name]; got != int64(float64(want)/seconds) {
			t.Errorf("avg_%s is %d: %d in %gs", name, got, want, seconds)
		}
	}
	if got := averages["query_time"]; got != totals["query_time"]/300 {
		t.Errorf("avg_query_time is %d of %d in 300", got, totals["query_time"])
	}
	names := map[string][2]string{"received": {"bytes_received", "client_bytes"}, "sent": {"bytes_sent", "server_bytes"},
		"client_parse_count": {"client_parse_count", "ps_client_parse_count"}, "server_parse_count": {"server_parse_count", "ps_server_parse_count"},
		"bind_count": {"bind_count", "ps_bind_count"}}
	plain := r.where("stats_totals", "database", "d")[0]
	mean := r.where("stats_averages", "database", "d")[0]
	sums := map[string]string{}
	for _, row := range r.console("show totals") {
		sums[row["name"]] = row["value"]
	}
	if len(sums) != 24 {
		t.Errorf("TOTALS has %d rows", len(sums))
	}
	for name, v := range totals {
		other, ok := names[name]
		if !ok {
			other = [2]string{name, name}
		}
		if got := plain[other[0]]; got != fmt.Sprint(v) {
			t.Errorf("STATS_TOTALS: %s %q, not %d", other[0], got, v)
		}
		column, avg := other[0], name
		if strings.HasSuffix(name, "parse_count") || name == "bind_count" || name == "client_login_count" {
			column = "avg_" + name
		}
		if name == "received" {
			avg = "recv"
		}
		if got := mean[column]; got != fmt.Sprint(averages[avg]) {
			t.Errorf("STATS_AVERAGES: %s %q, not %d", column, got, averages[avg])
		}
		// The console's own commands are in the sum.
		console := name == "xact_count" || name == "query_count" || name == "client_login_count"
		if got, err := strconv.ParseInt(sums["total_"+other[1]], 10, 64); err != nil || !console && got != v || console && got <= v {
			t.Errorf("TOTALS: total_%s %d, not %d: %v", other[1], got, v, err)
		}
		if _, ok := sums["avg_"+other[1]]; !ok {
			t.Errorf("TOTALS: no avg_%s", other[1])
		}
	}
	r.waitLog(fmt.Sprintf("stats: %d xacts/s, %d queries/s, 0 client parses/s, 0 server parses/s, 0 binds/s, 0 client logins/s, in %d B/s, out %d B/s, xact ",
		averages["xact_count"], averages["query_count"], averages["recv"], averages["sent"]))
}

// Commands of the console are counted as its database's.
func TestStatsOfTheConsole(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	a, b := r.stats("pgbouncer", "total"), r.stats("pgbouncer", "total")
	for name, n := range b {
		want := a[name]
		if name == "xact_count" || name == "query_count" || name == "client_login_count" {
			want++
		}
		if n != want {
			t.Errorf("%s is %d, not %d", name, n, want)
		}
	}
}
