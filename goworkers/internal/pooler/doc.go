// Package pooler keeps few server connections for many clients, as PgBouncer does: it
// takes that program's configuration file, command line, console and wire behaviour.
//
// # Who owns what
//
// A worker (worker.go) is one event loop (package evloop) in a goroutine of its own with
// the pools that live on it, their clients and their servers. What is in it belongs to
// that goroutine, so the way of the data takes no lock. threads = N makes N of them; each
// pool, a database as one server-side user, has one home, so that its size is exact.
// The Pooler (pooler.go) is what the loops share: configuration, databases, users. It is
// changed by the first loop alone, which accepts clients, logs them in and serves the
// console, and only while the others stand still (Pooler.alone); that is for what is
// rare. A client moves to its pool's loop when its login is over.
//
// Goroutines do what is slow, and post the result to a loop: PBKDF2 and TLS handshakes
// (package tlsconn), names of hosts (dns), LDAP servers (ldap), the log's writing, the
// metrics' HTTP. Nobody has a timer: a sweep three times a second finds what is late.
//
// # The way of the data
//
// A client and a server are a socket each (conn.go). Bytes are read into the loop's one
// buffer and written to the other side from there; only message headers are looked at
// (forward.go), which is enough to know what a server still owes (requests.go) and when
// it is free again. Prepared statements are put into names that all servers know
// (rewrite.go, statements.go): the one place where messages are changed. Who gets which
// server is decided by a state machine without I/O (package pool); it says what is to be
// done, and worker.run does it.
//
// Backpressure: a socket is not read while its partner has bytes that it does not take,
// so a connection holds at most one read's worth; but for a Parse of a named statement,
// which is put together whole. What a client sends while it waits for a server stays in
// the kernel but for that.
//
// # What happens on a crash
//
// A crash loses connections and nothing else: the pooler keeps no state on disk. Another
// process can take over all connections of a living one (takeover.go).
package pooler
