// Package consumers holds the ready-made consumers of queues: workers of package
// batch that need no programming, only an ini file. README.md is their reference.
//
// Those that apply each event once keep their position in the target database through
// pgq_ext, so a crash at any moment neither loses nor doubles an event. The consumer's
// name is the key of that position: consumers with one target need names of their own.
// The others say so in their doc comments.
package consumers
