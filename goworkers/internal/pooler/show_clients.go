// SHOW CLIENTS.

package pooler

import (
	"fmt"
	"syscall"
	"time"

	"goworkers/internal/pooler/pool"
)

// connColumns are the columns of SHOW CLIENTS and SHOW SERVERS.
const connColumns = "type user database replication state addr port:i local_addr local_port:i connect_time:ts " +
	"request_time:ts wait:i wait_us:i close_needed:i ptr link remote_pid:i tls application_name prepared_statements:i id:i"

func showClients(p *Pooler, t *table) {
	t.columns = columns(connColumns)
	p.eachClient(func(c *client) {
		if c.phase != phaseActive && c.phase != phaseConsole && c.phase != phaseWelcome {
			return
		}
		db, user, state := consoleName, "", "active"
		if c.user != nil {
			user = c.user.name
		}
		var wait time.Duration
		link := ""
		if c.console == nil {
			db = c.pl.db.name
			switch c.pc.State() {
			case pool.ClientWaiting:
				state, wait = "waiting", p.now()-c.pc.Since()
			case pool.ClientWelcome:
				state = "waiting_login"
			case pool.ClientIdle:
				state = "idle"
			}
			if c.srv != nil {
				link = pointer(c.srv.id)
			}
		}
		addr, port := "unix", p.set.ListenPort
		if c.addr.IsValid() {
			addr, port = c.addr.Addr().Unmap().String(), int(c.addr.Port())
		}
		localAddr, localPort := "unix", p.set.ListenPort
		if sa, err := syscall.Getsockname(int(c.fd)); err == nil {
			if a := address(sa); a.IsValid() {
				localAddr, localPort = a.Addr().Unmap().String(), int(a.Port())
			}
		}
		app := ""
		if i := p.tracked.index("application_name"); i >= 0 {
			app = c.vars.Value()[i]
		}
		t.add("C", user, db, "none", state, addr, port, localAddr, localPort, p.began.Add(c.since), p.began.Add(max(c.since, c.requestTime)),
			int(wait/time.Second), int(wait%time.Second/time.Microsecond), 0, pointer(c.id), link, 0, "", app, 0, c.id)
	})
	t.sort(15)
}

// pointer names a connection where PgBouncer shows an address in its memory.
func pointer(id uint64) string { return fmt.Sprintf("0x%x", id) }
