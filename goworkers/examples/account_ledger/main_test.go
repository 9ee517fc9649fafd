package main

// The program as users run it: built, in several processes, one of which is killed.

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	accounts = 30
	rounds   = 6
	allDone  = `select not exists (select from pgq.subscription where sub_batch is not null or sub_last_tick < (select max(tick_id) from pgq.tick))`
)

func TestLedgerAgreesThroughAKill(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "account_ledger")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	db := pgtest.DB(t, "pgq")
	schema, err := os.ReadFile("ledger.sql")
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, string(schema))
	db.Exec(t, `update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
		update pgq.subscription set sub_retry_delay = '0', sub_max_retries = 1`)
	start := func() *exec.Cmd {
		cmd := exec.Command(program, "--set", "src_db="+db.DSN, "--set", "loop_delay=0.02", "--set", "exception_sleep=0.05",
			"--set", "worker_timeout=0.5", "account_ledger.ini")
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
			if t.Failed() {
				t.Logf("it said:\n%s", said.String())
			}
		})
		return cmd
	}
	victim := start()
	start()
	ctx, conn := context.Background(), db.Conn(t)
	tick := func() {
		t.Helper()
		if _, err := pgq.Ticker(ctx, conn); err != nil {
			t.Fatal(err)
		}
	}
	// In its order every booking is covered: 3 in, 2 out, and so on; in another one it
	// would not be.
	for round := range rounds {
		db.Exec(t, `
			select pgq.insert_event('bookings', kind, amount, 'account' || a, null, null, null)
			  from generate_series(1, $1::int) a, (values (1, 'deposit', '3'), (2, 'withdraw', '3'), (3, 'deposit', '1')) b (n, kind, amount)
			 order by n, a`, accounts)
		tick()
		if round == rounds/2 {
			if err := victim.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			start()
		}
	}
	db.Exec(t, `select pgq.insert_event('bookings', kind, amount, account, null, null, null)
		from (values ('withdraw', '1000', 'account1'), ('deposit', 'much', 'account2'), ('steal', '1', 'account3'), ('deposit', '1', null)) b (kind, amount, account)`)
	tick()
	db.WaitFor(t, allDone)
	// The one without cover has its second try.
	if n, err := pgq.MaintRetryEvents(ctx, conn); err != nil || n != 1 {
		t.Errorf("MaintRetryEvents = %d, %v, want 1", n, err)
	}
	tick()
	db.WaitFor(t, allDone)

	if got := db.Rows(t, `select count(*), min(balance), max(balance), min(bookings), max(bookings) from ledger.account`); got[0] != "30|6|6|18|18" {
		t.Errorf("accounts, balances and bookings are %s", got[0])
	}
	want := []string{
		`a booking cannot be of type "steal"`, `a booking without an account`, `"much" is not an amount`, `not covered`,
	}
	got := strings.Join(db.Rows(t, `select reason from pgq.dead_letter`), "\n")
	for _, reason := range want {
		if strings.Count(got, reason) != 1 {
			t.Errorf("%s is not among the reasons\n%s", reason, got)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != len(want) {
		t.Errorf("%d bookings were given up, want %d:\n%s", n, len(want), got)
	}
}
