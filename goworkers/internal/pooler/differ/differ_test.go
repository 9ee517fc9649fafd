package differ

// The test: plays, goldens, listed differences.

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"goworkers/internal/pgtest"
)

var update = flag.Bool("update", false, "write the goldens anew; wants a PgBouncer that is not older than theirs")

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		// Plays mostly wait.
		_ = flag.Set("test.parallel", "8")
	}
	goleak.VerifyTestMain(m)
}

func conversations(t *testing.T) []*conversation {
	t.Helper()
	paths, err := filepath.Glob("testdata/conversations/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no conversations: %v", err)
	}
	var all []*conversation
	for _, path := range paths {
		c, err := loadConversation(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// fixture is what conversations find in the server's database. Its parameters do not
// depend on the machine.
const fixture = `
do $$ begin
	execute format('alter database %I set timezone = ''UTC''', current_database());
	execute format('alter database %I set datestyle = ''ISO, MDY''', current_database());
	execute format('alter database %I set search_path = ''public''', current_database());
end $$;
create table public.numbers (n integer, t text);
insert into public.numbers select n, 'row ' || n from generate_series(1, 5) n;
create table public.shadow (name text, password text);
insert into public.shadow values ('known', 'secret'), ('md5', 'md5' || md5('secretmd5')), ('nothing', null);
-- Comes back when another backend sleeps in a query that has the mark.
create function public.asleep(mark text) returns text language plpgsql as $$
begin
	for i in 1..1000 loop
		perform pg_stat_clear_snapshot();
		if exists (select from pg_stat_activity
				where wait_event = 'PgSleep' and query like '%' || mark || '%' and pid <> pg_backend_pid()) then
			return 'asleep';
		end if;
		perform pg_sleep(0.01);
	end loop;
	return 'awake';
end $$;
-- Comes back when no backend runs a query that has the mark.
create function public.ended(mark text) returns text language plpgsql as $$
begin
	for i in 1..1000 loop
		perform pg_stat_clear_snapshot();
		if not exists (select from pg_stat_activity
				where state = 'active' and query like '%' || mark || '%' and pid <> pg_backend_pid()) then
			return 'ended';
		end if;
		perform pg_sleep(0.01);
	end loop;
	return 'running';
end $$;
`

func TestConversations(t *testing.T) {
	db := pgtest.DB(t)
	db.Exec(t, fixture)
	all := products(t)
	newest := all[len(all)-1]
	for _, conv := range conversations(t) {
		t.Run(conv.name, func(t *testing.T) {
			t.Parallel()
			if *update {
				writeGoldens(t, conv, all, db)
				return
			}
			for _, p := range all {
				if p.name != ours && p.version.less(conv.needs) {
					continue
				}
				t.Run(p.name, func(t *testing.T) { compare(t, conv, p, db) })
			}
		})
	}
	t.Logf("products: %s the newest", newest.name)
}

// trace plays a conversation through a product.
func trace(t *testing.T, conv *conversation, p *product, db *pgtest.Database) string {
	t.Helper()
	in := start(t, p, conv.config, db)
	trace, err := play(conv, in, db.Name)
	in.stop(t)
	if err != nil {
		t.Errorf("%v\n%s", err, trace)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s's log:\n%s", p.name, &in.log)
		}
	})
	return trace
}

func compare(t *testing.T, conv *conversation, p *product, db *pgtest.Database) {
	want, err := readGolden(conv.name, "")
	if err != nil {
		t.Fatalf("%v; -update writes it", err)
	}
	if len(conv.differs[p.name]) > 0 {
		if want, err = readGolden(conv.name, p.name); err != nil {
			t.Fatalf("%v; -update writes it", err)
		}
	}
	got := trace(t, conv, p, db)
	if diff := lineDiff(want.text, got); diff != "" {
		t.Errorf("other messages (- wanted, + came):\n%s", diff)
	}
}

// writeGoldens writes what a conversation is compared with: the newest PgBouncer's
// trace, and those of products with listed differences.
func writeGoldens(t *testing.T, conv *conversation, all []*product, db *pgtest.Database) {
	t.Helper()
	newest := all[len(all)-1]
	old, err := readGolden(conv.name, "")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if newest.version.less(old.version) || newest.version.less(conv.needs) {
		t.Fatalf("%s is too old; name a newer one in %s", newest.name, pgbouncerEnv)
	}
	agreed := trace(t, conv, newest, db)
	writeGolden(t, conv.name, "", newest, agreed)
	for _, p := range all {
		if len(conv.differs[p.name]) > 0 {
			writeGolden(t, conv.name, p.name, newest, trace(t, conv, p, db))
		}
	}
	// A product that is not here keeps its trace.
	names, err := filepath.Glob(filepath.Join("testdata/golden", conv.name+".*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range names {
		product := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), conv.name+"."), ".txt")
		if len(conv.differs[product]) == 0 {
			os.Remove(path)
		}
	}
}

// golden is a kept trace.
type golden struct {
	version version // of the PgBouncer that wrote the agreed one
	text    string
}

func goldenPath(conversation, product string) string {
	if product != "" {
		product = "." + product
	}
	return filepath.Join("testdata/golden", conversation+product+".txt")
}

func readGolden(conversation, product string) (golden, error) {
	path := goldenPath(conversation, product)
	data, err := os.ReadFile(path)
	if err != nil {
		return golden{}, err
	}
	first, text, _ := strings.Cut(string(data), "\n")
	v, err := parseVersion(strings.TrimPrefix(first, "# PgBouncer "))
	if err != nil {
		return golden{}, fmt.Errorf("%s: %w", path, err)
	}
	return golden{v, text}, nil
}

func writeGolden(t *testing.T, conversation, product string, newest *product, trace string) {
	t.Helper()
	text := fmt.Sprintf("# PgBouncer %d.%d\n%s", newest.version.major, newest.version.minor, trace)
	if err := os.WriteFile(goldenPath(conversation, product), []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}
