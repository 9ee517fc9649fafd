// Package consumers holds the ready-made consumers of queues: workers of package
// batch that need no programming, only an ini file.
//
// Each keeps its position in the target database through pgq_ext, so a crash at
// any moment neither loses nor doubles an event. The consumer's name is the key of
// that position: consumers with one target need names of their own.
package consumers
