package plproxy

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// fake is a partition that lets everybody in and has one answer to every query.
func fake(t *testing.T, answer pgproto3.BackendMessage) (port int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var conns []net.Conn
	all.Add(1)
	accepted := make(chan struct{})
	go func() {
		defer all.Done()
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			all.Add(1)
			go func() {
				defer all.Done()
				defer conn.Close()
				serve(conn, answer)
			}()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-accepted
		for _, conn := range conns {
			conn.Close()
		}
		all.Wait()
	})
	return listener.Addr().(*net.TCPAddr).Port
}

func serve(conn net.Conn, answer pgproto3.BackendMessage) {
	backend := pgproto3.NewBackend(conn, conn)
	for {
		startup, err := backend.ReceiveStartupMessage()
		if err != nil {
			return
		}
		if _, ok := startup.(*pgproto3.StartupMessage); ok {
			break
		}
		// no encryption
		if _, err := conn.Write([]byte{'N'}); err != nil {
			return
		}
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	for name, value := range map[string]string{"server_version": "15.0", "client_encoding": "UTF8",
		"DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "standard_conforming_strings": "on"} {
		backend.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	skipping := false
	for backend.Flush() == nil {
		message, err := backend.Receive()
		if err != nil {
			return
		}
		switch message.(type) {
		case *pgproto3.Terminate:
			return
		case *pgproto3.Sync:
			skipping = false
			backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			continue
		}
		if skipping {
			continue
		}
		switch message.(type) {
		case *pgproto3.Parse:
			backend.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Bind:
			backend.Send(&pgproto3.BindComplete{})
		case *pgproto3.Describe:
			backend.Send(&pgproto3.NoData{})
		case *pgproto3.Execute:
			backend.Send(answer)
			_, skipping = answer.(*pgproto3.ErrorResponse)
		}
	}
}

// Errors that lack what PostgreSQL always gives, as some programs between make
// them: the caller gets what there is, and the connection stays good.
func TestIncompleteErrors(t *testing.T) {
	r := newRig(t)
	conn := r.proxy.Conn(t)
	for _, e := range []struct {
		name    string
		answer  pgproto3.ErrorResponse
		state   string
		message string
	}{
		{"no SQLSTATE", pgproto3.ErrorResponse{Severity: "ERROR", Message: "no state"}, "XX000", "no state"},
		{"fatal without SQLSTATE", pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Message: "no state"}, "XX000", "no state"},
		{"no message", pgproto3.ErrorResponse{Severity: "ERROR", Code: "22012"}, "22012", "without a message"},
		{"lost statement without message", pgproto3.ErrorResponse{Severity: "ERROR", Code: "26000"}, "26000", "without a message"},
		{"nothing", pgproto3.ErrorResponse{}, "08006", "lost the connection"},
		{"short SQLSTATE", pgproto3.ErrorResponse{Severity: "ERROR", Code: "1", Message: "short"}, "XX000", "short"},
	} {
		t.Run(e.name, func(t *testing.T) {
			name := strings.ReplaceAll(e.name, " ", "_")
			part := "host=127.0.0.1 dbname=x user=postgres port=" + strconv.Itoa(fake(t, &e.answer))
			r.server(t, name, []string{part, part, part, part})
			for range 2 {
				a := try(t, conn, "select public.pid_any($1)::text", name)
				a.fails(t, e.state)
				if !strings.Contains(a.err.Message, e.message) {
					t.Errorf("the message is %q, want %q in it", a.err.Message, e.message)
				}
			}
			if left := try(t, conn, "select count(*)::text from public.plproxy_connections where cluster = $1 and state = 'idle'", name); left.rows[0] != "1" && e.name != "nothing" {
				t.Errorf("%s idle connections, want 1", left.rows[0])
			}
		})
	}
}
