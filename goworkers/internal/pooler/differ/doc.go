// Package differ holds the test that compares the pooler with PgBouncer: conversations
// of clients, played through both in front of the same server, must bring the same
// messages back.
//
// The model: a conversation is a file in testdata/conversations (conversation_test.go
// tells its form): a configuration, and steps that send bytes or read answers. A play
// of it through one product gives a trace, the steps with what came back, every field
// of every message (render_test.go). PgBouncer's trace is kept in testdata/golden, and
// is the authority: every product's trace has to be equal to it.
//
// Where a product differs on purpose, the conversation says so in a line "differs
// PRODUCT: reason", and that product's own trace is kept beside the other. A
// difference without such a line fails the test, and so does a line without a
// difference. testdata/DIFFERENCES.txt lists them all; the test keeps it up to date.
//
// Products are ours ("pooler", the built program) and the PgBouncers that
// SKYTOOLS_PGBOUNCERS names, programs parted by colons; without it, Debian's package out
// of .build/peers. The newest writes the goldens:
//
//	SKYTOOLS_PGBOUNCERS=/a/pgbouncer:/b/pgbouncer scripts/with-server \
//	    bash -c 'cd goworkers && go test ./internal/pooler/differ -update'
package differ
