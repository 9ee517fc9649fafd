// Command account_ledger books money on accounts, from events that come in any
// number, by several workers at a time. Copy it to begin a parallel consumer of your
// own.
//
// Each event is one booking: type deposit or withdraw, extra1 the account, data the
// amount. Bookings of one account must be done in their order, those of different
// accounts need not wait for each other. So the consumer is split into slots by
// extra1: consumer_slots in the ini file says how many, consumer_workers how many
// batches this process works on at a time, and any number of processes may run with
// the same ini file. When one dies, the others take over its accounts.
//
// What cannot be booked does not stop the rest: a withdrawal without cover is tried
// again later, and given up after max_retries; what makes no sense is given up at once.
// "pgqadm INI dlq list QUEUE account_ledger" shows these.
//
//	psql -d bank -c 'create extension pgq' -f ledger.sql
//	account_ledger --ini > account_ledger.ini     # a sample to fill in
//	account_ledger account_ledger.ini
package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

type config struct {
	batch.ConsumerConfig
}

func main() {
	var cfg config
	batch.Main("account_ledger", &cfg, func(job *batch.Job) (batch.Worker, error) {
		return batch.NewConsumer(job, cfg.ConsumerConfig, book)
	})
}

const (
	depositSQL = `
		insert into ledger.account as a (account, balance, bookings) values ($1, $2, 1)
		on conflict (account) do update
		set balance = a.balance + $2, bookings = a.bookings + 1`
	withdrawSQL = `
		update ledger.account
		   set balance = balance + $2, bookings = bookings + 1
		 where account = $1 and balance + $2 >= 0`
)

// book is called by several goroutines, each with a batch of its own.
func book(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
	for ev, err := range b.Events() {
		if err != nil {
			return err
		}
		amount, err := amountOf(ev)
		if err != nil {
			if err := b.Fail(ev, err.Error()); err != nil {
				return err
			}
			continue
		}
		sql := depositSQL
		if amount < 0 {
			sql = withdrawSQL
		}
		done, err := tx.Exec(ctx, sql, ev.Extra1, amount)
		switch {
		case err != nil:
			return err
		case done.RowsAffected() == 0:
			// The subscription's retry_delay says when it is tried again.
			if err := b.RetryFor(ev, 0, "not covered"); err != nil {
				return err
			}
		}
	}
	return nil
}

// amountOf is what a booking adds to its account.
func amountOf(ev *pgq.Event) (int64, error) {
	amount, err := strconv.ParseInt(ev.Data.String, 10, 64)
	switch {
	case !ev.Extra1.Valid:
		return 0, fmt.Errorf("a booking without an account")
	case err != nil || amount <= 0:
		return 0, fmt.Errorf("%q is not an amount", ev.Data.String)
	case ev.Type.String == "deposit":
		return amount, nil
	case ev.Type.String == "withdraw":
		return -amount, nil
	}
	return 0, fmt.Errorf("a booking cannot be of type %q", ev.Type.String)
}
