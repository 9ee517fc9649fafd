// How server logins end.

package pool

// refusing tells that newcomers are refused at once, since logins fail.
func (p *Pool) refusing(now Time) bool {
	return p.failing && !p.atRest() && p.nServers == 0 && p.inRetry(now)
}

func (p *Pool) cachedFailure() Failure {
	return Failure{p.failure.Code, "server login has been failing, cached error: " + p.failure.Message + " (server_login_retry)"}
}

// ServerReady tells that a server has logged in.
func (p *Pool) ServerReady(s *Server, now Time) {
	if s.state != ServerLogin {
		return
	}
	p.proven = true
	if s.dedicated {
		p.dedicatedReady(s, now)
		return
	}
	p.failing, p.retrying = false, false
	p.welcome = true
	s.lastUsed = now
	for c := p.clients[ClientWelcome].first; c != nil; c = p.clients[ClientWelcome].first {
		p.setClient(c, ClientIdle, now)
		p.m.emit(Action{Kind: Welcome, Pool: p, Client: c})
	}
	p.toIdle(s, false, now)
}

// LoginFailed tells that a server did not log in. starting says that it refuses
// clients just now, so that waiting makes sense.
func (p *Pool) LoginFailed(s *Server, why Failure, starting bool, now Time) {
	if s.state != ServerLogin {
		return
	}
	p.forgetServer(s, now)
	p.loginFailed(s, why, starting, now)
	p.freed(now)
}

// loginFailed draws the consequences of a login that has failed; the server is
// forgotten already.
func (p *Pool) loginFailed(s *Server, why Failure, starting bool, now Time) {
	p.proven = false
	if s.dedicated && !starting {
		c := s.client
		unlink(c, s)
		p.dropClient(c, why, now)
		return
	}
	p.failing, p.failure = true, why
	p.retrying, p.retryFrom = true, now
	if s.dedicated {
		p.requeue(s)
	}
	if starting || p.nServers > 0 {
		return
	}
	for _, state := range [...]ClientState{ClientWelcome, ClientWaiting, clientApart} {
		for c := p.clients[state].first; c != nil; c = p.clients[state].first {
			p.dropClient(c, why, now)
		}
	}
}

// LoginDeferred tells that the attempt to log in has ended without a fault of the
// database, for instance since no host is suitable yet: clients keep waiting and
// newcomers are not refused, but the next attempt comes only after LoginRetry.
func (p *Pool) LoginDeferred(s *Server, now Time) {
	if s.state != ServerLogin {
		return
	}
	p.forgetServer(s, now)
	p.proven, p.failing = false, false
	p.retrying, p.retryFrom = true, now
	if s.dedicated {
		p.requeue(s)
	}
	p.freed(now)
}
