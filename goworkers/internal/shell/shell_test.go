package shell

// Sessions on a real server, fed by a pipe.

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"goworkers/batch"
	"goworkers/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setup opens a session on a database of its own. Both outputs go into one buffer.
func setup(t *testing.T, in string, extensions ...string) (*Session, *bytes.Buffer, *pgtest.Database) {
	t.Helper()
	d := pgtest.DB(t, extensions...)
	out := &bytes.Buffer{}
	s, err := New(context.Background(), Config{DSN: batch.ConnString(d.DSN), Application: "tester", Program: "shell", Version: "4.0",
		In: strings.NewReader(in), Out: out, Err: out})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, out, d
}

// transcript runs lines and compares what is said.
func transcript(t *testing.T, in, want string, extensions ...string) *pgtest.Database {
	t.Helper()
	s, out, d := setup(t, in, extensions...)
	if err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := mask(out.String()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	return d
}

// mask hides what varies: ages, and with them how wide the columns are.
func mask(text string) string {
	if !age.MatchString(text) {
		return text
	}
	text = age.ReplaceAllString(text, "AGE")
	return regexp.MustCompile(` +`).ReplaceAllString(regexp.MustCompile(`-{3,}`).ReplaceAllString(text, "---"), " ")
}

var age = regexp.MustCompile(`\d\d:\d\d:\d\d(\.\d+)?`)

func TestQueuesAreMadeChangedAndDropped(t *testing.T) {
	t.Parallel()
	d := transcript(t, `install pgq
install plperl
create queue q;
create queue q
Create Queue "other one"
alter queue q set max_count = 7, queue_ticker_max_lag='5 s' rotation_period = 1h
alter queue * set idle_period=90s, retention = none
alter queue q set paused
alter queue q set speed = 9
alter queue nope set paused = true
drop queue "other one"
drop queue nope
drop queue
`, `INSTALL
ERROR:  "plperl" is none of pgq, pgq_ext, pgq_coop
CREATE
ERROR:  queue "q" exists already
CREATE
ALTER
ALTER
ERROR:  NAME = VALUE is expected at "paused"; usage: alter queue QUEUE|* set NAME = VALUE, …
ERROR:  "speed" is none of max_count, max_lag, idle_period, min_lag, paused, ticker_max_count, ticker_max_lag, ticker_idle_period, ticker_min_lag, ticker_paused, external_ticker, rotation_period, notify, retention, consumer_expiry, disable_insert, per_tx_limit, extra_maint; usage: alter queue QUEUE|* set NAME = VALUE, …
ERROR:  No such event queue (SQLSTATE PGQ01)
DETAIL:  There is no queue "nope".
HINT:  Create it with pgq.create_queue().
DROP
ERROR:  No such event queue (SQLSTATE PGQ01)
DETAIL:  There is no queue "nope".
ERROR:  QUEUE is missing; usage: drop queue QUEUE [force]
`)
	if got := d.Rows(t, `select queue_name, queue_ticker_max_count, queue_ticker_max_lag, queue_rotation_period, queue_ticker_idle_period from pgq.queue`); !slices.Equal(got, []string{"q|7|00:00:05|01:00:00|00:01:30"}) {
		t.Errorf("queues are %q", got)
	}
}

func TestConsumersAreRegisteredMovedAndRemoved(t *testing.T) {
	t.Parallel()
	d := transcript(t, `create queue q
register consumer a
register consumer a on q
connect queue=q
register consumer b at 1
register consumer c copy b
register consumer d copy nobody
register consumer e at soon
register consumer e at 1 copy a
show consumer b
show consumer nobody
unregister consumer a from q
unregister consumer a
unregister consumer nobody from nope
show consumer * on q
unregister consumer *
show consumer
`, `CREATE
ERROR: no queue: name one with on QUEUE, or choose one with connect queue=QUEUE
REGISTER
CONNECT
REGISTER
REGISTER
ERROR: consumer "nobody" on queue "q" has no position to copy
ERROR: tick "soon" is not a number
ERROR: at, copy and slots exclude each other
 queue | consumer | lag | last_seen | last_tick | batch | next_tick | pending
---+---+---+---+---+---+---+---
 q | b | AGE | AGE | 1 | | | 0
(1 row)

ERROR: consumer "nobody" is not registered
UNREGISTER
ERROR: consumer "a" is not registered on queue "q"
ERROR: consumer "nobody" is not registered on queue "nope"
 queue | consumer | lag | last_seen | last_tick | batch | next_tick | pending
---+---+---+---+---+---+---+---
 q | b | AGE | AGE | 1 | | | 0
 q | c | AGE | AGE | 1 | | | 0
(2 rows)

UNREGISTER
 queue | consumer | lag | last_seen | last_tick | batch | next_tick | pending
---+---+---+---+---+---+---+---
(0 rows)

`, "pgq")
	if n := pgtest.Value[int64](t, d, `select count(*) from pgq.subscription`); n != 0 {
		t.Errorf("%d registrations are left", n)
	}
}

func TestSubconsumersAreOfACooperatingConsumer(t *testing.T) {
	t.Parallel()
	d := transcript(t, `create queue q
connect queue=q
register subconsumer one for main
register subconsumer two for main on q
register subconsumer three
unregister subconsumer one for main
unregister subconsumer one for main
select pgq.force_tick('q') is not null as ticked; select pgq.ticker('q');
select pgq_coop.next_batch('q', 'main', 'two');
unregister subconsumer two for main
unregister subconsumer two for main from q close batch
register subconsumer four for main
unregister subconsumer * for main
`, `CREATE
CONNECT
REGISTER
REGISTER
ERROR:  for CONSUMER is missing; usage: register subconsumer SUBCONSUMER for CONSUMER [on QUEUE]
UNREGISTER
ERROR:  subconsumer "one" of consumer "main" is not registered on queue "q"
 ticked
--------
 t
(1 row)

 ticker
--------
      2
(1 row)

 next_batch
------------
          1
(1 row)

ERROR:  subconsumer has active batch (SQLSTATE 55006)
DETAIL:  Subconsumer "two" of consumer "main" has batch 1 open.
HINT:  Finish it, or leave it to the others with batch handling 1.
UNREGISTER
REGISTER
UNREGISTER
`, "pgq", "pgq_coop")
	if got := d.Rows(t, `select co_name from pgq.consumer order by 1`); !slices.Equal(got, []string{"main", "main.(batch 1)"}) {
		t.Errorf("consumers are %q", got)
	}
}

func TestEverythingElseIsSQL(t *testing.T) {
	t.Parallel()
	transcript(t, `select 1 as n,
  'a;b' as text;
create table public.t (id int primary key, v text default 'x'); insert into public.t values (1), (2);
begin;
select 1/0;
select 1;
rollback;
do $$ begin raise notice 'hi; there' using hint = 'Look.'; end $$;
copy public.t to stdout;
copy public.t from stdin;
show table public.t
show table nothing
\d
select 3 as last`, ` n | text
---+------
 1 | a;b
(1 row)

CREATE TABLE
INSERT 0 2
BEGIN
ERROR:  division by zero (SQLSTATE 22012)
ERROR:  current transaction is aborted, commands ignored until end of transaction block (SQLSTATE 25P02)
ROLLBACK
NOTICE:  hi; there
HINT:  Look.
DO
1	x
2	x
COPY 2
ERROR:  copy … from stdin is not for this console; use psql
 column |  type   | nullable |  default
--------+---------+----------+-----------
 id     | integer | not null |
 v      | text    |          | 'x'::text
(2 rows)

ERROR:  table "nothing" does not exist
ERROR:  unknown command \d; show help lists the commands
 last
------
    3
(1 row)

`)
}

// A command of ours that fails within a transaction does not end it.
func TestCommandsKeepTheUsersTransaction(t *testing.T) {
	t.Parallel()
	d := transcript(t, `begin;
create queue q
alter queue q set max_count = 9, max_lag = soon
alter queue q set max_count = 8
commit;
`, `BEGIN
CREATE
ERROR:  invalid input syntax for type interval: "soon" (SQLSTATE 22007)
ALTER
COMMIT
`, "pgq")
	if n := pgtest.Value[int](t, d, `select queue_ticker_max_count from pgq.queue`); n != 8 {
		t.Errorf("max_count is %d", n)
	}
}

func TestBatchesAreShown(t *testing.T) {
	t.Parallel()
	s, out, d := setup(t, "connect queue=q\nshow batch c\nshow batch idle\nshow batch nobody\nshow batch 1\nshow batch 99\n", "pgq")
	for _, sql := range []string{
		`select pgq.create_queue('q'), pgq.register_consumer('q', 'c'), pgq.register_consumer('q', 'idle')`,
		`select pgq.insert_event('q', 'type', 'event ' || n) from generate_series(1, 25) n`,
		`update pgq.queue set queue_ticker_max_lag = '0'; select pgq.ticker('q')`,
		`select pgq.next_batch('q', 'c')`,
	} {
		d.Exec(t, sql)
	}
	if err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	for text, times := range map[string]int{
		"queue_name | consumer_name": 2, "event 20": 2, "event 21": 0,
		"The batch has more events: select * from pgq.get_batch_events(1);": 2,
		`ERROR:  consumer "idle" on queue "q" has no open batch`:            1,
		`ERROR:  consumer "nobody" is not registered on queue "q"`:          1,
		`ERROR:  batch 99 is not open`:                                      1,
	} {
		if n := strings.Count(got, text); n != times {
			t.Errorf("%q stands there %d times, want %d, in\n%s", text, n, times, got)
		}
	}
}

func TestScriptStopsAtItsFirstError(t *testing.T) {
	t.Parallel()
	s, out, d := setup(t, "", "pgq")
	ctx := context.Background()
	if err := s.Script(ctx, "create queue a; create queue b"); err != nil || out.String() != "CREATE\nCREATE\n" {
		t.Errorf("%v, %q", err, out)
	}
	err := s.Script(ctx, "-- first\ncreate queue c\n\nselect\n 1/0;\ncreate queue d\n")
	var at *ScriptError
	if !errors.As(err, &at) || at.Line != 4 {
		t.Errorf("error %v, want one of line 4", err)
	}
	if err := s.Script(ctx, "exit; create queue e"); err != nil {
		t.Error(err)
	}
	if got := d.Rows(t, `select queue_name from pgq.queue order by 1`); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("queues are %q", got)
	}
}

func TestConnectGoesElsewhere(t *testing.T) {
	t.Parallel()
	other := pgtest.DB(t, "pgq")
	s, out, d := setup(t, "", "pgq")
	ctx := context.Background()
	if got, want := s.prompt(false), "(noqueue)@"+d.Name+"> "; got != want {
		t.Errorf("the prompt is %q, want %q", got, want)
	}
	if err := s.Script(ctx, "connect dbname="+other.Name+" queue=q\nselect current_database() as here;"); err != nil {
		t.Fatal(err)
	}
	if got, want := s.prompt(true), "q@"+other.Name+"- "; got != want {
		t.Errorf("the prompt is %q, want %q", got, want)
	}
	if !strings.Contains(out.String(), " "+other.Name+"\n") {
		t.Errorf("not there: %s", out)
	}
	for text, want := range map[string]string{
		"connect dbname=nowhere":        `database "nowhere" does not exist`,
		"connect port=many":             `port "many" is not a port`,
		"connect speed=9":               `"speed" is none of dbname, host, port, user, password, queue`,
		"connect host=127.0.0.1 port=1": "connection refused",
	} {
		if err := s.Script(ctx, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if err := s.Script(ctx, "select 1;"); err != nil {
		t.Errorf("the connection is gone after an error: %v", err)
	}
	// One that the server has ended is opened anew.
	other.Exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'tester'`)
	if err := s.Script(ctx, "select 1;"); err == nil {
		t.Error("no error on a connection that was ended")
	}
	out.Reset()
	if err := s.Script(ctx, "select current_database();"); err != nil || !strings.Contains(out.String(), "connected anew") || !strings.Contains(out.String(), other.Name) {
		t.Errorf("after the loss: %v, %s", err, out)
	}
}

func TestCompletionOffersWhatMayStandThere(t *testing.T) {
	t.Parallel()
	s, _, d := setup(t, "", "pgq")
	d.Exec(t, `create table public.mytable (a int); create sequence public.myseq;
		select pgq.create_queue('orders'), pgq.create_queue('other'), pgq.register_consumer('orders', 'mover')`)
	for _, c := range []struct {
		line string
		want string // candidates; a leading ~ is: among others
	}{
		{"sho", "show "},
		{"show ", "~queue ,consumer ,batch ,blockers ,table ,sequence ,version ,help "},
		{"show queue o", "orders ,other "},
		{"SHOW QUEUE or", "orders "},
		{"show queue ", "* ,orders ,other "},
		{"drop queue orders ", "force "},
		{"alter queue orders ", "set "},
		{"alter queue orders set max", "max_count ,max_lag "},
		{"alter queue orders set max_lag=1, rot", "rotation_period "},
		{"register consumer ", "mover "},
		{"register consumer m ", "at ,copy ,key ,on ,slots "},
		{"register consumer m on ", "orders ,other "},
		{"register consumer m on orders copy ", "mover "},
		{"unregister subconsumer x for ", "mover "},
		{"unregister subconsumer x for mover ", "close ,from "},
		{"connect ", "dbname ,host ,password ,port ,queue ,user "},
		{"connect queue=", "orders ,other "},
		{"install ", "pgq ,pgq_coop ,pgq_ext "},
		{"show table public.my", "public.mytable "},
		{"show sequence public.my", "public.myseq "},
		{"select * from public.my", "public.mytable "},
		{"select 1; show queue or", "orders "},
		{"select pgq.next_batch_c", "pgq.next_batch_custom( "},
		{"selec", "select "},
		{"show queue nothing_like_it", ""},
	} {
		head, got, tail := s.complete(c.line, len(c.line))
		want := strings.Split(c.want, ",")
		if among := strings.HasPrefix(c.want, "~"); among {
			for _, w := range strings.Split(c.want[1:], ",") {
				if !slices.Contains(got, w) {
					t.Errorf("%q: %q is not among %q", c.line, w, got)
				}
			}
			continue
		}
		if c.want == "" {
			want = nil
		}
		if !slices.Equal(got, want) || tail != "" || !strings.HasPrefix(c.line, head) {
			t.Errorf("%q: %q + %q + %q, want %q", c.line, head, got, tail, want)
		}
	}
	head, got, tail := s.complete("show queue ö or on", len([]rune("show queue ö or")))
	if head != "show queue ö " || tail != " on" {
		t.Errorf("in the middle: %q, %q, %q", head, got, tail)
	}
	// Within a transaction nothing is asked: an error would end it.
	if err := s.Script(context.Background(), "begin;"); err != nil {
		t.Fatal(err)
	}
	if _, got, _ := s.complete("show queue or", 13); len(got) != 0 {
		t.Errorf("in a transaction: %q", got)
	}
}

// Every command has its form in the help, and its words are offered.
func TestHelpNamesEveryCommand(t *testing.T) {
	t.Parallel()
	s, out, _ := setup(t, "show help\n")
	if err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if c.help != "" && !strings.Contains(out.String(), "\n  "+c.usage()+"\n      "+c.help+"\n") {
			t.Errorf("the help lacks %s", c.usage())
		}
		if c.run == nil {
			t.Errorf("%s does nothing", c.verb)
		}
	}
}
