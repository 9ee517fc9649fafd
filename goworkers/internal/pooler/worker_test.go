package pooler

import (
	"fmt"
	"net"
	"testing"
	"time"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

// What a client sends right behind its login goes with it to the pool's loop.
func TestClientsMoveWithWhatTheyHaveSent(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: "threads = 2"})
	for i := range 30 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		out := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "d"}})
		out = pgwire.AppendQuery(out, fmt.Sprintf("select 'row %d'", i))
		if _, err := conn.Write(out); err != nil {
			t.Fatal(err)
		}
		skipTo(t, conn, pgwire.MsgReadyForQuery)
		if row := skipTo(t, conn, pgwire.MsgDataRow); string(row[6:]) != fmt.Sprintf("row %d", i) {
			t.Fatalf("got %q", row)
		}
		conn.Close()
	}
}
