package ticker

// Several tickers for one database: one ticks, the others are its hot spares.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sirupsen/logrus"

	"goworkers/pgq"
)

// A spare looks at once whether it is needed, since the lock may be that of a
// ticker that is just ending; then ever more rarely up to sparePeriod, when it
// tells that it is one.
const firstSpare = 50 * time.Millisecond

const (
	// A pooler between us and the server gives us another process's number.
	directSQL = `select pg_catalog.pg_backend_pid() = $1`

	// What users create in a schema of the search_path must not run with the
	// ticker's rights. Not behind a pooler, where the next client would get it.
	pathSQL = `set search_path = pg_catalog`

	// A role that may not tick holds the lock to no purpose but to stop us.
	holderSQL = `
		select l.pid, coalesce(a.application_name, ''), coalesce(pg_catalog.host(a.client_addr), 'local'),
		       coalesce(pg_catalog.pg_get_userbyid(a.usesysid)::pg_catalog.text, ''),
		       coalesce(pg_catalog.has_function_privilege(a.usesysid, 'pgq.ticker()', 'execute'), false) as ticker
		  from pg_catalog.pg_locks l
		  left join pg_catalog.pg_stat_activity a on a.pid operator(pg_catalog.=) l.pid
		 where l.locktype operator(pg_catalog.=) 'advisory' and l.granted
		   and l.classid operator(pg_catalog.=) 7071::pg_catalog.oid and l.objid operator(pg_catalog.=) 1::pg_catalog.oid
		   and l.objsubid operator(pg_catalog.=) 2
		   and l.database operator(pg_catalog.=) (select d.oid from pg_catalog.pg_database d
		                                          where d.datname operator(pg_catalog.=) pg_catalog.current_database())
		 order by ticker desc
		 limit 1`

	wakeableSQL = `select pg_catalog.to_regprocedure('pgq.ticker_wake(text)') is not null`
	// The server ends a session that holds the lock and asks for nothing any more:
	// its ticker hangs, or the network has swallowed it.
	deafSQL   = `select pg_catalog.set_config('idle_session_timeout', $1, false)`
	listenSQL = `listen ` + pgq.InsertChannel
)

// What a ticker can be to its database.
const (
	ticking = "ticking"
	spare   = "spare"
	pooled  = "pooled"
	defied  = "defied" // ticking, though one who may not tick holds the lock
)

// become calls say when the role is another than before.
func (d *database) become(role string, say func(before string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if before := d.role; before != role {
		d.role = role
		say(before)
	}
}

// claim makes the connection the one that ticks the database, or says how long to
// wait as a spare. The lock is the session's, so it is free again as soon as the
// server knows that a ticker has died, or has heard nothing of it for a while.
func (d *database) claim(ctx context.Context, conn *pgx.Conn) (won bool, pause time.Duration, err error) {
	d.alert = alert{spare: d.alert.spare}
	var direct bool
	if err := conn.QueryRow(ctx, directSQL, int64(conn.PgConn().PID())).Scan(&direct); err != nil {
		return false, 0, fmt.Errorf("ask for the server's process: %w", err)
	}
	var other *holder
	if direct {
		if _, err := conn.Exec(ctx, pathSQL); err != nil {
			return false, 0, fmt.Errorf("set search_path: %w", err)
		}
		limit := d.settings.deafPeriod + 2*max(d.settings.period, d.settings.restPeriod)
		if _, err := conn.Exec(ctx, deafSQL, fmt.Sprint(limit.Milliseconds())); err != nil {
			return false, 0, fmt.Errorf("limit the silence of the connection: %w", err)
		}
		if won, other, err = d.lock(ctx, conn); err != nil {
			return false, 0, err
		}
		if !won && (other == nil || other.ticker) {
			return false, d.waitAsSpare(other), nil
		}
		if err := conn.QueryRow(ctx, wakeableSQL).Scan(&d.alert.hears); err != nil {
			return false, 0, fmt.Errorf("look for pgq.ticker_wake: %w", err)
		}
		if d.alert.hears {
			if _, err := conn.Exec(ctx, listenSQL); err != nil {
				return false, 0, fmt.Errorf("listen to writers: %w", err)
			}
		}
	} else {
		d.become(pooled, func(string) {
			d.log.Info("the connection leads through a pooler: queues are polled, and other tickers are not seen; connect to the server itself to be woken")
		})
	}
	if won {
		d.becomeTicking()
	} else if direct {
		d.become(defied, func(string) {
			d.log.WithFields(other.fields()).WithField("user", other.user).Warning("a role that may not tick holds the tickers' lock (7071, 1), ticking without it")
		})
	}
	d.alert.spare = 0
	d.active.Store(true)
	d.metrics.spare.WithLabelValues(d.target.name).Set(0)
	return true, 0, nil
}

// becomeTicking tells what that ends.
func (d *database) becomeTicking() {
	d.become(ticking, func(before string) {
		switch before {
		case spare:
			d.log.Info("no other ticker works on the database any more, ticking now")
		case defied:
			d.log.Info("the tickers' lock is free again, and ours")
		}
	})
}

// holder is a session that has the tickers' lock.
type holder struct {
	pid                        *int
	application, address, user string
	ticker                     bool // its role may tick
}

func (h *holder) fields() logrus.Fields {
	fields := logrus.Fields{"application": h.application, "client": h.address}
	if h.pid != nil { // else a prepared transaction
		fields["pid"] = *h.pid
	}
	return fields
}

// lock takes the lock, or tells who has it: nil if nobody has any more.
func (d *database) lock(ctx context.Context, conn *pgx.Conn) (won bool, other *holder, err error) {
	if won, err = pgq.TryTickerLock(ctx, conn); won || err != nil {
		return won, nil, err
	}
	var h holder
	err = conn.QueryRow(ctx, holderSQL).Scan(&h.pid, &h.application, &h.address, &h.user, &h.ticker)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, fmt.Errorf("ask who has the tickers' lock: %w", err)
	}
	return false, &h, nil
}

// defy looks once in sparePeriod whether the lock can be had by now, while somebody
// has it who may not tick. It says false when another ticker has it.
func (d *database) defy(ctx context.Context, conn *pgx.Conn) (goOn bool, err error) {
	if d.role != defied || time.Since(d.defiedAt) < d.settings.sparePeriod {
		return true, nil
	}
	d.defiedAt = time.Now()
	won, other, err := d.lock(ctx, conn)
	if err != nil {
		return false, err
	}
	if won {
		d.becomeTicking()
	}
	return other == nil || !other.ticker, nil
}

// waitAsSpare says how long to wait for another ticker to end.
func (d *database) waitAsSpare(other *holder) time.Duration {
	pause := firstSpare << min(d.alert.spare, 20)
	d.alert.spare++
	if pause < d.settings.sparePeriod {
		return pause
	}
	d.active.Store(false)
	d.metrics.up.WithLabelValues(d.target.name).Set(1)
	d.metrics.spare.WithLabelValues(d.target.name).Set(1)
	d.become(spare, func(string) {
		fields := logrus.Fields{}
		if other != nil {
			fields = other.fields()
		}
		d.log.WithFields(fields).Info("another ticker works on the database, waiting as its spare")
	})
	return d.settings.sparePeriod
}
