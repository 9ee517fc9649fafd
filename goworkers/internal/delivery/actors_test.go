package delivery

// Who takes part in a history, and what each may do next.

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// SQLSTATEs that a transaction may meet through no fault of anybody's.
var (
	raced   = []string{"40001", "40P01"}
	stopped = append([]string{"57P01"}, raced...) // somebody ended the session
	// What becomes of a queue that is dropped and made anew.
	vanished = append([]string{"PGQ01", "42P01", "PGQ08", "XX000"}, stopped...)
)

// cast chooses the actors.
func (r *run) cast() {
	add := func(name, dsn string, weight int, next func(*actor) *op) *actor {
		a := &actor{run: r, name: name, dsn: dsn, weight: weight, next: next}
		r.actors = append(r.actors, a)
		return a
	}
	for n := range 6 {
		// Some hold their transactions long: they are chosen rarely.
		add(fmt.Sprintf("producer %d", n), r.db.DSN, []int{14, 14, 9, 5, 2, 2}[n], produce)
	}
	for n := range 2 {
		add(fmt.Sprintf("ticker %d", n), r.db.DSN, 5, tick)
	}
	add("maintainer", r.db.DSN, 5, maintain)
	for n := range 5 {
		a := add(fmt.Sprintf("consumer %d", n), r.db.DSN, 6, consume)
		a.queue, a.consumerName = r.queues[n%2], fmt.Sprintf("c%d", n)
	}
	for n := range 2 {
		if r.wakes {
			a := add(fmt.Sprintf("worker %d", n), r.db.DSN, 4, consume)
			a.queue, a.consumerName, a.registered, a.shares = "q1", "ks", true, true
		}
	}
	add("locker", r.db.DSN, 1, lockTables)
	add("bystander", r.server.DSN, 1, standBy)
	add("dropper", r.db.DSN, 1, dropQueue)
	add("accident", r.server.DSN, 2, accident)
}

// end ends the actor's transaction.
func (a *actor) end() *op {
	if a.doomed || a.chance(5) {
		a.count["rollbacks"]++
		return exec("rollback", stopped...)
	}
	if strings.HasPrefix(a.name, "producer") && a.chance(6) {
		a.serial++
		gid := fmt.Sprintf("delivery_%d_%d", a.seed, a.serial)
		o := exec(fmt.Sprintf("prepare transaction '%s'", gid), stopped...)
		o.then = func(err error) {
			if err == nil {
				a.prepared = append(a.prepared, gid)
				a.count["prepared transactions"]++
			}
		}
		return o
	}
	a.count["commits"]++
	return exec("commit", stopped...)
}

// begin begins a transaction, and sometimes takes its snapshot.
func (a *actor) begin() *op {
	a.isolation = pick(a.run, []string{"read committed", "read committed", "repeatable read", "serializable"})
	sql := "begin isolation level " + a.isolation
	if a.chance(2) {
		sql += "; select count(*) from public.ledger"
	}
	return exec(sql, stopped...)
}

// produce is a producer's next step.
func produce(a *actor) *op {
	if len(a.prepared) > 0 && a.chance(10) {
		return a.finishPrepared()
	}
	if !a.open {
		if a.chance(4) {
			return a.event()
		}
		return a.begin()
	}
	if a.doomed && a.savepoints == 0 {
		return a.end()
	}
	switch n := a.IntN(12); {
	case a.doomed || n == 0 && a.savepoints > 0:
		o := exec(fmt.Sprintf("rollback to s%d", a.savepoints), stopped...)
		a.count["rollbacks to savepoints"]++
		return o
	case n == 1:
		o := exec(fmt.Sprintf("savepoint s%d", a.savepoints+1), stopped...)
		o.then = func(err error) {
			if err == nil {
				a.savepoints++
			}
		}
		return o
	case n == 2 && a.savepoints > 0:
		o := exec(fmt.Sprintf("release s%d", a.savepoints), stopped...)
		o.then = func(err error) {
			if err == nil {
				a.savepoints--
			}
		}
		return o
	case n <= 4:
		return a.end()
	}
	return a.event()
}

// finishPrepared commits a prepared transaction, or rolls it back. Any session may.
func (a *actor) finishPrepared() *op {
	if a.open {
		return a.end()
	}
	return exec(a.secondPhase(), stopped...)
}

func (r *run) secondPhase() string {
	n := r.IntN(len(r.prepared))
	gid := r.prepared[n]
	r.prepared = slices.Delete(r.prepared, n, n+1)
	return fmt.Sprintf("%s prepared '%s'", pick(r, []string{"commit", "rollback"}), gid)
}

// event writes one or more events by one of the ways there are, with their tags in
// the ledger.
func (a *actor) event() *op {
	a.serial++
	a.wrote = true
	tag := fmt.Sprintf("%s-%d", strings.ReplaceAll(a.name, " ", ""), a.serial)
	queue := pick(a.run, a.queues)
	a.count["events written"]++
	allowed := stopped
	both := func(call string) *op {
		return exec(fmt.Sprintf("insert into public.ledger (tag, queue) values ('%s', '%s'); select %s", tag, queue, call), allowed...)
	}
	switch a.IntN(12) {
	case 10, 11: // at once or later, and not in one piece with the others
		if !a.wakes {
			break
		}
		return exec(fmt.Sprintf("insert into public.ledger (tag, queue, delayed) values ('%s', '%s', true);"+
			"select pgq.insert_event_at('%[2]s', now() + interval '%d ms', 't', '%[1]s')", tag, queue, a.IntN(3)*100-100), allowed...)
	case 0, 1, 2:
		return both(fmt.Sprintf("pgq.insert_event('%s', 't', '%s')", queue, tag))
	case 3, 4:
		return both(fmt.Sprintf("pgq.insert_event('%s', 't', '%s', 'k%d', null, null, '')", queue, tag, a.IntN(5)))
	case 5: // the event first, the ledger later
		return exec(fmt.Sprintf("select pgq.insert_event('%s', 't', '%s'); insert into public.ledger (tag, queue) values ('%[2]s', '%[1]s')", queue, tag), allowed...)
	case 6:
		return exec(fmt.Sprintf("insert into public.ledger (tag, queue) values ('%s', 'q1'); insert into public.source (tag, note) values ('%[1]s', 'a & b')", tag), allowed...)
	case 7:
		return a.copyEvents(queue, tag)
	case 8: // many subtransactions
		return exec(fmt.Sprintf(`do $$ begin for i in 1 .. 80 loop begin
			insert into public.ledger (tag, queue) values ('%s-' || i, '%s');
			perform pgq.insert_event('%[2]s', 't', '%[1]s-' || i);
			if i %% 3 = 0 then raise exception 'undo' using errcode = 'P1111'; end if;
			exception when sqlstate 'P1111' then null; end; end loop; end $$`, tag, queue), allowed...)
	}
	// A queue that comes and goes; nobody looks for its events.
	return exec(fmt.Sprintf("select pgq.insert_event('doomed', 't', '%s')", tag), vanished...)
}

// copyEvents copies rows into the current event table.
func (a *actor) copyEvents(queue, tag string) *op {
	outside := !a.open
	return &op{name: "copy " + tag, allowed: stopped, do: func(ctx context.Context, conn *pgx.Conn) error {
		var err error
		run := func(sql string) {
			if err == nil {
				_, err = conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
			}
		}
		if outside {
			run("begin")
		}
		var table string
		if err == nil {
			err = conn.QueryRow(ctx, "select pgq.current_event_table($1)", pgx.QueryExecModeSimpleProtocol, queue).Scan(&table)
		}
		run(fmt.Sprintf("insert into public.ledger (tag, queue) select '%s-' || n, '%s' from generate_series(1, 5) n", tag, queue))
		if err == nil {
			var rows strings.Builder
			for n := range 5 {
				fmt.Fprintf(&rows, "now\tt\t%s-%d\n", tag, n+1)
			}
			_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(rows.String()),
				"copy "+table+" (ev_time, ev_type, ev_data) from stdin")
		}
		if outside {
			if err == nil {
				run("commit")
			} else if !conn.IsClosed() {
				_, _ = conn.Exec(ctx, "rollback")
			}
		}
		return err
	}}
}

// tick is a ticker's next step. Sometimes it holds its transaction, so that tickers
// meet.
func tick(a *actor) *op {
	if a.open {
		if a.doomed || a.chance(2) {
			if !a.doomed && a.chance(4) {
				return exec("rollback", stopped...)
			}
			return exec("commit", stopped...)
		}
	} else if a.chance(6) {
		return a.begin()
	}
	a.count["calls of ticker"]++
	queue := pick(a.run, a.queues)
	switch a.IntN(6) {
	case 0:
		return exec(fmt.Sprintf("select pgq.force_tick('%s')", queue), stopped...)
	case 1, 2:
		return exec(fmt.Sprintf("select pgq.ticker('%s')", queue), stopped...)
	case 3:
		if !a.wakes {
			break
		}
		return exec(fmt.Sprintf("select * from pgq.ticker_wake('%s')", queue), stopped...)
	}
	return exec("select pgq.ticker()", stopped...)
}

// maintain is the next step of maintenance: rotations as often as there can be any.
func maintain(a *actor) *op {
	if a.open {
		if a.doomed || a.chance(4) {
			return exec("rollback", stopped...)
		}
		if a.chance(2) {
			return exec("commit", stopped...)
		}
	} else if a.chance(8) {
		return exec("begin", stopped...)
	}
	switch a.IntN(5) {
	case 0, 1:
		a.count["calls of rotation"]++
		return exec(fmt.Sprintf("select pgq.maint_rotate_tables_step1('%s')", pick(a.run, a.queues)), stopped...)
	case 2, 3:
		return exec("select pgq.maint_rotate_tables_step2()", stopped...)
	}
	return exec("select pgq.maint_retry_events()", stopped...)
}

// lockTables holds locks on event tables, and changes them.
func lockTables(a *actor) *op {
	if a.open {
		if a.doomed || a.chance(2) {
			return exec("rollback", stopped...)
		}
		return exec("commit", stopped...)
	}
	table := fmt.Sprintf("pgq.event_%d_%d", 1+a.IntN(2), a.IntN(3))
	a.count["table locks"]++
	switch a.IntN(6) {
	case 0:
		return exec(fmt.Sprintf("create index if not exists by_type on %s (ev_type)", table), stopped...)
	case 1:
		return exec("drop index if exists pgq.by_type", stopped...)
	case 2:
		return exec("vacuum full "+table, stopped...)
	case 3:
		return exec("begin isolation level repeatable read; lock table "+table+" in access share mode", stopped...)
	}
	return exec(fmt.Sprintf("begin; lock table %s in %s mode", table,
		pick(a.run, []string{"share", "share row exclusive", "access exclusive"})), stopped...)
}

// standBy holds a transaction in another database.
func standBy(a *actor) *op {
	if a.open {
		return exec("commit", stopped...)
	}
	return exec("begin; select txid_current()", stopped...)
}

// dropQueue drops a queue that others write to, and makes it anew.
func dropQueue(a *actor) *op {
	if a.chance(2) {
		a.count["queues dropped"]++
		return exec("select pgq.drop_queue('doomed', true)", vanished...)
	}
	return exec("select pgq.create_queue('doomed')", vanished...)
}

// accident is what nobody plans.
func accident(a *actor) *op {
	switch n := a.IntN(40); {
	case n == 0:
		a.crash()
	case n < 6: // a session ends
		victim := pick(a.run, a.actors)
		if victim == a || victim.running != nil {
			break
		}
		a.count["sessions ended"]++
		a.note("%s is ended", victim.name)
		ctx, cancel := context.WithTimeout(context.Background(), statement)
		defer cancel()
		_ = victim.conn.Close(ctx)
		// What it leaves is undone before anybody goes on.
		a.waitGone(victim.pid)
		a.connectAll()
	case n < 9: // the clock makes a step
		a.count["clock steps"]++
		a.db.Exec(a.t, fmt.Sprintf(`update pgq.tick t set tick_time = t.tick_time + interval '%s'
			where t.tick_id = (select max(l.tick_id) from pgq.tick l where l.tick_queue = t.tick_queue)`,
			pick(a.run, []string{"1 hour", "-1 hour", "-1 day"})))
	}
	return exec("select 1", stopped...)
}

func (r *run) waitGone(pid uint32) {
	for {
		var there bool
		err := r.monitor.QueryRow(context.Background(), `select exists (select 1 from pg_stat_activity where pid = $1)`, pid).Scan(&there)
		if err != nil {
			r.fatal("monitor: %v", err)
		}
		if !there {
			return
		}
	}
}
