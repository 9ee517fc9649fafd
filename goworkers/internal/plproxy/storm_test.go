package plproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
)

const (
	// A storm's length and seed, unless STRESS_SECONDS and STRESS_SEED say others.
	stormTime = 12 * time.Second
	stormSeed = 1
	// stormSessions call at the same time.
	stormSessions = 4
	// stormBound is how long any statement may take: a silent host costs a timeout and
	// what is undone after it, a few times in one statement.
	stormBound = 40 * time.Second
	// stormGrowth is what a session may grow in a storm, in kB, and stormKept what our
	// memory contexts may, in bytes: caches grow, and tables of hashes do not shrink.
	stormGrowth = 32 << 10
	stormKept   = 128 << 10
)

// stormClusters are foreign servers over the same partitions, and their options; func
// is one that functions describe.
var stormClusters = map[string][]string{
	"auto":    {"prepared_statements 'auto'"},
	"always":  {"prepared_statements 'on'"},
	"never":   {"prepared_statements 'off'", "connection_lifetime '2s'"},
	"reading": {"prepared_statements 'auto'", "read_only 'on'", "failover 'on'"},
	"partial": {"prepared_statements 'auto'", "on_partition_error 'skip'"},
	"func":    nil,
}

// stormBase are the options that all of them have. Troubles change them.
var stormBase = []string{"query_timeout '3s'", "connect_timeout '2s'", "statement_timeout '0'", "disable_binary 'off'"}

// stormStates are the SQLSTATEs that a call may fail with while there is trouble: it
// was cancelled, could not connect, lost its connection, or was made to fail.
var stormStates = []string{"57014", "08001", "08006", "P1234"}

// stormCommitStates are those more that tied transactions may fail with: 40003 and
// 08007 leave open what has become of them.
var stormCommitStates = []string{"40000", "40003", "08007", "23505"}

// storm is a proxy, four partitions on two servers, and those who call.
type storm struct {
	*rig
	t        *testing.T
	proxy    *pgtest.PrivateServer
	servers  [2]*pgtest.PrivateServer
	admin    *pgx.Conn
	links    [4]*pgtest.Link
	connstr  string // for CONNECT, to the first partition
	clusters []string
	sessions []*stormSession
	over     atomic.Bool
}

// stormSession is one who calls. Its goroutine owns it while the storm goes on.
type stormSession struct {
	s       *storm
	name    string
	r       *rand.Rand
	conn    *pgx.Conn
	pid     atomic.Uint32
	calls   int
	errors  map[string]int
	ledger  []stormTransaction
	nextID  int64
	reached map[string]int // what it held when the storm began
}

// stormTransaction is what a session knows about a tied transaction of its.
type stormTransaction struct {
	id      int64
	puts    []string // "partition n", sorted
	outcome string   // committed, aborted, or unknown
	said    string   // by the error, if there was one
}

// Sessions call at random while partitions, networks and definitions change under
// them. Whatever happens: a call ends, what it returns is right, its error is one of
// those that the trouble explains; and when the trouble is over everything works at
// once and nothing has leaked. scripts/stress runs it for longer, with other seeds.
func TestStorm(t *testing.T) {
	seed, length := uint64(stormSeed), stormTime
	if text := os.Getenv("STRESS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("STRESS_SECONDS"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		length = time.Duration(seconds) * time.Second
	}
	t.Logf("seed %d, %s", seed, length)

	s := newStorm(t, seed)
	s.each(func(a *stormSession) { a.reached = a.holds() })
	if t.Failed() {
		return
	}
	s.level()

	s.each((*stormSession).run, func() {
		s.trouble(rand.New(rand.NewPCG(seed, 0)), length)
		s.over.Store(true)
		s.calm()
	})
	if t.Failed() {
		return
	}

	s.quiet()
	s.each(func(a *stormSession) { a.healthy(1) })
	s.dropConnections()
	s.each((*stormSession).compare)
	s.compareRemote()
	s.audit()
	s.readLogs()
	for _, session := range s.sessions {
		t.Logf("%s: %d calls, %d transactions, errors %v", session.name, session.calls, len(session.ledger), session.errors)
	}
}

func newStorm(t *testing.T, seed uint64) *storm {
	t.Helper()
	s := &storm{t: t, rig: &rig{}, proxy: pgtest.Server(t), servers: [2]*pgtest.PrivateServer{pgtest.Server(t), pgtest.Server(t)}}
	s.rig.proxy = s.proxy.DB(t, "plproxy")
	var parts []string
	for i := range s.parts {
		server := s.servers[i/2]
		s.parts[i] = server.DB(t)
		name := s.parts[i].Name
		s.parts[i].Exec(t, fmt.Sprintf(stormRemote, i, name, name))
		s.links[i] = pgtest.NewLink(t, server.Port)
		parts = append(parts, fmt.Sprintf("host=127.0.0.1 port=%d dbname=%s", s.links[i].Port, name))
	}
	s.connstr = parts[0] + " user=postgres"
	s.parts[0].Exec(t, "create role storm superuser login")
	s.parts[2].Exec(t, "create role storm superuser login")
	s.rig.proxy.Exec(t, "alter database "+s.rig.proxy.Name+" set client_min_messages = error")
	s.admin = s.rig.proxy.Conn(t)
	for _, function := range stormFunctions {
		s.exec("create function public." + fmt.Sprintf(function, ""))
	}
	s.exec(stormLocal)
	s.exec(`create schema plproxy;
		create table plproxy.cluster (version int);
		insert into plproxy.cluster values (1);
		create table plproxy.partition (number int, connstr text);
		create function plproxy.get_cluster_version(i_name text) returns int language sql as 'select version from plproxy.cluster';
		create function plproxy.get_cluster_partitions(i_name text) returns setof text language sql
			as 'select connstr from plproxy.partition order by number';
		create function plproxy.get_cluster_config(i_name text, out key text, out val text) returns setof record language sql
			as 'values (''query_timeout'', ''3s''), (''connect_timeout'', ''2s'')'`)
	for i, part := range parts {
		s.exec(fmt.Sprintf("insert into plproxy.partition values (%d, '%s')", i, part))
	}
	for name, options := range stormClusters {
		s.clusters = append(s.clusters, name)
		if options != nil {
			s.server(t, name, parts, append(slices.Clone(stormBase), options...)...)
			s.exec("alter user mapping for public server " + name + " options (add user 'postgres')")
		}
	}
	slices.Sort(s.clusters)
	for i := range stormSessions {
		session := &stormSession{s: s, name: fmt.Sprintf("session %d", i), r: rand.New(rand.NewPCG(seed, uint64(i+1))),
			errors: make(map[string]int), nextID: int64(i+1) * 1e9}
		s.sessions = append(s.sessions, session)
		session.connect()
	}
	t.Cleanup(func() {
		for _, session := range s.sessions {
			session.conn.Close(context.Background())
		}
	})
	return s
}

// each lets all sessions do something at the same time, while other things are done.
func (s *storm) each(do func(*stormSession), meanwhile ...func()) {
	var all sync.WaitGroup
	for _, session := range s.sessions {
		all.Go(func() { do(session) })
	}
	defer all.Wait()
	for _, f := range meanwhile {
		f()
	}
}

// exec is for the goroutine of the test.
func (s *storm) exec(sql string) {
	s.t.Helper()
	if _, err := s.admin.Exec(context.Background(), sql); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

func (a *stormSession) connect() {
	ctx, cancel := context.WithTimeout(context.Background(), stormBound)
	defer cancel()
	conn, err := pgx.Connect(ctx, a.s.rig.proxy.DSN)
	if err != nil {
		a.s.t.Errorf("%s: connect: %v", a.name, err)
		a.s.over.Store(true)
		return
	}
	a.conn = conn
	a.pid.Store(conn.PgConn().PID())
}

// ask runs a statement with one text column.
func (a *stormSession) ask(sql string) (rows []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), stormBound)
	defer cancel()
	found, err := a.conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err == nil {
		rows, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (string, error) { return string(row.RawValues()[0]), nil })
	}
	if ctx.Err() != nil {
		a.hangs(sql)
	}
	return rows, err
}

// do runs a statement that gives nothing but its tag.
func (a *stormSession) do(sql string) (tag string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), stormBound)
	defer cancel()
	done, err := a.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if ctx.Err() != nil {
		a.hangs(sql)
	}
	return done.String(), err
}

func (a *stormSession) hangs(sql string) {
	a.s.t.Errorf("%s (process %d) hangs: %s", a.name, a.pid.Load(), sql)
	a.s.over.Store(true)
}

// explained tells whether an error may come in a storm: the broken connection of a
// session that was ended is one, too. After it the session is another one.
func (a *stormSession) explained(sql string, err error, more ...string) bool {
	if err == nil {
		return true
	}
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		// a connection that ends in the midst of a message looks like this
		if !a.conn.IsClosed() {
			a.s.t.Errorf("%s: %s: %v", a.name, sql, err)
			return false
		}
		a.errors["connection"]++
		a.connect()
		return true
	}
	a.errors[pgErr.Code]++
	if pgErr.Code == "08001" {
		// it will be down for a while
		time.Sleep(time.Duration(a.r.IntN(50)) * time.Millisecond)
	}
	if pgErr.Code == "57P01" {
		// FATAL, as nobody but the proxy's own server says it so
		if pgErr.Severity != "FATAL" {
			a.s.t.Errorf("%s: %s: %v", a.name, sql, err)
		}
		a.conn.Close(context.Background())
		a.connect()
		return true
	}
	if !slices.Contains(stormStates, pgErr.Code) && !slices.Contains(more, pgErr.Code) {
		a.s.t.Errorf("%s: %s: %v\ndetail: %s\ncontext: %s", a.name, sql, err, pgErr.Detail, pgErr.Where)
		return false
	}
	return true
}

func (a *stormSession) run() {
	for !a.s.over.Load() && !a.s.t.Failed() {
		switch n := a.r.IntN(20); {
		case n < 3:
			a.transaction()
		case n < 5:
			a.cursor()
		case n == 5:
			a.inTime()
		case n == 6:
			a.tied()
		case n == 7:
			_, err := a.ask(fmt.Sprintf("select public.forget('%s', %d)::text", a.cluster(), a.r.IntN(4)))
			a.explained("forget", err)
		default:
			a.call(a.cluster())
		}
		// four sessions shall not take the machine for themselves
		time.Sleep(time.Duration(a.r.IntN(8)) * time.Millisecond)
	}
}

func (a *stormSession) cluster() string { return a.s.clusters[a.r.IntN(len(a.s.clusters))] }

// call is one call of any kind.
func (a *stormSession) call(cluster string) bool {
	call := newStormCall(a.r, a.r.IntN(stormKinds), cluster, a.s.connstr, cluster == "partial")
	rows, err := a.ask(call.sql)
	a.calls++
	if err != nil {
		a.explained(call.sql, err)
		return false
	}
	if call.want == nil || !call.want(rows) {
		a.s.t.Errorf("%s: %s: %.200q", a.name, call.sql, rows)
	}
	return true
}

// inTime calls under a short statement_timeout.
func (a *stormSession) inTime() {
	if _, err := a.do(fmt.Sprintf("set statement_timeout = %d", 1+a.r.IntN(50))); !a.explained("set", err) || err != nil {
		return
	}
	for range 3 {
		a.call(a.cluster())
	}
	for try := 0; ; try++ {
		// the timeout may hit this too, or a cancel
		_, err := a.do("set statement_timeout = 0")
		if err == nil || !a.explained("set", err) || try == 20 {
			return
		}
	}
}

// tied calls in tied mode, each call a transaction.
func (a *stormSession) tied() {
	if _, err := a.do("set plproxy.transactions = tied"); !a.explained("set", err) || err != nil {
		return
	}
	for range 3 {
		cluster := a.cluster()
		call := newStormCall(a.r, a.r.IntN(stormKinds), cluster, a.s.connstr, cluster == "partial")
		rows, err := a.ask(call.sql)
		a.calls++
		if err != nil {
			a.explained(call.sql, err, stormCommitStates...)
		} else if call.want == nil || !call.want(rows) {
			a.s.t.Errorf("%s: tied %s: %.200q", a.name, call.sql, rows)
		}
	}
	for try := 0; ; try++ {
		_, err := a.do("reset plproxy.transactions")
		if err == nil || !a.explained("reset", err) || try == 20 {
			return
		}
	}
}

// cursor reads some of several answers, between other calls.
func (a *stormSession) cursor() {
	cluster := a.cluster()
	for cluster == "partial" {
		cluster = a.cluster()
	}
	n := 1 + a.r.IntN(3000)
	take := 1 + a.r.IntN(n)
	steps := []string{"begin"}
	if a.r.IntN(2) == 0 {
		steps = append(steps, "set local plproxy.transactions = tied")
	}
	steps = append(steps, fmt.Sprintf("declare c cursor for select part || ' ' || k from public.lots('%s', %d)", cluster, n),
		fmt.Sprintf("declare d cursor for select p::text from (select (public.lots('%s', %d)).part p) x", cluster, n))
	pid := a.pid.Load()
	finish := func() {
		if a.pid.Load() == pid {
			_, err := a.do("rollback")
			a.explained("rollback", err)
		}
	}
	for _, sql := range steps {
		if _, err := a.do(sql); err != nil {
			a.explained(sql, err)
			finish()
			return
		}
	}
	for round := range 2 {
		for name, want := range map[string]string{"c": strconv.Itoa(round*take/n) + " " + strconv.Itoa(round*take%n+1), "d": strconv.Itoa(round * take / n)} {
			sql := fmt.Sprintf("fetch %d from %s", take, name)
			rows, err := a.ask(sql)
			if err != nil {
				a.explained(sql, err, stormCommitStates...)
				finish()
				return
			}
			if len(rows) != take || rows[0] != want {
				a.s.t.Errorf("%s: %s of %d in round %d: %d rows, first %q, want %q", a.name, sql, n, round, len(rows), rows[0], want)
			}
		}
		if !a.call(cluster) {
			break
		}
	}
	finish()
}

// transaction puts things on partitions in a tied transaction, and notes what has
// become of it.
func (a *stormSession) transaction() {
	a.nextID++
	tx := stormTransaction{id: a.nextID, outcome: "aborted"}
	writing := []string{"auto", "always", "never", "func", "partial"}
	isolation := []string{"", " isolation level repeatable read", " isolation level serializable"}[a.r.IntN(3)]
	steps := []string{"begin" + isolation, "set local plproxy.transactions = tied", fmt.Sprintf("insert into public.done values (%d)", tx.id)}
	safe := -1 // how many puts there are before the savepoint
	pid := a.pid.Load()
	undo := func() {
		// a session that was ended has undone it already
		if a.pid.Load() == pid {
			_, err := a.do("rollback")
			a.explained("rollback", err)
		}
	}
	run := func(sql string) bool {
		_, err := a.do(sql)
		if err != nil {
			tx.said = sql + ": " + err.Error()
			a.explained(sql, err, stormCommitStates...)
		}
		return err == nil
	}
	defer func() {
		slices.Sort(tx.puts)
		a.ledger = append(a.ledger, tx)
	}()
	for _, sql := range steps {
		if !run(sql) {
			undo()
			return
		}
	}
	for n := range 1 + a.r.IntN(5) {
		part := a.r.IntN(4)
		cluster := writing[a.r.IntN(len(writing))]
		sql := fmt.Sprintf("select public.put('%s', %d, %d, %d)::text", cluster, part, tx.id, n*10)
		puts := []string{fmt.Sprintf("%d %d", part, n*10)}
		switch a.r.IntN(8) {
		case 0, 1:
			sql = fmt.Sprintf("select public.put_blocks('%s', %d, %d)::text", cluster, tx.id, n*10)
			puts = []string{fmt.Sprintf("%d %d", n*10&3, n*10), fmt.Sprintf("%d %d", (n*10+1)&3, n*10+1)}
		case 2:
			sql = "savepoint s; " + sql + "; rollback to s"
			puts = nil
		case 3:
			sql = "savepoint s; " + sql + "; release s"
		case 4:
			// of which only the last counts
			safe = len(tx.puts)
			sql = "savepoint here"
			puts = nil
		case 5:
			if a.r.IntN(6) == 0 {
				// the deferred constraint fails at the end
				sql += "; " + sql
			}
		}
		if !run(sql) {
			// what came after the savepoint may be undone, and the rest go on
			if safe < 0 || a.pid.Load() != pid || !run("rollback to here") {
				undo()
				return
			}
			tx.puts = tx.puts[:safe]
			break
		}
		tx.puts = append(tx.puts, puts...)
	}
	if a.r.IntN(6) == 0 {
		undo()
		return
	}
	if a.r.IntN(4) == 0 {
		// trouble that is likely to meet the commit
		link := a.s.links[a.r.IntN(4)]
		link.Set(pgtest.Fault{Do: pgtest.Action(1 + a.r.IntN(2)), Way: pgtest.Way(a.r.IntN(2)), After: a.r.IntN(150)})
		defer link.Heal()
	}
	tag, err := a.do("commit")
	switch {
	case err == nil && tag == "COMMIT":
		tx.outcome = "committed"
	case err == nil:
		a.s.t.Errorf("%s: commit was answered with %s", a.name, tag)
	default:
		tx.said = err.Error()
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || slices.Contains([]string{"40003", "08007", "57P01"}, pgErr.Code) {
			tx.outcome = "unknown"
		}
		a.explained("commit", err, stormCommitStates...)
	}
}

// healthy makes calls of each kind on each cluster, which all must be right at once.
// What is random in them depends on nothing but the number.
func (a *stormSession) healthy(seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	for _, mode := range []string{"autocommit", "tied"} {
		if _, err := a.do("set plproxy.transactions = " + mode); err != nil {
			a.s.t.Errorf("%s: %v", a.name, err)
			return
		}
		for _, cluster := range a.s.clusters {
			for kind := range stormKinds {
				call := newStormCall(r, kind, cluster, a.s.connstr, false)
				// that cluster leaves out what fails
				if cluster == "partial" && mode == "autocommit" && (kind == 11 || kind == 12) {
					continue
				}
				rows, err := a.ask(call.sql)
				var pgErr *pgconn.PgError
				switch {
				case err == nil && (call.state != "" || !call.want(rows)):
					a.s.t.Errorf("%s: %s %s: %.200q", a.name, mode, call.sql, rows)
				case err != nil && (!errors.As(err, &pgErr) || pgErr.Code != call.state):
					a.s.t.Errorf("%s: %s %s: %v", a.name, mode, call.sql, err)
				}
			}
		}
	}
	if _, err := a.do("reset plproxy.transactions"); err != nil {
		a.s.t.Errorf("%s: %v", a.name, err)
	}
}

// holds says what a session has of things that can leak, after connecting anew.
func (a *stormSession) holds() map[string]int {
	a.healthy(2)
	held := make(map[string]int)
	dir := fmt.Sprintf("/proc/%d/", a.pid.Load())
	entries, err := os.ReadDir(dir + "fd")
	if err != nil {
		a.s.t.Errorf("%s: %v", a.name, err)
	}
	for _, e := range entries {
		// files of tables come and go
		if target, err := os.Readlink(dir + "fd/" + e.Name()); err == nil && !strings.HasPrefix(target, "/") {
			kind, _, _ := strings.Cut(target, ":[")
			held[kind]++
		}
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		a.s.t.Errorf("%s: %v", a.name, err)
	}
	if found := regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(status); found != nil {
		held["kB"], _ = strconv.Atoi(string(found[1]))
	}
	for what, sql := range map[string]string{
		"memory":      "select sum(used_bytes)::text from pg_backend_memory_contexts where name like 'PL/Proxy%'",
		"connections": "select count(*)::text from public.plproxy_connections",
	} {
		rows, err := a.ask(sql)
		if err != nil || len(rows) != 1 {
			a.s.t.Errorf("%s: %s: %v %v", a.name, sql, rows, err)
			continue
		}
		held[what], _ = strconv.Atoi(rows[0])
	}
	return held
}

// level lets each session hold what any of them holds: they are alike, but a call that runs
// on any partition need not have been to each when the storm begins.
func (s *storm) level() {
	most := map[string]int{}
	for _, a := range s.sessions {
		for what, n := range a.reached {
			most[what] = max(most[what], n)
		}
	}
	for _, a := range s.sessions {
		a.reached = maps.Clone(most)
	}
}

// compare wants the session to hold no more than when the storm began.
func (a *stormSession) compare() {
	now := a.holds()
	a.s.t.Logf("%s held %v, holds %v", a.name, a.reached, now)
	for what, n := range now {
		before := a.reached[what]
		switch what {
		case "kB":
			before += stormGrowth
		case "memory":
			before += stormKept
		case "anon_inode":
			// the sets of sockets that connections keep for their next wait
			before += now["connections"]
		}
		if n > before {
			a.s.t.Errorf("%s: %s: %d, before the storm %d", a.name, what, n, a.reached[what])
		}
	}
}
