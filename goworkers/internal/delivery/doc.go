// Package delivery holds no program. Its tests show the promise of schema pgq that
// all others stand on: every committed event is delivered exactly once to every
// consumer, in the order of ev_id within a batch, and nothing that did not commit.
//
// A run is a random history of producers, tickers, rotations, consumers and
// accidents, chosen by a seed one step at a time: a step ends when its statement has
// been answered or waits for a lock, so that the same seed gives the same history.
// The truth is kept by the server itself: a producer writes each event's tag into
// the table ledger in the transaction of the event, a consumer writes what it was
// given into the table received in the transaction that finishes the batch.
package delivery
