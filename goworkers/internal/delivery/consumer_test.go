package delivery

// Consumers, and what they check as they go.

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// consumer is what an actor knows as one. It forgets all of it when it loses its
// session, but for whether it is registered.
type consumer struct {
	queue, consumerName string
	registered          bool
	shares              bool // is one of the workers on the consumer's slots
	batch               int64
	events              []event
	read                bool
}

type event struct {
	id  int64
	tag string
}

func (c *consumer) forget() { c.batch, c.events, c.read = 0, nil, false }

// consume is a consumer's next step.
func consume(a *actor) *op {
	switch {
	case a.doomed || a.open && a.registered && a.chance(8):
		// It breaks down within its transaction.
		a.count["consumer breakdowns"]++
		o := exec("rollback", stopped...)
		o.then = func(error) { a.forget() }
		return o
	case !a.registered:
		return a.register()
	case !a.open && a.chance(3):
		return exec("begin"+pick(a.run, []string{"", "", " isolation level repeatable read"}), stopped...)
	case a.batch == 0:
		return a.nextBatch()
	case !a.read:
		return a.readBatch()
	}
	return a.finishBatch(true)
}

// register begins to read, some consumers late. What they must get is what the tick
// they begin at does not see.
func (a *actor) register() *op {
	if a.chance(2) && a.consumerName > "c1" {
		return exec("select 2", stopped...)
	}
	sql := fmt.Sprintf(`select pgq.register_consumer('%s', '%s');
		insert into public.joined select '%[2]s', '%[1]s', t.tick_snapshot
		from pgq.get_consumer_info('%[1]s', '%[2]s') i
		join pgq.queue q on q.queue_name = i.queue_name
		join pgq.tick t on t.tick_queue = q.queue_id and t.tick_id = i.last_tick`, a.queue, a.consumerName)
	o := exec(sql, stopped...)
	if a.open {
		o = exec("rollback", stopped...)
	} else {
		o.then = func(err error) { a.registered = a.registered || err == nil }
	}
	return o
}

func (a *actor) nextBatch() *op {
	var batch *int64
	call := pick(a.run, []string{
		"select pgq.next_batch($1, $2)",
		"select batch_id from pgq.next_batch_info($1, $2)",
		"select batch_id from pgq.next_batch_custom($1, $2, null, 3, null)",
	})
	args := []any{pgx.QueryExecModeSimpleProtocol, a.queue, a.consumerName}
	if a.shares {
		// Sometimes it takes the other one for dead, which is none the less at work.
		call = "select batch_id from pgq.next_slot_batch($1, $2, $3, $4)"
		args = append(args, a.name, pick(a.run, []*string{nil, nil, nil, &atOnce}))
	}
	return &op{
		name: "next batch", allowed: stopped,
		do: func(ctx context.Context, conn *pgx.Conn) error {
			return conn.QueryRow(ctx, call, args...).Scan(&batch)
		},
		then: func(err error) {
			if err == nil && batch != nil {
				a.batch = *batch
			}
		},
	}
}

var atOnce = "0 s"

// takenOver is what a worker meets whose batch another one has got.
var takenOver = append([]string{"PGQ03", "22012"}, stopped...)

func (a *actor) whileWorking() []string {
	if a.shares {
		return takenOver
	}
	return stopped
}

var sourceTag = regexp.MustCompile(`(?:^|&)tag=([^&]*)`)

// readBatch reads the open batch and checks what can be seen in it.
func (a *actor) readBatch() *op {
	var events []event
	var missing []string
	cursor := a.chance(3)
	batch, portion := a.batch, 1+a.IntN(20)
	scan := func(rows pgx.Rows, err error) (n int, _ error) {
		if err != nil {
			return 0, err
		}
		defer rows.Close()
		for rows.Next() {
			var e event
			var data string
			var origin *string
			if err := rows.Scan(&e.id, nil, nil, nil, nil, &data, &origin, nil, nil, nil); err != nil {
				return n, err
			}
			e.tag = data
			if origin != nil && *origin == "public.source" {
				e.tag = sourceTag.FindStringSubmatch(data)[1]
			}
			events = append(events, e)
			n++
		}
		return n, rows.Err()
	}
	return &op{
		name: fmt.Sprintf("read batch %d", batch), allowed: a.whileWorking(),
		do: func(ctx context.Context, conn *pgx.Conn) error {
			simple := pgx.QueryExecModeSimpleProtocol
			if cursor && conn.PgConn().TxStatus() == 'T' {
				n, err := scan(conn.Query(ctx, "select * from pgq.get_batch_cursor($1, 'c', $2)", simple, batch, portion))
				for err == nil && n > 0 {
					n, err = scan(conn.Query(ctx, fmt.Sprintf("fetch %d from c", portion), simple))
				}
				if err == nil {
					_, err = conn.Exec(ctx, "close c", simple)
				}
				if err != nil {
					return err
				}
			} else if _, err := scan(conn.Query(ctx, "select * from pgq.get_batch_events($1)", simple, batch)); err != nil {
				return err
			}
			tags := make([]string, len(events))
			for i, e := range events {
				tags[i] = e.tag
			}
			rows, err := conn.Query(ctx, "select t from unnest($1::text[]) t except select tag from public.ledger", pgx.QueryExecModeExec, tags)
			if err != nil {
				return err
			}
			missing, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		},
		then: func(err error) {
			if err != nil {
				if a.shares {
					a.forget()
				}
				return
			}
			if len(missing) > 0 {
				a.fatal("batch %d of %s has events that are not committed: %v", batch, a.consumerName, missing)
			}
			var text strings.Builder
			for i, e := range events {
				if i > 0 && events[i-1].id > e.id {
					a.fatal("batch %d of %s is out of order: %d before %d", batch, a.consumerName, events[i-1].id, e.id)
				}
				fmt.Fprintf(&text, "%d=%s ", e.id, e.tag)
			}
			if before, known := a.batches[batch]; known && before != text.String() {
				a.fatal("batch %d of %s had %q and now has %q", batch, a.consumerName, before, text.String())
			}
			a.batches[batch] = text.String()
			a.events, a.read = events, true
		},
	}
}

// finishBatch does the consumer's work and finishes the batch, in one transaction;
// some events it puts aside for later.
func (a *actor) finishBatch(retries bool) *op {
	var later []event
	if retries && len(a.events) > 0 && a.chance(3) {
		for range 1 + a.IntN(3) {
			if e := pick(a.run, a.events); !slices.Contains(later, e) {
				later = append(later, e)
			}
		}
	}
	outside := !a.open
	batch, events := a.batch, a.events
	return &op{
		name: fmt.Sprintf("finish batch %d", batch), allowed: a.whileWorking(),
		do: func(ctx context.Context, conn *pgx.Conn) error {
			var err error
			run := func(sql string, args ...any) {
				if err == nil {
					_, err = conn.Exec(ctx, sql, append([]any{pgx.QueryExecModeExec}, args...)...)
				}
			}
			if outside {
				run("begin")
			}
			var ids []int64
			var tags []string
			for _, e := range events {
				ids, tags = append(ids, e.id), append(tags, e.tag)
			}
			run("insert into public.received select $1, $2, $3, e.id, e.tag from unnest($4::bigint[], $5::text[]) e (id, tag)",
				a.consumerName, a.queue, batch, ids, tags)
			for _, e := range later {
				run(`insert into public.retried select $1, $2, $3 where pgq.event_retry($4::bigint, $5::bigint, 0) = 1`,
					a.consumerName, a.queue, e.tag, batch, e.id)
			}
			// Nobody else can have finished it.
			run("select 1 / pgq.finish_batch($1)", batch)
			run("commit")
			if err != nil && !conn.IsClosed() {
				_, _ = conn.Exec(ctx, "rollback")
			}
			return err
		},
		then: func(err error) {
			if err == nil {
				a.count["batches finished"]++
				a.count["events received"] += len(events)
				a.count["events put aside"] += len(later)
			}
			a.forget()
		},
	}
}
