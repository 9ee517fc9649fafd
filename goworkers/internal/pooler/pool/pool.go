// Package pool decides who is served by which server connection. It is a state
// machine without sockets and without a clock of its own: what happened comes in
// as calls that carry the time, what is to be done comes out as actions, which the
// caller carries out in order after each call (Manager.Next).
//
// A Pool is one database as one server-side user. Its clients are idle, waiting
// (in order of their coming) or active; its servers log in (one at a time), are
// idle, active, tested (reset or checked), used (idle so long that they are
// checked first) or canceled (kept out of the way until a cancel request that
// aims at them has surely arrived, so that it cannot hit the next client).
//
// What always holds: an active client has exactly one server and the other way
// round; no limit is passed; a client waits only while no idle server is there,
// the pool is paused, or somebody else's turn comes first.
package pool

import "time"

// Time counts from a start that the caller chooses.
type Time = time.Duration

// Settings of one pool. They may be changed at any time; what exceeds a lowered
// limit is not cut but shrinks as servers close.
type Settings struct {
	PoolSize       int // servers; 0 = unlimited
	MinPoolSize    int // servers kept although idle
	ReserveSize    int // servers beyond PoolSize for clients that waited ReserveTimeout
	ReserveTimeout time.Duration
	QueryWait      time.Duration // longest wait for a server; 0 = no limit
	ConnectTimeout time.Duration // longest server login; 0 = no limit
	LoginRetry     time.Duration // pause after a failed server login
	ServerIdle     time.Duration // idle servers older than this are closed; 0 = never
	ServerLifetime time.Duration // servers older than this are closed when unlinked; 0 = after each use
	CheckDelay     time.Duration // servers idle for longer are checked before use
	Check          bool          // there is something to check with
	Reset          bool          // servers are reset after use
	RoundRobin     bool          // use the server that was idle longest
	FillAlways     bool          // MinPoolSize holds without a client too
}

// Group is a limit that several pools share: a database's or a user's.
type Group struct {
	Max int // servers; 0 = unlimited
	n   int
}

// Servers is the number of server connections that count against Max.
func (g *Group) Servers() int { return g.n }

// Failure is why a server login failed, in words for the client.
type Failure struct {
	Code    string // SQLSTATE
	Message string
}

// Pool is one database as one server-side user.
type Pool struct {
	Settings *Settings
	Owner    any // the caller's

	m       *Manager
	groups  [2]*Group // database, user; either may be nil
	paused  bool
	welcome bool // some server has logged in: clients need not wait for the first

	clients   [numClientStates]list[Client, *Client]
	servers   [numServerStates]list[Server, *Server]
	cancels   int
	failure   Failure
	failedAt  Time
	failing   bool
	lastAged  Time // when a server was last closed for its age
	agedOnce  bool
	tookExtra bool // the reserve is in use: logged once
}

// Clients is the number of clients in a state.
func (p *Pool) Clients(s ClientState) int { return p.clients[s].n }

// Servers is the number of servers in a state.
func (p *Pool) Servers(s ServerState) int { return p.servers[s].n }

// Cancels is the number of cancel requests on their way.
func (p *Pool) Cancels() int { return p.cancels }

// Paused tells whether the pool links no clients.
func (p *Pool) Paused() bool { return p.paused }

// MaxWait is how long the client at the head of the queue has waited.
func (p *Pool) MaxWait(now Time) time.Duration {
	if c := p.clients[ClientWaiting].first; c != nil {
		return now - c.since
	}
	return 0
}

// TotalServers is the number of servers in any state.
func (p *Pool) TotalServers() int {
	n := 0
	for i := range p.servers {
		n += p.servers[i].n
	}
	return n
}

// TotalClients is the number of clients in any state.
func (p *Pool) TotalClients() int {
	n := 0
	for i := range p.clients {
		n += p.clients[i].n
	}
	return n
}

// EachClient calls f for each client; f must not change the pool.
func (p *Pool) EachClient(f func(*Client)) {
	for i := range p.clients {
		for c := p.clients[i].first; c != nil; c = c.link.next {
			f(c)
		}
	}
}

// EachWaiter calls f for the clients of the queue from its head until f says no; f must
// not change the pool.
func (p *Pool) EachWaiter(f func(*Client) bool) {
	for c := p.clients[ClientWaiting].first; c != nil && f(c); c = c.link.next {
	}
}

// EachServer calls f for each server; f must not change the pool.
func (p *Pool) EachServer(f func(*Server)) {
	for i := range p.servers {
		for s := p.servers[i].first; s != nil; s = s.link.next {
			f(s)
		}
	}
}

// ClientState is where a client stands.
type ClientState uint8

// The client states. A client that is gone belongs to no pool.
const (
	ClientGone    ClientState = iota
	ClientIdle                // logged in, no server
	ClientWelcome             // login waits for the pool's first server
	ClientWaiting             // in the queue for a server
	ClientActive              // linked
	numClientStates
)

// Client is one client connection; the caller embeds or holds it and sets Owner.
type Client struct {
	Owner any

	pool   *Pool
	server *Server
	link   links[Client]
	since  Time // in this state
	state  ClientState
}

// Pool is the client's pool; nil before it has one.
func (c *Client) Pool() *Pool { return c.pool }

// Server is the server that the client is linked to, or nil.
func (c *Client) Server() *Server { return c.server }

// State is where the client stands.
func (c *Client) State() ClientState { return c.state }

// Since is when the client came into its state.
func (c *Client) Since() Time { return c.since }

// ServerState is where a server connection stands.
type ServerState uint8

// The server states. A server that is gone belongs to no pool.
const (
	ServerGone     ServerState = iota
	ServerLogin                // connecting and logging in
	ServerIdle                 // free
	ServerUsed                 // free, but to be checked before use
	ServerTested               // reset or check query runs
	ServerCanceled             // waits for cancel requests to arrive
	ServerActive               // linked
	numServerStates
)

// Server is one server connection, made by the state machine.
type Server struct {
	Owner any // the caller sets it when it carries out Connect

	pool        *Pool
	client      *Client
	link        links[Server]
	created     Time
	lastUsed    Time
	since       Time
	cancels     int // on their way to it
	state       ServerState
	closeNeeded string // why it must not be used again, or empty
	epoch       uint32 // counts its releases
}

// Pool is the server's pool.
func (s *Server) Pool() *Pool { return s.pool }

// Client is the client that is linked to the server, or nil.
func (s *Server) Client() *Client { return s.client }

// State is where the server stands.
func (s *Server) State() ServerState { return s.state }

// Created is when its connection was begun.
func (s *Server) Created() Time { return s.created }

// LastUsed is when it was last linked or released.
func (s *Server) LastUsed() Time { return s.lastUsed }

// CloseNeeded tells whether it is closed at its next release.
func (s *Server) CloseNeeded() bool { return s.closeNeeded != "" }

// RequireClose has the server closed as soon as it is free.
func (s *Server) RequireClose(reason string) { s.closeNeeded = reason }

// Cancel is one cancel request on its way to a server.
type Cancel struct {
	Owner  any
	Server *Server
	epoch  uint32
}

// Stale tells that the query which was meant has ended already: a cancel
// request that is not sent yet must not be sent any more.
func (k *Cancel) Stale() bool {
	return k.Server.state != ServerActive || k.Server.epoch != k.epoch
}

// Kind is what an action asks for.
type Kind uint8

// The kinds of actions.
const (
	// Connect: open the connection of Server and log in; then ServerReady or LoginFailed.
	Connect Kind = iota
	// Link: Client and Server belong together until Release, ClientGone or ServerLost.
	Link
	// Reset: run the reset query on Server; then Tested or ServerLost.
	Reset
	// Check: run the check query on Server; then Tested or ServerLost.
	Check
	// CloseServer: close Server; the state machine has forgotten it.
	CloseServer
	// DropClient: tell Client the reason and close it; the state machine has forgotten it.
	DropClient
	// Welcome: Client's login may go on.
	Welcome
	// ReserveTaken: tell the log that Pool began to use its reserve.
	ReserveTaken
)

// Action is one thing to do.
type Action struct {
	Kind   Kind
	Pool   *Pool
	Client *Client
	Server *Server
	Reason Failure
}
