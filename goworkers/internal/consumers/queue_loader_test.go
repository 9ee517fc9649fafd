package consumers

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"goworkers/batch"
	"goworkers/internal/pgtest"
)

// loaderFromFile reads the ini file of a queue loader.
func loaderFromFile(t *testing.T, src *source, dst public, text string) (batch.JobConfig, func(*batch.Job) (batch.Worker, error), error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "loader.ini")
	main := fmt.Sprintf("[queue_loader]\njob_name = loader\nsrc_db = %s\ndst_db = %s\nqueue_name = %s\npgq_lazy_fetch = 7\n", src.DSN, dst.DSN, srcQueue)
	if err := os.WriteFile(path, []byte(main+text), 0o600); err != nil {
		t.Fatal(err)
	}
	var cfg QueueLoaderConfig
	if _, err := batch.LoadConfig(QueueLoaderService, &cfg, batch.Options{Path: path}); err != nil {
		return cfg.JobConfig, nil, err
	}
	return cfg.JobConfig, func(job *batch.Job) (batch.Worker, error) { return NewQueueLoader(job, cfg) }, nil
}

func TestQueueLoaderLoadsEachTableInItsWay(t *testing.T) {
	t.Parallel()
	const more = `
		create table clicks (id serial primary key, at date, what text);
		create table secrets (id int primary key);
		create table states (id int primary key, state text)`
	src := newSource(t, items+";"+more)
	src.capture(t, "items", "clicks", "secrets", "states")
	dst := newTarget(t, items+`; create schema archive;
		create table archive.clicks (id int, at date, what text) partition by range (at);
		create table states (id int, state text)`)
	common, start, err := loaderFromFile(t, src, dst, `row_mode = bulk
rename_tables = public.clicks:archive.clicks

[public.clicks]
row_mode = plain
table_mode = split
split_mode = by-date-field:at
split_part = %(table_name)s_%(year)s_%(month)s

[public.states]
row_mode = keep_all
table_mode = split
split_mode = by-event-time
split_part = history.%%(schema_name)s_%%(table_name)s_%%(year)s
split_part_template = create schema if not exists history; create table %%(dest)s (like %%(base)s); create index %%(schema_table)s_id on %%(dest)s (%%(pkey)s);

[public.secrets]
table_mode = ignore

[another_job]
db = dbname=x
`)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 6 {
		src.mutate(t, rng, 1+rng.IntN(50))
		src.Exec(t, fmt.Sprintf(`insert into clicks (at, what) select date '2026-01-20' + i, 'click ' || i from generate_series(1, 20) i;
			insert into secrets values (%d);
			insert into states values (%[1]d, 'new'); update states set state = 'old' where id = %[1]d`, round))
		src.tick(t)
		mustWork(t, common, start)
		sameTable(t, "public.items", src, dst)
	}
	const clicks = "select * from %s order by id"
	compareRows(t, "clicks", dst, fmt.Sprintf(clicks, "archive.clicks"), src.public, fmt.Sprintf(clicks, "public.clicks"))
	if got := dst.Rows(t, "select inhrelid::regclass from pg_inherits order by 1"); !slices.Equal(got, []string{"archive.clicks_2026_01", "archive.clicks_2026_02"}) {
		t.Errorf("partitions %q", got)
	}
	year := pgtest.Value[string](t, src.Database, "select to_char(now(), 'YYYY')")
	got := dst.Rows(t, "select id || state from history.public_states_"+year+" order by id, state")
	if want := strings.Fields("0new 0old 1new 1old 2new 2old 3new 3old 4new 4old 5new 5old"); !slices.Equal(got, want) {
		t.Errorf("states %q, want %q", got, want)
	}
	if n := pgtest.Value[int](t, dst.Database, "select count(*) from pg_indexes where indexname = 'history__public_states_"+year+"_id'"); n != 1 {
		t.Error("the template's index is missing")
	}
}

func TestQueueLoaderTellsWhatIsWrongInItsFile(t *testing.T) {
	t.Parallel()
	src, dst := newSource(t, ""), newTarget(t, "")
	for text, want := range map[string]string{
		"row_mode = all":                             "must be one of plain, keep_latest, keep_all, bulk",
		"split_mode = by-moon":                       "split_mode",
		"table_mode = split\nsplit_part = x":         "has no time in it",
		"table_mode = split\nsplit_part = %(moon)s":  "words that are not known",
		"rename_tables = a":                          "rename_tables",
		"[public.x]\nrow_modus = plain":              "did you mean \"row_mode\"",
		"[public.x]\nsplit_mode = by-date-field:":    "[public.x] split_mode",
		"[public.x]\nrow_mode = plain\nsrc_db = a=b": "unknown key",
	} {
		common, start, err := loaderFromFile(t, src, dst, text+"\n")
		if err == nil {
			_, err = work(t, common, start)
		}
		if err == nil || !strings.Contains(err.Error(), want) || batch.ExitCode(err) != 2 {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestQueueLoaderRefusesOperationsOfOtherModes(t *testing.T) {
	t.Parallel()
	src := newSource(t, items)
	src.capture(t, "items")
	src.Exec(t, "insert into items values (1, 'a'); update items set value = 1")
	src.tick(t)
	dst := newTarget(t, items)
	common, start, err := loaderFromFile(t, src, dst, "on_bad_event = stop\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = work(t, common, start); err == nil || !strings.Contains(err.Error(), "operation is U, which row_mode = plain does not take") {
		t.Errorf("error %v", err)
	}
}
