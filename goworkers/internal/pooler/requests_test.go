package pooler

import (
	"strings"
	"testing"
)

// A conversation is written as it passes the pooler: >X is a message from the client,
// <X one from the server; ? and ! check that something or nothing is outstanding.
func TestOutstandingRequestsAreKnownFromMessageTypes(t *testing.T) {
	for _, tc := range []struct{ name, talk string }{
		{"simple query", ">Q ? <T <D <C ? <Z !"},
		{"two statements in one query", ">Q <C <C ? <Z !"},
		{"extended query", ">P >B >D >E >S <1 <2 <T <D <C ? <Z !"},
		{"extended query without rows", ">P >B >D >E >S <1 <2 <n <C <Z !"},
		{"pipeline of two", ">P >B >E >S >P >B >E >S <1 <2 <C <Z ? <1 <2 <C <Z !"},
		{"simple query, then an extended one not yet synced", ">Q >P >B >E >H <C <Z ? <1 <2 <C ? >S <Z !"},
		{"error in the middle of a pipeline", ">P >B >E >B >E >S >Q <1 <E <Z ? <C <Z !"},
		{"simple query that fails before others", ">Q >Q <E <Z ? <C <Z !"},
		{"simple query that is skipped after an error", ">P >Q >S <E <Z !"},
		{"close of a statement", ">C >S <3 <Z !"},
		{"portal in two parts", ">B >E >H >E >S <2 <s <C <Z !"},
		{"function call", ">F <V <Z !"},
		{"empty query", ">Q <I <Z !"},
		{"copy in, simple", ">Q <G >d >d >c ? <C <Z !"},
		{"copy in, simple, blind", ">Q >d >c >Q <G <C <Z ? <C <Z !"},
		{"copy in, extended, the Sync before the data is ignored", ">P >B >E >S <1 <2 <G >d >c >S ? <C <Z !"},
		{"copy in, extended, Sync between the data", ">P >B >E >S <1 <2 <G >d >S >d >c >S <C <Z !"},
		{"copy in, extended, blind", ">P >B >E >S >d >c >S <1 <2 <G <C <Z !"},
		{"copy in fails while data comes", ">Q <G >d <E <Z ! >d >c !"},
		{"copy in given up by the client", ">Q <G >d >f <E <Z !"},
		{"copy out", ">Q <H <d <d <c <C <Z !"},
		{"copy in in a pipeline with a query behind it", ">Q <G >d >c >P >B >E >S <C <Z ? <1 <2 <C <Z !"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r requests
			for i, w := range strings.Fields(tc.talk) {
				switch {
				case w == "?" && r.empty():
					t.Fatalf("word %d: nothing is outstanding", i)
				case w == "!" && !r.empty():
					t.Fatalf("word %d: %q is outstanding", i, r.queue[r.head:])
				case w[0] == '>':
					r.sent(w[1])
				case w == "<Z":
					r.ready(nil)
				case w == "<E":
					r.error(nil)
				case w[0] == '<':
					r.answered(w[1])
				}
			}
		})
	}
}

func TestLongPipelineDoesNotGrowTheQueue(t *testing.T) {
	var r requests
	r.sent('Q')
	for range 100000 {
		r.sent('Q')
		r.ready(nil)
	}
	if len(r.queue) > 20000 {
		t.Fatalf("%d bytes for one outstanding request", len(r.queue))
	}
}
