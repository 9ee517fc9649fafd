package delivery

import (
	"fmt"
	"strings"

	"goworkers/internal/pgtest"
)

// calm ends what is under way but for transactions that have only taken a snapshot,
// and lets the consumers catch up, so that rotations find nothing in their way. Those
// left meet the tables as they are then.
func (r *run) calm() {
	r.note("calm")
	for _, a := range r.actors {
		if a.running != nil || a.wrote || a.name == "locker" || !strings.HasPrefix(a.name, "producer") {
			r.finish(a)
		}
	}
	for len(r.prepared) > 0 {
		r.db.Exec(r.t, r.secondPhase())
	}
	for range 1 + r.IntN(3) {
		r.catchUp()
		for _, queue := range r.queues {
			table := r.currentTable(queue)
			r.db.Exec(r.t, fmt.Sprintf("select pgq.maint_rotate_tables_step1('%s')", queue))
			if r.currentTable(queue) != table {
				r.count["rotations"]++
			}
		}
		r.db.Exec(r.t, "select pgq.maint_rotate_tables_step2()")
		r.tickAll()
	}
}

func (r *run) currentTable(queue string) int64 {
	return number(r, fmt.Sprintf("select queue_cur_table::bigint from pgq.queue where queue_name = '%s'", queue))
}

// tickAll makes a tick in every queue.
func (r *run) tickAll() {
	for _, queue := range r.queues {
		r.db.Exec(r.t, fmt.Sprintf("select pgq.force_tick('%s')", queue))
		r.db.Exec(r.t, fmt.Sprintf("select pgq.ticker('%s')", queue))
	}
}

// alone is a step that nobody can make wait.
func (r *run) alone(a *actor, o *op) {
	r.step(a, o)
	if a.running != nil {
		r.fatal("%s waits when nobody else does anything", a.name)
	}
}

// catchUp lets the consumers work until there is no batch left.
func (r *run) catchUp() {
	r.tickAll()
	for _, a := range r.actors {
		for a.registered {
			r.alone(a, a.nextBatch())
			if a.batch == 0 {
				break
			}
			r.alone(a, a.readBatch())
			r.alone(a, a.finishBatch(false))
		}
	}
}

// finish ends an actor's transaction, and those that it waits for.
func (r *run) finish(a *actor) {
	for a.running != nil || a.open {
		if a.running == nil {
			r.step(a, exec(pick(r, []string{"commit", "rollback"}), stopped...))
		}
		for _, b := range r.actors {
			if a.running != nil && b != a && b.running == nil && b.open {
				r.step(b, exec("rollback", stopped...))
			}
		}
		r.settle()
	}
	a.forget()
}

// drain lets the consumers come to the end of their queues.
func (r *run) drain() {
	for _, a := range r.actors {
		r.finish(a)
	}
	for len(r.prepared) > 0 {
		r.db.Exec(r.t, r.secondPhase())
	}
	for _, a := range r.actors {
		for a.consumerName != "" && !a.registered {
			r.alone(a, a.register())
		}
	}
	for round := 0; ; round++ {
		if round > 100 {
			r.fatal("consumers do not come to an end")
		}
		r.db.Exec(r.t, `update pgq.retry_queue set ev_retry_after = now() where ev_retry_after < 'infinity'`)
		for number(r, `select pgq.maint_retry_events()`) > 0 {
		}
		received := r.count["events received"]
		r.catchUp()
		if received == r.count["events received"] &&
			number(r, `select count(*) from pgq.retry_queue where ev_retry_after < 'infinity'`) == 0 {
			return
		}
	}
}

// Each consumer was given each event of its queue that its first tick did not see:
// once, and once more for each time that it put it aside. A delayed event may come
// into the queue after the consumer.
const differencesSQL = `
	with expected as (
		select j.consumer, l.tag, 1 + (select count(*) from public.retried r where r.consumer = j.consumer and r.tag = l.tag) as times,
			txid_visible_in_snapshot(l.txid, j.snapshot) as before
		from public.joined j
		join public.ledger l on l.queue = j.queue
		where l.delayed or not txid_visible_in_snapshot(l.txid, j.snapshot)
	), got as (
		select consumer, tag, count(*) as times from public.received group by 1, 2
	)
	select coalesce(e.consumer, g.consumer), coalesce(e.tag, g.tag), coalesce(e.times, 0) as expected, coalesce(g.times, 0) as got
	from expected e full join got g on g.consumer = e.consumer and g.tag = e.tag
	where e.times is distinct from g.times
	  and not (e.before and g.times is null)
	order by 1, 2 limit 20`

func (r *run) verify() {
	if wrong := r.db.Rows(r.t, differencesSQL); len(wrong) > 0 {
		r.fatal("consumer|event|expected|received:\n%v", wrong)
	}
	if n := number(r, `select count(*) from public.received`); n == 0 {
		r.fatal("no event was received: the history shows nothing")
	}
}

func number(r *run, sql string) int64 {
	r.t.Helper()
	return pgtest.Value[int64](r.t, r.db, sql)
}
