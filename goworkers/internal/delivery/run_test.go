package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	// What runs unless STRESS_SEED and STRESS_SECONDS say something else.
	firstSeed  = 1
	shortRuns  = 2
	steps      = 1500 // of one run
	statement  = 60 * time.Second
	patience   = 40 // steps of others before a wait for a lock is cancelled
	traceLines = 80 // shown when a run fails

	deadlockTimeout = 50 * time.Millisecond
)

// TestEveryEventIsDeliveredOnce makes random histories and compares what was
// received with what was committed. scripts/stress pgq runs it for longer, from other
// seeds; a seed that failed is played again by
// scripts/stress pgq --seed N --seconds 1.
func TestEveryEventIsDeliveredOnce(t *testing.T) {
	seed, runs, length := uint64(firstSeed), shortRuns, time.Duration(0)
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
		runs, length = 1, time.Duration(seconds)*time.Second
	}
	server := pgtest.Server(t, "max_prepared_transactions=100", fmt.Sprintf("deadlock_timeout=%d", deadlockTimeout.Milliseconds()),
		"autovacuum=off", "max_connections=60")
	began := time.Now()
	for n := 0; n < runs || time.Since(began) < length; n++ {
		play(t, server, seed+uint64(n))
		if t.Failed() {
			return
		}
	}
}

// run is one history under way.
type run struct {
	*rand.Rand
	t       *testing.T
	seed    uint64
	server  *pgtest.PrivateServer
	db      *pgtest.Database
	monitor *pgx.Conn
	queues  []string
	wakes   bool // pgq has what only ours has
	actors  []*actor

	prepared []string // transactions that wait for their second phase
	serial   int      // of tags and names
	killed   bool     // the server, since the statements under way began
	batches  map[int64]string
	count    map[string]int // of what happened
	trace    []string
}

// actor is one session and what it does.
type actor struct {
	*run
	name   string
	dsn    string
	weight int                // how often it is chosen
	next   func(a *actor) *op // its next step, chosen by the state below

	conn    *pgx.Conn
	pid     uint32
	running *op // its step under way
	waits   int // for a lock, in steps of others
	done    chan error
	cancel  context.CancelFunc

	// Its transaction.
	open       bool
	wrote      bool // it has an id
	doomed     bool // it failed and wants a rollback
	isolation  string
	savepoints int

	consumer
}

// op is a step: statements that are sent in a goroutine of their own, while the
// run goes on if they wait for a lock.
type op struct {
	name    string
	do      func(ctx context.Context, conn *pgx.Conn) error
	allowed []string        // SQLSTATEs that are no fault
	then    func(err error) // what the actor knows afterwards
}

func (a *actor) cancelled() bool { return a.waits >= patience }

func exec(sql string, allowed ...string) *op {
	return &op{name: sql, allowed: allowed, do: func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		return err
	}}
}

func (r *run) fatal(format string, args ...any) {
	r.t.Helper()
	r.t.Errorf("seed %d: %s", r.seed, fmt.Sprintf(format, args...))
	r.t.Fatalf("the last steps were:\n%s", strings.Join(r.trace, "\n"))
}

func (r *run) note(format string, args ...any) {
	r.trace = append(r.trace, fmt.Sprintf(format, args...))
	if len(r.trace) > traceLines {
		r.trace = r.trace[1:]
	}
}

// chance is true once in n times.
func (r *run) chance(n int) bool { return r.IntN(n) == 0 }

func pick[T any](r *run, from []T) T { return from[r.IntN(len(from))] }

const schema = `
	create table public.ledger (tag text primary key, queue text not null, txid bigint not null default txid_current(),
		delayed boolean not null default false);
	create table public.received (consumer text, queue text, batch bigint, ev_id bigint, tag text);
	create table public.retried (consumer text, queue text, tag text);
	create table public.joined (consumer text, queue text, snapshot txid_snapshot);
	create table public.source (id serial primary key, tag text not null, note text);
	create trigger to_queue after insert on public.source for each row execute function pgq.logutriga('q1');
	select pgq.create_queue('q1'), pgq.create_queue('q2'), pgq.create_queue('doomed');
	update pgq.queue set queue_rotation_period = '0', queue_ticker_max_lag = '1ms', queue_ticker_idle_period = '1ms';`

func play(t *testing.T, server *pgtest.PrivateServer, seed uint64) {
	r := &run{
		Rand: rand.New(rand.NewPCG(seed, 0)), t: t, seed: seed, server: server,
		db: server.DB(t), queues: []string{"q1", "q2"},
		batches: map[int64]string{}, count: map[string]int{},
	}
	// Each second history has the schema without the library.
	plonly := r.install(seed%2 == 0)
	r.db.Exec(t, schema)
	r.wakes = pgtest.Value[bool](t, r.db, `select to_regproc('pgq.ticker_wake') is not null`)
	if r.wakes { // workers that share a consumer
		r.db.Exec(t, fmt.Sprintf("select pgq.register_slots('q1', 'ks', %d)", 1+r.IntN(4)))
		r.db.Exec(t, `insert into public.joined select 'ks', 'q1', t.tick_snapshot from pgq.tick t where t.tick_queue = 1 and t.tick_id = 1`)
	}
	if r.chance(3) { // ids are then handed out in blocks, and out of order
		r.db.Exec(t, "alter sequence pgq.event_1_id_seq cache 20")
	}
	// Without the library it would forbid prepared transactions.
	if notify := r.chance(2); notify && r.wakes && !plonly {
		r.db.Exec(t, "update pgq.queue set queue_notify = true")
	}
	r.cast()
	defer r.closeAll()
	r.connectAll()
	for n := range steps {
		if r.chance(100) {
			r.calm()
		}
		r.settle()
		free := slices.DeleteFunc(slices.Clone(r.actors), func(a *actor) bool { return a.running != nil })
		if len(free) == 0 {
			r.fatal("step %d: every session waits for another", n)
		}
		total := 0
		for _, a := range free {
			total += a.weight
		}
		at := r.IntN(total)
		for _, a := range free {
			if at -= a.weight; at < 0 {
				r.step(a, a.next(a))
				break
			}
		}
	}
	r.drain()
	r.verify()
}

// install makes schema pgq in the database, without the library if that is wished and
// there is the script for it: PgQ 3.5 has none.
func (r *run) install(plonly bool) bool {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(os.Getenv("SKYTOOLS_TEST_TREE"), "usr/share/postgresql/*/extension/pgq_plonly.sql"))
	if err != nil {
		r.t.Fatal(err)
	}
	if !plonly || len(files) == 0 {
		r.db.Exec(r.t, "create extension pgq")
		return false
	}
	script, err := os.ReadFile(files[0])
	if err != nil {
		r.t.Fatal(err)
	}
	r.db.Exec(r.t, string(script))
	r.count["installs without the library"]++
	return true
}

func (r *run) counts() string {
	var all []string
	for what, n := range r.count {
		all = append(all, fmt.Sprintf("%d %s", n, what))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// step begins an actor's step and waits until it ends or waits for a lock.
func (r *run) step(a *actor, o *op) {
	r.note("%s: %s", a.name, o.name)
	a.running, a.waits, a.done = o, 0, make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), statement)
	a.cancel = cancel
	conn, done := a.conn, a.done
	go func() { done <- o.do(ctx, conn) }()
	r.await(a)
}

// await waits until an actor's statement ends or waits for a lock.
func (r *run) await(a *actor) {
	for pause := 2 * time.Millisecond; ; pause = 3 * time.Millisecond {
		select {
		case err := <-a.done:
			r.ended(a, err)
			return
		case <-time.After(pause):
		}
		var waits bool
		err := r.monitor.QueryRow(context.Background(),
			`select coalesce((select s.wait_event_type = 'Lock' from pg_stat_activity s where s.pid = $1), false)`,
			a.pid).Scan(&waits)
		if err != nil {
			r.fatal("monitor: %v", err)
		}
		if !waits {
			continue
		}
		if a.waits == 0 {
			// What waits in a ring is told so by now; nobody goes on before.
			time.Sleep(2 * deadlockTimeout)
			if len(a.done) > 0 {
				continue
			}
			r.note("%s waits", a.name)
			r.count["waits for a lock"]++
		}
		a.waits++
		if a.waits == patience {
			r.cancelStatement(a)
			continue
		}
		return
	}
}

// cancelStatement gives up a statement that has waited long enough.
func (r *run) cancelStatement(a *actor) {
	r.note("%s is cancelled", a.name)
	r.count["cancelled waits"]++
	if _, err := r.monitor.Exec(context.Background(), `select pg_cancel_backend($1)`, a.pid); err != nil {
		r.fatal("monitor: %v", err)
	}
}

// settle takes the answers of statements that no longer wait.
func (r *run) settle() {
	for _, a := range r.actors {
		if a.running != nil {
			r.await(a)
		}
	}
}

// ended takes the answer of a step.
func (r *run) ended(a *actor, err error) {
	o := a.running
	a.cancel()
	a.running, a.done = nil, nil
	if err != nil {
		var pgErr *pgconn.PgError
		known := errors.As(err, &pgErr)
		switch {
		case r.killed: // the connection is gone, or the server said so
		case known && (slices.Contains(o.allowed, pgErr.Code) || pgErr.Code == "57014" && a.cancelled()):
			r.count["error "+pgErr.Code]++
		default:
			r.fatal("%s: %s: %v", a.name, o.name, err)
		}
		r.note("%s: failed: %v", a.name, err)
	}
	a.open = !a.conn.IsClosed() && a.conn.PgConn().TxStatus() != 'I'
	a.doomed = !a.conn.IsClosed() && a.conn.PgConn().TxStatus() == 'E'
	if !a.open {
		a.savepoints, a.wrote = 0, false
	}
	if o.then != nil {
		o.then(err)
	}
}

func (r *run) connectAll() {
	connect := func(dsn string) *pgx.Conn {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			r.t.Fatal(err)
		}
		config.RuntimeParams["search_path"] = ""
		ctx, cancel := context.WithTimeout(context.Background(), statement)
		defer cancel()
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			r.fatal("connect: %v", err)
		}
		return conn
	}
	r.monitor = connect(r.server.DSN)
	for _, a := range r.actors {
		if a.conn == nil || a.conn.IsClosed() {
			a.conn = connect(a.dsn)
			a.pid = a.conn.PgConn().PID()
			a.open, a.doomed, a.wrote, a.savepoints = false, false, false, 0
			a.forget()
		}
	}
}

func (r *run) closeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), statement)
	defer cancel()
	for _, a := range r.actors {
		if a.running != nil {
			a.cancel()
			<-a.done
		}
		if a.conn != nil {
			_ = a.conn.Close(ctx)
		}
	}
	if r.monitor != nil {
		_ = r.monitor.Close(ctx)
	}
	for _, gid := range r.prepared { // a database that has any cannot be dropped
		r.db.Exec(r.t, fmt.Sprintf("rollback prepared '%s'", gid))
	}
	r.t.Logf("seed %d: %s", r.seed, r.counts())
}

// crash ends the server as a power cut would, and lets it recover.
func (r *run) crash() {
	r.note("the server is killed")
	r.count["server kills"]++
	r.killed = true
	r.server.Kill(r.t)
	for _, a := range r.actors {
		if a.running != nil {
			r.ended(a, <-a.done)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), statement)
	defer cancel()
	for _, a := range r.actors {
		_ = a.conn.Close(ctx)
	}
	_ = r.monitor.Close(ctx)
	r.server.Start(r.t)
	r.killed = false
	r.connectAll()
	// A transaction whose preparation was under way is there or is not.
	r.prepared = r.db.Rows(r.t, `select gid from pg_prepared_xacts where database = current_database() order by 1`)
}
