// Package ticker keeps the queues of databases alive: it makes their ticks,
// does their maintenance and puts retried events back.
//
// The server decides: when a queue wants a tick, what maintenance is due and
// which events come back is the answer of pgq.ticker(), pgq.maint_operations()
// and pgq.maint_retry_events(). The ticker only asks often enough, so a ticker
// that stands still delays events but loses none, and two tickers on one
// database do no harm.
//
// A database has three loops, each with a connection of its own, so that a
// long vacuum holds up no tick. A database without the schema pgq, or that is
// a standby, is looked at again every check_period. One that is lost is told
// once and tried again after 1 s, 2 s … up to exception_sleep; the others are
// not held up. Nothing is kept in memory or on disk that a restart could lose.
package ticker
