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
// not held up. A queue that cannot be ticked is told once, again when its fault
// becomes another one and when it is over, and holds up no other queue. Nothing is
// kept in memory or on disk that a restart could lose.
//
// Of several tickers for one database one works: it holds an advisory lock as long
// as its connection lives. The others are hot spares and take over within a second
// or so of its end.
//
// Writers to queues with queue_notify send word when they commit. The ticker
// listens on the connection that it ticks on, and looks at such a queue at once by
// pgq.ticker_wake(), which says whether and when to look again. Since word may be
// lost, all queues are looked at every loop_delay (ticker_period of pgqd) all the
// same; every 2 s, unless that is longer, while each queue sends word. Without
// ticker_wake (schemas before 4.0), or through a connection pooler, queues are only
// polled.
//
// What /metrics tells of queues and consumers is asked of the database when it is
// read, by whichever ticker is not a spare.
package ticker
