// Command user_report keeps a report of users in another database: who they are,
// from the changes that a trigger logs, and how often they came, from events that
// a function makes. Copy it to begin a consumer of your own.
//
// The queue has two kinds of events:
//
//   - rows of the table users, written by the trigger pgq.logutriga: type I:, U: or
//     D: and the key's columns, data the url-encoded row, extra1 public.users;
//   - logins, made by pgq.insert_event: type user_login, data username=...&at=...
//
// apply is all that is special about it. It writes through the transaction it is
// given, which also keeps the position in the queue (pgq_ext), so each event counts
// once, whenever the program is stopped or killed.
//
//	psql -d reportdb -c 'create extension pgq_ext' -f report.sql
//	user_report --ini > user_report.ini     # a sample to fill in
//	user_report user_report.ini
package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

type config struct {
	batch.RemoteConfig
}

func main() {
	var cfg config
	batch.Main("user_report", &cfg, func(job *batch.Job) (batch.Worker, error) {
		return batch.NewSerialConsumer(job, cfg.RemoteConfig, apply)
	})
}

const (
	setUserSQL = `
		insert into report.users (username, email, score, updated)
		values ($1, $2, coalesce($3::text::bigint, 0), $4)
		on conflict (username) do update
		set email = excluded.email, score = excluded.score, updated = excluded.updated`
	dropUserSQL = `delete from report.users where username = $1`
	loginSQL    = `
		insert into report.logins as l (username, logins) values ($1, 1)
		on conflict (username) do update set logins = l.logins + 1`
	batchSQL = `
		insert into report.batches (batch_id, events, ev_min_time, ev_max_time)
		select $1, sum(n), min(at), max(at)
		  from unnest($2::timestamptz[], $3::bigint[]) e (at, n)`
	latencySQL = `
		insert into report.latency (seconds, events)
		select extract(epoch from clock_timestamp() - at), n
		  from unnest($1::timestamptz[], $2::bigint[]) e (at, n)`
)

// portion is how many statements go to the server at once.
const portion = 300

func apply(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
	var work pgx.Batch
	send := func() error {
		sending := work
		work = pgx.Batch{}
		return tx.SendBatch(ctx, &sending).Close()
	}
	made := make(map[time.Time]int64) // events by the time they were made, in ms
	for ev, err := range b.Events() {
		if err != nil {
			return err
		}
		row, err := pgq.DecodeRow(ev.Data.String)
		if err != nil {
			return fmt.Errorf("event %d: %w", ev.ID, err)
		}
		switch operation, _, _ := strings.Cut(ev.Type.String, ":"); {
		case operation == "user_login":
			work.Queue(loginSQL, row["username"])
		case ev.Extra1.String != "public.users": // of no concern to this report
		case operation == "I", operation == "U":
			work.Queue(setUserSQL, row["username"], row["email"], row["score"], ev.Time)
		case operation == "D":
			work.Queue(dropUserSQL, row["username"])
		default:
			return fmt.Errorf("event %d: cannot apply type %q of table users", ev.ID, ev.Type.String)
		}
		made[ev.Time.Truncate(time.Millisecond)]++
		if work.Len() >= portion {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if len(made) == 0 {
		return nil
	}
	var times []time.Time
	var counts []int64
	for at, n := range made {
		times, counts = append(times, at), append(counts, n)
	}
	work.Queue(batchSQL, b.ID, times, counts)
	work.Queue(latencySQL, times, counts)
	return send()
}
