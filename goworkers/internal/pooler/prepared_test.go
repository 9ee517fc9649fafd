package pooler

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

// talk sends words to a connection and returns what came back, a word a message, up to
// the n-th ReadyForQuery: E with the SQLSTATE, D with the values.
//
//	P:name=sql  B:name[,value]  D:name  C:name  E  S  H  Q:sql
func talk(t *testing.T, conn net.Conn, n int, words ...string) string {
	t.Helper()
	var out []byte
	for _, w := range words {
		kind, rest, _ := strings.Cut(w, ":")
		switch kind {
		case "P":
			name, sql, _ := strings.Cut(rest, "=")
			out = pgwire.AppendParse(out, []byte(name), []byte(sql), nil)
		case "B":
			name, value, has := strings.Cut(rest, ",")
			tail := []byte{0, 0, 0, 0, 0, 0}
			if has {
				tail = append([]byte{0, 0, 0, 1, 0, 0, 0, byte(len(value))}, value...)
				tail = append(tail, 0, 0)
			}
			out = append(pgwire.AppendBindHead(out, nil, []byte(name), len(tail)), tail...)
		case "D":
			out = pgwire.AppendDescribe(out, pgwire.TargetStatement, []byte(rest))
		case "C":
			out = pgwire.AppendClose(out, pgwire.TargetStatement, []byte(rest))
		case "E":
			out = pgwire.AppendExecute(out, nil, 0)
		case "S":
			out = pgwire.AppendSync(out)
		case "H":
			out = pgwire.AppendFlush(out)
		case "Q":
			out = pgwire.AppendQuery(out, rest)
		default:
			t.Fatalf("unknown word %q", w)
		}
	}
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	return hear(t, conn, n)
}

// hear reads up to the n-th ReadyForQuery, or the end of the connection.
func hear(t *testing.T, conn net.Conn, n int) string {
	t.Helper()
	var heard []string
	for n > 0 {
		typ, body, err := message1(conn)
		if err != nil {
			return strings.Join(append(heard, "closed"), " ")
		}
		switch typ {
		case pgwire.MsgErrorResponse:
			rep, err := pgwire.ParseReport(body)
			if err != nil {
				t.Fatal(err)
			}
			heard = append(heard, "E:"+rep.Code)
		case pgwire.MsgDataRow:
			values, err := pgwire.ParseDataRow(nil, body)
			if err != nil {
				t.Fatal(err)
			}
			heard = append(heard, "D:"+string(bytes.Join(values, []byte(","))))
		case pgwire.MsgReadyForQuery:
			heard = append(heard, "Z")
			n--
		case pgwire.MsgParameterStatus, pgwire.MsgNoticeResponse:
		default:
			heard = append(heard, string(typ))
		}
	}
	return strings.Join(heard, " ")
}

func message1(conn net.Conn) (byte, []byte, error) {
	var head [pgwire.HeaderSize]byte
	if _, err := readFull(conn, head[:]); err != nil {
		return 0, nil, err
	}
	typ, size, _, err := pgwire.ParseHeader(head[:])
	if err != nil {
		return 0, nil, err
	}
	body := make([]byte, size-pgwire.HeaderSize)
	_, err = readFull(conn, body)
	return typ, body, err
}

func readFull(conn net.Conn, b []byte) (int, error) {
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	n := 0
	for n < len(b) {
		k, err := conn.Read(b[n:])
		if err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

// Two clients on one server: each statement is where its client needs it, and the
// client hears what PostgreSQL would say.
func TestPreparedStatementsFollowTheirClients(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: "max_prepared_statements = 2"})
	type step struct {
		client int
		n      int
		words  string
		want   string
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"prepare, then use, and again by another", []step{
			{0, 1, "P:a=select_1 S", "1 Z"},
			{1, 1, "P:a=select_2 S", "1 Z"},
			{0, 1, "B:a E S", "2 D:1 C Z"},
			{1, 1, "D:a B:a E S", "t T 2 D:2 C Z"},
			{0, 1, "D:a B:a E S", "t T 2 D:1 C Z"},
		}},
		{"the same text under other names", []step{
			{0, 1, "P:x=select_7 B:x E S", "1 2 D:7 C Z"},
			{1, 1, "P:y=select_7 D:y B:y E S", "1 t T 2 D:7 C Z"},
			{1, 1, "P:z=select_7 S", "1 Z"},
			{1, 2, "B:z E S B:y E S", "2 D:7 C Z 2 D:7 C Z"},
		}},
		{"answers of ours wait for their turn", []step{
			{0, 1, "P:a=select_1 S", "1 Z"},
			{1, 1, "P:=select_5 B: E P:a=select_1 B:a E C:a S", "1 2 D:5 C 1 2 D:1 C 3 Z"},
			{1, 1, "P:b=select_1 H P:c=select_1 S", "1 1 Z"},
		}},
		{"more than the server keeps", []step{
			{0, 1, "P:a=select_1 P:b=select_2 P:c=select_3 P:d=select_4 S", "1 1 1 1 Z"},
			{0, 1, "B:a E B:b E B:c E B:d E S", "2 D:1 C 2 D:2 C 2 D:3 C 2 D:4 C Z"},
			{1, 1, "P:a=select_9 B:a E S", "1 2 D:9 C Z"},
			{0, 1, "B:d E B:a E S", "2 D:4 C 2 D:1 C Z"},
		}},
		{"closed", []step{
			{0, 1, "P:a=select_1 S", "1 Z"},
			{0, 1, "C:a S", "3 Z"},
			{0, 1, "P:a=select_2 B:a E S", "1 2 D:2 C Z"},
			{0, 1, "C:never S", "3 Z"},
		}},
		{"an error in the middle of a pipeline: nothing behind it was prepared", []step{
			{0, 1, "P:a=select_1 S", "1 Z"},
			{0, 1, "P:=nonsense P:b=select_2 C:a P:c=select_1 S", "E:42601 Z"},
			{0, 1, "P:b=select_3 B:b E B:a E P:c=select_4 B:c E S", "1 2 D:3 C 2 D:1 C 1 2 D:4 C Z"},
		}},
		{"an error before a Sync that comes later", []step{
			{0, 1, "P:a=select_1 S", "1 Z"},
			{0, 1, "P:=nonsense H B:a P:b=select_2 B:b S", "E:42601 Z"},
			{0, 1, "B:a E B:b E S", "2 D:1 C 2 D:2 C Z"},
		}},
		{"a Parse that fails", []step{
			{0, 1, "P:a=nonsense S", "E:42601 Z"},
			{0, 1, "P:a=select_1 B:a E S", "1 2 D:1 C Z"},
			{1, 1, "P:a=nonsense B:a E S", "E:42601 Z"},
		}},
		{"evicted in a pipeline that fails", []step{
			{0, 1, "P:a=select_1 P:b=select_2 S", "1 1 Z"},
			{0, 1, "P:=nonsense P:c=select_3 P:d=select_4 S", "E:42601 Z"},
			{0, 1, "B:a E B:b E S", "2 D:1 C 2 D:2 C Z"},
		}},
		{"DEALLOCATE ALL", []step{
			{0, 1, "P:a=select_1 S", "1 Z"},
			{1, 1, "P:a=select_1 S", "1 Z"},
			{0, 1, "Q:deallocate_all", "C Z"},
			{1, 1, "B:a E S", "2 D:1 C Z"},
			{0, 1, "P:a=select_2 B:a E S", "1 2 D:2 C Z"},
		}},
		{"DISCARD ALL with more behind it in the pipeline", []step{
			{0, 1, "P:a=select_1 S", "1 Z"},
			{0, 2, "Q:discard_all P:a=select_1 B:a E S", "C Z 1 2 D:1 C Z"},
			{0, 1, "B:a E S", "2 D:1 C Z"},
			{0, 1, "P:=deallocate_all B: E P:a=select_1 P:b=select_1 B:b E S", "1 2 C 1 1 2 D:1 C Z"},
			{0, 1, "B:b E B:a E S", "2 D:1 C 2 D:1 C Z"},
		}},
		{"in a transaction", []step{
			{0, 1, "P:a=select_1 S", "1 Z"},
			{0, 1, "Q:begin", "C Z"},
			{0, 1, "B:a E S", "2 D:1 C Z"},
			{0, 1, "P:b=nonsense S", "E:42601 Z"},
			{0, 1, "B:a E S", "E:25P02 Z"},
			{0, 1, "Q:rollback", "C Z"},
			{0, 1, "P:b=select_2 B:b E B:a E S", "1 2 D:2 C 2 D:1 C Z"},
		}},
		{"name twice", []step{
			{0, 1, "P:a=select_1 S", "1 Z"},
			{0, 1, "P:a=select_1 S", "E:08P01 closed"},
			{1, 1, "P:a=select_1 P:a=select_1 S", "E:08P01 closed"},
		}},
		{"used after a Parse that failed", []step{
			{0, 1, "P:a=nonsense P:b=select_2 S", "E:42601 Z"},
			{0, 1, "B:a E S", "E:42601 Z"},
			{0, 1, "B:b E S", "2 D:2 C Z"},
			{0, 1, "P:a=select_3 B:a E S", "1 2 D:3 C Z"},
			{0, 1, "P:a=select_4 S", "E:08P01 closed"},
		}},
		{"a Parse that fails twice", []step{
			{0, 1, "P:a=nonsense S", "E:42601 Z"},
			{0, 1, "P:=nonsense P:a=select_1 S", "E:42601 Z"},
			{0, 1, "P:a=select_2 B:a E S", "1 2 D:2 C Z"},
			{0, 1, "P:a=select_3 S", "E:08P01 closed"},
		}},
		{"unknown name", []step{
			{0, 1, "B:a E S", "E:08P01 closed"},
			{1, 1, "D:a S", "E:08P01 closed"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conns := []net.Conn{r.rawLogin("d"), r.rawLogin("d")}
			for i, st := range tc.steps {
				words := strings.Fields(st.words)
				for j, w := range words {
					words[j] = strings.ReplaceAll(w, "_", " ")
				}
				if got := talk(t, conns[st.client], st.n, words...); got != st.want {
					t.Fatalf("step %d: %s:\ngot  %s\nwant %s", i+1, st.words, got, st.want)
				}
			}
			// The server is in order whatever was said.
			other := r.rawLogin("d")
			if got := talk(t, other, 1, "P:q=select 42", "B:q", "E", "S"); got != "1 2 D:42 C Z" {
				t.Fatalf("another client hears %s", got)
			}
		})
	}
}

// What is sent behind an error that the client may have read already, as libpq's pipelines
// do, is passed over by the server; its statements can be used as those are that were on
// their way when the error came.
func TestParseBehindAnErrorCanBeUsed(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=1"), settings: "max_prepared_statements = 2"})
	conn := r.rawLogin("d")
	if got := talk(t, conn, 1, "P:old=select 1", "S"); got != "1 Z" {
		t.Fatal(got)
	}
	talk(t, conn, 0, "P:=nonsense", "H")
	if typ, _, err := message1(conn); err != nil || typ != pgwire.MsgErrorResponse {
		t.Fatalf("got %c, %v", typ, err)
	}
	long := "select length('" + strings.Repeat("x", 3_000_000) + "')"
	if got := talk(t, conn, 1, "P:a=select 2", "B:a", "E", "P:=select 3", "P:long="+long, "P:old=select 4", "C:old", "B:no", "P:b=select 5", "S"); got != "Z" {
		t.Fatal(got)
	}
	for _, st := range []struct{ words, want string }{
		{"B:a E S", "2 D:2 C Z"},
		{"D:a S", "t T Z"},
		{"B:long E S", "2 D:3000000 C Z"},
		{"B:old E S", "2 D:1 C Z"},
		{"P:b=select_6 B:b E S", "1 2 D:6 C Z"},
		{"P:b=select_7 S", "E:08P01 closed"},
	} {
		words := strings.Fields(st.words)
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "_", " ")
		}
		if got := talk(t, conn, 1, words...); got != st.want {
			t.Fatalf("%s:\ngot  %s\nwant %s", st.words, got, st.want)
		}
	}
}

// A program that prepares all it runs, as pgx does by default, over few servers.
func TestPgxWithItsStatementCache(t *testing.T) {
	db := pgtest.DB(t)
	db.Exec(t, "create table public.t (i int primary key, s text)")
	r := start(t, config{databases: entry("d", db, "pool_size=2"), settings: "max_prepared_statements = 3\nthreads = 2"})
	done := make(chan error, 4)
	for k := range 4 {
		cfg, err := pgx.ParseConfig(r.dsn("d"))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.ConnectConfig(background(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx := background(t)
		t.Cleanup(func() { conn.Close(ctx) })
		go func() {
			rng := rand.New(rand.NewPCG(1, uint64(k)))
			for i := range 200 {
				n := rng.IntN(8)
				var got int
				sql := fmt.Sprintf("select $1::int + %d", n)
				if err := conn.QueryRow(ctx, sql, i).Scan(&got); err != nil || got != i+n {
					done <- fmt.Errorf("%s: got %d: %w", sql, got, err)
					return
				}
				batch := &pgx.Batch{}
				for j := range 3 {
					batch.Queue(fmt.Sprintf("insert into public.t values ($1, '%d') on conflict (i) do update set s = excluded.s", j), k)
					batch.Queue("select $1::text", "x")
				}
				if err := conn.SendBatch(ctx, batch).Close(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A Parse beyond every buffer is put together, and a Bind beyond it streams through.
func TestLongPreparedStatements(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=1")})
	a, b := r.rawLogin("d"), r.rawLogin("d")
	long := "select length('" + strings.Repeat("x", 3_000_000) + "')"
	if got := talk(t, a, 1, "P:long="+long, "S"); got != "1 Z" {
		t.Fatal(got)
	}
	if got := talk(t, b, 1, "P:len=select length($1)", "S"); got != "1 Z" {
		t.Fatal(got)
	}
	for range 3 {
		if got := talk(t, a, 1, "B:long", "E", "S"); got != "2 D:3000000 C Z" {
			t.Fatal(got)
		}
		const n = 2_000_000
		tail := []byte{0, 0, 0, 1, 0, n >> 16, n >> 8 & 0xff, n & 0xff}
		tail = append(append(tail, bytes.Repeat([]byte("y"), n)...), 0, 0)
		out := append(pgwire.AppendBindHead(nil, nil, []byte("len"), len(tail)), tail...)
		out = pgwire.AppendSync(pgwire.AppendExecute(out, nil, 0))
		b.Write(out)
		if got := hear(t, b, 1); got != "2 D:2000000 C Z" {
			t.Fatal(got)
		}
	}
}
