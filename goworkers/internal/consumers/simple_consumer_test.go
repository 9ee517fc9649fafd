package consumers

// The simple consumers: both run a statement, in different transactions.

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

// simple is one of the two, made from the text of its section.
type simple struct {
	service string
	make    func(t *testing.T, text string) (batch.JobConfig, starter)
}

var (
	simpleConsumer = simple{SimpleConsumerService, func(t *testing.T, text string) (batch.JobConfig, starter) {
		t.Helper()
		var cfg SimpleConsumerConfig
		load(t, SimpleConsumerService, &cfg, text)
		return cfg.JobConfig, func(job *batch.Job) (batch.Worker, error) { return NewSimpleConsumer(job, cfg) }
	}}
	serialConsumer = simple{SimpleSerialConsumerService, func(t *testing.T, text string) (batch.JobConfig, starter) {
		t.Helper()
		var cfg SimpleSerialConsumerConfig
		load(t, SimpleSerialConsumerService, &cfg, text)
		return cfg.JobConfig, func(job *batch.Job) (batch.Worker, error) { return NewSimpleSerialConsumer(job, cfg) }
	}}
	localConsumer = simple{SimpleLocalConsumerService, func(t *testing.T, text string) (batch.JobConfig, starter) {
		t.Helper()
		var cfg SimpleLocalConsumerConfig
		load(t, SimpleLocalConsumerService, &cfg, "local_tracking_file = "+trackingFile(t)+"\n"+text)
		return cfg.JobConfig, func(job *batch.Job) (batch.Worker, error) { return NewSimpleLocalConsumer(job, cfg) }
	}}
	simples = []simple{simpleConsumer, serialConsumer, localConsumer}
)

// trackingDirs are those of the tests, by *testing.T.
var trackingDirs sync.Map

// trackingFile is the same for all jobs of a test.
func trackingFile(t *testing.T) string {
	dir, found := trackingDirs.Load(t)
	if !found {
		dir = t.TempDir()
		trackingDirs.Store(t, dir)
	}
	return filepath.Join(dir.(string), "simple.tick")
}

const noteQuery = "select * from public.note(%(username)s, %(email)s, %(score)s);"

func simpleText(src, dst *pgtest.Database, query, more string) string {
	return fmt.Sprintf("job_name = simple\nsrc_db = %s\ndst_db = %s\nqueue_name = %s\npgq_lazy_fetch = 3\nlog_level = debug\ndst_query =\n    %s\n%s",
		src.DSN, dst.DSN, srcQueue, query, more)
}

func (s simple) run(t *testing.T, text string) (string, error) {
	t.Helper()
	cfg, start := s.make(t, text)
	return drain(t, s.service, cfg, start)
}

func TestSimpleConsumersRunTheStatementForEachEvent(t *testing.T) {
	for _, kind := range simples {
		t.Run(kind.service, func(t *testing.T) {
			t.Parallel()
			src, producer := queueDB(t, srcQueue, "simple")
			dst := usersDB(t)
			var want []string
			for round := range 60 { // several portions of a pipeline
				for _, u := range users {
					insert(t, producer, srcQueue, rowEvent(u))
					want = append(want, userRow(u))
				}
				if round%20 == 19 {
					tick(t, producer, srcQueue)
				}
			}
			batchOf(t, producer, srcQueue, rowEvent(bigUser()), rowEvent(users[0]), rowEvent(bigUser()))
			want = append(want, userRow(bigUser()), userRow(users[0]), userRow(bigUser()))
			log, err := kind.run(t, simpleText(src, dst, noteQuery, ""))
			if err != nil {
				t.Fatal(err)
			}
			if err := sameRows(noted(t, dst), want); err != nil {
				t.Error(err)
			}
			if !strings.Contains(log, "result") || !strings.Contains(log, "noted=ann") {
				t.Errorf("the rows of the results are not in the log: %.500s", log)
			}
		})
	}
}

func TestStatementsSeeTheFieldsOfTheEvent(t *testing.T) {
	for _, kind := range simples {
		t.Run(kind.service, func(t *testing.T) {
			t.Parallel()
			src, producer := queueDB(t, srcQueue, "simple")
			dst := usersDB(t)
			dst.Exec(t, "create table public.fields (tick bigint, id bigint, at timestamptz, type text, data text, e1 text, e2 text, e3 text, e4 text, plain text, own text)")
			batchOf(t, producer, srcQueue,
				pgq.Event{Type: pgq.Text("I:id"), Data: pgq.Text("id=7&ev_type=own+column&n"), Extra1: pgq.Text("public.t"), Extra2: pgq.Text(""), Extra4: pgq.Text("õ'")})
			src.Exec(t, "update pgq.event_template set ev_time = '2008-05-20 10:00:00.123456+03'")
			if _, err := kind.run(t, simpleText(src, dst, `insert into public.fields values (%(pgq.tick_id)s, %(pgq.ev_id)s, %(pgq.ev_time)s, %(pgq.ev_type)s,
				%(pgq.ev_data)s, %(pgq.ev_extra1)s, %(pgq.ev_extra2)s, %(pgq.ev_extra3)s, %(pgq.ev_extra4)s, %(ev_extra1)s || %(ev_id)s, %%(ev_type)s)`, "")); err != nil {
				t.Fatal(err)
			}
			ids := src.Rows(t, "select max(tick_id), max(ev_id) from pgq.tick, pgq.event_template")[0]
			got := dst.Rows(t, `select tick, id, at = '2008-05-20 07:00:00.123456+00', type, data, e1, e2, e3, e4, plain, own from public.fields`)
			_, id, _ := strings.Cut(ids, "|")
			if want := []string{ids + "|t|I:id|id=7&ev_type=own+column&n|public.t||NULL|õ'|public.t" + id + "|own column"}; !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// Events that triggers wrote, in both forms of filters.
func TestSimpleConsumersFilterEvents(t *testing.T) {
	for _, kind := range simples {
		t.Run(kind.service, func(t *testing.T) {
			t.Parallel()
			src, producer := queueDB(t, srcQueue, "simple")
			dst := usersDB(t)
			src.Exec(t, `create table public.users (username text primary key, email text, score int);
				create trigger log after insert or update or delete on public.users for each row execute function pgq.logutriga('user_events');
				create table public.other (like public.users including all);
				create trigger log after insert or update or delete on public.other for each row execute function pgq.logutriga('user_events');
				insert into public.users values ('ann', 'it''s', 1), ('bob', null, 2);
				insert into public.other values ('cid', 'x', 3);
				update public.users set score = 4 where username = 'bob';
				delete from public.users where username = 'ann';
				select pgq.insert_event('user_events', 'login', 'username=dan&email&score=5')`)
			tick(t, producer, srcQueue)
			if _, err := kind.run(t, simpleText(src, dst, noteQuery, "table_filter = public.users\nconsumer_filter = ev_type not like 'D%' -- no deletes")); err != nil {
				t.Fatal(err)
			}
			if err := sameRows(noted(t, dst), []string{"ann|it's|1", "bob|NULL|2", "bob|NULL|4"}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOnlyTheSerialConsumerTakesEventsOfAnyType(t *testing.T) {
	for _, kind := range simples {
		t.Run(kind.service, func(t *testing.T) {
			t.Parallel()
			src, producer := queueDB(t, srcQueue, "simple")
			dst := usersDB(t)
			for _, kind := range []string{"I:username", "login", "U:username", "R", "", "D:username"} {
				insert(t, producer, srcQueue, pgq.Event{Type: pgq.Text(kind), Data: pgq.Text("username=" + kind)})
			}
			insert(t, producer, srcQueue, pgq.Event{Data: pgq.Text("username=none")})
			tick(t, producer, srcQueue)
			if _, err := kind.run(t, simpleText(src, dst, "insert into public.users (username) values (%(username)s)", "")); err != nil {
				t.Fatal(err)
			}
			want := []string{"I:username", "U:username", "D:username"}
			if kind.service == SimpleSerialConsumerService {
				want = []string{"I:username", "login", "U:username", "R", "", "D:username", "none"}
			}
			if err := sameRows(dst.Rows(t, "select username from public.users order by n"), want); err != nil {
				t.Error(err)
			}
		})
	}
}

// Data that is no row does no harm where the statement wants no row.
func TestStatementsWithoutColumnsTakeAnyData(t *testing.T) {
	t.Parallel()
	src, producer := queueDB(t, srcQueue, "simple")
	dst := usersDB(t)
	batchOf(t, producer, srcQueue, text(`{"a": "100%", "b": "%zz"}`))
	if _, err := serialConsumer.run(t, simpleText(src, dst, "insert into public.users (username) values (%(pgq.ev_data)s::jsonb ->> 'a')", "")); err != nil {
		t.Fatal(err)
	}
	if err := sameRows(dst.Rows(t, "select username from public.users"), []string{"100%"}); err != nil {
		t.Error(err)
	}
}

// badEvents are events that cannot be done, and what is said about them. The one before
// and the one behind can.
var badEvents = []struct {
	name string
	ev   pgq.Event
	want []string
}{
	{"no row", pgq.Event{Type: pgq.Text("I:username"), Data: pgq.Text("username=%zz")}, []string{"event 2: ev_data is no row", `%zz`}},
	{"a field too few", pgq.Event{Type: pgq.Text("I:username"), Data: pgq.Text("username=x&score=1")}, []string{`event 2: dst_query needs the field "email"`, "the event's row has score, username"}},
	{"no data", pgq.Event{Type: pgq.Text("I:username")}, []string{`event 2: dst_query needs the field "username"`, "the event's row has no columns"}},
	{"no number", rowEvent(pgq.Row{"username": pgq.Text("x"), "email": {}, "score": pgq.Text("many")}), []string{"event 2: ", `"many"`, "SQLSTATE 22P02"}},
	{"a byte of zero", rowEvent(pgq.Row{"username": pgq.Text("x\x00"), "email": {}, "score": {}}), []string{"event 2: ", "SQLSTATE 22021"}},
	{"refused by the function", rowEvent(pgq.Row{"username": pgq.Text("evil"), "email": {}, "score": {}}), []string{"event 2: ", "no such user: evil", "SQLSTATE P0001"}},
}

func TestSimpleConsumersStopAtABadEvent(t *testing.T) {
	for _, kind := range simples {
		for _, c := range badEvents {
			t.Run(kind.service+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				src, producer := queueDB(t, srcQueue, "simple")
				dst := usersDB(t)
				batchOf(t, producer, srcQueue, rowEvent(users[0]), c.ev, rowEvent(users[1]))
				for range 2 {
					_, err := kind.run(t, simpleText(src, dst, noteQuery, ""))
					for _, want := range append(c.want, `queue "user_events"`, "on_bad_event") {
						if err == nil || !strings.Contains(err.Error(), want) {
							t.Fatalf("error %v\nwant %q", err, want)
						}
					}
				}
				if got := noted(t, dst); kind.service == SimpleSerialConsumerService && len(got) > 0 {
					t.Errorf("the batch left %q", got)
				} else if kind.service != SimpleSerialConsumerService && !slices.Contains(got, userRow(users[0])) {
					t.Errorf("what stood before was not done: %q", got)
				}
				src.WaitFor(t, "select sub_batch is not null from pgq.subscription")
			})
		}
	}
}

func TestSimpleConsumersPutBadEventsAside(t *testing.T) {
	for _, kind := range simples {
		for _, what := range []string{"retry", "deadletter"} {
			t.Run(kind.service+"/"+what, func(t *testing.T) {
				t.Parallel()
				src, producer := queueDB(t, srcQueue, "simple")
				dst := usersDB(t)
				want := putBad(t, producer)
				log, err := kind.run(t, simpleText(src, dst, noteQuery, "on_bad_event = "+what+"\nbad_event_retry = 0"))
				if err != nil {
					t.Fatal(err)
				}
				if err := sameRows(noted(t, dst), want); err != nil {
					t.Error(err)
				}
				checkAside(t, src, what, log)
			})
		}
	}
}

// putBad makes a batch of good and bad events, and gives the rows of the good ones.
func putBad(t *testing.T, producer *pgx.Conn) (want []string) {
	t.Helper()
	for i, c := range badEvents {
		u := maps.Clone(users[i%len(users)])
		u["score"] = pgq.Text(fmt.Sprint(i))
		insert(t, producer, srcQueue, rowEvent(u), c.ev)
		want = append(want, userRow(u))
	}
	tick(t, producer, srcQueue)
	return want
}

// checkAside looks at what became of the bad events that putBad has made.
func checkAside(t *testing.T, src *pgtest.Database, what, log string) {
	t.Helper()
	if n := strings.Count(log, "event put aside"); n != len(badEvents) {
		t.Errorf("%d events are said to be put aside, want %d", n, len(badEvents))
	}
	if what == "retry" {
		if n := pgtest.Value[int](t, src, "select count(*)::int from pgq.retry_queue"); n != len(badEvents) {
			t.Errorf("%d events wait for their retry, want %d", n, len(badEvents))
		}
		return
	}
	dead := src.Rows(t, `select ev_data, ev_failed_reason from pgq.failed_event_list('user_events', 'simple') order by ev_id`)
	if len(dead) != len(badEvents) {
		t.Fatalf("dead are %q", dead)
	}
	for i, c := range badEvents {
		data := c.ev.Data.String
		if !c.ev.Data.Valid {
			data = "NULL"
		}
		reason, found := strings.CutPrefix(dead[i], data+"|")
		if why := strings.TrimPrefix(c.want[0], "event 2: "); !found || !strings.Contains(reason, why) {
			t.Errorf("%s: dead is %q, want %q for %q", c.name, dead[i], data, why)
		}
	}
}

// A database that is not fit for the statement is no event's fault.
func TestSimpleConsumersPutNothingAsideForOtherErrors(t *testing.T) {
	for _, kind := range simples {
		t.Run(kind.service, func(t *testing.T) {
			t.Parallel()
			src, producer := queueDB(t, srcQueue, "simple")
			dst := usersDB(t)
			dst.Exec(t, `create function public.later(text) returns void language plpgsql as $$ begin perform 1 from public.not_there; end $$`)
			batchOf(t, producer, srcQueue, rowEvent(users[0]))
			text := simpleText(src, dst, "select public.later(%(username)s)", "on_bad_event = deadletter")
			if _, err := kind.run(t, text); err == nil || !strings.Contains(err.Error(), "event 1: ") || !strings.Contains(err.Error(), "SQLSTATE 42P01") {
				t.Fatalf("error %v", err)
			}
			dst.Exec(t, "create table public.not_there ()")
			if _, err := kind.run(t, text); err != nil {
				t.Error(err)
			}
			if n := pgtest.Value[int](t, src, "select count(*)::int from pgq.failed_event_list('user_events', 'simple')"); n != 0 {
				t.Errorf("%d events are dead", n)
			}
		})
	}
}

func TestSimpleConsumersCheckTheStatementAtTheStart(t *testing.T) {
	for _, kind := range simples {
		for _, c := range []struct{ name, query, more, want string }{
			{"syntax", "selekt %(a)s", "", `[` + kind.service + `] dst_query: the server refuses the statement: ERROR: syntax error at or near "selekt" (SQLSTATE 42601) ($1 is %(a)s); correct it`},
			{"no such function", "select public.nothing(%(a)s)", "", "function public.nothing(unknown) does not exist (SQLSTATE 42883) ($1 is %(a)s); No function matches"},
			{"no such column", "select note(x) from public.users", "", `column "x" does not exist`},
			{"a condition", "select 1", "consumer_filter = ev_tipe = 'a'", `[` + kind.service + `] consumer_filter: the server refuses the condition: ERROR: column "ev_tipe" does not exist`},
		} {
			t.Run(kind.service+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				src, producer := queueDB(t, srcQueue)
				dst := usersDB(t)
				cfg, start := kind.make(t, simpleText(src, dst, c.query, c.more+"\nloop_delay = 1"))
				job, _ := newJob(t, kind.service, cfg)
				worker, err := start(job)
				if err != nil {
					t.Fatal(err)
				}
				// A job that starts ends with it. It is registered by then.
				if err := job.Run(t.Context(), worker.Work); err == nil || !strings.Contains(err.Error(), c.want) || batch.ExitCode(err) != 1 {
					t.Errorf("error %v\nwant  %s", err, c.want)
				}
				batchOf(t, producer, srcQueue, rowEvent(users[0]))
				if n := pgtest.Value[int](t, src, "select count(*)::int from pgq.subscription"); n != 1 {
					t.Errorf("%d consumers are registered", n)
				}
			})
		}
	}
}

func TestSimpleConsumersSurviveAStopAtAnyStep(t *testing.T) {
	for _, kind := range simples {
		for _, cut := range []string{"all connections", "those to the target"} {
			t.Run(kind.service+"/"+cut, func(t *testing.T) {
				t.Parallel()
				src, producer := queueDB(t, srcQueue, "simple")
				dst := usersDB(t)
				faults := pgtest.NewFaults(t)
				text := simpleText(src, faults.Through(t, dst), noteQuery, "")
				if cut == "all connections" {
					text = simpleText(faults.Through(t, src), faults.Through(t, dst), noteQuery, "")
				}
				var want []string
				produce := func() {
					for _, u := range users { // 4, and pgq_lazy_fetch is 3
						u = maps.Clone(u)
						u["score"] = pgq.Text(fmt.Sprint(len(want)))
						want = append(want, userRow(u))
						insert(t, producer, srcQueue, rowEvent(u))
					}
					tick(t, producer, srcQueue)
				}
				stopAtEachStep(t, faults, produce, func() error { _, err := kind.run(t, text); return err }, func() error {
					if kind.service == SimpleSerialConsumerService {
						return sameRows(noted(t, dst), want)
					}
					return noneLost(noted(t, dst), want)
				})
			})
		}
	}
}

// A queue that was set back in time, as by a restore, is read from where the file is.
func TestLocalConsumerGoesByItsFile(t *testing.T) {
	t.Parallel()
	src, producer := queueDB(t, srcQueue, "simple")
	dst := usersDB(t)
	text := simpleText(src, dst, noteQuery, "")
	batchOf(t, producer, srcQueue, rowEvent(users[0]))
	if _, err := localConsumer.run(t, text); err != nil {
		t.Fatal(err)
	}
	first := pgtest.Value[int64](t, src, "select min(tick_id) from pgq.tick")
	if _, err := pgq.RegisterConsumerAt(t.Context(), producer, srcQueue, "simple", first); err != nil {
		t.Fatal(err)
	}
	batchOf(t, producer, srcQueue, rowEvent(users[1]))
	log, err := localConsumer.run(t, text)
	if err != nil || !strings.Contains(log, "it was moved to that of local_tracking_file") {
		t.Errorf("error %v, log %s", err, log)
	}
	if err := sameRows(noted(t, dst), []string{userRow(users[0]), userRow(users[1])}); err != nil {
		t.Error(err)
	}
}

// Rows as pgq.jsontriga writes them.
func TestSimpleConsumersReadJSON(t *testing.T) {
	for _, kind := range simples {
		t.Run(kind.service, func(t *testing.T) {
			t.Parallel()
			src, producer := queueDB(t, srcQueue, "simple")
			dst := usersDB(t)
			src.Exec(t, `create table public.users (username text primary key, email text, score bigint);
				create trigger log after insert or update or delete on public.users for each row execute function pgq.jsontriga('user_events');
				create trigger empty after truncate on public.users for each statement execute function pgq.jsontriga('user_events')`)
			var want []string
			for _, u := range users {
				if _, err := producer.Exec(t.Context(), "insert into public.users values ($1, $2, $3::text::bigint)", u["username"], u["email"], u["score"]); err != nil {
					t.Fatal(err)
				}
				want = append(want, userRow(u))
			}
			filter := ""
			if kind.service == SimpleSerialConsumerService {
				filter = "consumer_filter = ev_type not like '%TRUNCATE%'"
			}
			src.Exec(t, "truncate public.users")
			tick(t, producer, srcQueue)
			if _, err := kind.run(t, simpleText(src, dst, noteQuery, filter)); err != nil {
				t.Fatal(err)
			}
			if err := sameRows(noted(t, dst), want); err != nil {
				t.Error(err)
			}
		})
	}
}
