// Package pooler keeps few server connections for many clients, as PgBouncer does: it
// takes that program's configuration file, command line, console and wire behaviour.
//
// The model: one loop (package evloop) owns everything, so nothing is locked. A client
// and a server are a socket each (conn.go). Bytes are read into the loop's one buffer
// and written to the other side from there; only message headers are looked at
// (forward.go), which is enough to know when a server is free again (requests.go). Who
// gets which server is decided by a state machine without I/O (package pool); it says
// what is to be done, and run in pooler.go does it. Nobody has a timer: a sweep three
// times a second finds what is late. Goroutines do what is slow, and post the result:
// PBKDF2, names of hosts, the log's writing, the metrics' HTTP.
//
// Backpressure: a socket is not read while its partner has bytes that it does not take,
// so a connection holds at most one read's worth. What a client sends while it waits
// for a server stays in the kernel but for that.
//
// A crash loses connections and nothing else: the pooler keeps no state on disk.
package pooler
