package pooler

import (
	"testing"
	"unsafe"
)

// An idle client costs its struct and 24 bytes in the loop; there may be tens of
// thousands of them.
func TestClientStaysSmall(t *testing.T) {
	if size := unsafe.Sizeof(client{}); size > 384 {
		t.Fatalf("a client has %d bytes", size)
	}
}
