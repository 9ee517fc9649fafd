package plproxy

import (
	"encoding/binary"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// fake is a partition that lets everybody in and has one answer to every query,
// which may begin with what describes it.
func fake(t *testing.T, answer ...pgproto3.BackendMessage) (port int) {
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

func serve(conn net.Conn, answer []pgproto3.BackendMessage) {
	backend := pgproto3.NewBackend(conn, conn)
	var description pgproto3.BackendMessage = &pgproto3.NoData{}
	if d, ok := answer[0].(*pgproto3.RowDescription); ok {
		description, answer = d, answer[1:]
	}
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
			backend.Send(description)
		case *pgproto3.Execute:
			for _, message := range answer {
				backend.Send(message)
			}
			_, skipping = answer[len(answer)-1].(*pgproto3.ErrorResponse)
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

// Values in binary that are none of their type: no matter what is wrong with them,
// the caller gets an error, and the connection stays good.
func TestMalformedValues(t *testing.T) {
	const (
		typeText  = 25
		typeInt   = 23
		typeInts  = 1007
		typeTexts = 1009
		typeJSONB = 3802
		typeRange = 3904
	)
	r := newRig(t)
	r.proxy.Exec(t, `
		create function public.ints(i_cluster text) returns int4[] language plproxy as 'cluster i_cluster;';
		create function public.texts(i_cluster text) returns text[] language plproxy as 'cluster i_cluster;';
		create function public.jsonbs(i_cluster text) returns table (n int4, j jsonb) language plproxy as 'cluster i_cluster;';
		create function public.ranges(i_cluster text) returns int4range language plproxy as 'cluster i_cluster;';`)
	conn := r.proxy.Conn(t)
	for i, c := range []struct {
		name     string
		function string
		oid      uint32
		value    []byte
		want     string // the value, or an SQLSTATE
	}{
		{"array", "ints", typeInts, array(1, 0, typeInt, 2, 5, 4, 7, -1), "[5:6]={7,NULL}"},
		{"empty array", "ints", typeInts, array(0, 0, typeInt), "{}"},
		{"array without elements", "ints", typeInts, array(1, 0, typeInt, 0, 1), "{}"},
		{"nothing", "ints", typeInts, nil, "22P03"},
		{"half a header", "ints", typeInts, array(1, 0, typeInt)[:11], "22P03"},
		{"no bounds", "ints", typeInts, array(1, 0, typeInt, 1), "22P03"},
		{"seven dimensions", "ints", typeInts, array(7, 0, typeInt, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 7), "22P03"},
		{"negative dimensions", "ints", typeInts, array(-1, 0, typeInt), "22P03"},
		{"unknown flags", "ints", typeInts, array(1, 2, typeInt, 1, 1, 4, 7), "22P03"},
		{"elements of another type", "ints", typeInts, array(1, 0, typeText, 1, 1, 4, 7), "42804"},
		{"empty array of another type", "ints", typeInts, array(0, 0, typeText), "42804"},
		{"negative length", "ints", typeInts, array(1, 0, typeInt, -1, 1), "22P03"},
		{"more elements than bytes", "ints", typeInts, array(1, 0, typeInt, 1<<26, 1, 4, 7), "22P03"},
		{"too many elements", "ints", typeInts, array(2, 0, typeInt, 1<<16, 1, 1<<16, 1, 4, 7), "54000"},
		{"bounds beyond int4", "ints", typeInts, array(1, 0, typeInt, 1, 1<<31-1, 4, 7), "22P03"},
		{"an element too few", "ints", typeInts, array(1, 0, typeInt, 2, 1, 4, 7), "22P03"},
		{"an element too many", "ints", typeInts, array(1, 0, typeInt, 1, 1, 4, 7, 4, 7), "22P03"},
		{"element beyond the end", "ints", typeInts, array(1, 0, typeInt, 1, 1, 8, 7), "22P03"},
		{"huge element", "ints", typeInts, array(1, 0, typeInt, 1, 1, 1<<31-1, 7), "22P03"},
		{"element of negative size", "ints", typeInts, array(1, 0, typeInt, 1, 1, -2, 7), "22P03"},
		{"element of a wrong size", "ints", typeInts, array(1, 0, typeInt, 1, 1, 0), "22P03"},
		{"text", "texts", typeTexts, append(array(1, 0, typeText, 1, 1, 2), "\u00e9"...), "{\u00e9}"},
		{"text of another encoding", "texts", typeTexts, append(array(1, 0, typeText, 1, 1, 1), 0xe9), "55000"},
		{"jsonb", "jsonbs", typeJSONB, []byte("\x01[1]"), "(1,[1])"},
		{"jsonb of another version", "jsonbs", typeJSONB, []byte("\x02[1]"), "22P03"},
		{"jsonb without version", "jsonbs", typeJSONB, nil, "22P03"},
		{"jsonb without value", "jsonbs", typeJSONB, []byte{1}, "22P02"},
		{"range", "ranges", typeRange, []byte{1}, "empty"},
		{"range without flags", "ranges", typeRange, nil, "08P01"},
		{"range without bounds", "ranges", typeRange, []byte{0}, "08P01"},
		{"range and more", "ranges", typeRange, []byte{1, 0}, "08P01"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fields := []pgproto3.FieldDescription{{Name: []byte("j"), DataTypeOID: c.oid, Format: 1}}
			values := [][]byte{append([]byte{}, c.value...)}
			if c.function == "jsonbs" {
				// with a column for whose sake all come in binary
				fields = append(fields, pgproto3.FieldDescription{Name: []byte("n"), DataTypeOID: typeInt, Format: 1})
				values = append(values, binary.BigEndian.AppendUint32(nil, 1))
			}
			name := "values_" + strconv.Itoa(i)
			part := "host=127.0.0.1 dbname=x user=postgres port=" + strconv.Itoa(fake(t,
				&pgproto3.RowDescription{Fields: fields}, &pgproto3.DataRow{Values: values},
				&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}))
			r.server(t, name, []string{part})
			for range 2 {
				a := try(t, conn, "select public."+c.function+"($1)::text", name)
				if a.err != nil {
					a.rows = []string{a.err.Code}
				}
				if a.rows[0] != c.want {
					t.Errorf("got %v (%v), want %s", a.rows, a.err, c.want)
				}
			}
			if left := try(t, conn, "select count(*)::text from public.plproxy_connections where cluster = $1 and state = 'idle'", name); left.rows[0] != "1" {
				t.Errorf("%s idle connections, want 1", left.rows[0])
			}
		})
	}
}

// array puts the numbers together of which an array is made: dimensions, flags,
// type, length and lower bound of each dimension, size and value of each element.
func array(numbers ...int32) []byte {
	var value []byte
	for _, n := range numbers {
		value = binary.BigEndian.AppendUint32(value, uint32(n))
	}
	return value
}
