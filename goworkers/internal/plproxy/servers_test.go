package plproxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
)

// later runs a call that something is going to happen to.
func (c *cluster) later(t *testing.T, function string) <-chan answer {
	t.Helper()
	answers := make(chan answer, 1)
	go func() {
		defer close(answers)
		answers <- c.try(t, function)
	}()
	return answers
}

func kill(t *testing.T, pid string) {
	t.Helper()
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// A partition's server process is killed: nobody notices if nothing was asked of
// it, and 08006 if it was at work.
func TestKilledBackend(t *testing.T) {
	r := newRigOn(t, nil, pgtest.Server(t))
	c := r.cluster(t, "query_timeout '0'", "connect_timeout '30s'")
	up := func() { r.parts[1].WaitFor(t, "select not pg_is_in_recovery()") }

	before := c.call(t, "pids")
	kill(t, before[1])
	// The server ends the others too, and starts anew.
	pgtest.Eventually(t, bounded, "all processes are gone", func() bool {
		return !slices.ContainsFunc(before, func(pid string) bool {
			number, _ := strconv.Atoi(pid)
			return pgtest.Alive(number)
		})
	})
	up()
	after := c.call(t, "pids")
	if slices.Equal(before, after) {
		t.Errorf("connections were not replaced: %v", after)
	}

	answers := c.later(t, "slow_one")
	r.busy(t, 1)
	kill(t, after[1])
	a := <-answers
	a.fails(t, "08006")
	up()
	c.call(t, "pids")
}

// A partition's whole server is killed, and comes back.
func TestKilledServer(t *testing.T) {
	server := pgtest.Server(t)
	r := newRigOn(t, nil, server)
	c := r.cluster(t, "query_timeout '0'", "connect_timeout '30s'")

	answers := c.later(t, "slow_all")
	r.busy(t, 0, 1, 2, 3)
	server.Kill(t)
	a := <-answers
	a.fails(t, "08006")
	c.try(t, "pids").fails(t, "08001")
	c.try(t, "pid_one").fails(t, "08001")
	server.Start(t)
	before := c.call(t, "pids")

	server.Kill(t)
	server.Start(t)
	if after := c.call(t, "pids"); len(after) != 4 || slices.Equal(before, after) {
		t.Errorf("after the server came back: %v, before: %v", after, before)
	}
}

// The calling backend is terminated: its queries on partitions end with it.
func TestTerminatedCaller(t *testing.T) {
	r := newRig(t)
	c := r.cluster(t, "query_timeout '0'")
	for _, silent := range []bool{false, true} {
		c.conn = r.proxy.Conn(t)
		answers := c.later(t, "slow_all")
		r.busy(t, 0, 1, 2, 3)
		if silent {
			c.links[1].Break(pgtest.Stall)
			c.links[1].Set(pgtest.Fault{Do: pgtest.Stall})
		}
		start := time.Now()
		r.proxy.Exec(t, "select pg_terminate_backend("+strconv.Itoa(int(c.conn.PgConn().PID()))+")")
		a := <-answers
		if a.err == nil || a.err.Code != "57P01" {
			t.Errorf("the call ended with %v, want 57P01", a.err)
		}
		pgtest.Eventually(t, bounded, "the backend ends", func() bool { return !pgtest.Alive(int(c.conn.PgConn().PID())) })
		t.Logf("the backend ended in %d ms", time.Since(start).Milliseconds())
		if silent {
			r.quiet(t, 1)
		} else {
			r.quiet(t)
		}
	}
}

// The proxy's postmaster is killed while a call waits: the backend ends at once,
// and what it had asked of partitions is cancelled.
func TestPostmasterDeath(t *testing.T) {
	server := pgtest.Server(t)
	r := newRigOn(t, server, nil)
	c := r.cluster(t, "query_timeout '0'")
	backend := int(c.conn.PgConn().PID())

	broken := make(chan error, 1)
	go func() {
		_, err := c.conn.Exec(context.Background(), "select public.slow_all('"+c.name+"')")
		broken <- err
	}()
	r.busy(t, 0, 1, 2, 3)
	pids := server.Children(t)
	if err := syscall.Kill(server.Postmaster(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err := <-broken
	var pgErr *pgconn.PgError
	if err == nil || errors.As(err, &pgErr) {
		t.Errorf("the call ended with %v, want a broken connection", err)
	}
	pgtest.Eventually(t, bounded, "the backend ends", func() bool { return !pgtest.Alive(backend) })
	t.Logf("the backend ended in %d ms", time.Since(start).Milliseconds())
	r.quiet(t)
	// Nothing of the server stays behind, no child of the backend either.
	for _, pid := range pids {
		pgtest.Eventually(t, bounded, "all processes end", func() bool { return !pgtest.Alive(pid) })
	}
	// The next start gives back the shared memory.
	server.Start(t)
}

// Cancel reaches partitions that speak TLS only, and their connections are kept.
func TestCancelOverTLS(t *testing.T) {
	server := pgtest.Server(t)
	useTLS(t, server)
	r := newRigOn(t, nil, server)
	c := r.cluster(t, "query_timeout '0'", "connect_timeout '0'")
	r.proxy.Exec(t, `create function public.tls(i_cluster text) returns setof bool language plproxy as
		'cluster i_cluster; run on all; select ssl from pg_stat_ssl where pid = pg_backend_pid();'`)
	if got := c.call(t, "tls"); !slices.Equal(got, []string{"true", "true", "true", "true"}) {
		t.Fatalf("TLS on the four connections: %v", got)
	}
	before := c.call(t, "pids")
	c.set(t, "set statement_timeout = '500ms'")
	c.try(t, "slow_all").fails(t, "57014")
	c.try(t, "slow_one").fails(t, "57014")
	r.quiet(t)
	if after := c.call(t, "pids"); !slices.Equal(before, after) {
		t.Errorf("connections were not kept: %v became %v", before, after)
	}
}

// useTLS gives the server a certificate and lets nobody in without TLS who comes
// by TCP.
func useTLS(t *testing.T, server *pgtest.PrivateServer) {
	t.Helper()
	db := server.DB(t)
	dir := pgtest.Value[string](t, db, "show data_directory")
	owner, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "partition"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"server.crt": {Type: "CERTIFICATE", Bytes: certificate},
		"server.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		who := owner.Sys().(*syscall.Stat_t)
		if err := os.Chown(path, int(who.Uid), int(who.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "pg_hba.conf"), []byte("local all all trust\nhostssl all all all trust\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "alter system set ssl = on")
	db.Exec(t, "select pg_reload_conf()")
	pgtest.Eventually(t, bounded, "the server speaks TLS only", func() bool {
		_, err := pgconn.Connect(context.Background(), db.DSN+" sslmode=disable")
		return err != nil
	})
	db.WaitFor(t, "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
}
