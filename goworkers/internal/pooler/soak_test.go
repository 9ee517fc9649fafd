package pooler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

const (
	// The soak's length in all and its seed, unless STRESS_SECONDS and STRESS_SEED say
	// something else.
	soakTime = 60 * time.Second
	soakSeed = 1

	soakClients = 24
	// soakPatience is how long an answer may take; what takes longer hangs.
	soakPatience = 40 * time.Second
)

// soak is what clients and troublemakers share.
type soak struct {
	*rig
	db     *pgtest.Database
	ctx    context.Context // ends with the time
	seed   uint64
	config func(*rand.Rand) config
}

// soakClient does random work, and keeps the books about the rows that it inserts.
type soakClient struct {
	*soak
	id   int
	rng  *rand.Rand
	conn *pgconn.PgConn
	n    int64

	name                    string          // of the database
	prepared                map[string]bool // on conn
	committed, maybe, never []int64
}

var errWrong = errors.New("wrong")

// Troubles end connections with these words.
var soakReasons = regexp.MustCompile(`^(server login has been failing, cached error: )?(admin forced disconnect|server conn crashed\?|` +
	`terminating connection due to administrator command|server closed the connection during login|database removed)`)

// excused tells whether an error is what troubles bring.
func (c *soakClient) excused(err error) bool {
	if errors.Is(err, errWrong) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	e, ok := asPgError(err)
	if !ok {
		// The connection is gone, in the middle of a message maybe.
		var op *net.OpError
		return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, &op) && !op.Timeout()
	}
	return e.Severity == "FATAL" && soakReasons.MatchString(e.Message)
}

func (c *soakClient) row() int64 {
	c.n++
	return int64(c.id)<<32 | c.n
}

// token is what a query must give back: nobody else's answer has it.
func (c *soakClient) token() string {
	c.n++
	return fmt.Sprintf("%d:%d", c.id, c.n)
}

func (c *soakClient) wants(got []byte, want string) error {
	if string(got) != want {
		return fmt.Errorf("%w: got %q in place of %q", errWrong, got, want)
	}
	return nil
}

func (c *soakClient) one(res *pgconn.Result, err error, want string) error {
	if err == nil {
		err = res.Err
	}
	if err != nil {
		return err
	}
	if len(res.Rows) != 1 || len(res.Rows[0]) != 1 {
		return fmt.Errorf("%w: %d rows in place of %q", errWrong, len(res.Rows), want)
	}
	return c.wants(res.Rows[0][0], want)
}

func (c *soakClient) simple(ctx context.Context, sql string) ([]*pgconn.Result, error) {
	return c.conn.Exec(ctx, sql).ReadAll()
}

func (c *soakClient) askSimple(ctx context.Context) error {
	want := c.token()
	res, err := c.simple(ctx, "select '"+want+"'")
	if err != nil {
		return err
	}
	return c.one(res[0], nil, want)
}

func (c *soakClient) askExtended(ctx context.Context) error {
	want := c.token()
	return c.one(c.conn.ExecParams(ctx, "select $1::text", [][]byte{[]byte(want)}, nil, nil, nil).Read(), nil, want)
}

func (c *soakClient) askPrepared(ctx context.Context) error {
	kind := c.rng.IntN(12)
	name, want := fmt.Sprintf("p%d", kind), c.token()
	if !c.prepared[name] {
		if _, err := c.conn.Prepare(ctx, name, fmt.Sprintf("select $1::text || pg_catalog.left('kind %d', 0)", kind), nil); err != nil {
			return err
		}
		c.prepared[name] = true
	} else if c.rng.IntN(10) == 0 {
		delete(c.prepared, name)
		return c.conn.Deallocate(ctx, name)
	}
	return c.one(c.conn.ExecPrepared(ctx, name, [][]byte{[]byte(want)}, nil, nil).Read(), nil, want)
}

func (c *soakClient) askMuch(ctx context.Context) error {
	want, n := c.token(), 1+c.rng.IntN(3000)
	res, err := c.simple(ctx, fmt.Sprintf("select '%s' || pg_catalog.repeat('.', 100) from pg_catalog.generate_series(1, %d)", want, n))
	if err != nil {
		return err
	}
	if len(res[0].Rows) != n {
		return fmt.Errorf("%w: %d rows, not %d", errWrong, len(res[0].Rows), n)
	}
	for _, row := range res[0].Rows {
		if err := c.wants(row[0], want+strings.Repeat(".", 100)); err != nil {
			return err
		}
	}
	return nil
}

func (c *soakClient) askInPipeline(ctx context.Context) error {
	p := c.conn.StartPipeline(ctx)
	row, fails := c.row(), c.rng.IntN(3) == 0
	var wants []string
	p.SendQueryParams("insert into public.t values ($1) returning pg_catalog.text(x)", [][]byte{strconv.AppendInt(nil, row, 10)}, nil, nil, nil)
	wants = append(wants, strconv.FormatInt(row, 10))
	for range c.rng.IntN(20) {
		want := c.token()
		p.SendQueryParams("select $1::text", [][]byte{[]byte(want)}, nil, nil, nil)
		wants = append(wants, want)
	}
	if fails {
		p.SendQueryParams("select 1/0", nil, nil, nil, nil)
		c.never = append(c.never, row)
	}
	err := p.Sync()
	for i := 0; err == nil; {
		var results any
		if results, err = p.GetResults(); results == nil || err != nil {
			break
		}
		if res, ok := results.(*pgconn.ResultReader); ok {
			if i < len(wants) {
				err = c.one(res.Read(), nil, wants[i])
			} else {
				err = res.Read().Err
			}
			i++
		}
		if e, ok := asPgError(err); ok && fails && i >= len(wants) && e.Code == "22012" {
			err = nil
			fails = false
		}
	}
	if e, ok := asPgError(err); ok && fails && e.Code == "22012" {
		err = nil
	}
	if e := p.Close(); err == nil {
		if pe, ok := asPgError(e); !ok || pe.Code != "22012" {
			err = e
		}
	}
	if len(c.never) == 0 || c.never[len(c.never)-1] != row {
		c.book(row, err)
	}
	return err
}

// book notes a row whose statement commits by itself.
func (c *soakClient) book(row int64, err error) {
	switch e, ok := asPgError(err); {
	case err == nil:
		c.committed = append(c.committed, row)
	case ok && e.Severity == "ERROR":
		c.never = append(c.never, row)
	default:
		c.maybe = append(c.maybe, row)
	}
}

func (c *soakClient) insert(ctx context.Context) error {
	row := c.row()
	_, err := c.simple(ctx, fmt.Sprintf("insert into public.t values (%d)", row))
	c.book(row, err)
	return err
}

func (c *soakClient) copyIn(ctx context.Context) error {
	first, n := c.n+1, 1+c.rng.Int64N(200)
	var data bytes.Buffer
	for range n {
		fmt.Fprintf(&data, "%d\n", c.row())
	}
	var err error
	if c.rng.IntN(4) == 0 {
		data.WriteString("no number\n")
		_, err = c.conn.CopyFrom(ctx, &data, "copy public.t from stdin")
		if e, ok := asPgError(err); ok && e.Code == "22P02" {
			for i := range n {
				c.never = append(c.never, int64(c.id)<<32|(first+i))
			}
			return nil
		}
		if err == nil {
			return fmt.Errorf("%w: a bad COPY succeeds", errWrong)
		}
	} else {
		_, err = c.conn.CopyFrom(ctx, &data, "copy public.t from stdin")
	}
	for i := range n {
		c.book(int64(c.id)<<32|(first+i), err)
	}
	return err
}

func (c *soakClient) copyOut(ctx context.Context) error {
	want, n := c.token(), 1+c.rng.IntN(3000)
	var data bytes.Buffer
	if _, err := c.conn.CopyTo(ctx, &data, fmt.Sprintf("copy (select '%s' from pg_catalog.generate_series(1, %d)) to stdout", want, n)); err != nil {
		return err
	}
	return c.wants(data.Bytes(), strings.Repeat(want+"\n", n))
}

func (c *soakClient) transaction(ctx context.Context) error {
	row := c.row()
	if _, err := c.simple(ctx, "begin"); err != nil {
		c.never = append(c.never, row)
		return err
	}
	steps := []func(context.Context) error{c.askSimple, c.askExtended, c.askPrepared, c.copyOut}
	_, err := c.simple(ctx, fmt.Sprintf("insert into public.t values (%d)", row))
	for range c.rng.IntN(4) {
		if err == nil {
			err = steps[c.rng.IntN(len(steps))](ctx)
		}
	}
	if err != nil {
		c.never = append(c.never, row)
		return err
	}
	switch c.rng.IntN(6) {
	case 0:
		c.never = append(c.never, row)
		_, err = c.simple(ctx, "rollback")
	case 1: // an error in between
		c.never = append(c.never, row)
		if _, err = c.simple(ctx, "select 1/0"); err == nil {
			return fmt.Errorf("%w: 1/0 has a value", errWrong)
		}
		if e, ok := asPgError(err); ok && e.Code == "22012" {
			_, err = c.simple(ctx, "commit") // which is a rollback
		}
	case 2: // it dies
		c.never = append(c.never, row)
		lose(c.conn.Conn(), c.rng.IntN(2) == 0)
		return io.EOF
	default:
		_, err = c.simple(ctx, "commit")
		c.book(row, err)
	}
	return err
}

// cancelled asks for a cancel of its own query, early or late.
func (c *soakClient) cancelled(ctx context.Context) error {
	want := c.token()
	long := 30.0
	if c.rng.IntN(2) == 0 {
		long = c.rng.Float64() / 100
	}
	conn, pause := c.conn, time.Duration(c.rng.IntN(10_000))*time.Microsecond
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		for { // a request that comes before its query is dropped by the server
			select {
			case <-over:
				return
			case <-time.After(pause):
				_ = conn.CancelRequest(ctx)
				pause = 100 * time.Millisecond
			}
		}
	})
	res, err := c.simple(ctx, fmt.Sprintf("select '%s' from pg_catalog.pg_sleep(%g)", want, long))
	close(over)
	wg.Wait()
	if e, ok := asPgError(err); ok && e.Code == codeCanceled {
		return nil
	}
	if err != nil {
		return err
	}
	return c.one(res[0], nil, want)
}

// lost begins something on a connection of its own and vanishes.
func (c *soakClient) lost(context.Context) error {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.port))
	if err != nil {
		return fmt.Errorf("%w: %v", errWrong, err)
	}
	row := c.row()
	c.never = append(c.never, row)
	cases := lostCases(row)
	send := cases[c.rng.IntN(len(cases))].send
	if c.rng.IntN(3) == 0 {
		send = send[:c.rng.IntN(len(send))]
	}
	conn.SetDeadline(time.Now().Add(soakPatience))
	conn.Write(pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: c.name}}))
	conn.Write(send)
	conn.SetReadDeadline(time.Now().Add(time.Duration(c.rng.IntN(20_000)) * time.Microsecond))
	io.Copy(io.Discard, io.LimitReader(conn, c.rng.Int64N(200_000)))
	lose(conn, c.rng.IntN(2) == 0)
	return nil
}

// leave ends the connection in one of the ways there are.
func (c *soakClient) leave(ctx context.Context) error {
	if c.rng.IntN(2) == 0 {
		c.conn.Close(ctx)
	} else {
		lose(c.conn.Conn(), c.rng.IntN(2) == 0)
	}
	return io.EOF
}

func (c *soakClient) run() error {
	works := []func(context.Context) error{
		c.askSimple, c.askSimple, c.askExtended, c.askExtended, c.askPrepared, c.askPrepared, c.askPrepared, c.askMuch, c.askInPipeline, c.askInPipeline,
		c.insert, c.insert, c.copyIn, c.copyOut, c.transaction, c.transaction, c.transaction, c.cancelled, c.lost, c.leave,
	}
	for c.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), soakPatience)
		err := c.step(ctx, works[c.rng.IntN(len(works))])
		cancel()
		if err != nil {
			return err
		}
	}
	if c.conn != nil {
		c.conn.Close(context.Background())
	}
	return nil
}

func (c *soakClient) step(ctx context.Context, work func(context.Context) error) (err error) {
	if c.conn == nil {
		c.conn, err = pgconn.Connect(ctx, c.dsn(c.name, fmt.Sprintf("application_name=client%d", c.id)))
		c.prepared = map[string]bool{}
	}
	if err == nil {
		err = work(ctx)
	}
	if err == nil {
		return nil
	}
	if c.conn != nil {
		c.conn.Conn().Close()
		c.conn.Close(ctx)
		c.conn = nil
	}
	if !c.excused(err) {
		return err
	}
	return nil
}

// trouble is one thing that an operator or fate does.
func (s *soak) trouble(rng *rand.Rand) error {
	name := []string{"d", "e"}[rng.IntN(2)]
	calm := func(most time.Duration) { time.Sleep(rand.N(most)) } // part of the trouble, not a wait for anything
	do := func(commands ...string) error {
		for _, sql := range commands {
			if _, err := s.command(sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
			calm(50 * time.Millisecond)
		}
		return nil
	}
	calm(100 * time.Millisecond)
	switch rng.IntN(12) {
	case 0:
		return do("pause "+name, "resume "+name)
	case 1:
		return do("pause", "resume")
	case 2:
		return do("reconnect "+name, "wait_close "+name)
	case 3:
		return do("kill "+name, "resume "+name)
	case 4, 5:
		s.write(s.config(rng))
		if rng.IntN(2) == 0 {
			s.p.Signal(syscall.SIGHUP)
			return nil
		}
		return do("reload")
	case 6:
		s.p.Signal(syscall.SIGUSR1)
		calm(50 * time.Millisecond)
		s.p.Signal(syscall.SIGUSR2)
		return nil
	case 7:
		return do([]string{"set server_round_robin = 1", "set server_lifetime = 1", "set max_prepared_statements = 3", "set session_state_guard = reset",
			"set server_check_delay = 0", "set reconnect_rate = 5", "set server_idle_timeout = 0.5", "set sbuf_loopcnt = 1"}[rng.IntN(8)])
	case 8:
		clients, err := s.command("show clients")
		if err != nil {
			return err
		}
		if c := clients[rng.IntN(len(clients))]; c["database"] == "d" || c["database"] == "e" {
			if _, err := s.command("kill_client " + c["id"]); err != nil && !strings.Contains(err.Error(), "client not found") {
				return err
			}
		}
		return nil
	case 9:
		for _, what := range []string{"pools", "servers", "clients", "stats", "lists", "config", "databases"} {
			if err := do("show " + what); err != nil {
				return err
			}
		}
		return nil
	default:
		conn, err := pgconn.Connect(context.Background(), s.db.DSN)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity"+
			" where datname = pg_catalog.current_database() and pid <> pg_catalog.pg_backend_pid() order by pg_catalog.random() limit 1").ReadAll()
		return err
	}
}

// state is what must be as at the beginning when all clients have left.
func (s *soak) state() string {
	ch := make(chan string)
	s.p.main.loop.Post(func() {
		var text string
		s.p.alone(func() {
			clients, servers, cancels, prepared := 0, 0, 0, 0
			for _, w := range s.p.workers {
				clients += len(w.clients) + len(w.logins) + len(w.linger)
				cancels += len(w.carriers)
				prepared += len(w.statements.byBody)
			}
			s.p.eachPool(func(pl *dbPool) {
				servers += pl.TotalServers()
				cancels += pl.Cancels()
				clients += pl.TotalClients()
				for _, u := range []int32{pl.db.clients.Load(), pl.account.clients.Load()} {
					clients += int(u)
				}
			})
			text = fmt.Sprintf("%d clients, %d counted, %d with keys, %d servers, %d in limits, %d cancels, %d statements", clients,
				s.p.clientCount.Load(), len(s.p.keys.clients), servers, s.p.databases["d"].group.Servers()+s.p.databases["e"].group.Servers(), cancels, prepared)
		})
		ch <- text
	})
	return <-ch
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func soakEnv(name string, or int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return or
}

// Random work of many clients while operators and fate do their worst. What was
// committed is there once, what was not is not there; nobody gets an answer that is not
// his, or a cancel that he has not asked for; nothing hangs, and nothing is left.
func TestSoak(t *testing.T) {
	seconds := time.Duration(soakEnv("STRESS_SECONDS", int(soakTime/time.Second))) * time.Second
	seed := soakEnv("STRESS_SEED", soakSeed)
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) { testSoak(t, threads, seconds/2, uint64(seed)) })
	}
}

func testSoak(t *testing.T, threads int, length time.Duration, seed uint64) {
	db := pgtest.DB(t)
	db.Exec(t, "create table public.t(x bigint)")
	s := &soak{db: db, seed: seed}
	s.config = func(rng *rand.Rand) config {
		options := []string{"pool_size=2", "pool_size=5", "pool_size=5 min_pool_size=2", "application_name=pool", "connect_query='select 1'", "pool_size=5 max_db_connections=3", "server_lifetime=1"}
		settings := []string{"server_lifetime = 0", "server_reset_query_always = 1", "server_parallel_connects = 1", "max_user_connections = 4", "reconnect_rate = 3", "server_check_delay = 0"}
		c := config{
			databases: entry("d", db, options[rng.IntN(len(options))]) + "\n" + entry("e", db, options[rng.IntN(len(options))]),
			settings: fmt.Sprintf("threads = %d\nlog_connections = 0\nlog_disconnections = 0\nlog_pooler_errors = 0\nmax_client_conn = 1000\nmax_prepared_statements = 5\nquery_wait_notify = 0\n%s",
				threads, settings[rng.IntN(len(settings))]),
		}
		if rng.IntN(3) == 0 {
			c.databases += "\n" + entry("extra", db)
		}
		return c
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	s.rig = start(t, s.config(rng))
	s.console("show version")
	began, files, goroutines := s.state(), openFiles(t), runtime.NumGoroutine()
	ctx, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	s.ctx = ctx
	var wg sync.WaitGroup
	var clients []*soakClient
	for i := range soakClients {
		c := &soakClient{soak: s, id: i, rng: rand.New(rand.NewPCG(seed, uint64(i+1))), name: []string{"d", "e"}[i%2]}
		clients = append(clients, c)
		wg.Go(func() {
			if err := c.run(); err != nil {
				t.Errorf("client %d: %v", i, err)
				stop()
			}
		})
	}
	for ctx.Err() == nil {
		if err := s.trouble(rng); err != nil {
			t.Errorf("trouble: %v", err)
			stop()
		}
	}
	wg.Wait()
	if t.Failed() {
		t.Logf("seed %d; %s", seed, s.state())
		return
	}
	for _, sql := range []string{"kill d", "resume d", "kill e", "resume e"} {
		s.console(sql)
	}
	pgtest.Eventually(t, 30*time.Second, "all is as it was at the beginning, which is "+began+"; now "+s.state(), func() bool { return s.state() == began })
	pgtest.Eventually(t, 30*time.Second, "no descriptor or goroutine is left", func() bool {
		return openFiles(t) <= files && runtime.NumGoroutine() <= goroutines
	})
	s.audit(t, clients)
}

// audit compares the table with the books.
func (s *soak) audit(t *testing.T, clients []*soakClient) {
	conn, err := pgconn.Connect(background(t), s.db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	res := conn.ExecParams(background(t), "select x from public.t", nil, nil, nil, nil).Read()
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	count := map[int64]int{}
	for _, row := range res.Rows {
		x, _ := strconv.ParseInt(string(row[0]), 10, 64)
		count[x]++
	}
	var committed, maybe, never int
	for _, c := range clients {
		for _, x := range c.committed {
			if count[x] != 1 {
				t.Errorf("client %d: row %d was committed and is there %d times", c.id, x, count[x])
			}
			delete(count, x)
		}
		for _, x := range c.never {
			if count[x] != 0 {
				t.Errorf("client %d: row %d was not committed and is there", c.id, x)
			}
		}
		for _, x := range c.maybe {
			if count[x] > 1 {
				t.Errorf("client %d: row %d is there %d times", c.id, x, count[x])
			}
			delete(count, x)
		}
		committed, maybe, never = committed+len(c.committed), maybe+len(c.maybe), never+len(c.never)
	}
	if len(count) > 0 {
		t.Errorf("%d rows are in nobody's books: %v", len(count), count)
	}
	if committed == 0 || never == 0 {
		t.Error("nothing was shown")
	}
	t.Logf("seed %d: %d rows committed, %d perhaps, %d not", s.seed, committed, maybe, never)
}
