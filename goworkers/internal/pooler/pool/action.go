// What the state machine asks of its caller.

package pool

// Failure is why a client or a server goes, in words for the client.
type Failure struct {
	Code    string // SQLSTATE
	Message string
}

// Kind is what an action asks for.
type Kind uint8

// The kinds of actions.
const (
	// Connect: open the connection of Server and log in; then ServerReady, LoginFailed
	// or LoginDeferred. Server.Dedicated tells that it is for a replication client.
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
	// Rescue: cancel Server's query and roll back its transaction; then Tested or ServerLost.
	Rescue
	// Evict: a client of Pool waits for a place in Group, and others than this manager
	// have servers there: call EvictFor of the group's other managers until one says
	// true, and then Freed of this one in any case. It comes at most once between two
	// sweeps for a pool and a group.
	Evict
	// GroupFreed: a place in Group has become free for which pools of other managers
	// wait: call Freed of these.
	GroupFreed
)

// Action is one thing to do.
type Action struct {
	Kind   Kind
	Pool   *Pool
	Client *Client
	Server *Server
	Group  *Group
	Reason Failure
}
