package consumers

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/internal/pgtest"
)

// Sets of a few rows, so that each test has many.
func init() { loadBudget = 1200 }

// public is a database whose tests create in the schema public.
type public struct{ *pgtest.Database }

func (p public) Exec(t *testing.T, sql string) {
	t.Helper()
	p.Database.Exec(t, "set search_path = public; "+sql)
}

func newTarget(t *testing.T, ddl string) public {
	t.Helper()
	db := public{pgtest.DB(t, "pgq_ext")}
	db.Exec(t, ddl)
	return db
}

// source is a database whose tables write into a queue.
type source struct {
	public
	conn   *pgx.Conn
	format string // the trigger that capture puts on tables; default: logutriga
}

func newSource(t *testing.T, ddl string) *source {
	t.Helper()
	db, conn := queueDB(t, srcQueue, "loader")
	s := &source{public: public{db}, conn: conn}
	s.Exec(t, ddl)
	return s
}

// capture puts the queue's trigger on tables.
func (s *source) capture(t *testing.T, tables ...string) {
	t.Helper()
	for _, table := range tables {
		s.Exec(t, fmt.Sprintf("create trigger q after insert or update or delete on %s for each row execute function pgq.%s('%s')", table, cmp.Or(s.format, "logutriga"), srcQueue))
	}
}

func (s *source) tick(t *testing.T) {
	t.Helper()
	tick(t, s.conn, srcQueue)
}

func remote(src, dst *pgtest.Database) batch.RemoteConfig {
	return batch.RemoteConfig{
		ConsumerConfig: batch.ConsumerConfig{
			JobConfig: batch.JobConfig{JobName: "loader", LogLevel: "info"},
			SrcDB:     batch.ConnString(src.DSN), QueueName: srcQueue, LazyFetch: 7,
		},
		DstDB: batch.ConnString(dst.DSN),
	}
}

// work runs a job until its queue is empty, and returns its log.
func work(t *testing.T, common batch.JobConfig, start func(*batch.Job) (batch.Worker, error)) (string, error) {
	t.Helper()
	var log strings.Builder
	job, err := batch.NewJob("test", common, &log)
	if err != nil {
		t.Fatal(err)
	}
	defer job.Close()
	worker, err := start(job)
	if err != nil {
		return log.String(), err
	}
	for {
		if more, err := worker.Work(context.Background()); err != nil || !more {
			return log.String(), err
		}
	}
}

func mustWork(t *testing.T, common batch.JobConfig, start func(*batch.Job) (batch.Worker, error)) string {
	t.Helper()
	log, err := work(t, common, start)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return log
}

func dispatchTable(cfg TableDispatcherConfig) func(*batch.Job) (batch.Worker, error) {
	return func(job *batch.Job) (batch.Worker, error) { return NewTableDispatcher(job, cfg) }
}

func dispatchCube(cfg CubeDispatcherConfig) func(*batch.Job) (batch.Worker, error) {
	return func(job *batch.Job) (batch.Worker, error) { return NewCubeDispatcher(job, cfg) }
}

func loadInBulk(cfg BulkLoaderConfig) func(*batch.Job) (batch.Worker, error) {
	return func(job *batch.Job) (batch.Worker, error) { return NewBulkLoader(job, cfg) }
}

// sameRows compares what two queries give.
func compareRows(t *testing.T, what string, a public, aSQL string, b public, bSQL string) {
	t.Helper()
	got, want := a.Rows(t, aSQL), b.Rows(t, bSQL)
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %d rows\n%.2000s\nwant %d\n%.2000s", what, len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
	}
}

func sameTable(t *testing.T, table string, src *source, dst public) {
	t.Helper()
	sql := "select * from " + table + " order by 1, 2"
	compareRows(t, table, dst, sql, src.public, sql)
}

const people = `create table public.people (id int primary key, "Full Name" text, email text, born date, score numeric, raw bytea, tags text[], seen timestamptz)`

// awkward are rows with all that may go wrong on the way.
const awkward = `insert into public.people values
	(1, 'Õnne Mägi', 'a@b', '1980-02-29', 1.50, '\x00ff5c', '{a,"b c",NULL}', '2026-11-30 10:00:00.123456+02'),
	(2, E'tab\there\nnew line\rcarriage\\back\\N', '', 'infinity', 'NaN', '', '{}', 'infinity'),
	(3, null, null, null, null, null, null, null),
	(4, 'it''s 100% a+b=c&d %41 ''; drop table people; --', '\N', '0044-03-15 BC', -0.000000001, '\xdeadbeef', '{"{}","\\"}', '-infinity'),
	(5, '漢字 😀 ' || chr(127) || chr(160), '\.', '9999-12-31', 1e100, '\x5c4e', '{"\"quoted\""}', '2000-01-01'),
	(6, repeat('long "value" ü\ ', 700000), 'big', '2026-01-01', 0, decode(repeat('00', 1000000), 'hex'), '{}', now())`

func TestTableDispatcherLoadsRowsAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"logutriga", "jsontriga"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			src := newSource(t, people)
			src.format = format
			src.capture(t, "people")
			dst := newTarget(t, people)
			src.Exec(t, awkward)
			src.Exec(t, fmt.Sprintf("create trigger r after truncate on people for each statement execute function pgq.%s('%s')", format, srcQueue))
			src.tick(t)
			cfg := TableDispatcherConfig{RemoteConfig: remote(src.Database, dst.Database), DestTable: "people"}
			mustWork(t, cfg.JobConfig, dispatchTable(cfg))
			if n := pgtest.Value[int](t, dst.Database, "select count(*) from public.people"); n != 6 {
				t.Errorf("%d rows, want 6", n)
			}
			sameTable(t, "public.people", src, dst)
			src.Exec(t, "truncate people")
			src.tick(t)
			mustWork(t, cfg.JobConfig, dispatchTable(cfg)) // has no row to insert
		})
	}
}

func TestTableDispatcherTakesTheFieldsThatAreNamed(t *testing.T) {
	t.Parallel()
	src := newSource(t, people)
	src.capture(t, "people")
	dst := newTarget(t, `create schema log; create table log."Persons" (name text, id int, at timestamptz default now())`)
	src.Exec(t, awkward)
	src.Exec(t, `update people set email = 'new' where id = 3`)
	src.Exec(t, `delete from people where id = 1`)
	src.tick(t)
	cfg := TableDispatcherConfig{RemoteConfig: remote(src.Database, dst.Database), DestTable: "log.Persons", Fields: []string{"id", "Full Name:name"}}
	mustWork(t, cfg.JobConfig, dispatchTable(cfg))
	if got, want := dst.Rows(t, `select id, count(*), count(at), min(left(name, 9)) from log."Persons" group by id order by id`), 6; len(got) != want {
		t.Errorf("got %q", got)
	} else if !strings.HasPrefix(got[0], "1") || !strings.Contains(got[0], "2") || !strings.Contains(got[0], "Õnne Mägi") {
		t.Errorf("the operation should not matter, got %q", got)
	}
}

func TestTableDispatcherSplitsByDate(t *testing.T) {
	t.Parallel()
	const visits = "create table public.visits (id int primary key, who text, at timestamptz, day date)"
	const rows = `insert into visits values
		(1, 'a', '2026-11-29 23:59:59+00', '2026-11-29'), (2, 'b', '2026-11-30 00:00:00+00', '2026-11-30'),
		(3, 'c', '2026-11-30 12:00:00+00', '2026-11-30'), (4, 'd', '2026-12-01 00:00:00.5+00', '2026-12-01'),
		(5, 'e', '2024-02-29 10:00:00+00', '2024-02-29')`
	for _, c := range []struct {
		name, dstDDL string
		set          func(*TableDispatcherConfig)
		want         []string // tables and how many rows are in them
	}{
		{"tables beside the parent", visits, func(c *TableDispatcherConfig) { c.PartField = "day" },
			[]string{"visits 0", "visits_2024_02_29 1", "visits_2026_11_29 1", "visits_2026_11_30 2", "visits_2026_12_01 1"}},
		{"by month", visits, func(c *TableDispatcherConfig) { c.PartField, c.PartMethod = "at", "monthly" },
			[]string{"visits 0", "visits_2024_02 1", "visits_2026_11 3", "visits_2026_12 1"}},
		{"by year", visits, func(c *TableDispatcherConfig) { c.PartField, c.PartMethod = "at", "yearly" },
			[]string{"visits 0", "visits_2024 1", "visits_2026 4"}},
		{"by hour", visits, func(c *TableDispatcherConfig) { c.PartField, c.PartMethod = "at", "hourly" },
			[]string{"visits 0", "visits_2024_02_29_10 1", "visits_2026_11_29_23 1", "visits_2026_11_30_00 1", "visits_2026_11_30_12 1", "visits_2026_12_01_00 1"}},
		{"a template", visits, func(c *TableDispatcherConfig) {
			c.PartField = "day"
			c.PartTemplate = "create table _DEST_TABLE () inherits (_PARENT); alter table only _DEST_TABLE add constraint _DEST_TABLE_pkey primary key (id); comment on table _DEST_TABLE is '_SCHEMA_TABLE'"
		}, []string{"visits 5", "visits_2024_02_29 1", "visits_2026_11_29 1", "visits_2026_11_30 2", "visits_2026_12_01 1"}},
		// The second partition needs the parent, whose rows the batch has a hold on.
		{"a template that makes partitions", strings.TrimSuffix(visits, ")") + `) partition by range (day);
			create function part(i_name text) returns void language plpgsql as $$
			declare day date := to_date(right(trim(i_name, '"'), 10), 'YYYY_MM_DD'); begin
				execute format('create table %s partition of public.visits for values from (%L) to (%L)', i_name, day, day + 1); end $$`,
			func(c *TableDispatcherConfig) {
				c.PartField, c.PartTemplate = "day", "select public.part('_DEST_TABLE')"
			},
			[]string{"visits 5", "visits_2024_02_29 1", "visits_2026_11_29 1", "visits_2026_11_30 2", "visits_2026_12_01 1"}},
		{"native partitions by date", strings.TrimSuffix(visits, ")") + ") partition by range (day)",
			func(c *TableDispatcherConfig) { c.PartField = "day" },
			[]string{"visits 5", "visits_2024_02_29 1", "visits_2026_11_29 1", "visits_2026_11_30 2", "visits_2026_12_01 1"}},
		// The target's clock is 13 hours ahead: 12:00 is the next day there.
		{"native partitions by the target's clock", strings.TrimSuffix(visits, ")") + ") partition by range (at)",
			func(c *TableDispatcherConfig) {
				c.PartField = "at"
				c.DstDB += " timezone=Pacific/Enderbury"
			},
			[]string{"visits 5", "visits_2024_02_29 1", "visits_2026_11_30 2", "visits_2026_12_01 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src := newSource(t, visits)
			src.capture(t, "visits")
			dst := newTarget(t, strings.Replace(c.dstDDL, "id int primary key", "id int", 1))
			src.Exec(t, "set timezone = 'UTC'; "+rows)
			src.tick(t)
			src.Exec(t, "set timezone = 'UTC'; insert into visits values (6, 'f', '2026-12-01 10:30:00+00', '2026-12-01'); delete from visits where id = 6")
			src.Exec(t, "truncate visits") // has no trigger here
			cfg := TableDispatcherConfig{RemoteConfig: remote(src.Database, dst.Database), DestTable: "visits", PartMethod: "daily"}
			c.set(&cfg)
			mustWork(t, cfg.JobConfig, dispatchTable(cfg))
			got := dst.Rows(t, `select c.relname || ' ' || (xpath('/row/n/text()', query_to_xml(format('select count(*) as n from %s', c.oid::regclass), false, true, '')))[1]
				from pg_class c where c.relname like 'visits%' and c.relkind in ('r', 'p') order by c.relname`)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
		})
	}
}

// Two jobs that need the same table at the same time.
func TestPartitionsAreMadeOnce(t *testing.T) {
	t.Parallel()
	dst := newTarget(t, "create table public.visits (id int, day date) partition by range (day)")
	const jobs = 4
	ended := make(chan error, jobs)
	for n := range jobs {
		src := newSource(t, "create table public.visits (id int primary key, day date)")
		src.capture(t, "visits")
		src.Exec(t, fmt.Sprintf("insert into visits select 10 * i + %d, date '2026-11-01' + i from generate_series(1, 20) i", n))
		src.tick(t)
		cfg := TableDispatcherConfig{RemoteConfig: remote(src.Database, dst.Database), DestTable: "visits", PartField: "day", PartMethod: "daily"}
		cfg.JobName, cfg.ConsumerName = fmt.Sprintf("job%d", n), "loader"
		src.Exec(t, fmt.Sprintf("select pgq.register_consumer_at('%s', 'loader%d', (select sub_last_tick from pgq.subscription))", srcQueue, n))
		cfg.ConsumerName = fmt.Sprintf("loader%d", n)
		go func() {
			log, err := work(t, cfg.JobConfig, dispatchTable(cfg))
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, log)
			}
			ended <- err
		}()
	}
	for range jobs {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if got := pgtest.Value[int](t, dst.Database, "select count(distinct id) from public.visits"); got != jobs*20 {
		t.Errorf("%d rows, want %d", got, jobs*20)
	}
	if got := pgtest.Value[int](t, dst.Database, "select count(*) from pg_inherits"); got != 20 {
		t.Errorf("%d partitions, want 20", got)
	}
}

// mutate makes random changes to rows of public.items, whose keys are few.
func (s *source) mutate(t *testing.T, rng *rand.Rand, changes int) {
	t.Helper()
	var sql strings.Builder
	for range changes {
		k, kind := rng.IntN(12), []string{"a", "b", "c'\\"}[rng.IntN(3)]
		literal := "'" + strings.ReplaceAll(kind, "'", "''") + "'"
		switch rng.IntN(4) {
		case 0:
			fmt.Fprintf(&sql, "delete from public.items where id = %d and kind = %s;\n", k, literal)
		case 1:
			fmt.Fprintf(&sql, "update public.items set value = %d, note = null where id = %d and kind = %s;\n", rng.IntN(1000), k, literal)
		default:
			fmt.Fprintf(&sql, "insert into public.items values (%d, %s, %d, 'ö\t%d') on conflict (id, kind) do update set value = excluded.value, note = excluded.note;\n",
				k, literal, rng.IntN(1000), rng.IntN(10))
		}
	}
	s.Exec(t, sql.String())
}

const items = "create table public.items (id int, kind text, value int, note text, primary key (id, kind))"

func TestBulkLoaderKeepsACopy(t *testing.T) {
	t.Parallel()
	for n := range 6 {
		method, format := n%3, []string{"logutriga", "jsontriga"}[n/3]
		t.Run(fmt.Sprint("method ", method, " of ", format), func(t *testing.T) {
			t.Parallel()
			src := newSource(t, items)
			src.format = format
			src.capture(t, "items")
			dst := newTarget(t, "create schema copies; "+strings.Replace(items, "public.items", "copies.things", 1))
			cfg := BulkLoaderConfig{RemoteConfig: remote(src.Database, dst.Database), LoadMethod: method, RemapTables: []string{"items:copies.things"}}
			rng := rand.New(rand.NewPCG(uint64(method), 1))
			for round := range 15 {
				src.mutate(t, rng, 1+rng.IntN(60))
				src.tick(t)
				log := mustWork(t, cfg.JobConfig, loadInBulk(cfg))
				if strings.Contains(log, "differ") {
					t.Errorf("round %d: %s", round, log)
				}
				compareRows(t, fmt.Sprint("round ", round), dst, "select * from copies.things order by 1, 2", src.public, "select * from public.items order by 1, 2")
			}
			if n := pgtest.Value[int](t, dst.Database, "select count(*) from copies.things"); n == 0 {
				t.Error("nothing was loaded")
			}
		})
	}
}

func TestBulkLoaderTellsOfRowsThatAreNotThere(t *testing.T) {
	t.Parallel()
	src := newSource(t, items+"; insert into items values (1, 'a', 1, null), (2, 'a', 2, null)")
	src.capture(t, "items")
	dst := newTarget(t, items)
	src.Exec(t, "update items set value = 3 where id = 1; delete from items where id = 2")
	src.tick(t)
	cfg := BulkLoaderConfig{RemoteConfig: remote(src.Database, dst.Database)}
	log := mustWork(t, cfg.JobConfig, loadInBulk(cfg))
	for _, want := range []string{"WARNING fewer rows changed", "operation=update", "operation=delete", "events=1 operation=delete rows=0", "table=public.items"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in the log:\n%s", want, log)
		}
	}
}

func TestCubeKeepsTheLatestStateOfADay(t *testing.T) {
	t.Parallel()
	for name, template := range map[string]string{
		"default":         "",
		"without a key":   "create table _DEST_TABLE (like _PARENT)",
		"key by the name": "create table _DEST_TABLE (like _PARENT); alter table only _DEST_TABLE add constraint _DEST_TABLE_pkey primary key (_PKEY);",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := newSource(t, items)
			src.capture(t, "items")
			dst := newTarget(t, items)
			cfg := CubeDispatcherConfig{RemoteConfig: remote(src.Database, dst.Database), Mode: "keep_latest", DateFormat: `"day"`, PartTemplate: template}
			rng := rand.New(rand.NewPCG(7, 7))
			for round := range 10 {
				src.mutate(t, rng, 1+rng.IntN(60))
				src.tick(t)
				mustWork(t, cfg.JobConfig, dispatchCube(cfg))
				compareRows(t, fmt.Sprint("round ", round), dst, "select * from public.items_day order by 1, 2", src.public, "select * from public.items order by 1, 2")
			}
			if n := pgtest.Value[int](t, dst.Database, "select count(*) from public.items"); n != 0 {
				t.Errorf("%d rows in the parent", n)
			}
		})
	}
}

func TestCubeGoesByTheDayOfTheBatch(t *testing.T) {
	t.Parallel()
	src := newSource(t, items)
	src.capture(t, "items")
	dst := newTarget(t, items)
	cfg := CubeDispatcherConfig{RemoteConfig: remote(src.Database, dst.Database), Mode: "keep_all", DateFormat: "YYYY_MM_DD"}
	day := func(date string) {
		t.Helper()
		src.tick(t)
		src.Exec(t, fmt.Sprintf("update pgq.tick set tick_time = '%s' where tick_id = (select max(tick_id) from pgq.tick)", date))
		mustWork(t, cfg.JobConfig, dispatchCube(cfg))
	}
	src.Exec(t, "insert into items values (1, 'a', 1, 'x'); update items set value = 2; update items set value = 3")
	day("2030-01-31 23:59:59")
	src.Exec(t, "update items set value = 4")
	day("2030-02-01 00:00:00")
	if got := dst.Rows(t, "select value from public.items_2030_01_31 order by 1"); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("first day: %q", got)
	}
	if got := dst.Rows(t, "select value from public.items_2030_02_01"); !slices.Equal(got, []string{"4"}) {
		t.Errorf("second day: %q", got)
	}
}

// Loaders stopped between any two of their steps end with the exact rows.
func TestLoadersSurviveAStopAtAnyStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		start func(remote batch.RemoteConfig) func(*batch.Job) (batch.Worker, error)
		want  string // of the source
		got   string // of the target
	}{
		{"table dispatcher", func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "log", PartField: "kind_of_day", PartMethod: "daily"})
		}, "select id, kind, value, note from public.history order by n", "select id, kind, value, note from public.log_2026_11_30 order by n"},
		{"cube dispatcher", func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return dispatchCube(CubeDispatcherConfig{RemoteConfig: r, Mode: "keep_latest", DateFormat: `"day"`})
		}, "select * from public.items order by 1, 2", "select * from public.items_day order by 1, 2"},
		{"bulk loader", func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return loadInBulk(BulkLoaderConfig{RemoteConfig: r})
		}, "select * from public.items order by 1, 2", "select * from public.items order by 1, 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src := newSource(t, items+`;
				create table history (n serial primary key, id int, kind text, value int, note text, kind_of_day date default '2026-11-30')`)
			dst := newTarget(t, items+"; create table log (n int, id int, kind text, value int, note text, kind_of_day date)")
			if c.name == "table dispatcher" {
				src.Exec(t, `create function keep() returns trigger language plpgsql as $$ begin
					insert into history (id, kind, value, note) values (new.id, new.kind, new.value, new.note); return null; end $$;
					create trigger h after insert or update on items for each row execute function keep()`)
				src.capture(t, "history")
			} else {
				src.capture(t, "items")
			}
			faults := pgtest.NewFaults(t)
			r := remote(faults.Through(t, src.Database), faults.Through(t, dst.Database))
			rng := rand.New(rand.NewPCG(1, 2))
			produce := func() {
				src.mutate(t, rng, 16)
				src.tick(t)
			}
			produce()
			faults.Count()
			mustWork(t, r.JobConfig, c.start(r))
			steps := faults.Steps()
			for step := 1; step <= steps; step++ {
				for mode, cut := range map[string]func(int){"before": faults.CutBefore, "after": faults.CutAfter} {
					produce()
					cut(step)
					_, err := work(t, r.JobConfig, c.start(r))
					if err == nil && faults.Cut() {
						t.Fatalf("cut %s step %d went unnoticed", mode, step)
					}
					faults.Count()
					mustWork(t, r.JobConfig, c.start(r))
					compareRows(t, fmt.Sprintf("cut %s step %d of %d", mode, step, steps), dst, c.got, src.public, c.want)
					if t.Failed() {
						return
					}
				}
			}
			t.Logf("stopped before and after each of %d requests", steps)
		})
	}
}

func TestLoadersRefuseWhatTheyCannotDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		ddl   string // of the source, which writes an event
		dst   string
		start func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error)
		want  []string
	}{
		{"table without a key", "create table k (id int); create trigger q after insert on k for each row execute function pgq.logutriga('user_events'); insert into k values (1)", "create table k (id int)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return loadInBulk(BulkLoaderConfig{RemoteConfig: r})
			}, []string{"event 1: ", "public.k has no primary key", "pkey="}},
		{"missing field", "select pgq.insert_event('user_events', 'I:id', 'id=1&name=x')", "create table k (id int, mail text)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k", Fields: []string{"id", "mail"}})
			}, []string{"event 1: ", `no field "mail"`}},
		{"not a row", "select pgq.insert_event('user_events', 'I:id', 'id=%zz')", "create table k (id int)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k"})
			}, []string{"event 1: ", "not url-encoded", `"id"`, "%zz"}},
		{"wrong value", "select pgq.insert_event('user_events', 'I:id', 'id=' || x) from unnest('{1,2,three,4}'::text[]) x", "create table k (id int)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k"})
			}, []string{"event 3: ", `"three"`, "22P02", "field id"}},
		{"missing table", "select pgq.insert_event('user_events', 'I:id', 'id=1')", "",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k"})
			}, []string{"load table public.k", "42P01", "create it in dst_db"}},
		{"missing column", "select pgq.insert_event('user_events', 'I:id', 'id=1&x=2')", "create table k (id int)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k"})
			}, []string{"event 1: ", `field "x" is no column of table public.k`}},
		{"half an object", `select pgq.insert_event('user_events', 'I:id', '{"id":1')`, "create table k (id int)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k"})
			}, []string{"event 1: ", "no row of pgq.jsontriga", "unexpected end"}},
		{"an object of another type", `select pgq.insert_event('user_events', '{"op":"MOVE"}', '{"id":1}', 'k', null, null, null)`, "create table k (id int primary key)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return loadInBulk(BulkLoaderConfig{RemoteConfig: r})
			}, []string{"event 1: ", "none of pgq.jsontriga", "INSERT, UPDATE, DELETE"}},
		{"too many", "select pgq.insert_event('user_events', 'I:id', 'id=x') from generate_series(1, 6)", "create table k (id int)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k", BadEvents: batch.BadEvents{OnBadEvent: "deadletter", BadEventLimit: 5}})
			}, []string{"event 6: ", "more than bad_event_limit = 5"}},
		{"key of two rows", "select pgq.insert_event('user_events', 'I:id', 'id=1', 'k', null, null, null)", "create table k (id int primary key); insert into k values (1)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return loadInBulk(BulkLoaderConfig{RemoteConfig: r})
			}, []string{"event 1: ", "23505", "k_pkey", "(id)=(1)"}},
		{"delete of all states", "select pgq.insert_event('user_events', 'D:id', 'id=1', 'k', null, null, null)", "create table k (id int)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchCube(CubeDispatcherConfig{RemoteConfig: r, Mode: "keep_all"})
			}, []string{"event 1: ", "keep_all takes no deletes"}},
		{"other format", "select pgq.insert_event('user_events', 'hello', 'world', 'k', null, null, null)", "create table k (id int)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchCube(CubeDispatcherConfig{RemoteConfig: r, Mode: "keep_latest"})
			}, []string{"event 1: ", `type "hello"`, "pgq.logutriga"}},
		{"name too long", "select pgq.insert_event('user_events', 'I:id', 'id=1', repeat('k', 60), null, null, null)", "",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchCube(CubeDispatcherConfig{RemoteConfig: r, Mode: "keep_latest", DateFormat: "YYYY"})
			}, []string{"longer than 63 bytes"}},
		{"no date", "select pgq.insert_event('user_events', 'I:id', 'id=1&day=soon')", "create table k (id int, day text)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k", PartField: "day", PartMethod: "daily"})
			}, []string{"event 1: ", `field "day"`, `"soon"`}},
		{"a date without a day", "select pgq.insert_event('user_events', 'I:id', 'id=1&at=infinity')", "create table k (id int, at timestamptz) partition by range (at)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k", PartField: "at", PartMethod: "daily"})
			}, []string{"event 1: ", `field "at"`, `"infinity" is no date`}},
		{"a date before our era", "select pgq.insert_event('user_events', 'I:id', 'id=1&day=0044-03-15+BC')", "create table k (id int, day date)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k", PartField: "day", PartMethod: "daily"})
			}, []string{"event 1: ", `field "day"`, "before our era"}},
		{"partitioned otherwise", "select pgq.insert_event('user_events', 'I:id', 'id=1&day=2026-11-30')", "create table k (id int, day date) partition by list (id)",
			func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "k", PartField: "day", PartMethod: "daily"})
			}, []string{"public.k is partitioned", `"day"`, "template"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src := newSource(t, "")
			src.Exec(t, c.ddl)
			src.tick(t)
			dst := newTarget(t, c.dst)
			r := remote(src.Database, dst.Database)
			_, err := work(t, r.JobConfig, c.start(r))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %q", want, err)
				}
			}
			if c.dst != "" {
				if n := pgtest.Value[int](t, dst.Database, "select count(*) from public.k"); n > 1 {
					t.Errorf("%d rows were kept", n)
				}
			}
		})
	}
}

func TestTemplatesKnowTheirWords(t *testing.T) {
	part := partition{table: "app.users_2026", parent: "app.users", key: []string{"id", "Kind"}}
	for template, want := range map[string]string{
		"create table _DEST_TABLE (like _PARENT)":                   `create table "app"."users_2026" (like "app"."users")`,
		"add constraint _DEST_TABLE_pkey primary key (_PKEY)":       `add constraint "app__users_2026_pkey" primary key ("id", "Kind")`,
		"create index _SCHEMA_TABLE_x on _DEST_TABLE(x)":            `create index "app__users_2026_x" on "app"."users_2026"(x)`,
		"create table %(dest)s (like %(base)s); key (%(pkey)s)":     `create table "app"."users_2026" (like "app"."users"); key ("id", "Kind")`,
		"create table %%(dest)s; create index i_%%(schema_table)s_": `create table "app"."users_2026"; create index "i_app__users_2026_"`,
	} {
		if got := expandTemplate(template, part); got != want {
			t.Errorf("%s\n got %s\nwant %s", template, got, want)
		}
	}
}

func TestCopyTextIsWhatTheServerReads(t *testing.T) {
	for encoded, want := range map[string]string{
		"":                 "",
		"plain":            "plain",
		"a+b%2bc%2F":       "a b+c/",
		"%c3%a9%C3%A9é":    "ééé",
		"%09%0a%0D%5c%5cN": `\t\n\r\\\\N`,
		`\.`:               `\\.`,
		"\t\n":             `\t\n`,
	} {
		got, err := appendCopy([]byte("x"), encoded)
		if err != nil || string(got) != "x"+want {
			t.Errorf("appendCopy(%q) = %q, %v; want %q", encoded, got, err, want)
		}
	}
	for _, wrong := range []string{"%", "%4", "%4g", "%zz", "a%"} {
		if got, err := appendCopy(nil, wrong); err == nil {
			t.Errorf("appendCopy(%q) = %q without an error", wrong, got)
		}
	}
}

// Of a set that the server refuses, all but the rows that are the cause are loaded.
func TestBadRowsAreFoundAndTheOthersLoaded(t *testing.T) {
	t.Parallel()
	const target = `create table k (id int primary key, value int not null check (value < 1000), day date default '2026-11-30')`
	for name, start := range map[string]func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error){
		"table dispatcher": func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return dispatchTable(TableDispatcherConfig{RemoteConfig: r, BadEvents: batch.BadEvents{OnBadEvent: "deadletter"}, DestTable: "k"})
		},
		"bulk loader": func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return loadInBulk(BulkLoaderConfig{RemoteConfig: r, BadEvents: batch.BadEvents{OnBadEvent: "deadletter"}})
		},
		"cube dispatcher": func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return dispatchCube(CubeDispatcherConfig{RemoteConfig: r, BadEvents: batch.BadEvents{OnBadEvent: "deadletter"}, Mode: "keep_latest"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := newSource(t, "")
			src.Exec(t, `select pgq.insert_event('user_events', 'I:id', data, 'k', null, null, null) from (
				select i, case i when 7 then 'id=seven&value=1' when 8 then 'id=8&value' when 20 then 'id=20&value=1000' when 39 then 'id=39&value=%zz'
					when 40 then 'id=40&value=%00' else 'id=' || i || '&value=' || i end as data from generate_series(1, 40) i order by i) e`)
			src.tick(t)
			dst := newTarget(t, target)
			r := remote(src.Database, dst.Database)
			log := mustWork(t, r.JobConfig, start(r))
			if got := pgtest.Value[string](t, dst.Database, "select count(*) || ' ' || sum(id) || ' ' || sum(value) from public.k"); got != "35 706 706" {
				t.Errorf("count and sums are %s, want 35 706 706", got)
			}
			dead := src.Rows(t, "select ev_id, ev_failed_reason from pgq.failed_event_list('user_events', 'loader') order by ev_id")
			for i, want := range []string{`7|invalid input syntax for type integer: "seven"`, `8|null value in column "value"`, "20|", "39|", "40|"} {
				if i >= len(dead) || !strings.HasPrefix(dead[i], want) {
					t.Fatalf("dead are %q, want number %d to begin with %q", dead, i, want)
				}
			}
			if len(dead) != 5 || !strings.Contains(dead[2], "k_value_check") || !strings.Contains(dead[3], `field "value"`) {
				t.Errorf("dead are %q", dead)
			}
			for _, want := range []string{"event_id=7", "queue=user_events", "WARNING event put aside"} {
				if !strings.Contains(log, want) {
					t.Errorf("no %q in the log:\n%s", want, log)
				}
			}
		})
	}
}

// Workers of one process, with what they know of the target each for itself.
func TestLoadersWorkInParallel(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error){
		"visits_2026_11": func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "visits", PartField: "day", PartMethod: "monthly"})
		},
		"visits_day": func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return dispatchCube(CubeDispatcherConfig{RemoteConfig: r, Mode: "keep_latest", DateFormat: `"day"`})
		},
		"visits": func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return loadInBulk(BulkLoaderConfig{RemoteConfig: r})
		},
		"visits_all": func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			cfg := QueueLoaderConfig{RemoteConfig: r, TableRules: TableRules{TableMode: "split", RowMode: "plain", SplitMode: "by-date-field:day", SplitPart: "visits_all"}}
			return func(job *batch.Job) (batch.Worker, error) { return NewQueueLoader(job, cfg) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const slots = 6
			src := newSource(t, "create table public.visits (id int primary key, day date)")
			src.Exec(t, fmt.Sprintf("select pgq.register_slots('%s', 'parallel', %d, 'ev_data')", srcQueue, slots))
			src.capture(t, "visits")
			src.tick(t)
			for n := range 5 {
				src.Exec(t, fmt.Sprintf("insert into visits select i, '2026-11-01'::date + i %% 20 from generate_series(%d, %d) i", n*100+1, n*100+100))
				src.tick(t)
			}
			dst := newTarget(t, "create table public.visits (id int primary key, day date)")
			r := remote(src.Database, dst.Database)
			r.ConsumerName, r.Slots, r.SlotKey, r.Workers = "parallel", slots, "ev_data", 3
			mustWork(t, r.JobConfig, start(r))
			if got := pgtest.Value[string](t, dst.Database, "select count(*) || ' ' || sum(id) from public."+name); got != "500 125250" {
				t.Errorf("count and sum are %s, want 500 125250", got)
			}
		})
	}
}

// What the target's tables have beside the source's columns does not matter.
func TestTargetsMayDiffer(t *testing.T) {
	t.Parallel()
	const table = `create table %s (id int generated always as identity primary key, value text,
		upper text generated always as (upper(value)) stored, loaded timestamptz not null default now())`
	src := newSource(t, "create table public.k (id int primary key, value text, upper text)")
	src.capture(t, "k")
	src.Exec(t, "insert into k select i, 'value ' || i, 'x' from generate_series(1, 30) i; update k set value = 'new' where id < 4; delete from k where id = 5")
	src.tick(t)
	dst := newTarget(t, fmt.Sprintf(table, "k")+"; create schema cube; create schema log; "+fmt.Sprintf(table, "cube.k")+"; "+strings.Replace(fmt.Sprintf(table, "log.k"), " primary key", "", 1))
	r := remote(src.Database, dst.Database)
	mustWork(t, r.JobConfig, loadInBulk(BulkLoaderConfig{RemoteConfig: r}))
	for _, c := range []struct {
		name  string
		start func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error)
	}{
		{"merged", func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return loadInBulk(BulkLoaderConfig{RemoteConfig: r, LoadMethod: 2, RemapTables: []string{"k:cube.k"}})
		}},
		{"plain", func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "log.k"})
		}},
	} {
		other := r
		other.ConsumerName = c.name
		src.Exec(t, "select pgq.register_consumer_at('user_events', '"+c.name+"', 1)")
		mustWork(t, other.JobConfig, c.start(other))
	}
	for table, want := range map[string]string{"public.k": "29 3 29", "cube.k": "29 3 29", "log.k": "34 3 34"} {
		got := pgtest.Value[string](t, dst.Database, "select count(*) || ' ' || count(*) filter (where upper = 'NEW') || ' ' || count(loaded) from "+table)
		if got != want {
			t.Errorf("%s: %s, want %s", table, got, want)
		}
	}
}

// Rows pass a unique value on: each step is right, and so is the set.
func TestUniqueValuesChangeHands(t *testing.T) {
	t.Parallel()
	const table = "create table public.k (id int primary key, seat text unique)"
	for name, start := range map[string]func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error){
		"bulk loader": func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return loadInBulk(BulkLoaderConfig{RemoteConfig: r})
		},
		"cube dispatcher": func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
			return dispatchCube(CubeDispatcherConfig{RemoteConfig: r, Mode: "keep_latest"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := newSource(t, table), newTarget(t, table)
			src.capture(t, "k")
			r := remote(src.Database, dst.Database)
			for _, sql := range []string{
				"insert into k values (1, 'a'), (2, 'b'), (3, 'c')",
				"update k set seat = 'x' where id = 2; update k set seat = 'b' where id = 1; update k set seat = 'a' where id = 2",
				"delete from k where id = 3; insert into k values (4, 'c'); update k set seat = 'd' where id = 1; insert into k values (3, 'b')",
			} {
				src.Exec(t, sql)
				src.tick(t)
				mustWork(t, r.JobConfig, start(r))
				sameTable(t, "public.k", src, dst)
			}
		})
	}
}

// The outcome does not hang on which changes come together.
func TestBulkLoaderMakesUpForRowsThatDiffer(t *testing.T) {
	t.Parallel()
	for method := range 3 {
		t.Run(fmt.Sprint("method ", method), func(t *testing.T) {
			t.Parallel()
			src := newSource(t, items+"; insert into items values (1, 'gone', 1, null)")
			src.capture(t, "items")
			dst := newTarget(t, items+"; insert into items values (2, 'stale', 0, null)")
			src.Exec(t, "delete from items where id = 1; insert into items values (1, 'gone', 5, 'back')")
			if method == 2 {
				src.Exec(t, "insert into items values (2, 'stale', 1, null); delete from items where id = 2")
			} else {
				dst.Exec(t, "delete from items")
			}
			src.tick(t)
			r := remote(src.Database, dst.Database)
			mustWork(t, r.JobConfig, loadInBulk(BulkLoaderConfig{RemoteConfig: r, LoadMethod: method}))
			sameTable(t, "public.items", src, dst)
		})
	}
}

// A partition goes behind the job's back: its rows are nobody's fault.
func TestDroppedPartitionIsMadeAgain(t *testing.T) {
	t.Parallel()
	src := newSource(t, "create table public.visits (id int primary key, day date)")
	src.capture(t, "visits")
	dst := newTarget(t, "create table public.visits (id int, day date) partition by range (day)")
	cfg := TableDispatcherConfig{RemoteConfig: remote(src.Database, dst.Database), BadEvents: batch.BadEvents{OnBadEvent: "deadletter"}, DestTable: "visits", PartField: "day", PartMethod: "daily"}
	job, err := batch.NewJob("test", cfg.JobConfig, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer job.Close()
	worker, err := NewTableDispatcher(job, cfg)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for round := range 3 {
		src.Exec(t, fmt.Sprintf("insert into visits select 10 * %d + i, '2026-11-30' from generate_series(1, 4) i", round))
		src.tick(t)
		for more := true; more; {
			var err error
			if more, err = worker.Work(t.Context()); err != nil {
				t.Log(err)
				failed++
				more = failed < 5
			}
		}
		if got := pgtest.Value[int](t, dst.Database, "select count(*) from public.visits"); got != 4 {
			t.Errorf("round %d: %d rows", round, got)
		}
		dst.Exec(t, "drop table visits_2026_11_30")
	}
	if failed != 2 {
		t.Errorf("%d batches failed, want each of the two that met a dropped partition once", failed)
	}
}

// Servers that go away and come back in the middle: the rows are exact.
func TestLoadersGoOnAfterARestartOfTheirServers(t *testing.T) {
	t.Parallel()
	sources, targets := pgtest.Server(t), pgtest.Server(t)
	src := &source{public: public{sources.DB(t, "pgq")}}
	src.Exec(t, items+"; create table history (n serial primary key, what text); select pgq.create_queue('"+srcQueue+"')")
	src.capture(t, "items", "history")
	const all = "select * from public.items order by 1, 2"
	jobs := []*struct {
		name, reads, got, want string
		start                  func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error)
		dst                    public
	}{
		{name: "table dispatcher", reads: "public.history", got: "select * from public.history order by 1", want: "select * from public.history order by 1",
			start: func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchTable(TableDispatcherConfig{RemoteConfig: r, DestTable: "history"})
			}},
		{name: "cube dispatcher", reads: "public.items", got: "select * from public.items_day order by 1, 2", want: all,
			start: func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return dispatchCube(CubeDispatcherConfig{RemoteConfig: r, Mode: "keep_latest", DateFormat: `"day"`})
			}},
		{name: "bulk loader", reads: "public.items", got: all, want: all,
			start: func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				return loadInBulk(BulkLoaderConfig{RemoteConfig: r})
			}},
		{name: "queue loader", reads: "public.items", got: all, want: all,
			start: func(r batch.RemoteConfig) func(*batch.Job) (batch.Worker, error) {
				cfg := QueueLoaderConfig{RemoteConfig: r, TableRules: TableRules{TableMode: "direct", RowMode: "bulk", BulkMode: "merged"}}
				return func(job *batch.Job) (batch.Worker, error) { return NewQueueLoader(job, cfg) }
			}},
	}
	logs := map[string]*logText{}
	for _, j := range jobs {
		j.dst = public{targets.DB(t, "pgq_ext")}
		j.dst.Exec(t, items+"; create table history (n int, what text)")
		r := remote(src.Database, j.dst.Database)
		r.JobName, r.ConsumerName, r.TableFilter = j.name, j.name, []string{j.reads}
		r.LoopDelay, r.ExceptionSleep = 10*time.Millisecond, 10*time.Millisecond
		logs[j.name] = running(t, j.name, r.JobConfig, j.start(r))
	}
	src.WaitFor(t, fmt.Sprintf("select count(*) = %d from pgq.subscription", len(jobs)))
	rng := rand.New(rand.NewPCG(11, 12))
	produce := func(rounds int) {
		for range rounds {
			src.mutate(t, rng, 40)
			src.Exec(t, "insert into history (what) select 'Õ' || i from generate_series(1, 20) i")
			src.Exec(t, "select pgq.force_tick('"+srcQueue+"'); select pgq.ticker('"+srcQueue+"')")
		}
	}
	done := func(when string) {
		src.WaitFor(t, "select every(sub_batch is null and sub_last_tick = (select max(tick_id) from pgq.tick)) from pgq.subscription")
		for _, j := range jobs {
			compareRows(t, j.name+", "+when, j.dst, j.got, src.public, j.want)
		}
	}
	throughRestarts(t, sources, targets, logs, produce, done)
}
