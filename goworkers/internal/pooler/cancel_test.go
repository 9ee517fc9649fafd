package pooler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

const codeCanceled = "57014"

// fireCancel sends a cancel request for a connection and does not wait for anything.
func (r *rig) fireCancel(conn *pgconn.PgConn) error {
	to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		return err
	}
	defer to.Close()
	_, err = to.Write(pgwire.AppendCancelRequest(nil, keyOf(conn)))
	return err
}

// keyOf is a connection's cancel key.
func keyOf(conn *pgconn.PgConn) []byte {
	pid := conn.PID()
	return append([]byte{byte(pid >> 24), byte(pid >> 16), byte(pid >> 8), byte(pid)}, conn.SecretKey()...)
}

// waitAsleep waits until a query sleeps: the server drops a cancel request that comes
// before its query.
func waitAsleep(t *testing.T, db *pgtest.Database) {
	t.Helper()
	db.WaitFor(t, "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')")
}

// Cancels at random moments on a pool that everybody shares: who is canceled has asked
// for it, and gets nobody else's answer.
func TestCancelsHitThoseWhoAsked(t *testing.T) {
	const clients, cancels, enough = 16, 200, 40
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) {
			db := pgtest.DB(t)
			r := start(t, config{
				databases: entry("d", db, "pool_size=3") + "\n" + entry("e", db, "pool_size=3"),
				settings:  fmt.Sprintf("threads = %d\nlog_connections = 0\nlog_disconnections = 0", threads),
			})
			ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
			defer stop()
			var requests, hits atomic.Int64
			goOn := func() bool { return ctx.Err() == nil && (requests.Load() < cancels || hits.Load() < enough) }
			var wg sync.WaitGroup
			for id := range clients {
				name := "d"
				if id%2 == 1 {
					name = "e"
				}
				conn, err := pgconn.Connect(ctx, r.dsn(name))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(context.Background())
				asks := id%4 < 2
				var asked, ended atomic.Bool
				if asks {
					wg.Go(func() {
						for goOn() {
							requests.Add(1)
							asked.Store(true)
							var err error
							if rand.N(2) == 0 {
								err = conn.CancelRequest(ctx)
							} else {
								err = r.fireCancel(conn)
							}
							if err != nil {
								t.Errorf("client %d: cancel request: %v", id, err)
							}
						}
						ended.Store(true)
					})
				}
				wg.Go(func() {
					for n := 0; goOn() || asks && !ended.Load(); n++ {
						want := fmt.Sprintf("%d-%d", id, n)
						res, err := conn.Exec(ctx, fmt.Sprintf("select '%s' from pg_catalog.pg_sleep(%g)", want, rand.Float64()/40)).ReadAll()
						switch e, ok := asPgError(err); {
						case err == nil && string(res[0].Rows[0][0]) != want:
							t.Errorf("client %d got %q, not %q", id, res[0].Rows[0][0], want)
						case ok && e.Code == codeCanceled && asked.Load():
							hits.Add(1)
						case err != nil:
							t.Errorf("client %d, which asked for cancels: %v: %v", id, asks, err)
							return
						}
					}
				})
			}
			wg.Wait()
			if n := hits.Load(); n < enough || n > requests.Load() {
				t.Errorf("%d of %d requests hit", n, requests.Load())
			}
			r.waitFor("all requests are over", func() bool {
				row := r.pool("d")
				return row["cl_active_cancel_req"] == "0" && row["cl_waiting_cancel_req"] == "0" && row["sv_being_canceled"] == "0"
			})
		})
	}
}

// Each client is found on whatever loop it lives, and a wrong key finds nobody.
func TestCancelFindsClientsOfAllLoops(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("a", db) + "\n" + entry("b", db) + "\n" + entry("c", db), settings: "threads = 3"})
	homes := map[*worker]bool{}
	for _, name := range []string{"a", "b", "c"} {
		conn, err := pgconn.Connect(background(t), r.dsn(name))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		c, home := r.p.keys.find(pgwire.CancelKey(keyOf(conn)), 0)
		if c == nil {
			t.Fatalf("nobody has the key of the client of %s", name)
		}
		homes[home] = true
		got := make(chan error, 1)
		go func() {
			_, err := conn.Exec(context.Background(), "select pg_catalog.pg_sleep(60)").ReadAll()
			got <- err
		}()
		waitAsleep(t, db)
		for range 20 {
			to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
			if err != nil {
				t.Fatal(err)
			}
			key := pgwire.NewCancelKey()
			to.Write(pgwire.AppendCancelRequest(nil, key[:]))
			to.SetReadDeadline(time.Now().Add(time.Minute))
			if n, _ := to.Read(make([]byte, 1)); n > 0 {
				t.Error("a cancel request is answered")
			}
			to.Close()
		}
		if len(got) > 0 {
			t.Fatalf("a random key hits: %v", <-got)
		}
		if err := conn.CancelRequest(background(t)); err != nil {
			t.Fatal(err)
		}
		if e := pgError(t, <-got); e.Code != codeCanceled {
			t.Fatalf("got %v", e)
		}
		conn.Close(background(t))
		r.waitFor("the key is forgotten", func() bool { c, _ := r.p.keys.find(pgwire.CancelKey(keyOf(conn)), 0); return c == nil })
	}
	if len(homes) != 3 {
		t.Errorf("the pools live on %d loops", len(homes))
	}
}
