// Package tlsconn is the pooler's TLS: crypto/tls made to fit an event loop.
//
// The model: a Config is one side's settings and the files that they name, read and
// checked (config.go, with OpenSSL's words for ciphers, versions and curves). A
// Handshaker makes handshakes, each in a goroutine of the caller on a non-blocking
// socket that the loop does not watch meanwhile (handshake.go). What comes out is a
// Conn (conn.go), which does no I/O: the loop reads the socket, has Decrypt turn
// ciphertext into plaintext and Encrypt the other way, and writes the socket. A
// handshake reads from the socket to the end of a record and no further, so that a
// new Conn owes nothing: what the peer has sent already makes the socket readable.
//
// What it rests on: crypto/tls does not remember an error of the connection's Read
// that is Temporary, so reading can stop at any byte and go on later. Only an error
// within the handshake is final, and there Read waits.
//
// What it costs: an idle Conn holds about 7 kB, and once it has received a record of
// full size 16 kB more, which crypto/tls does not give back; a client seldom sends
// such, a server often does. Nothing else stays: what Decrypt and Encrypt fill is the
// caller's. A record received costs an allocation of 24 bytes, a record sent none.
//
// Authentication asks Conn.PeerNames, which gives names only out of a certificate that
// was checked against ca_file, whatever the mode.
//
// Sessions are not resumed, as PostgreSQL has it. The ciphers of TLS 1.3 and the order
// of preference are Go's; DHE over finite fields does not exist.
package tlsconn
