// Package pgwire speaks the PostgreSQL frontend/backend protocol 3.0 for programs
// that stand in the middle: poolers, proxies, test servers, trace tools.
//
// The model: a message is five header bytes (type, length) and a body. A middleman
// forwards most bodies without looking at them, so ParseHeader is all that its hot
// path needs: it neither allocates nor wants the body. The few messages that a
// middleman reads or makes itself have a Parse… function, which checks every length
// before it reads and returns slices of its input, and an Append… function, which
// appends a whole message to the caller's buffer and returns it, as append does.
//
// The package does no I/O, starts no goroutine and keeps no state but that of one
// login (ClientAuth, ServerAuth, SCRAMClient, SCRAMServer): step objects which eat one
// message and give the answer. What is slow in them (PBKDF2) happens in a call whose
// doc comment says so; a caller that must not block makes that call elsewhere. A step
// object has one owner at a time.
//
// Bodies are what follows the five header bytes. A []byte that a Parse function
// returns points into its input and is valid as long as that is; strings are copies.
// Errors about bytes that break the protocol satisfy errors.Is(err, ErrMalformed).
//
// The pages cited are those of the PostgreSQL manual, chapter "Frontend/Backend
// Protocol": https://www.postgresql.org/docs/current/protocol.html
package pgwire
