// Package pool decides who is served by which server connection. It is a state
// machine without sockets and without a clock of its own: what happened comes in
// as calls that carry the time, what is to be done comes out as actions, which the
// caller carries out in order after each call (Manager.Next).
//
// A Pool is one database as one server-side user. Its clients are idle, waiting
// (in order of their coming) or active; its servers log in, are idle, active,
// tested (reset, checked or rescued), used (idle so long that they are checked
// first) or canceled (kept out of the way until a cancel request that aims at them
// has surely arrived, so that it cannot hit the next client). Servers log in one at
// a time until a login has succeeded, then up to Settings.ParallelConnects.
//
// A client of replication waits in the same queue for a server of its own
// (Dedicated): one that is opened for it, counts in all limits, serves nobody else
// and ends with it. At the head of a full pool it takes the place of an idle server.
// How its login ends concerns that client alone.
//
// A Group is a limit that pools share. It may span several Managers, each in a
// thread of its own; places are taken by compare-and-swap, so Max holds exactly. A
// Manager closes only servers of its own: the action Evict asks for a place that a
// free server elsewhere keeps, GroupFreed says that there is one for somebody
// elsewhere. The pools of a group take turns: one without any server gets the next
// place that is freed, and that of a server a second old when its client is done.
//
// A pool is paused (nobody is linked, servers are closed as they get free) or
// suspended (nobody is linked, nothing is opened, and servers are kept, so that
// another process can take them over by the Adopt functions).
//
// What always holds: an active client has exactly one server and the other way
// round; no limit is passed, save by what is adopted; a server that is to be closed
// is not given to a client; each Connect ends once, by what the caller reports or by
// CloseServer; a client waits only while no idle server is there, the pool is
// paused or suspended, or somebody else's turn comes first. What the other threads
// do not report in time, the next Sweep finds.
package pool
