package delivery

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
)

// Ten thousand transactions that are open at a tick come in the batch after the tick
// that first sees them, whichever end in which order.
func TestTenThousandOpenTransactions(t *testing.T) {
	const n = 10000
	server := pgtest.Server(t, fmt.Sprintf("max_prepared_transactions=%d", n+10))
	db := server.DB(t, "pgq")
	db.Exec(t, `select pgq.create_queue('q'), pgq.register_consumer('q', 'c')`)
	db.Exec(t, `update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	ctx, conn := context.Background(), db.Conn(t)

	// many sends a statement for each of some numbers in one go.
	many := func(from, step int, statement string) {
		t.Helper()
		batch := &pgx.Batch{}
		for i := from; i <= n; i += step {
			batch.Queue(fmt.Sprintf(statement, i))
		}
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Several statements in one simple query are one transaction that it can end.
	prepare := func(i int) {
		t.Helper()
		for _, sql := range []string{
			fmt.Sprintf("begin; select pgq.insert_event('q', 't', '%d')", i),
			fmt.Sprintf("prepare transaction 'open %d'", i),
		} {
			if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
		}
	}
	batch := func() []string {
		t.Helper()
		db.Exec(t, `select pgq.ticker('q')`)
		return db.Rows(t, `
			with b as materialized (select pgq.next_batch('q', 'c') as id)
			select e.ev_data from b, pgq.get_batch_events(b.id) e`)
	}
	finish := func() {
		t.Helper()
		db.Exec(t, `select pgq.finish_batch(sub_batch) from pgq.subscription`)
	}
	check := func(what string, got []string, from, step int) {
		t.Helper()
		seen := map[string]bool{}
		for _, data := range got {
			if seen[data] {
				t.Fatalf("%s: event %s twice", what, data)
			}
			seen[data] = true
		}
		for i := from; step > 0 && i <= n; i += step {
			if !seen[fmt.Sprint(i)] {
				t.Fatalf("%s: event %d is missing", what, i)
			}
			delete(seen, fmt.Sprint(i))
		}
		if len(seen) > 0 {
			t.Fatalf("%s: %d events too many", what, len(seen))
		}
	}

	for i := 1; i <= n; i++ {
		prepare(i)
	}
	check("all are open", batch(), 0, 0)
	finish()
	many(1, 3, "commit prepared 'open %d'")
	check("a third is committed", batch(), 1, 3)
	finish()
	many(2, 3, "rollback prepared 'open %d'")
	check("a third is rolled back", batch(), 0, 0)
	finish()
	many(3, 3, "commit prepared 'open %d'")
	check("the last third is committed", batch(), 3, 3)
	finish()
	check("nothing is left", batch(), 0, 0)
}
