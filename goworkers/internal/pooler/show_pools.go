// SHOW POOLS.

package pooler

import (
	"time"

	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/pool"
)

func showPools(p *Pooler, t *table) {
	t.columns = columns("database user cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i " +
		"sv_active:i sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i sv_login:i " +
		"maxwait:i maxwait_us:i pool_mode load_balance_hosts")
	sent := map[*dbPool]int{}
	for _, w := range p.workers {
		for r := range w.carriers {
			if r.sent {
				sent[r.pl]++
			}
		}
	}
	p.eachPool(func(pl *dbPool) {
		q := pl.Pool
		wait := q.MaxWait(p.now())
		t.add(pl.db.name, pl.user,
			q.Clients(pool.ClientIdle)+q.Clients(pool.ClientActive), q.Clients(pool.ClientWaiting)+q.Clients(pool.ClientWelcome),
			sent[pl], q.Cancels()-sent[pl], q.Servers(pool.ServerActive), sent[pl], q.Servers(pool.ServerCanceled),
			q.Servers(pool.ServerIdle), q.Servers(pool.ServerUsed), q.Servers(pool.ServerTested), q.Servers(pool.ServerLogin),
			int(wait/time.Second), int(wait%time.Second/time.Microsecond), pl.mode.String(), pl.db.shownBalance())
	})
	t.add(consoleName, consoleName, len(p.consoles), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ini.PoolStatement.String(), nil)
	t.sort(2)
}
