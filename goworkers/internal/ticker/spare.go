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

	holderSQL = `
		select l.pid, coalesce(a.application_name, ''), coalesce(pg_catalog.host(a.client_addr), 'local')
		  from pg_catalog.pg_locks l
		  left join pg_catalog.pg_stat_activity a on a.pid = l.pid
		 where l.locktype = 'advisory' and l.classid = 7071 and l.objid = 1 and l.objsubid = 2 and l.granted
		   and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())`

	wakeableSQL = `select pg_catalog.to_regprocedure('pgq.ticker_wake(text)') is not null`
	listenSQL   = `listen ` + pgq.InsertChannel
)

// What a ticker can be to its database.
const (
	ticking = "ticking"
	spare   = "spare"
	pooled  = "pooled"
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
// server knows that a ticker has died.
func (d *database) claim(ctx context.Context, conn *pgx.Conn) (won bool, pause time.Duration, err error) {
	d.alert = alert{spare: d.alert.spare}
	var direct bool
	if err := conn.QueryRow(ctx, directSQL, int64(conn.PgConn().PID())).Scan(&direct); err != nil {
		return false, 0, fmt.Errorf("ask for the server's process: %w", err)
	}
	if direct {
		if won, err = pgq.TryTickerLock(ctx, conn); err != nil {
			return false, 0, err
		}
		if !won {
			return false, d.waitAsSpare(ctx, conn), nil
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
	if direct {
		d.become(ticking, func(before string) {
			if before == spare {
				d.log.Info("no other ticker works on the database any more, ticking now")
			}
		})
	}
	d.alert.spare = 0
	d.active.Store(true)
	d.metrics.spare.WithLabelValues(d.target.name).Set(0)
	return true, 0, nil
}

// waitAsSpare says how long to wait for another ticker to end.
func (d *database) waitAsSpare(ctx context.Context, conn *pgx.Conn) time.Duration {
	pause := firstSpare << min(d.alert.spare, 20)
	d.alert.spare++
	if pause < d.settings.sparePeriod {
		return pause
	}
	d.active.Store(false)
	d.metrics.up.WithLabelValues(d.target.name).Set(1)
	d.metrics.spare.WithLabelValues(d.target.name).Set(1)
	d.become(spare, func(string) {
		var pid int
		var application, address string
		fields := logrus.Fields{}
		err := conn.QueryRow(ctx, holderSQL).Scan(&pid, &application, &address)
		if err == nil {
			fields["pid"], fields["application"], fields["client"] = pid, application, address
		} else if !errors.Is(err, pgx.ErrNoRows) {
			fields["error"] = err
		}
		d.log.WithFields(fields).Info("another ticker works on the database, waiting as its spare")
	})
	return d.settings.sparePeriod
}
