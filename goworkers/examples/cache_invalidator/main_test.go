package main

// The program as users run it, with caches that fail.

import (
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goworkers/internal/pgtest"
	"goworkers/internal/pgtest/example"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cache notes what it shall forget; it answers with the statuses that are given to it, one
// a request, and 200 after these.
type cache struct {
	*httptest.Server
	mu       sync.Mutex
	purged   []string
	statuses []int
}

func newCache(t *testing.T, statuses ...int) *cache {
	t.Helper()
	c := &cache{statuses: statuses}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		status := http.StatusOK
		if len(c.statuses) > 0 {
			status, c.statuses = c.statuses[0], c.statuses[1:]
		}
		if request.Method != "PURGE" {
			t.Errorf("%s %s", request.Method, request.URL)
		}
		if status < 500 {
			c.purged = append(c.purged, request.URL.EscapedPath())
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *cache) got() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.purged)
}

// shop has a table for each trigger that the program knows.
func shop(t *testing.T) *pgtest.Database {
	t.Helper()
	schema := t.TempDir() + "/shop.sql"
	if err := os.WriteFile(schema, []byte(`
		select pgq.create_queue('shop_changes');
		select pgq.register_consumer('shop_changes', 'cache_invalidator');
		create table public.users (name text primary key, n int default 0);
		create table public."Odd Name" (a int, b text, n int default 0, primary key (a, b));
		create trigger log after insert or update or delete on public.users
			for each row execute function pgq.logutriga('shop_changes');
		create trigger log_all after truncate on public.users for each statement execute function pgq.logutriga('shop_changes');
		create trigger log after insert or update or delete on public."Odd Name"
			for each row execute function pgq.jsontriga('shop_changes');
		create trigger log_all after truncate on public."Odd Name" for each statement execute function pgq.jsontriga('shop_changes');`), 0o600); err != nil {
		t.Fatal(err)
	}
	return example.Database(t, schema)
}

func TestRowsAreTakenOutOfAllCaches(t *testing.T) {
	t.Parallel()
	program, db := example.Build(t, &config{}), shop(t)
	first, second := newCache(t), newCache(t, http.StatusNotFound)
	db.Exec(t, `insert into public.users values ('bob')`)
	db.Exec(t, `update public.users set n = 1`)
	db.Exec(t, `delete from public.users`)
	db.Exec(t, `insert into public.users values ('a/b ?õ%')`)
	db.Exec(t, `insert into public."Odd Name" values (1, 'x&y')`)
	db.Exec(t, `truncate public.users`)
	db.Exec(t, `truncate public."Odd Name"`)
	db.Exec(t, `select pgq.insert_event('shop_changes', 'other', 'x')`)
	want := []string{"/public.users/bob", "/public.users/bob", "/public.users/bob", "/public.users/a%2Fb%20%3F%C3%B5%25",
		"/public.Odd%20Name/1/x&y", "/public.users", "/public.Odd%20Name"}
	example.TickAndRetry(t, db)
	program.Start(t, "src_db="+db.DSN, "caches="+first.URL+", "+second.URL)
	db.WaitFor(t, "select count(*) = 1 from pgq.dead_letter")
	for name, c := range map[string]*cache{"first": first, "second": second} {
		if got := c.got(); !slices.Equal(got, want) {
			t.Errorf("the %s cache got %q, want %q", name, got, want)
		}
	}
}

func TestRowsAreTriedAgainUntilAllCachesAnswer(t *testing.T) {
	t.Parallel()
	program, db := example.Build(t, &config{}), shop(t)
	down, busy := newCache(t), newCache(t, http.StatusServiceUnavailable, http.StatusServiceUnavailable)
	address := down.Listener.Addr().String()
	down.Close()
	db.Exec(t, `insert into public.users values ('bob')`)
	example.TickAndRetry(t, db)
	run := program.Start(t, "src_db="+db.DSN, "caches=http://"+address+", "+busy.URL)
	pgtest.Eventually(t, 10*time.Second, "the other cache is asked", func() bool { return len(busy.got()) > 0 })
	back := startAt(t, address)
	pgtest.Eventually(t, 10*time.Second, "the cache that was down is asked", func() bool { return len(back.got()) == 1 })
	if got := busy.got(); got[0] != "/public.users/bob" {
		t.Errorf("the other cache got %q", got)
	}
	run.Kill()
	if got := example.Reasons(t, db); len(got) != 0 {
		t.Errorf("given up for %q", got)
	}
}

// startAt starts a cache where one was before.
func startAt(t *testing.T, address string) *cache {
	t.Helper()
	c := &cache{}
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.purged = append(c.purged, request.URL.EscapedPath())
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-ended; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return c
}
