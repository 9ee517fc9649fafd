// Clients: where one stands, and how it comes, asks and goes.

package pool

import "time"

// ClientState is where a client stands.
type ClientState uint8

// The client states. A client that is gone belongs to no pool.
const (
	ClientGone    ClientState = iota
	ClientIdle                // logged in, no server
	ClientWelcome             // login waits for the pool's first server
	ClientWaiting             // in the queue for a server
	ClientActive              // linked

	// Both are ClientWaiting to the caller.
	clientApart // in the queue for a place for a server of its own
	clientOwn   // its own server logs in

	numClientStates
)

// Client is one client connection; the caller embeds or holds it and sets Owner.
type Client struct {
	Owner any

	pool   *Pool
	server *Server // linked, or its own that logs in
	link   links[Client]
	since  Time   // in this state
	ticket uint32 // its turn in the queue
	state  ClientState
}

// Pool is the client's pool; nil before it has one.
func (c *Client) Pool() *Pool { return c.pool }

// Server is the server that the client is linked to, or nil.
func (c *Client) Server() *Server {
	if c.state != ClientActive {
		return nil
	}
	return c.server
}

// State is where the client stands.
func (c *Client) State() ClientState {
	if c.state == clientApart || c.state == clientOwn {
		return ClientWaiting
	}
	return c.state
}

// Since is when the client came into its state.
func (c *Client) Since() Time { return c.since }

// ahead tells that c came into the queue before d. Tickets may wrap around.
func (c *Client) ahead(d *Client) bool { return int32(c.ticket-d.ticket) < 0 }

// setClient moves a client to a state's list.
func (p *Pool) setClient(c *Client, to ClientState, now Time) {
	switch {
	case c.state == ClientGone:
		p.nClients++
	case to == ClientGone:
		p.nClients--
	}
	if c.state != ClientGone {
		p.clients[c.state].remove(c)
	}
	c.state, c.since = to, now
	switch to {
	case ClientGone:
	case ClientWaiting, clientApart:
		p.tickets++
		c.ticket = p.tickets
		p.clients[to].pushBack(c)
	default:
		p.clients[to].pushBack(c)
	}
	p.noteHunger()
}

// moveWaiter moves a client between the queue for an own server and the login of
// that server; its turn and its waiting time stay.
func (p *Pool) moveWaiter(c *Client, to ClientState) {
	p.clients[c.state].remove(c)
	c.state = to
	at := p.clients[to].first
	for at != nil && at.ahead(c) {
		at = at.link.next
	}
	p.clients[to].insert(c, at)
	p.noteHunger()
}

func (p *Pool) dropClient(c *Client, why Failure, now Time) {
	p.setClient(c, ClientGone, now)
	p.m.emit(Action{Kind: DropClient, Pool: p, Client: c, Reason: why})
}

// AddClient takes in a client that has logged in.
func (p *Pool) AddClient(c *Client, now Time) {
	c.pool = p
	p.setClient(c, ClientIdle, now)
}

// AwaitWelcome takes in a client whose login needs a server's answer, which only
// the first server login of the pool brings: the action Welcome or DropClient follows.
func (p *Pool) AwaitWelcome(c *Client, now Time) {
	c.pool = p
	p.setClient(c, ClientWelcome, now)
	switch {
	case p.welcome:
		p.setClient(c, ClientIdle, now)
		p.m.emit(Action{Kind: Welcome, Pool: p, Client: c})
	case p.refusing(now):
		p.dropClient(c, p.cachedFailure(), now)
	default:
		p.serve(now)
	}
}

// ForgetWelcome has the next clients wait for a server login again.
func (p *Pool) ForgetWelcome() { p.welcome, p.proven = false, false }

// SetWelcome tells that the caller knows a server's welcome already: clients need
// not wait for a first login.
func (p *Pool) SetWelcome() {
	p.welcome = true
	for c := p.clients[ClientWelcome].first; c != nil; c = p.clients[ClientWelcome].first {
		p.setClient(c, ClientIdle, c.since)
		p.m.emit(Action{Kind: Welcome, Pool: p, Client: c})
	}
}

// Request asks for a server for an idle client. It returns the server when the
// client is linked at once; otherwise the client waits for Link or DropClient.
func (p *Pool) Request(c *Client, now Time) *Server {
	if c.state != ClientIdle {
		return c.Server()
	}
	// Who waits for a place may need that of an idle server first.
	if p.clients[ClientWaiting].n+p.clients[clientApart].n == 0 && !p.atRest() {
		if s := p.free(now); s != nil {
			p.linkPair(c, s, now)
			return s
		}
	}
	if p.refusing(now) {
		p.dropClient(c, p.cachedFailure(), now)
		return nil
	}
	p.setClient(c, ClientWaiting, now)
	p.serve(now)
	return nil
}

// ClientGone tells that a client has left; clean says that its server, if it has
// one, is outside a transaction with nothing outstanding.
func (p *Pool) ClientGone(c *Client, clean bool, now Time) {
	p.clientGone(c, clean, false, now)
}

// ClientGoneRescue tells that a client has left its server in the middle of
// something. A server that may be used again is not closed but rescued: the action
// Rescue follows, and Settings.RescueTimeout is how long that may take. Without a
// linked server it is ClientGone.
func (p *Pool) ClientGoneRescue(c *Client, now Time) {
	p.clientGone(c, false, true, now)
}

func (p *Pool) clientGone(c *Client, clean, rescue bool, now Time) {
	if c.state == ClientGone {
		return
	}
	s := c.server
	if s == nil {
		p.setClient(c, ClientGone, now)
		return
	}
	unlink(c, s)
	p.setClient(c, ClientGone, now)
	switch {
	case s.dedicated:
		p.closeServer(s, "client disconnect", now)
		p.freed(now)
	case clean:
		p.retire(s, now)
	case rescue && !p.paused && s.closeNeeded == "" && p.Settings.ServerLifetime > 0 && !p.aged(s, now):
		s.epoch++
		s.rescued = true
		p.nRescued++
		p.setServer(s, ServerTested, now)
		p.m.emit(Action{Kind: Rescue, Pool: p, Server: s})
	default:
		p.closeServer(s, "client disconnect while server was not ready", now)
		p.freed(now)
	}
}

// EachClient calls f for each client; f must not change the pool.
func (p *Pool) EachClient(f func(*Client)) {
	for i := range p.clients {
		for c := p.clients[i].first; c != nil; c = c.link.next {
			f(c)
		}
	}
}

// queues are the states that are the queue together.
var queues = [...]ClientState{ClientWaiting, clientApart, clientOwn}

// EachWaiter calls f for the clients of the queue from its head until f says no; f must
// not change the pool.
func (p *Pool) EachWaiter(f func(*Client) bool) {
	var heads [len(queues)]*Client
	for i, state := range queues {
		heads[i] = p.clients[state].first
	}
	for {
		next := -1
		for i, c := range heads {
			if c != nil && (next < 0 || c.ahead(heads[next])) {
				next = i
			}
		}
		if next < 0 || !f(heads[next]) {
			return
		}
		heads[next] = heads[next].link.next
	}
}

// MaxWait is how long the client at the head of the queue has waited.
func (p *Pool) MaxWait(now Time) time.Duration {
	longest := time.Duration(0)
	for _, state := range queues {
		if c := p.clients[state].first; c != nil {
			longest = max(longest, now-c.since)
		}
	}
	return longest
}
