// One event loop with the pools that live on it, their clients and their servers.

package pooler

import (
	"time"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// worker is one event loop. What is in it belongs to the loop's goroutine; what it shares
// with the others (the embedded Pooler) is changed only while all loops but the first
// stand still: see Pooler.alone.
type worker struct {
	*Pooler
	index      int
	loop       *evloop.Loop
	buffers    evloop.Buffers
	manager    pool.Manager
	clients    map[*client]struct{}
	logins     map[*client]struct{}
	linger     map[*client]struct{}
	carriers   map[*carrier]struct{}
	pools      int
	scratch    []byte
	cipher     []byte // what was read with TLS
	sealed     []byte // what is written with TLS
	nextAddr   int
	out        []byte // what forward and process put together
	statements statements
	refusal    string // why rewrite has refused
	draining   bool
	changed    bool // something that a console or the end may wait for
	events     loopEvents
	figures    figures
}

func newWorker(p *Pooler, index int) (*worker, error) {
	w := &worker{
		Pooler: p, index: index, clients: map[*client]struct{}{}, logins: map[*client]struct{}{},
		linger: map[*client]struct{}{}, carriers: map[*carrier]struct{}{},
	}
	w.statements.lastID = &p.lastText
	hooks := evloop.Hooks{Sweep: w.sweep, Turn: w.turn}
	var err error
	w.loop, err = evloop.New(p.began, hooks)
	return w, err
}

// background runs work in a goroutine, and what it returns in the loop.
func (w *worker) background(work func() func()) {
	w.goroutines.Add(1)
	go func() {
		defer w.goroutines.Done()
		w.loop.Post(work())
	}()
}

// run carries out what the state machine has decided.
func (w *worker) run() {
	if w.draining || w.loop.Frozen() {
		return
	}
	w.draining = true
	for a, ok := w.manager.Next(); ok; a, ok = w.manager.Next() {
		w.carryOut(a)
	}
	w.draining = false
}

func (w *worker) carryOut(a pool.Action) {
	s, _ := ownerOf[*server](a.Server)
	switch a.Kind {
	case pool.Connect:
		w.openServer(a.Server)
	case pool.Link:
		if a.Client.Server() != a.Server {
			return // one of them has gone since
		}
		switch c := a.Client.Owner.(type) {
		case *client:
			w.link(c, s)
			c.resume()
		case *authQuery:
			c.linked(s)
		}
	case pool.Reset:
		s.ownQuery(w.set.ServerResetQuery)
	case pool.Check:
		query := w.set.ServerCheckQuery
		if query == "<empty>" {
			query = ""
		}
		s.ownQuery(query)
	case pool.CloseServer:
		w.changed = true
		if s != nil {
			w.closeServer(s, a.Reason.Message)
		}
	case pool.DropClient:
		switch c := a.Client.Owner.(type) {
		case *client:
			c.dropped(a.Reason)
		case *authQuery:
			c.dropped(a.Reason)
		}
	case pool.Welcome:
		if c := a.Client.Owner.(*client); c.fd >= 0 && c.phase == phaseWelcome {
			c.welcome()
		}
	case pool.Rescue:
		s.rescue()
	case pool.Evict:
		w.evictElsewhere(a.Group)
	case pool.GroupFreed:
		for _, o := range w.workers {
			if o != w {
				o.loop.Post(func() { o.manager.Freed(a.Group, o.loop.Now()) })
			}
		}
	case pool.ReserveTaken:
		pl := a.Pool.Owner.(*dbPool)
		w.log.Info("taking connection from reserve_pool: " + pl.db.name + "/" + pl.user)
	}
}

// evictElsewhere asks the other loops, one after the other, to give up a place.
func (w *worker) evictElsewhere(g *pool.Group) {
	var ask func(i int)
	ask = func(i int) {
		if i == len(w.workers) {
			return
		}
		o := w.workers[i]
		if o == w {
			ask(i + 1)
			return
		}
		o.loop.Post(func() {
			if !o.manager.EvictFor(g, o.loop.Now()) {
				ask(i + 1)
				return
			}
			o.run()
			w.loop.Post(func() { w.manager.Freed(g, w.loop.Now()) })
		})
	}
	ask(0)
}

func ownerOf[T any](s *pool.Server) (t T, ok bool) {
	if s == nil {
		return t, false
	}
	t, ok = s.Owner.(T)
	return t, ok
}

// turn is the end of each turn of the loop.
func (w *worker) turn() {
	if w.loop.Frozen() {
		return
	}
	w.run()
	if w == w.main {
		w.atTurn()
		w.letGo()
	} else if (w.changed || w.suspended != suspendNot) && w.awaited.Load() {
		w.main.loop.Post(func() {})
	}
	w.changed = false
}

// sweep does what time brings.
func (w *worker) sweep() {
	now := w.loop.Now()
	if w.loop.Frozen() {
		if w == w.main {
			w.sweepHanding(now)
		}
		return
	}
	w.manager.Sweep(now)
	w.run()
	for _, pl := range w.manager.Pools() {
		w.sweepPool(pl.Owner.(*dbPool), now)
	}
	w.run()
	if limit := w.set.ClientLoginTimeout; limit > 0 {
		for c := range w.logins {
			if now-c.since >= limit {
				w.failClient(c, "", "client_login_timeout")
			}
		}
	}
	for c := range w.linger {
		if now-c.since >= lingerTime {
			w.closeClient(c, "")
		}
	}
	for r := range w.carriers {
		if limit := w.set.CancelWaitTimeout; limit > 0 && now-r.since >= limit {
			if r.sent {
				// It may still arrive, when the server has another client.
				r.cancel.Server.RequireClose("cancel_wait_timeout")
			}
			if r.client != nil {
				w.answerCancel(r.client, "cancel_wait_timeout")
				r.client = nil
			}
			r.done()
		}
	}
	if w == w.main {
		w.atSweep(now)
	}
	if w.metrics != nil {
		w.figures.publish(w)
	}
	w.run()
}

// questionSlack is how much longer a question of auth_query may take than the login that
// asked it: the client is to hear client_login_timeout.
const questionSlack = time.Second

// lingerTime is how long a closed client may take for its last bytes.
const lingerTime = 10 * time.Second

// sweepPool ends what takes too long.
func (w *worker) sweepPool(pl *dbPool, now time.Duration) {
	over := func(since, limit time.Duration) bool { return limit > 0 && since != 0 && now-since >= limit }
	var late, slow, again []*server
	var why []string
	pl.EachServer(func(ps *pool.Server) {
		s, ok := ps.Owner.(*server)
		if !ok {
			return
		}
		if ps.State() == pool.ServerLogin && s.login != nil && len(pl.db.Hosts) > 1 && over(s.hostSince, w.set.ServerConnectTimeout) {
			slow = append(slow, s)
		}
		if s.rescued && !s.pending.empty() && !s.rolledBack && now-s.rescueCancel >= cancelAgain {
			again = append(again, s)
		}
		if q := s.asks; q != nil && w.set.ClientLoginTimeout > 0 && over(max(1, q.pc.Since()), w.set.ClientLoginTimeout+questionSlack) {
			late, why = append(late, s), append(why, "auth_query takes longer than client_login_timeout")
		}
		if s.cl == nil {
			return
		}
		reason := ""
		switch {
		case over(s.queryStart, pl.limits.query):
			reason = "query timeout"
		case s.queryStart == 0 && over(s.idleStart, pl.limits.idleTransaction):
			reason = "idle transaction timeout"
		case over(s.xactStart, pl.limits.transaction):
			reason = "transaction timeout"
		default:
			return
		}
		late, why = append(late, s), append(why, reason)
	})
	for i, s := range late {
		pl.KillLink(s.ps, pool.Failure{Message: why[i]}, now)
	}
	for _, s := range slow {
		s.attemptFailed(pool.Failure{Message: "connect timeout"}, false)
	}
	for _, s := range again {
		s.cancelLost()
	}
	if w.suspended == suspendNot {
		w.notifyWaiters(pl, now)
	}
	if pl.limits.clientIdle <= 0 && pl.limits.query <= 0 {
		return
	}
	var idle []*client
	pl.EachClient(func(pc *pool.Client) {
		c, ok := pc.Owner.(*client)
		if !ok {
			return
		}
		switch pc.State() {
		case pool.ClientIdle:
			if over(max(1, pc.Since()), pl.limits.clientIdle) {
				idle = append(idle, c)
			}
		case pool.ClientWaiting:
			if over(max(1, pc.Since()), pl.limits.query) {
				idle = append(idle, c)
			}
		}
	})
	for _, c := range idle {
		reason := "client_idle_timeout"
		if c.pc.State() == pool.ClientWaiting {
			reason = "query_timeout"
		}
		w.failClient(c, "", reason)
	}
}

// notifyWaiters tells clients that have waited for query_wait_notify what holds them up.
func (w *worker) notifyWaiters(pl *dbPool, now time.Duration) {
	limit := w.set.QueryWaitNotify
	if limit <= 0 {
		return
	}
	pl.EachWaiter(func(pc *pool.Client) bool {
		if now-pc.Since() < limit {
			return false // those behind it came later
		}
		if c, ok := pc.Owner.(*client); ok && !c.notified && c.phase == phaseActive {
			c.notified = true
			// Should this fail, reading from the client will tell.
			c.send(pgwire.AppendNoticeResponse(nil, &pgwire.Report{Severity: pgwire.SeverityNotice, Code: "00000",
				Message: "No server connection available in postgres backend, client being queued"}))
		}
		return true
	})
}

// shut closes everything that is open on this loop, which runs no more.
func (w *worker) shut() {
	for c := range w.clients {
		c.shut()
	}
	for c := range w.linger {
		c.shut()
	}
	for r := range w.carriers {
		r.shut()
	}
	for _, pl := range w.manager.Pools() {
		pl.EachServer(func(ps *pool.Server) {
			if s, ok := ps.Owner.(*server); ok {
				s.shut()
			}
		})
	}
}
