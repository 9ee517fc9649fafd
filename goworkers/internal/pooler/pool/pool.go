// The pool: its settings, what it knows and what it counts.

package pool

import "time"

// Time counts from a start that the caller chooses.
type Time = time.Duration

// Settings of one pool. They may be changed at any time; what exceeds a lowered
// limit is not cut but shrinks as servers close.
type Settings struct {
	PoolSize         int // servers; 0 = unlimited
	MinPoolSize      int // servers kept although idle; dedicated ones do not count
	ReserveSize      int // servers beyond PoolSize for clients that waited ReserveTimeout
	ParallelConnects int // servers that log in at a time once a login has succeeded; 0 = 1
	ReserveTimeout   time.Duration
	QueryWait        time.Duration // longest wait for a server; 0 = no limit
	ConnectTimeout   time.Duration // longest server login; 0 = no limit
	RescueTimeout    time.Duration // longest rescue; 0 = no limit
	LoginRetry       time.Duration // pause after a failed server login
	ServerIdle       time.Duration // idle servers older than this are closed; 0 = never
	ServerLifetime   time.Duration // servers older than this are closed when unlinked; 0 = after each use
	CheckDelay       time.Duration // servers idle for longer are checked before use
	Check            bool          // there is something to check with
	Reset            bool          // servers are reset after use
	RoundRobin       bool          // use the server that was idle longest
	FillAlways       bool          // MinPoolSize holds without a client too
}

// Pool is one database as one server-side user.
type Pool struct {
	Settings *Settings
	Owner    any // the caller's

	m         *Manager
	shares    [2]*share // of the groups of database and user; either may be nil
	hunger    [2]hunger // in the lists of shares, while a client lacks a server
	hungry    bool
	held      [2]bool // the group is why
	starves   [2]bool // and nothing else is, and the pool has no server
	paused    bool
	suspended bool
	welcome   bool // some server has logged in: clients need not wait for the first
	proven    bool // the last login succeeded

	clients     [numClientStates]list[Client, *Client]
	servers     [numServerStates]list[Server, *Server]
	nClients    int
	nServers    int
	nDedicated  int // of nServers
	nRescued    int // of those tested
	cancels     int
	cancelsSent int
	tickets     uint32    // the last that was given to a waiting client
	asked       [2]uint64 // 1 + the sweep in which Evict was last asked for
	failure     Failure
	failing     bool // logins fail, for failure
	retrying    bool // the next login waits until retryFrom + LoginRetry
	retryFrom   Time
	lastAged    Time // when a server was last closed for its age
	agedOnce    bool
	tookExtra   bool // the reserve is in use: logged once

	obsolete   int // servers that ReconnectSlowly has still to come to
	slowly     slowly
	slowReason string
}

// Clients is the number of clients in a state.
func (p *Pool) Clients(s ClientState) int {
	n := p.clients[s].n
	if s == ClientWaiting {
		n += p.clients[clientApart].n + p.clients[clientOwn].n
	}
	return n
}

// Servers is the number of servers in a state.
func (p *Pool) Servers(s ServerState) int { return p.servers[s].n }

// Paused tells whether Pause holds.
func (p *Pool) Paused() bool { return p.paused }

// Suspended tells whether Suspend holds.
func (p *Pool) Suspended() bool { return p.suspended }

// TotalServers is the number of servers in any state.
func (p *Pool) TotalServers() int { return p.nServers }

// TotalClients is the number of clients in any state.
func (p *Pool) TotalClients() int { return p.nClients }

// Busy tells whether servers are linked or on the way from or to that.
func (p *Pool) Busy() bool { return p.nServers > 0 }

// atRest tells that no client is linked and nothing is opened.
func (p *Pool) atRest() bool { return p.paused || p.suspended }

// lacksServers tells that MinPoolSize asks for another server.
func (p *Pool) lacksServers() bool {
	return p.nServers-p.nDedicated < p.Settings.MinPoolSize && (p.Settings.FillAlways || p.nClients > 0)
}
