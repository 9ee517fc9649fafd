// What the service manager is told, and the sockets that it passes.

package pooler

import (
	"time"

	"golang.org/x/sys/unix"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/systemd"
)

// tell sends lines to the service manager, if there is one.
func (p *Pooler) tell(lines ...string) {
	if p.options.Notify != nil {
		p.options.Notify(lines...)
	}
}

// tellAlive feeds the watchdog, when it is time for that: the first loop turns.
func (p *Pooler) tellAlive(now time.Duration) {
	if every := p.options.Watchdog / 2; every > 0 && now >= p.nextAlive {
		p.nextAlive = now + every
		p.tell(systemd.Watchdog)
	}
}

// listenPassed takes the sockets of the service manager in place of our own. They stay
// its: nothing of them is removed at the end.
func (p *Pooler) listenPassed(sockets []systemd.Listener) error {
	for _, s := range sockets {
		_, local := s.Addr.(*unix.SockaddrUnix)
		l := &listener{p: p, fd: s.FD, name: s.Name + " from the service manager", tcp: !local}
		l.configure()
		if err := p.main.loop.Add(l.fd, evloop.Readable, l); err != nil {
			return err
		}
		p.listeners = append(p.listeners, l)
		p.log.Info("listening on " + l.name)
	}
	return nil
}
