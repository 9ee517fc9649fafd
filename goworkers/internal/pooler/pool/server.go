// Servers: where one stands, and how it is opened, used, given back and closed.

package pool

import "time"

// ServerState is where a server connection stands.
type ServerState uint8

// The server states. A server that is gone belongs to no pool.
const (
	ServerGone     ServerState = iota
	ServerLogin                // connecting and logging in
	ServerIdle                 // free
	ServerUsed                 // free, but to be checked before use
	ServerTested               // reset or check query runs, or a rescue
	ServerCanceled             // waits for cancel requests to arrive
	ServerActive               // linked
	numServerStates
)

// Server is one server connection, made by the state machine.
type Server struct {
	Owner any // the caller sets it when it carries out Connect

	pool        *Pool
	client      *Client // linked, or the one that it logs in for
	link        links[Server]
	created     Time
	lastUsed    Time
	since       Time
	closeNeeded string // why it must not be used again, or empty
	cancels     int32  // on their way to it
	epoch       uint32 // counts its releases
	state       ServerState
	dedicated   bool // opened for one client
	rescued     bool // tested is a rescue
	resetNeeded bool // reset at the next release whatever the settings say
	obsolete    bool // ReconnectSlowly has still to come to it
}

// Pool is the server's pool.
func (s *Server) Pool() *Pool { return s.pool }

// Client is the client that is linked to the server, or nil.
func (s *Server) Client() *Client {
	if s.state != ServerActive {
		return nil
	}
	return s.client
}

// State is where the server stands.
func (s *Server) State() ServerState { return s.state }

// Created is when its connection was begun.
func (s *Server) Created() Time { return s.created }

// LastUsed is when it was last linked or released.
func (s *Server) LastUsed() Time { return s.lastUsed }

// Dedicated tells that the server is the own one of a replication client.
func (s *Server) Dedicated() bool { return s.dedicated }

// DedicatedTo is the client whose own the server is, also while it logs in; nil for other
// servers.
func (s *Server) DedicatedTo() *Client {
	if !s.dedicated {
		return nil
	}
	return s.client
}

// CloseNeeded tells whether it is closed at its next release.
func (s *Server) CloseNeeded() bool { return s.closeNeeded != "" }

// RequireClose has the server closed as soon as it is free; no client gets it any more.
// An idle one goes to the end of the row and is closed by the next Sweep.
func (s *Server) RequireClose(reason string) {
	s.closeNeeded = reason
	if s.state == ServerIdle {
		idle := &s.pool.servers[ServerIdle]
		idle.remove(s)
		idle.pushBack(s)
	}
}

// RequireReset has the server reset at its next release although Settings.Reset is false.
func (s *Server) RequireReset() { s.resetNeeded = true }

// EachServer calls f for each server; f must not change the pool.
func (p *Pool) EachServer(f func(*Server)) {
	for i := range p.servers {
		for s := p.servers[i].first; s != nil; s = s.link.next {
			f(s)
		}
	}
}

func isFree(s ServerState) bool { return s == ServerIdle || s == ServerUsed }

// setServer moves a server to a state's list.
func (p *Pool) setServer(s *Server, to ServerState, now Time) {
	if s.state != ServerGone {
		p.servers[s.state].remove(s)
	}
	if was, is := isFree(s.state), isFree(to); was != is {
		for _, sh := range p.shares {
			if sh != nil && is {
				sh.free++
			} else if sh != nil {
				sh.free--
			}
		}
	}
	s.state, s.since = to, now
	switch to {
	case ServerGone:
	case ServerIdle:
		// Last in, first out, so that what is not needed gets old.
		if p.Settings.RoundRobin || s.closeNeeded != "" {
			p.servers[to].pushBack(s)
		} else {
			p.servers[to].pushFront(s)
		}
	default:
		p.servers[to].pushBack(s)
	}
}

// free gives the idle server whose turn it is, or nil.
func (p *Pool) free(now Time) *Server {
	for s := p.servers[ServerIdle].first; s != nil; s = p.servers[ServerIdle].first {
		if s.closeNeeded == "" {
			return s
		}
		p.closeServer(s, s.closeNeeded, now)
	}
	return nil
}

func (p *Pool) linkPair(c *Client, s *Server, now Time) {
	p.setClient(c, ClientActive, now)
	p.setServer(s, ServerActive, now)
	c.server, s.client = s, c
	s.lastUsed = now
}

func unlink(c *Client, s *Server) {
	c.server, s.client = nil, nil
}

// addServer takes in a server that counts in the pool's groups already.
func (p *Pool) addServer(s *Server, state ServerState, now Time) {
	p.nServers++
	if s.dedicated {
		p.nDedicated++
	}
	p.setServer(s, state, now)
}

// closeServer forgets a server that has no client and has it closed.
func (p *Pool) closeServer(s *Server, reason string, now Time) {
	p.forgetServer(s, now)
	p.m.emit(Action{Kind: CloseServer, Pool: p, Server: s, Reason: Failure{Message: reason}})
}

func (p *Pool) forgetServer(s *Server, now Time) {
	p.setServer(s, ServerGone, now)
	p.nServers--
	if s.dedicated {
		p.nDedicated--
	}
	if s.rescued {
		s.rescued = false
		p.nRescued--
	}
	if s.obsolete {
		s.obsolete = false
		p.obsolete--
	}
	for i := range p.shares {
		p.leave(i)
	}
}

// ServerLost tells that the connection of a logged-in server is gone; the caller
// has closed it. Its client is dropped.
func (p *Pool) ServerLost(s *Server, why Failure, now Time) {
	switch s.state {
	case ServerGone:
		return
	case ServerLogin:
		p.LoginFailed(s, why, now)
		return
	}
	c := s.client
	if c != nil {
		unlink(c, s)
	}
	p.forgetServer(s, now)
	if c != nil {
		p.dropClient(c, why, now)
	}
	p.freed(now)
}

// KillLink closes an active server and drops its client, telling it why.
func (p *Pool) KillLink(s *Server, why Failure, now Time) {
	c := s.client
	if c == nil {
		return
	}
	unlink(c, s)
	p.closeServer(s, why.Message, now)
	p.dropClient(c, why, now)
	p.freed(now)
}

// Release tells that the active server's client needs it no more and that it is
// clean: outside a transaction with nothing outstanding. A dedicated server is not
// released; should it be, it is closed and its client dropped.
func (p *Pool) Release(s *Server, now Time) {
	if s.state != ServerActive {
		return
	}
	if s.dedicated {
		p.KillLink(s, Failure{Message: "dedicated server released"}, now)
		return
	}
	c := s.client
	unlink(c, s)
	p.setClient(c, ClientIdle, now)
	p.retire(s, now)
}

// retire brings a server that has just lost its client back to the others.
func (p *Pool) retire(s *Server, now Time) {
	s.lastUsed = now
	s.epoch++
	switch {
	case p.closeIfDue(s, now):
	case s.cancels > 0:
		p.setServer(s, ServerCanceled, now)
	default:
		p.resetOrIdle(s, now)
	}
}

func (p *Pool) resetOrIdle(s *Server, now Time) {
	if p.yield(s, now) {
		return
	}
	if p.Settings.Reset || s.resetNeeded {
		s.resetNeeded = false
		p.setServer(s, ServerTested, now)
		p.m.emit(Action{Kind: Reset, Pool: p, Server: s})
		return
	}
	p.toIdle(s, true, now)
}

// toIdle makes a server free; used says that a client had it since it was last checked.
func (p *Pool) toIdle(s *Server, used bool, now Time) {
	switch {
	case s.closeNeeded != "":
		p.closeServer(s, s.closeNeeded, now)
	case p.paused:
		p.closeServer(s, "pause mode", now)
	case used && p.Settings.Check && p.Settings.CheckDelay == 0:
		p.setServer(s, ServerUsed, now)
	default:
		p.setServer(s, ServerIdle, now)
	}
	p.freed(now)
}

// closeIfDue closes an unlinked server that must not be used again.
func (p *Pool) closeIfDue(s *Server, now Time) bool {
	switch {
	case s.closeNeeded != "":
		p.closeServer(s, s.closeNeeded, now)
	case p.suspended:
		return false // Sweep comes to it after Unsuspend
	case p.Settings.ServerLifetime == 0:
		p.closeServer(s, "server lifetime over", now)
	case p.aged(s, now):
		p.lastAged, p.agedOnce = now, true
		p.closeServer(s, "server lifetime over", now)
	default:
		return false
	}
	p.freed(now)
	return true
}

// aged tells that a server is older than it may be. Servers opened together are
// not closed together: one at most in each lifetime/pool_size.
func (p *Pool) aged(s *Server, now Time) bool {
	life := p.Settings.ServerLifetime
	if life == 0 {
		return s.epoch > 0 // good for one use
	}
	if now-s.created < life {
		return false
	}
	return !p.agedOnce || now-p.lastAged >= life/time.Duration(max(1, p.Settings.PoolSize))
}

// Tested tells that the reset query, the check query or the rescue of a server is through.
func (p *Pool) Tested(s *Server, now Time) {
	if s.state != ServerTested {
		return
	}
	if s.rescued {
		s.rescued = false
		p.nRescued--
		p.retire(s, now)
		return
	}
	p.toIdle(s, false, now)
}
