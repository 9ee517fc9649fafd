package pooler

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

// say writes what a client of the fuzzer says and hangs up; what it hears is thrown away.
func say(conn net.Conn, b []byte) {
	go io.Copy(io.Discard, conn)
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	conn.Write(b)
	// What waits for more bytes ends with the connection.
	conn.(*net.TCPConn).CloseWrite()
	conn.Close()
}

// Whatever a client says once it is logged in: the pooler lives, and the next client of
// the same server finds it in order.
func FuzzClientConversation(f *testing.F) {
	r := start(f, config{databases: entry("d", pgtest.DB(f), "pool_size=1"),
		settings: "max_prepared_statements = 2\nquery_wait_timeout = 20\nlog_connections = 0\nlog_disconnections = 0\nlog_pooler_errors = 0"})
	parse := pgwire.AppendParse(nil, []byte("s"), []byte("select $1::text"), nil)
	bind := pgwire.AppendBind(nil, nil, []byte("s"), [][]byte{[]byte("x")})
	exec := pgwire.AppendSync(pgwire.AppendExecute(nil, nil, 0))
	query := func(sql string) []byte { return pgwire.AppendQuery(nil, sql) }
	for _, seed := range [][][]byte{
		{query("select 1")}, {query("begin"), query("select 1"), query("rollback")}, {query("begin; create table x(i int)")},
		{parse, bind, exec}, {parse, parse}, {bind}, {parse, query("deallocate all"), parse, bind, exec},
		{parse, pgwire.AppendClose(nil, 'S', []byte("s")), exec, pgwire.AppendDescribe(nil, 'S', []byte("s")), exec},
		{query("copy (select 1) to stdout")}, {query("create temp table t(i int)"), query("copy t from stdin"), []byte("d\x00\x00\x00\x061\nc\x00\x00\x00\x04")},
		{parse[:7]}, {bind[:5]}, {[]byte("d\x00\x00\x10\x00abc")}, {[]byte("Q\x00\x00\x00\x03")}, {[]byte("Q\xff\xff\xff\xff")}, {[]byte("X\x00\x00\x00\x04")},
		{pgwire.AppendFlush(nil), exec}, {[]byte("F\x00\x00\x00\x08\x00\x00\x00\x01")},
	} {
		var all []byte
		for _, m := range seed {
			all = append(all, m...)
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		say(rawLoginAt(t, r.port, "d"), b)
		conn := rawLoginAt(t, r.port, "d")
		defer conn.Close()
		if got := talk(t, conn, 2, "Q:select 'right'", "P:mine=select 42", "B:mine", "E", "S"); got != "T D:right C Z 1 2 D:42 C Z" {
			t.Fatalf("after %q the next client hears %s", b, got)
		}
	})
}

// Whatever a client says instead of a login: it does not get in, and others do.
func FuzzStartup(f *testing.F) {
	r := start(f, config{databases: entry("d", pgtest.DB(f)), settings: "log_connections = 0\nlog_disconnections = 0\nlog_pooler_errors = 0\nauth_type = scram-sha-256",
		authFile: "\"postgres\" \"\"\n\"u\" \"secret\"\n"})
	startup := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "u"}, {Name: "database", Value: "d"}})
	for _, seed := range [][]byte{
		startup, pgwire.AppendSSLRequest(nil), pgwire.AppendGSSENCRequest(nil), append(pgwire.AppendSSLRequest(nil), startup...),
		pgwire.AppendCancelRequest(nil, []byte("12345678")), append(startup, pgwire.AppendPassword(nil, "secret")...),
		append(startup, pgwire.AppendSASLInitialResponse(nil, pgwire.MechanismSCRAM, []byte("n,,n=,r=abc"))...),
		{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3}, {0, 0, 0, 8}, {0xff, 0xff, 0xff, 0xff},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		go func() {
			conn.Write(b)
			conn.(*net.TCPConn).CloseWrite()
		}()
		heard, _ := io.ReadAll(conn)
		conn.Close()
		if bytes.HasSuffix(heard, pgwire.AppendReadyForQuery(nil, pgwire.TxIdle)) {
			t.Fatalf("%q is let in: %q", b, heard)
		}
		done := make(chan struct{})
		if !r.p.main.loop.Post(func() { close(done) }) {
			t.Fatal("the loop has ended")
		}
		<-done
	})
}

// Whatever a server says: the pooler lives, and other databases are served.
func FuzzServerConversation(f *testing.F) {
	for _, seed := range []string{
		message('C', "x\x00") + message('Z', "I"), message('1', "") + message('2', "") + message('C', "SELECT 1\x00") + message('Z', "I"),
		message('E', "SERROR\x00C42601\x00Mno\x00\x00") + message('Z', "E"), message('S', "a\x00b\x00") + message('Z', "T"),
		message('G', "\x00\x00\x00") + message('Z', "I"), message('H', "\x00\x00\x00") + message('d', "x") + message('c', "") + message('C', "COPY 1\x00") + message('Z', "I"),
		lying('D', 1<<30), lying('Z', 6) + "II", "nonsense", message('N', "SNOTICE\x00\x00") + message('A', "\x00\x00\x00\x01a\x00b\x00") + message('Z', "I"),
		message('3', "") + message('3', "") + message('Z', "I"), message('C', "DISCARD ALL\x00") + message('Z', "I"),
	} {
		f.Add([]byte(seed))
	}
	good := scripted{scriptedOK, message('C', "x\x00") + message('Z', "I")}.serve(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		bad := scripted{scriptedOK, string(b)}.serve(t)
		r := start(t, config{databases: fmt.Sprintf("good = host=127.0.0.1 port=%d\nbad = host=127.0.0.1 port=%d", good, bad),
			settings: "server_tls_sslmode = disable\nquery_wait_timeout = 2\nserver_connect_timeout = 2\nserver_reset_query =\nrescue_transactions = 0"})
		conn := rawLoginAt(t, r.port, "bad")
		out := pgwire.AppendParse(nil, []byte("s"), []byte("select 1"), nil)
		out = pgwire.AppendBind(out, nil, []byte("s"), nil)
		out = pgwire.AppendSync(pgwire.AppendExecute(out, nil, 0))
		say(conn, append(out, pgwire.AppendQuery(nil, "select 2")...))
		if err := r.tryQuery("good"); err != nil {
			t.Fatalf("after %q the good server suffers too: %v", b, err)
		}
	})
}
