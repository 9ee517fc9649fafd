package pgwire

// Cancel keys of a middleman's own making.
// Manual: "Canceling Requests in Progress", protocol-flow.html.

import (
	"crypto/rand"
)

// CancelKey is a process id word and a secret word, as protocol 3.0 has them.
type CancelKey [8]byte

// NewCancelKey makes a random key. The sign bit of the process id word is clear:
// clients print it as a signed number. A caller keeps its keys unique.
func NewCancelKey() (k CancelKey) {
	rand.Read(k[:]) // never fails, or the program ends
	k[0] &= 0x7f
	return k
}
