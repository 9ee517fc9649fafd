package pgtest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDatabaseIsTheTestsOwnAndGoneAfterIt(t *testing.T) {
	var name string
	t.Run("inner", func(t *testing.T) {
		db := DB(t)
		name = db.Name
		if got := Value[string](t, db, "select current_database()"); got != name {
			t.Errorf("current_database() = %q, want %q", got, name)
		}
		if got := Value[string](t, db, "show search_path"); got != `""` {
			t.Errorf("search_path = %q, want it empty", got)
		}
	})
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, os.Getenv(dsnEnv))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var n int
	if err := conn.QueryRow(ctx, "select count(*) from pg_catalog.pg_database where datname = $1", name).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != 0 {
		t.Errorf("database %s outlived its test", name)
	}
}

func TestRowsShowNullAndColumns(t *testing.T) {
	db := DB(t)
	got := db.Rows(t, "select 1, null, 'x' union all select 2, true, '' order by 1")
	if want := "1|NULL|x\n2|t|"; strings.Join(got, "\n") != want {
		t.Errorf("Rows = %q, want %q", got, want)
	}
}

func TestServerBreaksConnectionsAndComesBack(t *testing.T) {
	s := Server(t, "max_connections=33")
	db := s.DB(t)
	if got := Value[string](t, db, "show max_connections"); got != "33" {
		t.Errorf("max_connections = %s, want 33", got)
	}
	conn := db.Conn(t)
	s.Stop(t)
	if err := conn.Ping(context.Background()); err == nil {
		t.Error("the connection survived the stop")
	}
	s.Start(t)
	db.WaitFor(t, "select true")
	s.Restart(t)
	db.WaitFor(t, "select true")
}

// The cut comes before or after the server has done the chosen request, and what
// connects later is left alone.
func TestFaultsCutAtTheChosenRequest(t *testing.T) {
	ctx := context.Background()
	db := DB(t)
	db.Exec(t, "create table public.n (n int)")
	faults := NewFaults(t)
	through := faults.Through(t, db)
	insert := func(values ...int) error {
		conn, err := pgx.Connect(ctx, through.DSN)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		for _, n := range values {
			if _, err := conn.Exec(ctx, "insert into public.n values ($1)", pgx.QueryExecModeExec, n); err != nil {
				return err
			}
		}
		return nil
	}
	stored := func() string { return strings.Join(db.Rows(t, "select n from public.n order by n"), " ") }

	faults.Count()
	if err := insert(1, 2); err != nil || faults.Steps() != 2 || faults.Cut() {
		t.Fatalf("nothing chosen: error %v, %d steps, cut %v", err, faults.Steps(), faults.Cut())
	}
	faults.CutBefore(2)
	if err := insert(3, 4); err == nil || !faults.Cut() || stored() != "1 2 3" {
		t.Errorf("cut before: error %v, cut %v, stored %s", err, faults.Cut(), stored())
	}
	faults.CutAfter(2)
	if err := insert(5, 6); err == nil || !faults.Cut() || stored() != "1 2 3 5 6" {
		t.Errorf("cut after: error %v, cut %v, stored %s", err, faults.Cut(), stored())
	}
	if err := insert(7); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}

func TestPollGivesUp(t *testing.T) {
	if poll(time.Millisecond, func() bool { return false }) {
		t.Error("poll said true of what is false")
	}
}

// The child is this very test, run again without a server.
func TestNoServerIsAFailureThatSaysWhatToDo(t *testing.T) {
	if os.Getenv("PGTEST_CHILD") != "" {
		DB(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoServerIsAFailureThatSaysWhatToDo$")
	cmd.Env = append(os.Environ(), dsnEnv+"=", "PGTEST_CHILD=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("a test without a server passed:\n%s", out)
	}
	if !strings.Contains(string(out), "SKYTOOLS_TEST_DSN is not set: run the tests through scripts/with-server") {
		t.Errorf("the reason is missing:\n%s", out)
	}
}
