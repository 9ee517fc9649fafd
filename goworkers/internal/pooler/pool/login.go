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

// LoginFailed tells that a server is there and refuses us: clients that wait are told,
// unless the pool has other servers, and newcomers too until LoginRetry is over.
func (p *Pool) LoginFailed(s *Server, why Failure, now Time) {
	if s.state != ServerLogin {
		return
	}
	p.forgetServer(s, now)
	defer p.freed(now)
	p.proven = false
	if s.dedicated {
		c := s.client
		unlink(c, s)
		p.dropClient(c, why, now)
		return
	}
	p.failing, p.failure = true, why
	p.retrying, p.retryFrom = true, now
	if p.nServers > 0 {
		return
	}
	for _, state := range [...]ClientState{ClientWelcome, ClientWaiting, clientApart} {
		for c := p.clients[state].first; c != nil; c = p.clients[state].first {
			p.dropClient(c, why, now)
		}
	}
}

// LoginDeferred tells that a server is not there now, or is not what it must be: clients
// keep waiting, newcomers wait too, and the next attempt comes after LoginRetry.
func (p *Pool) LoginDeferred(s *Server, now Time) {
	if s.state != ServerLogin {
		return
	}
	p.forgetServer(s, now)
	p.loginDeferred(s, now)
	p.freed(now)
}

// loginDeferred draws the consequences; the server is forgotten already.
func (p *Pool) loginDeferred(s *Server, now Time) {
	p.proven, p.failing = false, false
	p.retrying, p.retryFrom = true, now
	if s.dedicated {
		p.requeue(s)
	}
}
