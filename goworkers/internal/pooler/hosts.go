// Which of a database's hosts is tried, and what a server must be to do
// (target_session_attrs, as libpq has it: Manual, "Parameter Key Words").

package pooler

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"goworkers/internal/pooler/dns"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// A host that does not answer is tried last for a while, which doubles each time.
const (
	backoffFirst = time.Second
	backoffMost  = time.Minute
)

// hostState is what a pool has learned of one of its hosts.
type hostState struct {
	failures int
	until    time.Duration // tried last until then
}

// candidates are the hosts for one connection, the first choice first; "" is the unix
// socket.
func (pl *dbPool) candidates(now time.Duration) []string {
	hosts := pl.db.Hosts
	switch len(hosts) {
	case 0:
		return []string{""}
	case 1:
		return hosts
	}
	if pl.db.LoadBalanceHosts.Or(ini.BalanceRoundRobin) == ini.BalanceRoundRobin {
		pl.hostIndex++
	}
	first := pl.hostIndex % len(hosts)
	order := slices.Concat(hosts[first:], hosts[:first])
	resting := func(host string) time.Duration {
		if st := pl.hosts[host]; st != nil && now < st.until {
			return st.until
		}
		return 0
	}
	slices.SortStableFunc(order, func(a, b string) int { return int(resting(a) - resting(b)) })
	return order
}

// hostFailed notes that a host does not answer.
func (pl *dbPool) hostFailed(host string, now time.Duration) {
	if len(pl.db.Hosts) < 2 {
		return
	}
	if pl.hosts == nil {
		pl.hosts = map[string]*hostState{}
	}
	st := pl.hosts[host]
	if st == nil {
		st = &hostState{}
		pl.hosts[host] = st
	}
	st.until = now + min(backoffFirst<<min(st.failures, 10), backoffMost)
	st.failures++
	if i := slices.Index(pl.db.Hosts, host); i == pl.hostIndex%len(pl.db.Hosts) {
		pl.hostIndex++ // load_balance_hosts = disable leaves a host that fails
	}
}

// hostWorks notes that a host has let us in.
func (pl *dbPool) hostWorks(host string) { delete(pl.hosts, host) }

// suits tells whether a server that has logged in may be used.
func (s *server) suits() bool {
	standby := s.inRecovery
	readOnly := standby || s.readOnly
	switch s.pl.db.TargetSessionAttrs {
	case ini.AttrsPrimary:
		return !standby
	case ini.AttrsStandby:
		return standby
	case ini.AttrsPreferStandby:
		return standby || s.login != nil && s.login.anyWillDo
	case ini.AttrsReadWrite:
		return !readOnly
	case ini.AttrsReadOnly:
		return readOnly
	}
	return true
}

// noteRole takes in the parameters that tell what a server is. One that is not what the
// pool wants any more, after a failover, is left as soon as it is free.
func (s *server) noteRole(name, value string) {
	suited := s.suits()
	switch name {
	case "in_hot_standby":
		s.inRecovery = value == "on"
	case "default_transaction_read_only":
		s.readOnly = value == "on"
	default:
		return
	}
	if s.login == nil && suited && !s.suits() {
		s.ps.RequireClose("server is not " + s.pl.db.TargetSessionAttrs.String() + " any more")
	}
}

// tryNext goes on to the next host of the list; at its end the attempt has failed.
func (s *server) tryNext() {
	w, l := s.w, s.login
	if len(l.hosts) == 0 && l.unsuitable && !l.anyWillDo && s.pl.db.TargetSessionAttrs == ini.AttrsPreferStandby {
		l.anyWillDo = true
		l.hosts = s.pl.candidates(w.loop.Now())
	}
	if len(l.hosts) == 0 {
		w.forgetServer(s)
		if l.unsuitable {
			s.logFailure(pool.Failure{Message: fmt.Sprintf("no host of %s is %s", s.pl.db.Host, s.pl.db.TargetSessionAttrs)})
			s.pl.LoginDeferred(s.ps, w.loop.Now())
			return
		}
		if l.refused {
			s.pl.LoginFailed(s.ps, l.failure, w.loop.Now())
		} else {
			s.pl.LoginDeferred(s.ps, w.loop.Now())
		}
		return
	}
	s.host, l.hosts = l.hosts[0], l.hosts[1:]
	s.hostSince = w.loop.Now()
	s.remain, s.drop, s.tls, s.key, s.vars, s.params = 0, false, nil, nil, noVars, nil
	s.inRecovery, s.readOnly = false, false
	l.auth, l.busy = &pgwire.ClientAuth{User: s.pl.user}, false
	l.auth.Secret, l.auth.Keys = s.pl.serverSecret()
	l.try++
	try := l.try
	w.resolve(s.host, s.pl.db.Port, func(t target, err error) {
		if s.ps.State() != pool.ServerLogin || s.login == nil || s.login.try != try {
			return // closed meanwhile
		}
		if err == nil {
			err = s.connect(t)
		}
		if err != nil {
			s.attemptFailed(pool.Failure{Message: err.Error()}, false)
		}
		w.run()
	})
}

// attemptFailed ends the attempt with one host: another one may still do. refused says
// that the host is there, and that it is no use to wait for it.
func (s *server) attemptFailed(why pool.Failure, refused bool) {
	s.logFailure(why)
	s.logEnd(why.Message)
	s.shut()
	if s.ps.State() != pool.ServerLogin {
		return
	}
	s.pl.hostFailed(s.host, s.w.loop.Now())
	s.login.failure, s.login.refused = why, refused
	s.tryNext()
}

// isAway tells of an error that a server's end makes, or its start: waiting is of use.
func isAway(err error) bool {
	var network syscall.Errno
	return errors.Is(err, errEOF) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
}

// attemptUnsuitable passes over a host that is not what target_session_attrs wants.
func (s *server) attemptUnsuitable() {
	s.login.unsuitable = true
	s.logEnd("server is not " + s.pl.db.TargetSessionAttrs.String())
	s.shut()
	s.tryNext()
}

// logFailure tells the log, when it is news.
func (s *server) logFailure(why pool.Failure) {
	s.pl.events.connectFailures++
	if s.pl.failureLogged == why.Message {
		return
	}
	s.pl.failureLogged = why.Message
	text := trimLoginFailed(why.Message)
	if why.Code != "" { // the server's own words
		text = pgwire.SeverityFatal + " " + text
	}
	s.about().Warn("server login failed: " + text)
}

// resolve finds a host's address and calls done in the loop, at once when it is known.
func (w *worker) resolve(host string, port int, done func(target, error)) {
	switch {
	case host == "":
		done(unixTarget(w.set.UnixSocketDir, port), nil)
		return
	case host[0] == '/' || host[0] == '@':
		done(unixTarget(host, port), nil)
		return
	}
	if n := len(host); host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	answer := func(a dns.Answer) {
		if a.Err != nil {
			done(target{}, fmt.Errorf("server DNS lookup failed: %w", a.Err))
			return
		}
		w.nextAddr++
		done(ipTarget(a.Addrs[w.nextAddr%len(a.Addrs)], port), nil)
	}
	if a, known := w.dns.Lookup(host, func(a dns.Answer) { w.loop.Post(func() { answer(a) }) }); known {
		answer(a)
	}
}

// addressesChanged leaves servers at addresses that their host does not have any more.
func (p *Pooler) addressesChanged(host string, _, now []netip.Addr) {
	for _, w := range p.workers {
		w.loop.Post(func() {
			for _, q := range w.manager.Pools() {
				q.EachServer(func(ps *pool.Server) {
					s, ok := ps.Owner.(*server)
					if ok && s.host == host && s.addr.IsValid() && !slices.Contains(now, s.addr.Addr().Unmap()) {
						ps.RequireClose("obsolete connection")
					}
				})
			}
		})
	}
}
