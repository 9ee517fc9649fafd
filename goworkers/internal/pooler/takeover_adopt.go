// From the rows of SHOW FDS to our own databases, pools, servers and clients. The pools are
// suspended meanwhile, so nothing is decided about them yet.

package pooler

import (
	"bytes"
	"crypto/sha256"
	"time"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// heirs finds what rows refer to.
type heirs struct {
	pools   []heirPool
	texts   map[string]string // bodies by name
	byID    map[uint64]*server
	byFD    map[int]*server
	known   map[*worker]map[string]*statement
	changed map[string]bool // databases that lead elsewhere now
}

// heirPool is our pool for one of the old process's, or why there is none.
type heirPool struct {
	pl  *dbPool
	why string
}

// adoptState takes over what belongs to no connection.
func (p *Pooler) adoptState() *heirs {
	h := &p.heritage.state
	e := &heirs{
		texts: map[string]string{}, byID: map[uint64]*server{}, byFD: map[int]*server{},
		known: map[*worker]map[string]*statement{}, changed: map[string]bool{},
	}
	if !p.heritage.extended {
		// Its names of statements count from 1.
		p.lastText.Store(uint64(time.Now().UnixNano()))
		return e
	}
	p.lastID.Store(h.LastID)
	p.lastText.Store(h.LastText)
	p.mockKey, p.paused = h.MockKey, h.Paused
	p.periods, p.periodEnds, p.nextPeriod = h.Periods, h.PeriodEnds, h.NextPeriod
	p.consolePool.stats.take(h.Console)
	if e := &p.main.events; len(h.Loops) == 4 {
		e.cancels, e.failedLogins, e.tlsClients, e.tlsServers = h.Loops[0], h.Loops[1], h.Loops[2], h.Loops[3]
	}
	for _, t := range h.Texts {
		e.texts[t.Name] = t.Body
	}
	for _, hu := range h.Users {
		if u := p.users[hu.Name]; u != nil && u.listed && u.creds.Load().secret.Equal(pgwire.NewSecret(hu.Secret)) {
			next := *u.creds.Load()
			next.keys = pgwire.SCRAMKeys{ClientKey: hu.ClientKey, ServerKey: hu.ServerKey}
			u.creds.Store(&next)
		}
	}
	for _, hd := range h.Databases {
		db := p.findDatabase(hd.Name)
		if db == nil {
			continue
		}
		db.paused, db.disabled, db.idle = hd.Paused, hd.Disabled, hd.Idle
		e.changed[hd.Name] = db.target() != hd.Target
	}
	for _, db := range p.databases {
		db.paused = db.paused || p.paused
	}
	for i := range h.Pools {
		e.pools = append(e.pools, p.adoptPool(&h.Pools[i], e))
	}
	return e
}

func (p *Pooler) adoptPool(h *handedPool, e *heirs) heirPool {
	pl, why := p.heir(h.Database, h.User)
	if pl == nil {
		return heirPool{why: why}
	}
	pl.stats.take(h.Stats)
	for i := range pl.shown {
		pl.shown[i].take(h.Shown[i])
	}
	pl.events.take(&h.Events)
	pl.hostIndex = h.HostIndex
	if pl.account != nil && pl.account.listed {
		pl.creds.Store(pl.account.creds.Load())
	} else if h.Secret != "" {
		pl.creds.Store(&credentials{secret: pgwire.NewSecret(h.Secret), keys: pgwire.SCRAMKeys{ClientKey: h.ClientKey, ServerKey: h.ServerKey}})
	}
	if h.Known && !e.changed[h.Database] {
		pl.welcome = append([]byte{}, h.Welcome...)
		pl.defaults = p.handedVars(nil, h.Defaults)
		pl.told = p.handedTold(h.Told)
		pl.setReadsTags()
		pl.SetWelcome()
	}
	return heirPool{pl: pl}
}

// heir finds or makes the pool for a database and a server-side user.
func (p *Pooler) heir(dbName, user string) (*dbPool, string) {
	db := p.findDatabase(dbName)
	switch {
	case db == nil:
		return nil, "database removed"
	case db.User != "" && db.User != user:
		return nil, "user of the database changed"
	}
	return p.poolOf(db, p.userNamed(user)), ""
}

// doom notes a connection that is closed once the old process has let go of it.
func (p *Pooler) doom(row *handedRow, client bool, why string) {
	kind, id, since, within := byte('S'), uint64(row.oldFD), p.now(), false
	if h := row.client; h != nil {
		id, since = h.Conn.ID, h.Conn.Since
	} else if h := row.server; h != nil {
		id, since, within = h.Conn.ID, h.Conn.Since, h.Conn.Remain > 0 || len(h.Conn.Out) > 0
	}
	if client {
		kind = 'C'
		// What its server has begun to say, or we to pass on, it would take on as data.
		for _, s := range p.heritage.servers {
			if hs := s.server; hs != nil && row.client != nil && row.client.Link == hs.Conn.ID {
				within = within || hs.Conn.Remain > 0 && !hs.Conn.Drop
			}
		}
		within = within || row.client != nil && (row.client.Cut || len(row.client.Conn.Out) > 0)
	}
	peer, _, _ := peerOf(row.fd)
	p.heritage.doomed = append(p.heritage.doomed, doomed{
		fd: row.fd, client: client, within: within, why: why, since: since,
		name: logConn{kind: kind, id: id, db: row.db, user: row.user, end: netEnd{addr: peer, port: p.set.ListenPort}},
	})
	row.fd = -1
}

// adoptConn takes over what clients and servers have in common.
func (p *Pooler) adoptConn(c *conn, row *handedRow, h *handedConn) {
	c.fd, row.fd = int32(row.fd), -1
	c.ev = attentive
	if h == nil {
		return
	}
	c.remain, c.drop = h.Remain, h.Drop
	if len(h.Out) > 0 {
		c.out = c.w.buffers.Get(len(h.Out))
		c.out.Append(h.Out)
		c.ev |= evloop.Writable
	}
	if len(h.Held) > 0 {
		c.stash(h.Held)
	}
}

// adoptServer takes over a server; its client follows.
func (p *Pooler) adoptServer(row *handedRow, e *heirs) {
	h := row.server
	var pl *dbPool
	var why string
	if h != nil {
		pl, why = e.pools[h.Conn.Pool].pl, e.pools[h.Conn.Pool].why
	} else {
		pl, why = p.heir(row.db, row.user)
	}
	if pl == nil {
		p.doom(row, false, why)
		return
	}
	now := p.now()
	s := &server{conn: conn{w: pl.w}, pl: pl, phase: serverForward, since: now}
	var unix bool
	if s.addr, s.local, unix = peerOf(row.fd); unix {
		s.target = unixTarget(pl.socketFolder(), pl.db.Port)
	} else {
		s.target = ipTarget(s.addr.Addr(), int(s.addr.Port()))
	}
	created, state := now, pool.ServerUsed
	if h == nil {
		p.adoptConn(&s.conn, row, nil)
		s.id, s.vars, s.key = p.lastID.Add(1), p.unsure(p.handedVars(row, nil)), plainKey(row.cancel)
		pl.told |= p.toldByAll()
		if row.link == 0 {
			s.status, state = pgwire.TxIdle, pool.ServerIdle
		} else {
			s.xactStart, s.idleStart = now, now
		}
		if len(pl.db.Hosts) == 1 {
			s.host = pl.db.Hosts[0]
		}
	} else {
		p.adoptConn(&s.conn, row, &h.Conn)
		s.id, s.vars, s.since, s.key = h.Conn.ID, p.handedVars(row, h.Conn.Vars), h.Conn.Since, h.Key
		s.restore(h, e)
		created = h.Created
		if h.Idle {
			state = pool.ServerIdle
		}
	}
	row.adopted = s
	e.byFD[row.oldFD] = s
	if h != nil {
		e.byID[h.Conn.ID] = s
		if h.Dedicated {
			return // its client brings it into the pool
		}
	}
	s.ps = pl.AdoptServer(state, created, now, s)
	s.requireClose(row, e)
}

// requireClose marks a server that is not to be used for long.
func (s *server) requireClose(row *handedRow, e *heirs) {
	switch {
	case row.server != nil && row.server.CloseNeeded:
		s.ps.RequireClose("obsolete connection")
	case e.changed[s.pl.db.name]:
		s.ps.RequireClose("database configuration changed")
	case s.w.serverTLS != nil && s.addr.IsValid() && s.w.set.ServerTLS.SSLMode >= ini.SSLRequire:
		s.ps.RequireClose("TLS configuration changed")
	}
}

// socketFolder is where the unix socket of a database's server lies.
func (pl *dbPool) socketFolder() string {
	for _, host := range pl.db.Hosts {
		if host != "" && (host[0] == '/' || host[0] == '@') {
			return host
		}
	}
	return pl.w.set.UnixSocketDir
}

// restore takes over what is going on on a server.
func (s *server) restore(h *handedServer, e *heirs) {
	if h.SettingVars {
		s.phase = serverVars
	}
	s.status, s.broken, s.dirty, s.refused, s.lateRelease = h.Status, h.Broken, h.Dirty, h.Refused, h.LateRelease
	s.inRecovery, s.readOnly, s.host = h.InRecovery, h.ReadOnly, h.Host
	s.session = session{block: h.Block, savepoint: h.Savepoint, sets: h.Sets, left: h.Left}
	s.queryStart, s.xactStart, s.idleStart = h.QueryStart, h.XactStart, h.IdleStart
	for _, name := range h.Prepared {
		if st := e.text(s.w, name); st != nil {
			s.prepared.add(st)
		}
	}
	r := &s.pending
	r.queue, r.copying, r.open, r.failed = h.Queue, h.Copying, h.Open, h.Failed
	for _, n := range h.Named {
		r.named = append(r.named, namedRequest{n.Kind, e.text(s.w, n.Text), n.Name, e.text(s.w, n.Prev)})
	}
	r.count()
}

// text finds a statement by its name on servers; nil if the name is not known. Two loops
// of the old process may have had the same body under two names, which now meet.
func (e *heirs) text(w *worker, name string) *statement {
	body, ok := e.texts[name]
	if !ok {
		return nil
	}
	known := e.known[w]
	if known == nil {
		known = map[string]*statement{}
		e.known[w] = known
	}
	st := known[name]
	if st == nil {
		st = &statement{name: []byte(name), body: body}
		known[name] = st
		w.statements.keep(st)
	}
	return st
}

// adoptClient takes over a client, with its server if it has one.
func (p *Pooler) adoptClient(row *handedRow, e *heirs) {
	h := row.client
	var pl *dbPool
	var why string
	if h != nil {
		pl, why = e.pools[h.Conn.Pool].pl, e.pools[h.Conn.Pool].why
	} else if db := p.findDatabase(row.db); db != nil && db.User != "" {
		pl, why = p.heir(row.db, db.User)
	} else {
		pl, why = p.heir(row.db, row.user)
	}
	u := p.userNamed(row.user)
	var s *server
	linked := row.link != 0
	if h != nil {
		s, linked = e.byID[h.Link], h.Link != 0
	} else if linked {
		s = e.byFD[row.link]
	}
	switch {
	case pl == nil:
	case h != nil && h.Listed && !u.listed && p.listRules(row.db):
		why = "user removed"
	case linked && (s == nil || s.pl != pl || s.cl != nil):
		why = "server connection was not taken over"
	}
	if why != "" {
		p.doom(row, true, why)
		return
	}
	now := p.now()
	c := &client{conn: conn{w: pl.w}, pl: pl, user: u, phase: phaseActive, since: now, counted: true}
	c.pc.Owner = c
	c.addr, _, c.unix = peerOf(row.fd)
	if h == nil {
		p.adoptConn(&c.conn, row, nil)
		c.id, c.vars = p.lastID.Add(1), p.handedVars(row, nil)
		copy(c.key[:], plainKey(row.cancel))
		p.adoptSecret(pl, row)
	} else {
		p.adoptConn(&c.conn, row, &h.Conn)
		c.id, c.vars, c.since = h.Conn.ID, p.handedVars(row, h.Conn.Vars), h.Conn.Since
		copy(c.key[:], h.Key)
		c.counted, c.cut, c.notified, c.leaked, c.requestTime = h.Counted, h.Cut, h.Notified, h.Leaked, h.RequestTime
		for i, name := range replicationNames {
			if name == h.Replication {
				c.replication = replication(i)
			}
		}
		for _, n := range h.Names {
			if st := e.text(c.w, n.Text); st != nil {
				c.names.set(&c.w.statements, n.Name, st)
				if n.Lapsed && c.lapsed == nil {
					c.lapsed = map[string]bool{}
				}
				if n.Lapsed {
					c.lapsed[n.Name] = true
				}
			}
		}
	}
	if c.key != (pgwire.CancelKey{}) {
		p.keys.keep(c)
	}
	if c.counted {
		p.clientCount.Add(1)
	}
	pl.db.clients.Add(1)
	u.clients.Add(1)
	c.w.clients[c] = struct{}{}
	switch {
	case s != nil:
		c.srv, s.cl = s, c
		if s.ps == nil {
			s.ps = pl.AdoptDedicated(&c.pc, s.since, now, s)
			s.requireClose(&handedRow{}, e)
		} else {
			pl.AdoptLink(&c.pc, s.ps, now)
		}
	case h != nil && h.Waiting:
		pl.AdoptWaiting(&c.pc, now)
	default:
		pl.AddClient(&c.pc, now)
	}
}

// listRules tells that who is not in auth_file cannot log in to a database.
func (p *Pooler) listRules(db string) bool {
	switch p.set.AuthType {
	case ini.AuthTrust, ini.AuthPlain, ini.AuthMD5, ini.AuthSCRAM:
		return p.authUser(db) == ""
	}
	return false
}

// adoptSecret takes over what PgBouncer tells of a user's secret, for further servers.
func (p *Pooler) adoptSecret(pl *dbPool, row *handedRow) {
	if pl.db.User != "" {
		return
	}
	creds := &credentials{secret: pgwire.NewSecret(row.secret)}
	if pl.account != nil && pl.account.listed {
		creds = pl.account.creds.Load()
	}
	// The keys open nothing unless they belong to the secret.
	if v, err := pgwire.ParseSCRAMSecret(creds.secret.Reveal()); err == nil && len(row.clientKey) > 0 {
		if stored := sha256.Sum256(row.clientKey); bytes.Equal(stored[:], v.StoredKey) {
			next := *creds
			next.keys = pgwire.SCRAMKeys{ClientKey: row.clientKey, ServerKey: row.serverKey}
			if pl.account != nil && pl.account.listed {
				pl.account.creds.Store(&next)
			}
			creds = &next
		}
	}
	if creds.secret.Kind() != pgwire.SecretNone {
		pl.creds.Store(creds)
	}
}

// disown gives a server back whose client has not come along.
func (p *Pooler) disown(row *handedRow, s *server) {
	if s.ps != nil {
		s.pl.ServerLost(s.ps, pool.Failure{}, p.now())
	}
	row.fd, row.adopted = int(s.fd), nil
	s.fd = -1
	p.doom(row, false, "its client was not taken over")
}

// makeRoomForWelcomes closes one server of each full pool that knows no welcome: new
// clients need a login to a server, and PgBouncer does not hand over what they are told.
func (p *Pooler) makeRoomForWelcomes() {
	full := map[*dbPool]bool{}
	p.eachPool(func(pl *dbPool) {
		full[pl] = pl.welcome == nil && pl.settings.PoolSize > 0 && pl.TotalServers() >= pl.settings.PoolSize
	})
	var linked []*server
	for _, row := range p.heritage.servers {
		s := row.adopted
		if s == nil || !full[s.pl] {
			continue
		}
		if s.cl != nil {
			linked = append(linked, s)
			continue
		}
		full[s.pl] = false
		p.disown(row, s)
		p.heritage.doomed[len(p.heritage.doomed)-1].why = "a new server connection is needed for the pool's welcome"
	}
	for _, s := range linked {
		if full[s.pl] {
			full[s.pl] = false
			s.ps.RequireClose("a new server connection is needed for the pool's welcome")
		}
	}
}

// adopt takes over all rows and has the loops watch the sockets.
func (p *Pooler) adopt() error {
	h := p.heritage
	e := p.adoptState()
	for i := range h.servers {
		// The head of the free ones comes first, and what is added becomes the head,
		// unless they take turns.
		row := h.servers[i]
		if !p.set.ServerRoundRobin {
			row = h.servers[len(h.servers)-1-i]
		}
		p.adoptServer(row, e)
	}
	for _, row := range h.clients {
		p.adoptClient(row, e)
	}
	for _, row := range h.servers {
		linked := row.link != 0
		if s := row.adopted; s != nil && s.cl == nil && linked {
			p.disown(row, s)
		}
	}
	p.makeRoomForWelcomes()
	var failed error
	watch := func(c *conn, handler evloop.Handler) {
		if err := c.watch(c.ev, handler); err != nil && failed == nil {
			failed = err
		}
	}
	p.eachClient(func(c *client) { watch(&c.conn, c) })
	for _, row := range h.servers {
		if s := row.adopted; s != nil {
			watch(&s.conn, s)
		}
	}
	return failed
}
