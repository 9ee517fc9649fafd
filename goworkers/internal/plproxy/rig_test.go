package plproxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"goworkers/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// The timeouts of clusters. A loaded machine must be able to connect in them.
	connectTimeout = "1s"
	queryTimeout   = "1500ms"
	// bounded is how long a call may take that meets a silent host: a timeout, the
	// two seconds that a cancel is given, and what a loaded machine adds.
	bounded = 8 * time.Second
)

// remote is what partitions have.
const remote = `
create function public.pid() returns int language sql as 'select pg_backend_pid()';
create function public.lines(i_lines int) returns setof text language sql
    as 'select repeat(''x'', 100) from generate_series(1, i_lines)';
create function public.slow() returns int language sql as 'select 1 from pg_sleep(600)';
create function public.no() returns int language plpgsql as
    'begin raise exception ''no'' using errcode = ''P1234'', hint = ''ask again''; end';`

// local is what the proxy has. All functions want the name of a cluster.
const local = `
create function public.pids(i_cluster text) returns setof int language plproxy
    as 'cluster i_cluster; run on all; select public.pid();';
create function public.pid_one(i_cluster text) returns setof int language plproxy
    as 'cluster i_cluster; run on 1; select public.pid();';
create function public.pid_any(i_cluster text) returns int language plproxy
    as 'cluster i_cluster; run on any; select public.pid();';
create function public.lines_all(i_cluster text, i_lines int) returns setof text language plproxy
    as 'cluster i_cluster; run on all; select public.lines(i_lines);';
create function public.lines_one(i_cluster text, i_lines int) returns setof text language plproxy
    as 'cluster i_cluster; run on 1; select public.lines(i_lines);';
create function public.slow_all(i_cluster text) returns setof int language plproxy
    as 'cluster i_cluster; run on all; select public.slow();';
create function public.slow_one(i_cluster text) returns int language plproxy
    as 'cluster i_cluster; run on 1; select public.slow();';
create function public.no_all(i_cluster text) returns setof int language plproxy
    as 'cluster i_cluster; run on all; select public.no();';`

// rig is a proxy and its four partitions, each a database.
type rig struct {
	proxy *pgtest.Database
	parts [4]*pgtest.Database
	ports [4]int
}

// newRig has the proxy and the partitions on the shared server.
func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigOn(t, nil, nil)
}

// newRigOn has the proxy or the partitions on a server of its own, where one is
// given.
func newRigOn(t *testing.T, proxy, parts *pgtest.PrivateServer) *rig {
	t.Helper()
	make := func(s *pgtest.PrivateServer, extensions ...string) *pgtest.Database {
		if s == nil {
			return pgtest.DB(t, extensions...)
		}
		return s.DB(t, extensions...)
	}
	r := &rig{proxy: make(proxy, "plproxy")}
	for i := range r.parts {
		r.parts[i] = make(parts)
	}
	r.fill(t)
	return r
}

func (r *rig) fill(t *testing.T) {
	t.Helper()
	r.proxy.Exec(t, local)
	for i, part := range r.parts {
		part.Exec(t, remote)
		r.ports[i] = port(t, part)
	}
}

func port(t *testing.T, db *pgtest.Database) int {
	t.Helper()
	config, err := pgx.ParseConfig(db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	return int(config.Port)
}

// cluster is a cluster of the rig's, each partition behind a link of its own,
// with a session that calls it.
type cluster struct {
	rig   *rig
	name  string
	links [4]*pgtest.Link
	conn  *pgx.Conn
}

// cluster makes one, with more options of CREATE SERVER.
func (r *rig) cluster(t *testing.T, options ...string) *cluster {
	t.Helper()
	c := &cluster{rig: r, name: strings.ToLower(strings.NewReplacer("/", "_", " ", "_", ",", "", "-", "_").Replace(t.Name()))}
	var parts [4]string
	for i := range c.links {
		c.links[i] = pgtest.NewLink(t, r.ports[i])
		parts[i] = c.connstr(i)
	}
	r.server(t, c.name, parts[:], options...)
	c.conn = r.proxy.Conn(t)
	return c
}

// connstr leads through the link to a partition.
func (c *cluster) connstr(i int) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d dbname=%s user=postgres", c.links[i].Port, c.rig.parts[i].Name)
}

// server creates the foreign server.
func (r *rig) server(t *testing.T, name string, parts []string, options ...string) {
	t.Helper()
	all := []string{"connect_timeout '" + connectTimeout + "'", "query_timeout '" + queryTimeout + "'"}
	for _, o := range options {
		key, _, _ := strings.Cut(o, " ")
		all = slices.DeleteFunc(all, func(s string) bool { return strings.HasPrefix(s, key+" ") })
		all = append(all, o)
	}
	for i, part := range parts {
		all = append(all, fmt.Sprintf("p%d '%s'", i, part))
	}
	r.proxy.Exec(t, fmt.Sprintf("create server %q foreign data wrapper plproxy options (%s); create user mapping for public server %q",
		name, strings.Join(all, ", "), name))
}

// answer is what a call gave.
type answer struct {
	rows []string
	err  *pgconn.PgError // nil when all was well
	took time.Duration
}

// try calls and takes what comes; that the session breaks is a failure.
func try(t *testing.T, conn *pgx.Conn, sql string, args ...any) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	start := time.Now()
	rows, err := conn.Query(ctx, sql, append([]any{pgx.QueryExecModeExec}, args...)...)
	var a answer
	if err == nil {
		a.rows, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			return string(row.RawValues()[0]), nil
		})
	}
	a.took = time.Since(start)
	if err != nil && !errors.As(err, &a.err) {
		t.Fatalf("%s: %v", sql, err)
	}
	return a
}

// call wants rows.
func (c *cluster) call(t *testing.T, function string, args ...any) []string {
	t.Helper()
	a := c.try(t, function, args...)
	if a.err != nil {
		t.Fatalf("%s: %v (%s; %s)", function, a.err, a.err.Detail, a.err.Where)
	}
	return a.rows
}

func (c *cluster) try(t *testing.T, function string, args ...any) answer {
	t.Helper()
	places := "$1"
	for i := range args {
		places += fmt.Sprintf(", $%d", i+2)
	}
	return try(t, c.conn, fmt.Sprintf("select public.%s(%s)::text", function, places), append([]any{c.name}, args...)...)
}

// fails wants an error with one of the SQLSTATEs, in bounded time.
func (a answer) fails(t *testing.T, states ...string) {
	t.Helper()
	switch {
	case a.err == nil:
		t.Fatalf("no error but %d rows, want %v", len(a.rows), states)
	case !slices.Contains(states, a.err.Code):
		t.Fatalf("%v (%s), want %v", a.err, a.err.Detail, states)
	case strings.Contains(a.err.Detail, "invalid socket"):
		t.Fatalf("%v (%s), want no trace of how libpq came to say it", a.err, a.err.Detail)
	case a.took > bounded:
		t.Fatalf("%v after %s, want it within %s", a.err, a.took, bounded)
	}
	t.Logf("%v after %d ms", a.err, a.took.Milliseconds())
}

// quiet waits until nothing runs on the partitions but on those that are excepted.
func (r *rig) quiet(t *testing.T, except ...int) {
	t.Helper()
	for i, part := range r.parts {
		if !slices.Contains(except, i) {
			part.WaitFor(t, `select count(*) = 0 from pg_stat_activity
				where datname = current_database() and state = 'active' and query like '%slow()%' and pid <> pg_backend_pid()`)
		}
	}
}

// busy waits until each of the partitions runs slow().
func (r *rig) busy(t *testing.T, parts ...int) {
	t.Helper()
	for _, i := range parts {
		r.parts[i].WaitFor(t, `select count(*) = 1 from pg_stat_activity
			where datname = current_database() and state = 'active' and wait_event = 'PgSleep'`)
	}
}

// set changes a setting of the session.
func (c *cluster) set(t *testing.T, sql string) {
	t.Helper()
	if _, err := c.conn.Exec(context.Background(), sql); err != nil {
		t.Fatal(err)
	}
}
