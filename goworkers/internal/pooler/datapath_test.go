package pooler

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// lines are n lines of a table with a text column, each different.
func lines(n, width int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "%d\t%s\n", i, strings.Repeat(string(rune('a'+i%26)), width+i%17))
	}
	return b.Bytes()
}

// With socket buffers of 4 kB every write is cut somewhere: what comes back must be
// what was sent, byte by byte, in order, once.
func TestCopyKeepsBytesThroughSmallSocketBuffers(t *testing.T) {
	db := pgtest.DB(t)
	db.Exec(t, "create table public.t(i int, s text)")
	for _, buf := range []int{0, 4096} {
		t.Run(fmt.Sprintf("tcp_socket_buffer=%d", buf), func(t *testing.T) {
			r := start(t, config{databases: entry("d", db, "pool_size=2"), settings: fmt.Sprintf("tcp_socket_buffer = %d", buf)})
			data := lines(20000, 150)
			want := sha256.Sum256(data)
			var wg sync.WaitGroup
			for range 2 {
				conn := r.connect("d")
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					for range 2 {
						if _, err := conn.Exec(ctx, "create temp table if not exists mine (i int, s text)"); err != nil {
							t.Error(err)
						}
						// One transaction: another would have another server.
						tx, err := conn.Begin(ctx)
						if err != nil {
							t.Error(err)
							return
						}
						tx.Exec(ctx, "create temp table c (i int, s text) on commit drop")
						if _, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(data), "copy c from stdin"); err != nil {
							t.Error(err)
							return
						}
						h := sha256.New()
						if _, err := conn.PgConn().CopyTo(ctx, h, "copy (select * from c order by i) to stdout"); err != nil {
							t.Error(err)
							return
						}
						if got := h.Sum(nil); !bytes.Equal(got, want[:]) {
							t.Errorf("got %s, want %s", hex.EncodeToString(got), hex.EncodeToString(want[:]))
						}
						if err := tx.Rollback(ctx); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// rawLogin logs in over a plain socket, for tests that drive the protocol themselves.
func (r *rig) rawLogin(db string) net.Conn {
	r.t.Helper()
	return rawLoginAt(r.t, r.port, db)
}

func rawLoginAt(t testing.TB, port int, db string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	conn.Write(pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: db}}))
	skipTo(t, conn, pgwire.MsgReadyForQuery)
	return conn
}

// skipTo reads messages to the first of a type and returns its body; bodies before it
// are not kept.
func skipTo(t testing.TB, conn io.Reader, want byte) []byte {
	t.Helper()
	for {
		var head [pgwire.HeaderSize]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			t.Fatalf("waiting for %s: %v", pgwire.TypeName(want, false), err)
		}
		typ, size, _, err := pgwire.ParseHeader(head[:])
		if err != nil {
			t.Fatal(err)
		}
		if typ == want {
			body := make([]byte, size-pgwire.HeaderSize)
			io.ReadFull(conn, body)
			return body
		}
		if _, err := io.CopyN(io.Discard, conn, int64(size-pgwire.HeaderSize)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHugeMessagesStreamThrough(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	conn := r.rawLogin("d")
	var most uint64
	watch := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-watch:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
		}
	}()
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	// One row of 100 MB, then a query of 50 MB.
	conn.Write(pgwire.AppendQuery(nil, "select pg_catalog.repeat('x', 100000000)"))
	skipTo(t, conn, pgwire.MsgReadyForQuery)
	const size = 50_000_000
	query := []byte("select pg_catalog.length('")
	conn.Write(pgwire.AppendHeader(nil, pgwire.MsgQuery, len(query)+size+4))
	conn.Write(query)
	block := bytes.Repeat([]byte("y"), 100_000)
	for range size / len(block) {
		if _, err := conn.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	conn.Write([]byte("');\x00"))
	var row [][]byte
	row, err := pgwire.ParseDataRow(row, skipTo(t, conn, pgwire.MsgDataRow))
	if err != nil || string(row[0]) != fmt.Sprint(size) {
		t.Fatalf("length %q: %v", row, err)
	}
	skipTo(t, conn, pgwire.MsgReadyForQuery)
	close(watch)
	<-watched
	if grown := int64(most) - int64(before.HeapAlloc); grown > 20<<20 {
		t.Fatalf("the heap grew by %d MB", grown>>20)
	}
}

// A COPY that fails ends before its data: the server must get the message that it has
// a part of whole, and the next client must find it in order.
func TestCopyThatFailsWithinAMessageLeavesTheServerInOrder(t *testing.T) {
	db := pgtest.DB(t)
	db.Exec(t, "create table public.c (i int)")
	r := start(t, config{databases: entry("d", db, "pool_size=1")})
	conn := r.rawLogin("d")
	other := r.connect("d")
	pid := value[int](t, other, backend)
	half := bytes.Repeat([]byte("1\n"), 50000)
	for _, begin := range []string{"", "begin; "} {
		for range 3 {
			conn.Write(pgwire.AppendQuery(nil, begin+"copy public.c from stdin"))
			skipTo(t, conn, pgwire.MsgCopyInResponse)
			// The first message is refused; half of a second one follows it at once.
			out := pgwire.AppendMessage(nil, pgwire.MsgCopyData, []byte(strings.Repeat("no number\n", 10)))
			out = pgwire.AppendHeader(out, pgwire.MsgCopyData, 2*len(half))
			conn.Write(append(out, half...))
			if rep, err := pgwire.ParseReport(skipTo(t, conn, pgwire.MsgErrorResponse)); err != nil || rep.Code != "22P02" {
				t.Fatalf("got %v, %v", rep, err)
			}
			skipTo(t, conn, pgwire.MsgReadyForQuery)
			if n := r.pool("d")["sv_active"]; n != "1" {
				t.Fatalf("%s servers are active within the message", n)
			}
			conn.Write(half)
			conn.Write(pgwire.AppendMessage(nil, pgwire.MsgCopyDone, nil))
			if begin == "" {
				if got := value[int](t, other, backend); got != pid {
					t.Fatalf("server %d instead of %d", got, pid)
				}
			}
			conn.Write(pgwire.AppendQuery(nil, "rollback"))
			skipTo(t, conn, pgwire.MsgReadyForQuery)
			if got := value[int](t, other, backend); got != pid {
				t.Fatalf("server %d instead of %d", got, pid)
			}
		}
	}
}

// A server that is closed within a message: the client must not find an error message
// in the middle of its row.
func TestErrorIsNotWrittenIntoARow(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	conn := r.rawLogin("d")
	conn.Write(pgwire.AppendQuery(nil, "select pg_catalog.repeat('x', 100000000)"))
	// A row of 100 MB lies in no socket buffer: the client reads its head and stops.
	var head [5]byte
	for head[0] != pgwire.MsgDataRow {
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			t.Fatal(err)
		}
		_, size, _, err := pgwire.ParseHeader(head[:])
		if err != nil {
			t.Fatal(err)
		}
		if head[0] != pgwire.MsgDataRow {
			io.CopyN(io.Discard, conn, int64(size-len(head)))
		}
	}
	r.console("kill d")
	row, _ := io.ReadAll(conn)
	// Number of columns and length of the value stand before it.
	if len(row) < 6 || len(row) > 90_000_000 {
		t.Fatalf("%d bytes of the row: it was to be cut", len(row))
	}
	if rest := bytes.Trim(row[6:], "x"); len(rest) > 0 {
		t.Fatalf("within the row stands %q", rest)
	}
}

func ofClient(c *client) *conn { return &c.conn }

func ofServer(c *client) *conn {
	if c.srv == nil {
		return &conn{}
	}
	return &c.srv.conn
}

// held is the largest number of unsent bytes on a side of the clients.
func (r *rig) held(side func(*client) *conn) int {
	most := make(chan int, 1)
	r.p.main.loop.Post(func() {
		n := 0
		for c := range r.p.main.clients {
			if out := side(c).out; out != nil {
				n = max(n, out.Len())
			}
		}
		most <- n
	})
	return <-most
}

// A client that sends without reading is held up, and gets all its answers when it
// reads at last.
func TestClientThatDoesNotReadIsHeldUpAndLosesNothing(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_size=2")})
	conn := r.rawLogin("d")
	other := r.connect("d")
	const queries = 400
	sent := make(chan error, 1)
	go func() {
		for i := range queries {
			if _, err := conn.Write(pgwire.AppendQuery(nil, fmt.Sprintf("select %d, pg_catalog.repeat('x', 100000)", i))); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	// 40 MB cannot lie in the sockets: the server stands still, others do not.
	db.WaitFor(t, "select count(*) = 1 from pg_catalog.pg_stat_activity where datname = current_database() and wait_event = 'ClientWrite'")
	for range 20 {
		exec(t, other, "select 1")
	}
	if n := r.held(ofClient); n == 0 || n > evloop.BufferSize {
		t.Fatalf("%d bytes are held for a client that does not read", n)
	}
	for i := range queries {
		row, err := pgwire.ParseDataRow(nil, skipTo(t, conn, pgwire.MsgDataRow))
		if err != nil || string(row[0]) != fmt.Sprint(i) || len(row[1]) != 100000 {
			t.Fatalf("answer %d: %v", i, err)
		}
		skipTo(t, conn, pgwire.MsgReadyForQuery)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// Cut at every byte: a conversation in which each write is one byte long.
func TestMessagesMayComeByteByByte(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	out := pgwire.AppendSSLRequest(nil)
	for i := range out {
		conn.Write(out[i : i+1])
	}
	answer := make([]byte, 1)
	if io.ReadFull(conn, answer); answer[0] != 'N' {
		t.Fatalf("answer %q to SSLRequest", answer)
	}
	out = pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "d"}})
	out = pgwire.AppendQuery(out, "select 'one'")
	out = pgwire.AppendParse(out, nil, []byte("select 'two'"), []byte{0, 0})
	out = pgwire.AppendBindHead(out, nil, nil, 6)
	out = append(out, 0, 0, 0, 0, 0, 0)
	out = pgwire.AppendExecute(out, nil, 0)
	out = pgwire.AppendSync(out)
	go func() {
		for i := range out {
			conn.Write(out[i : i+1])
		}
	}()
	skipTo(t, conn, pgwire.MsgReadyForQuery)
	for _, want := range []string{"one", "two"} {
		row, err := pgwire.ParseDataRow(nil, skipTo(t, conn, pgwire.MsgDataRow))
		if err != nil || string(row[0]) != want {
			t.Fatalf("got %q, want %q: %v", row, want, err)
		}
		skipTo(t, conn, pgwire.MsgReadyForQuery)
	}
}

// The hot path, as the loop drives it: a client's query to the server, the answer
// back, the link made before and taken apart after it. Nothing may be allocated.
func TestForwardingDoesNotAllocate(t *testing.T) {
	cfg, _, err := ini.Parse("test", "[databases]\nd = host=127.0.0.1\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=1\n"+
		"unix_socket_dir=\nauth_type=trust\npool_mode=transaction\nlog_connections=0\n")
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPooler(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	if err := p.apply(cfg); err != nil {
		t.Fatal(err)
	}
	pl := p.poolOf(p.databases["d"], p.userNamed("u"))
	socket := func() (ours, theirs int) {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fds[0], fds[1]
	}
	cfd, user := socket()
	sfd, backendFD := socket()
	defer syscall.Close(user)
	defer syscall.Close(backendFD)
	c := &client{conn: conn{w: p.main, fd: int32(cfd)}, phase: phaseActive, pl: pl, vars: noVars}
	c.pc.Owner = c
	p.main.clients[c] = struct{}{}
	if err := c.watch(evloop.Readable, c); err != nil {
		t.Fatal(err)
	}
	pl.AddClient(&c.pc, 0)
	pl.Request(&c.pc, 0)
	a, ok := p.main.manager.Next()
	if !ok || a.Kind != pool.Connect {
		t.Fatalf("action %v", a)
	}
	s := &server{conn: conn{w: p.main, fd: int32(sfd)}, ps: a.Server, pl: pl, vars: noVars, phase: serverForward, status: 'I'}
	a.Server.Owner = s
	if err := s.watch(evloop.Readable, s); err != nil {
		t.Fatal(err)
	}
	pl.ServerReady(s.ps, 0)
	p.main.run()

	query := pgwire.AppendQuery(nil, "select 1")
	extended := pgwire.AppendParse(nil, nil, []byte("select 1"), []byte{0, 0})
	extended = append(pgwire.AppendBindHead(extended, nil, nil, 6), 0, 0, 0, 0, 0, 0)
	extended = pgwire.AppendSync(pgwire.AppendExecute(extended, nil, 0))
	row := pgwire.AppendCommandComplete(pgwire.AppendDataRow(nil, [][]byte{bytes.Repeat([]byte("x"), 1000)}), "SELECT 1")
	answer := pgwire.AppendReadyForQuery(row, pgwire.TxIdle)
	extendedAnswer := []byte{'1', 0, 0, 0, 4, '2', 0, 0, 0, 4}
	extendedAnswer = pgwire.AppendReadyForQuery(append(extendedAnswer, row...), pgwire.TxIdle)
	got := make([]byte, 64<<10)
	// told is what the server is to get of a request.
	pass := func(request, told, reply []byte) {
		evloop.Write(user, request)
		c.Ready(evloop.Readable)
		if n, err := evloop.Read(backendFD, got); err != nil || !bytes.Equal(got[:n], told) {
			t.Fatalf("the server got %q: %v", got[:n], err)
		}
		evloop.Write(backendFD, reply)
		s.Ready(evloop.Readable)
		if n, err := evloop.Read(user, got); err != nil || !bytes.Equal(got[:n], reply) {
			t.Fatalf("the client got %q: %v", got[:n], err)
		}
		if c.srv != nil {
			t.Fatal("the server is not released")
		}
	}
	// A prepared statement has another name on the server.
	named := func(name string) (parse, use []byte) {
		parse = pgwire.AppendSync(pgwire.AppendParse(nil, []byte(name), []byte("select 1"), []byte{0, 0}))
		use = append(pgwire.AppendBindHead(nil, nil, []byte(name), 6), 0, 0, 0, 0, 0, 0)
		return parse, pgwire.AppendSync(pgwire.AppendExecute(use, nil, 0))
	}
	parse, use := named("mine")
	toldParse, toldUse := named("PGBOUNCER_1")
	usedAnswer := pgwire.AppendReadyForQuery(append([]byte{'2', 0, 0, 0, 4}, row...), pgwire.TxIdle)
	pass(parse, toldParse, pgwire.AppendReadyForQuery([]byte{'1', 0, 0, 0, 4}, pgwire.TxIdle))
	if n := testing.AllocsPerRun(1000, func() {
		pass(query, query, answer)
		pass(extended, extended, extendedAnswer)
		pass(use, toldUse, usedAnswer)
	}); n != 0 {
		t.Fatalf("%v allocations for three transactions", n)
	}
}

// A server that is busy does not read: its client is held up, not stored.
func TestClientIsHeldUpWhileItsServerDoesNotRead(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_mode=session")})
	holder := r.connect("d")
	exec(t, holder, "select pg_catalog.pg_advisory_lock(1)")
	conn := r.rawLogin("d")
	conn.Write(pgwire.AppendQuery(nil, "select pg_catalog.pg_advisory_lock(1)"))
	db.WaitFor(t, "select count(*) = 1 from pg_catalog.pg_stat_activity where datname = current_database() and wait_event = 'advisory'")
	const queries = 40
	sent := make(chan error, 1)
	go func() {
		for range queries {
			q := pgwire.AppendQuery(nil, "select pg_catalog.length('"+strings.Repeat("y", 1<<20)+"')")
			if _, err := conn.Write(q); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	r.waitFor("the server's socket is full", func() bool { return r.held(ofServer) > 0 })
	for range 20 {
		exec(t, holder, "select 1")
	}
	if n := r.held(ofServer); n == 0 || n > evloop.BufferSize {
		t.Fatalf("%d bytes are held for a server that does not read", n)
	}
	exec(t, holder, "select pg_catalog.pg_advisory_unlock(1)")
	skipTo(t, conn, pgwire.MsgReadyForQuery)
	for range queries {
		row, err := pgwire.ParseDataRow(nil, skipTo(t, conn, pgwire.MsgDataRow))
		if err != nil || string(row[0]) != fmt.Sprint(1<<20) {
			t.Fatalf("got %q: %v", row, err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}
