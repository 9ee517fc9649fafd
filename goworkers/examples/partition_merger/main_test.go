package main

// The program as users run it: a process a partition, killed again and again.

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"goworkers/internal/pgtest"
	"goworkers/internal/pgtest/example"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func partition(t *testing.T, name string) *pgtest.Database {
	t.Helper()
	schema := t.TempDir() + "/partition.sql"
	if err := os.WriteFile(schema, []byte(`
		select pgq.create_queue('users');
		select pgq.register_consumer('users', 'merger_`+name+`');
		create table public.users (username text primary key, email text, score bigint not null default 0, changed timestamptz not null default clock_timestamp());
		create trigger log after insert or update or delete on public.users
			for each row execute function pgq.logutriga('users');`), 0o600); err != nil {
		t.Fatal(err)
	}
	db := example.Database(t, schema)
	example.Tick(t, db)
	return db
}

func target(t *testing.T) *pgtest.Database {
	t.Helper()
	return example.Database(t, "merged.sql", "pgq_ext")
}

func TestPartitionsBecomeOneTableThroughKills(t *testing.T) {
	t.Parallel()
	program, merged := example.Build(t, &config{}), target(t)
	const partitions, rounds = 3, 6
	var parts []*pgtest.Database
	runs := make([]*example.Process, partitions)
	start := func(p int) {
		name := fmt.Sprintf("p%d", p)
		runs[p] = program.Start(t, "job_name=merger_"+name, "partition="+name, "src_db="+parts[p].DSN, "dst_db="+merged.DSN, "log_level=info")
	}
	for p := range partitions {
		parts = append(parts, partition(t, fmt.Sprintf("p%d", p)))
		start(p)
	}
	for round := range rounds {
		for p, db := range parts {
			db.Exec(t, `insert into public.users select format('u%s.%s.%s', $1::int, $2::int, n), format('õ+&=%s', n), n from generate_series(1, 100) n`, round, p)
			db.Exec(t, `update public.users set score = score + 1000, changed = clock_timestamp(), email = nullif(email, 'õ+&=7') where hashtext(username || $1::int::text) % 3 = 0`, round)
			db.Exec(t, `delete from public.users where hashtext(username || $1::int::text) % 11 = 0`, round)
			// One moves to the next partition, which may be merged sooner than this one.
			move := fmt.Sprintf("moves%d.%d", round, p)
			db.Exec(t, `insert into public.users values ($1, 'old', 1)`, move)
			db.Exec(t, `delete from public.users where username = $1`, move)
			parts[(p+1)%partitions].Exec(t, `insert into public.users values ($1, 'new', 2)`, move)
		}
		victim := round % partitions
		runs[victim].Kill()
		start(victim)
	}
	for _, db := range parts {
		// An event that every merger has when all before it are done.
		db.Exec(t, `insert into public.users values ('last in ' || current_database())`)
	}
	merged.WaitFor(t, fmt.Sprintf(`select count(*) = %d from merged.users where username like 'last in %%'`, partitions))
	for _, run := range runs {
		run.Kill()
	}
	var want []string
	for p, db := range parts {
		for _, row := range db.Rows(t, "select username, email, score, changed from public.users") {
			want = append(want, fmt.Sprintf("%s|p%d", row, p))
		}
	}
	got := merged.Rows(t, "select username, email, score, changed, partition from merged.users")
	slices.Sort(got)
	slices.Sort(want)
	if len(want) < 1000 || !slices.Equal(got, want) {
		t.Errorf("%d merged users, %d in the partitions, or they differ", len(got), len(want))
	}
}

// A row that does not fit stops its partition alone, and says why.
func TestABadRowStopsItsPartition(t *testing.T) {
	t.Parallel()
	program, merged := example.Build(t, &config{}), target(t)
	good, bad := partition(t, "p0"), partition(t, "p1")
	bad.Exec(t, "select pgq.insert_event('users', 'I:username', 'username=x&email&score=much&changed=2026-11-30', 'public.users', null, null, null)")
	good.Exec(t, "insert into public.users values ('bob')")
	broken := program.Start(t, "job_name=merger_p1", "partition=p1", "src_db="+bad.DSN, "dst_db="+merged.DSN, "on_bad_event=stop")
	program.Start(t, "job_name=merger_p0", "src_db="+good.DSN, "dst_db="+merged.DSN)
	merged.WaitFor(t, "select count(*) = 1 from merged.users where partition = 'p0'")
	pgtest.Eventually(t, 10e9, "the other one says why", func() bool {
		return strings.Contains(broken.Log(), `event 1: field \"score\": \"much\" is not a whole number`)
	})
}
