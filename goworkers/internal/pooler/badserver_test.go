package pooler

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"goworkers/pgwire"
)

// scripted is a server that says the same thing to everybody.
type scripted struct {
	login  string // to the startup packet
	answer string // to everything after that
}

// serve runs the server until the test ends and gives its port.
func (s scripted) serve(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Add(1)
			go func() {
				defer wg.Done()
				buf := make([]byte, 64<<10)
				for say := s.login; ; say = s.answer {
					if _, err := conn.Read(buf); err != nil {
						return
					}
					conn.Write([]byte(say))
				}
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

func message(typ byte, body string) string {
	return string(pgwire.AppendMessage(nil, typ, []byte(body)))
}

// lying is a header whose length is not that of what follows.
func lying(typ byte, length uint32) string {
	return string(binary.BigEndian.AppendUint32([]byte{typ}, length))
}

const scriptedOK = "R\x00\x00\x00\x08\x00\x00\x00\x00K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02Z\x00\x00\x00\x05I"

func TestServerThatBreaksTheProtocolHarmsNobodyElse(t *testing.T) {
	ok := scripted{scriptedOK, message('C', "x\x00") + message('Z', "I")}
	authOK := message('R', "\x00\x00\x00\x00")
	for name, bad := range map[string]scripted{
		"login: ReadyForQuery without a status":   {authOK + message('Z', ""), ""},
		"login: ReadyForQuery too long":           {authOK + message('Z', "II"), ""},
		"login: Authentication without a code":    {message('R', ""), ""},
		"login: BackendKeyData without a key":     {authOK + message('K', ""), ""},
		"login: length below four":                {lying('R', 3), ""},
		"login: endless error":                    {lying('E', 1<<30) + strings.Repeat("x", 1000), ""},
		"login: not PostgreSQL":                   {"HTTP/1.1 400 Bad Request\r\n\r\n", ""},
		"query: ReadyForQuery without a status":   {scriptedOK, message('C', "x\x00") + message('Z', "")},
		"query: ReadyForQuery too long":           {scriptedOK, message('C', "x\x00") + message('Z', "IT")},
		"query: endless ReadyForQuery":            {scriptedOK, lying('Z', 1<<30) + strings.Repeat("I", 100_000)},
		"query: endless ParameterStatus":          {scriptedOK, lying('S', 1<<30) + strings.Repeat("I", 100_000)},
		"query: length below four":                {scriptedOK, lying('D', 0)},
		"query: a COPY that nobody has asked for": {scriptedOK, message('G', "\x00\x00\x00")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, config{databases: fmt.Sprintf("good = host=127.0.0.1 port=%d\nbad = host=127.0.0.1 port=%d", ok.serve(t), bad.serve(t)),
				settings: "server_tls_sslmode = disable\nquery_wait_timeout = 2\nserver_connect_timeout = 2\nquery_timeout = 1\nserver_reset_query ="})
			if err := r.tryQuery("bad"); err == nil {
				t.Error("a query to the bad server succeeds")
			}
			if err := r.tryQuery("good"); err != nil {
				t.Errorf("the good server suffers too: %v", err)
			}
		})
	}
}
