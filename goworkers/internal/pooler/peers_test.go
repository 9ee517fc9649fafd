package pooler

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

// group starts n poolers that are told of each other, with the ids 1 to n.
func group(t *testing.T, n int, c config) []*rig {
	t.Helper()
	settings := c.settings
	var list []*rig
	for i := range n {
		c.settings = fmt.Sprintf("%s\npeer_id = %d", settings, i+1)
		list = append(list, start(t, c))
	}
	var peers strings.Builder
	for i, r := range list {
		fmt.Fprintf(&peers, "%d = host=%s port=%d\n", i+1, r.dir, r.port)
	}
	for i, r := range list {
		c.settings = fmt.Sprintf("%s\npeer_id = %d\n[peers]\n%s", settings, i+1, peers.String())
		r.write(c)
		r.reread()
		if got := r.peerCount(); got != n {
			t.Fatalf("%d peers after RELOAD, not %d", got, n)
		}
	}
	return list
}

// reread has the configuration read again, and waits for that.
func (r *rig) reread() {
	r.p.Signal(syscall.SIGHUP)
	done := make(chan struct{})
	r.p.main.loop.Post(func() { close(done) })
	<-done
}

// waitLog waits until the log, which is written by a goroutine of its own, says something.
func (r *rig) waitLog(text string) {
	r.t.Helper()
	r.waitFor("the log says "+text, func() bool { return strings.Contains(r.log.String(), text) })
}

func (r *rig) peerCount() int {
	n := make(chan int)
	r.p.main.loop.Post(func() { n <- len(r.p.peers) })
	return <-n
}

// cancelAt sends a cancel request to a pooler and waits until it is over.
func (r *rig) cancelAt(key []byte) {
	r.t.Helper()
	to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		r.t.Fatal(err)
	}
	defer to.Close()
	to.SetDeadline(time.Now().Add(time.Minute))
	to.Write(pgwire.AppendCancelRequest(nil, key))
	if n, err := to.Read(make([]byte, 1)); n > 0 || !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
		r.t.Fatalf("a cancel request is answered: %d bytes, %v", n, err)
	}
}

// asleep runs a query that sleeps; its end comes over the channel.
func asleep(t *testing.T, conn *pgconn.PgConn, db *pgtest.Database) chan error {
	t.Helper()
	got := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select pg_catalog.pg_sleep(60)").ReadAll()
		got <- err
	}()
	waitAsleep(t, db)
	return got
}

func TestPeersPassCancelsOn(t *testing.T) {
	for _, threads := range []int{1, 2} {
		for _, poolers := range []int{2, 3} {
			t.Run(fmt.Sprintf("%d poolers of %d threads", poolers, threads), func(t *testing.T) {
				db := pgtest.DB(t)
				list := group(t, poolers, config{databases: entry("d", db), settings: fmt.Sprintf("threads = %d", threads)})
				for i, r := range list {
					conn, err := pgconn.Connect(background(t), r.dsn("d"))
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close(context.Background())
					key := keyOf(conn)
					if id := binary.LittleEndian.Uint16(key[1:]); int(id) != i+1 || key[7]&hopBits != hopBits || key[0]&0x80 != 0 {
						t.Fatalf("key %x of peer %d", key, i+1)
					}
					for _, at := range list {
						got := asleep(t, conn, db)
						at.cancelAt(key)
						if e := pgError(t, <-got); e.Code != codeCanceled {
							t.Fatalf("got %v", e)
						}
					}
				}
				rows := list[0].console("show peers")
				if len(rows) != poolers || rows[1]["peer_id"] != "2" || rows[1]["host"] != list[1].dir || rows[1]["pool_size"] != "20" {
					t.Errorf("peers: %v", rows)
				}
				list[0].waitFor("the links are closed", func() bool {
					rows := list[0].console("show peer_pools")
					return len(rows) == poolers && rows[1]["sv_active_cancel"] == "0" && rows[1]["sv_login"] == "0"
				})
				list[0].waitLog(fmt.Sprintf(": peer-2@%s:%d new connection to server", list[1].dir, list[1].port))
				list[0].waitLog(fmt.Sprintf(": peer-2@%s:%d closing because: successfully sent cancel request (age=", list[1].dir, list[1].port))
			})
		}
	}
}

// Poolers that share a port: whoever gets the request, it reaches the query.
func TestCancelsReachTheirQueryBehindASharedPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	db := pgtest.DB(t)
	list := group(t, 2, config{databases: entry("d", db), settings: fmt.Sprintf("so_reuseport = 1\nlisten_port = %d", port)})
	for _, r := range list {
		r.port = port
	}
	// The unix sockets have the port in their names, so that the peers must be told anew.
	for i, r := range list {
		r.write(config{databases: entry("d", db), settings: fmt.Sprintf("so_reuseport = 1\npeer_id = %d\n[peers]\n1 = host=%s port=%d\n2 = host=%s port=%d",
			i+1, list[0].dir, port, list[1].dir, port)})
		r.reread()
	}
	conn, err := pgconn.Connect(background(t), list[0].dsn("d"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for range 20 {
		got := asleep(t, conn, db)
		if err := conn.CancelRequest(background(t)); err != nil {
			t.Fatal(err)
		}
		if e := pgError(t, <-got); e.Code != codeCanceled {
			t.Fatalf("got %v", e)
		}
	}
	list[0].waitFor("the log tells of a request to the other pooler", func() bool {
		return strings.Contains(list[0].log.String()+list[1].log.String(), ": peer-")
	})
}

// Wrong lists can lead in a circle: a request is passed on three times at most.
func TestCancelsDoNotCircle(t *testing.T) {
	db := pgtest.DB(t)
	list := group(t, 2, config{databases: entry("d", db)})
	for i, r := range list {
		other := list[1-i]
		r.write(config{databases: entry("d", db), settings: fmt.Sprintf("peer_id = %d\n[peers]\n3 = host=127.0.0.1 port=%d", i+1, other.port)})
		r.reread()
	}
	key := newKey(3)
	list[0].cancelAt(key[:])
	log := func() string { return list[0].log.String() + list[1].log.String() }
	list[0].waitFor("the log tells of three links", func() bool { return strings.Count(log(), ": peer-3@127.0.0.1:") >= 2*3 })
	if n := strings.Count(log(), "passed on too often"); n != 1 {
		t.Errorf("%d lines tell of the circle", n)
	}
	// A request of a peer that is not listed, and one for nobody here, end at once.
	for _, id := range []int{4, 1} {
		key := newKey(id)
		list[0].cancelAt(key[:])
	}
	if n := strings.Count(log(), ": peer-3@127.0.0.1:"); n != 2*3 {
		t.Errorf("%d lines of 3 links", n)
	}
}

// A peer that cannot be reached, or goes from the list, leaves nobody waiting.
func TestCancelsForLostPeersEnd(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	db := pgtest.DB(t)
	peers := func(list string) config {
		return config{databases: entry("d", db), settings: "cancel_wait_timeout = 20\npeer_id = 1\n[peers]\n" + list}
	}
	r := start(t, peers("2 = host=/nowhere\n"+fmt.Sprintf("3 = host=127.0.0.1 port=%d pool_size=1", silent.Addr().(*net.TCPAddr).Port)))
	two := newKey(2)
	r.cancelAt(two[:])
	r.waitLog("peer-2@/nowhere:6432 connect failed: no such file or directory")
	// One request is on its way to a peer that says nothing, the other waits behind it.
	ended := make(chan struct{}, 2)
	for range 2 {
		go func() {
			key := newKey(3)
			r.cancelAt(key[:])
			ended <- struct{}{}
		}()
	}
	r.waitFor("both are told", func() bool {
		row := r.console("show peer_pools")[1]
		return row["peer_id"] == "3" && row["cl_active_cancel_req"] == "1" && row["cl_waiting_cancel_req"] == "1" && row["sv_active_cancel"] == "1"
	})
	r.write(peers("2 = host=/nowhere"))
	r.reread()
	<-ended
	<-ended
	if n := r.peerCount(); n != 1 {
		t.Errorf("%d peers", n)
	}
	r.waitLog("closing because: peer removed")
}

func TestCancelsDoNotWaitForPeersForEver(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: fmt.Sprintf("cancel_wait_timeout = 0.1\npeer_id = 1\n[peers]\n2 = host=127.0.0.1 port=%d",
		silent.Addr().(*net.TCPAddr).Port)})
	key := newKey(2)
	r.cancelAt(key[:])
	r.waitLog("closing because: cancel_wait_timeout")
}
