// SHOW FDS: all sockets, which ride along for a process of the same system user; and what
// becomes of them then. From the moment that another process may have them nothing is
// done with any socket here, until it is certain which of the two goes on: the loops are
// frozen but for the console that asked. SHUTDOWN from there is the other one's yes;
// RESUME, the end of that connection, or its silence, is a no.

package pooler

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"goworkers/internal/pooler/pool"
	"goworkers/internal/pooler/systemd"
	"goworkers/pgwire"
)

// handing is the time in which another process may have our sockets.
type handing struct {
	k        *console
	since    time.Duration
	extended bool
	over     bool                 // the other process goes on
	clients  map[*client]struct{} // those handed over
	goOn     chan struct{}        // the other loops wait for it to be closed; nil: there are none
}

// fdRow is one row of SHOW FDS.
type fdRow struct {
	fd     int // -1: no socket
	values [][]byte
}

// showFDs answers SHOW FDS. Only a process of our own user gets sockets and secrets.
func (k *console) showFDs(extended bool) error {
	p := k.p()
	own := k.c.user != nil && k.c.user.name == consoleName && k.c.sameUser()
	switch {
	case !k.admin:
		return refuse("admin access needed")
	case p.handing != nil:
		return refuse("another process has the sockets already")
	case extended && !own:
		return refuse("SHOW FDS_EXTENDED is for user %s over the unix socket, from the pooler's own system user", consoleName)
	case extended && p.suspended != suspendStop:
		return refuse("SHOW FDS_EXTENDED wants SUSPEND EXTENDED before it")
	}
	h := &handing{k: k, since: p.now(), extended: extended, clients: map[*client]struct{}{}}
	rows, err := p.fdRows(h, own)
	if err != nil {
		return err
	}
	columns := columns(fdColumns)
	if extended {
		columns = append(columns, pgwire.Column{Name: "state", OID: pgwire.OIDBytea})
	}
	out := pgwire.AppendRowDescription(nil, columns)
	if !own {
		for _, row := range rows {
			out = pgwire.AppendDataRow(out, row.values)
		}
		k.send(out)
		return nil
	}
	if p.suspended != suspendNot {
		if err := p.freeze(h); err != nil {
			return err
		}
	}
	if err := k.sendRows(out, rows); err != nil {
		k.c.about().Warn("SHOW FDS: " + err.Error())
		k.c.w.closeClient(k.c, "write to client: "+err.Error())
	}
	return nil
}

// sendRows sends rows with their sockets. It waits for the other side: nothing else is
// to be done.
func (k *console) sendRows(out []byte, rows []fdRow) error {
	deadline := time.Now().Add(k.p().handingLimit())
	fd := int(k.c.fd)
	for k.c.out != nil {
		if _, err := k.c.flush(); err != nil {
			return err
		}
		if err := awaitSpace(fd, k.c.out != nil, deadline); err != nil {
			return err
		}
	}
	if err := sendWithFD(fd, out, -1, deadline); err != nil {
		return err
	}
	for _, row := range rows {
		out = pgwire.AppendDataRow(out[:0], row.values)
		if err := sendWithFD(fd, out, row.fd, deadline); err != nil {
			return err
		}
	}
	return nil
}

// sendWithFD writes b, all of it, with a descriptor on its first byte; -1 is none.
func sendWithFD(to int, b []byte, fd int, deadline time.Time) error {
	var rights []byte
	if fd >= 0 {
		rights = syscall.UnixRights(fd)
	}
	for len(b) > 0 {
		n, err := syscall.SendmsgN(to, b, rights, nil, syscall.MSG_NOSIGNAL|syscall.MSG_DONTWAIT)
		switch err {
		case nil:
			b, rights = b[n:], nil
		case syscall.EINTR:
		case syscall.EAGAIN, syscall.ETOOMANYREFS:
			if err == syscall.ETOOMANYREFS {
				time.Sleep(time.Millisecond) // until some are received: there is room for bytes
			}
			if err := awaitSpace(to, true, deadline); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return nil
}

func awaitSpace(fd int, need bool, deadline time.Time) error {
	for need {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("the other process does not read")
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(left/time.Millisecond)+1)
		if err != nil && err != syscall.EINTR {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return nil
}

// handingLimit is how long another process may take to say yes or no.
func (p *Pooler) handingLimit() time.Duration {
	if limit := p.set.SuspendTimeout; limit > 0 {
		return limit
	}
	return time.Minute
}

// freeze makes everything stand still but h's console; it is for use within alone.
func (p *Pooler) freeze(h *handing) error {
	for _, w := range p.workers {
		keep := -1
		if w == p.main {
			keep = int(h.k.c.fd)
		}
		if err := w.loop.Freeze(keep, h.k.c.ev); err != nil {
			for _, w := range p.workers {
				w.loop.Thaw()
			}
			return refuse("cannot stand still: %v", err)
		}
	}
	p.handing = h
	return nil
}

// endHanding ends freeze: it is we who go on.
func (p *Pooler) endHanding(why string) {
	h := p.handing
	if h == nil || h.over {
		return
	}
	p.log.Warn("the takeover by another process has ended before its SHUTDOWN (" + why + "): going on")
	p.handing = nil
	for _, w := range p.workers {
		w.loop.Thaw()
	}
	p.release = h.goOn
}

// letGo lets the other loops go on, or end, that have stood still since freeze.
func (p *Pooler) letGo() {
	goOn := p.release
	if h := p.handing; h != nil {
		goOn = h.goOn
	}
	if goOn != nil {
		close(goOn)
		p.release, p.isAlone = nil, false
	}
}

// whileHanding refuses commands that could touch what another process may have.
func (k *console) whileHanding(command string) error {
	if k.p().handing == nil || command == "show" || command == "shutdown" || command == "resume" {
		return nil
	}
	return refuse("another process takes over: SHUTDOWN or RESUME first")
}

// suspenderGone ends the suspension of a console that has gone.
func (p *Pooler) suspenderGone(k *console) {
	if h := p.handing; h != nil && h.over {
		return
	}
	if h := p.handing; h != nil && h.k == k {
		p.endHanding("it has closed its connection")
	}
	if p.suspender == k {
		p.unsuspend()
	}
}

// sweepHanding takes silence for a no. PgBouncer would not hear that we go on, so there
// is no limit for it.
func (w *worker) sweepHanding(now time.Duration) {
	h := w.handing
	if h == nil || h.over || !h.extended || now-h.since < w.handingLimit() {
		return
	}
	w.failClient(h.k.c, "", "suspend_timeout")
}

// handedOver carries out the other process's yes: who could not be handed over is told,
// and all else is left to the end of this process. It comes too late when the other one
// may have given up.
func (p *Pooler) handedOver() error {
	h := p.handing
	switch {
	case h == nil:
		return nil
	case h.extended && p.now()-h.since >= p.handingLimit():
		return refuse("suspend_timeout")
	}
	h.over = true
	p.log.Info(fmt.Sprintf("%d client connections go on in another process", len(h.clients)))
	for _, w := range p.workers {
		for c := range w.clients {
			if _, ok := h.clients[c]; ok || c == h.k.c {
				continue
			}
			why := "the pooler restarts, and connections in login are not carried over"
			switch {
			case c.tls != nil || c.srv != nil && c.srv.tls != nil:
				why = "the pooler restarts, and connections with TLS are not carried over"
			case c.phase == phaseConsole:
				why = "the pooler restarts"
			case c.phase == phaseActive:
				why = "the pooler restarts, and what it has still to send is not carried over"
			}
			if s := c.srv; s != nil {
				c.cut = c.cut || s.remain > 0 && !s.drop
			}
			w.failClient(c, codeAdminShutdown, why)
		}
	}
	if cred, err := syscall.GetsockoptUcred(int(h.k.c.fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
		// Before our end, or the service manager would take that for the service's.
		if _, err := systemd.Notify(systemd.MainPID(int(cred.Pid))); err != nil {
			p.log.Warn(err.Error())
		}
	}
	for _, l := range p.listeners {
		l.unix = "" // the path goes on to lead to the other process
	}
	if p.metrics != nil {
		p.metrics.stop()
		p.metrics = nil
	}
	return nil
}

// codeAdminShutdown is what a server says that ends.
const codeAdminShutdown = "57P01"

// handed tells whether a client can be handed over, with its server if it has one.
func (c *client) handed(extended bool) bool {
	if c.phase != phaseActive || c.tls != nil || c.fd < 0 || c.pl == nil {
		return false
	}
	if s := c.srv; s != nil && !s.handedWith(extended) {
		return false
	}
	return extended || c.flushed() && c.held == nil && c.replication == replicationNone && c.pc.State() != pool.ClientWaiting
}

// handed tells the same of a server.
func (s *server) handed(extended bool) bool {
	if s.cl != nil {
		return s.cl.handed(extended)
	}
	// What PgBouncer would prepare on it would meet names that are taken.
	return s.handedWith(extended) && (extended || s.prepared.len() == 0)
}

func (s *server) handedWith(extended bool) bool {
	switch s.ps.State() {
	case pool.ServerIdle, pool.ServerUsed, pool.ServerActive:
	default:
		return false
	}
	if s.fd < 0 || s.tls != nil || s.asks != nil || s.rescued {
		return false
	}
	if extended {
		return s.phase == serverForward || s.phase == serverVars
	}
	return s.phase == serverForward && !s.broken && s.between()
}

// fdRows collects all sockets; own says that the receiver may have secrets. It is for
// use within alone.
func (p *Pooler) fdRows(h *handing, own bool) ([]fdRow, error) {
	var rows []fdRow
	var failed error
	stream := newHandedWriter()
	add := func(fd int, values [][]byte, state func() any) {
		if h.extended {
			var text []byte
			if state != nil {
				var err error
				if text, err = stream.next(state()); err != nil {
					failed = fmt.Errorf("SHOW FDS: %w", err)
				}
			}
			values = append(values, text)
		}
		rows = append(rows, fdRow{fd, values})
	}
	var pools []*dbPool
	p.eachPool(func(pl *dbPool) { pools = append(pools, pl) })
	if h.extended {
		add(-1, fdValues(-1, taskState, "", "", netip.AddrPort{}, 0, 0, 0), func() any { return p.hand(pools) })
	}
	for _, l := range p.listeners {
		sa, _ := syscall.Getsockname(l.fd)
		add(l.fd, fdValues(l.fd, taskListener, "", "", address(sa), p.set.ListenPort, 0, 0), nil)
	}
	for i, pl := range pools {
		pl.EachClient(func(pc *pool.Client) {
			c, ok := pc.Owner.(*client)
			if !ok || !c.handed(h.extended) {
				return
			}
			h.clients[c] = struct{}{}
			link, user := 0, ""
			if c.srv != nil {
				link = int(c.srv.fd)
			}
			if c.user != nil {
				user = c.user.name
			}
			values := fdValues(int(c.fd), taskClient, user, pl.db.name, c.addr, p.set.ListenPort, 0, link)
			p.addVars(values, c.vars)
			if own {
				addSecrets(values, c.key[:], pl)
			}
			add(int(c.fd), values, func() any { return c.hand(i) })
		})
		pl.EachServer(func(ps *pool.Server) {
			s, ok := ps.Owner.(*server)
			if !ok || !s.handed(h.extended) {
				return
			}
			link := 0
			if s.cl != nil {
				link = int(s.cl.fd)
			}
			values := fdValues(int(s.fd), taskServer, pl.user, pl.db.name, s.addr, pl.db.Port, 0, link)
			p.addVars(values, s.vars)
			if own {
				addSecrets(values, s.key, pl)
			}
			add(int(s.fd), values, func() any { return s.hand(i) })
		})
	}
	return rows, failed
}

// fdValues are the columns up to link; addVars and addSecrets fill in the others.
func fdValues(fd int, task, user, db string, addr netip.AddrPort, port int, cancel uint64, link int) [][]byte {
	values := make([][]byte, 15, 16)
	host := "unix"
	if addr.IsValid() {
		host, port = addr.Addr().Unmap().String(), int(addr.Port())
	}
	for i, v := range [...]string{
		strconv.Itoa(fd), task, user, db, host, strconv.Itoa(port), strconv.FormatUint(cancel, 10), strconv.Itoa(link),
	} {
		if v != "" {
			values[i] = []byte(v)
		}
	}
	return values
}

// fdVars are the parameters that have columns, in their order.
var fdVars = [...]string{"client_encoding", "standard_conforming_strings", "DateStyle", "TimeZone"}

func (p *Pooler) addVars(values [][]byte, vs vars) {
	set := vs.Value()
	for i, name := range fdVars {
		if v := set[p.tracked.index(name)]; v != "" {
			values[8+i] = []byte(v)
		}
	}
}

// addSecrets adds the cancel key, and what opens further servers.
func addSecrets(values [][]byte, key []byte, pl *dbPool) {
	if len(key) == 8 {
		values[6] = strconv.AppendUint(nil, binary.BigEndian.Uint64(key), 10)
	}
	creds := pl.creds.Load()
	if creds == nil {
		return
	}
	if pl.account == nil || !pl.account.listed {
		if text := creds.secret.Reveal(); text != "" {
			values[12] = []byte(text)
		}
	}
	values[13], values[14] = bytea(creds.keys.ClientKey), bytea(creds.keys.ServerKey)
}

// hand is what belongs to no connection.
func (p *Pooler) hand(pools []*dbPool) *handedPooler {
	h := &handedPooler{
		Version: handedVersion, Clock: systemClock(), Age: time.Since(p.began), LastID: p.lastID.Load(), LastText: p.lastText.Load(), MockKey: p.mockKey,
		Paused: p.paused, Periods: p.periods, PeriodEnds: p.periodEnds, NextPeriod: p.nextPeriod,
		Console: p.consolePool.stats.hand(), Tracked: p.tracked, Patience: p.handingLimit(),
	}
	var loops loopEvents
	for _, w := range p.workers {
		loops.add(&w.events)
	}
	h.Loops = []uint64{loops.cancels, loops.failedLogins, loops.tlsClients, loops.tlsServers}
	for _, u := range p.users {
		if c := u.creds.Load(); u.listed && c.keys.ClientKey != nil {
			h.Users = append(h.Users, handedUser{u.name, c.secret.Reveal(), c.keys.ClientKey, c.keys.ServerKey})
		}
	}
	texts := map[*statement]struct{}{}
	note := func(st *statement) {
		if _, known := texts[st]; !known && st != nil {
			texts[st] = struct{}{}
			h.Texts = append(h.Texts, handedText{string(st.name), st.body})
		}
	}
	p.eachClient(func(c *client) {
		for _, st := range c.names {
			note(st)
		}
	})
	for _, db := range p.databases {
		h.Databases = append(h.Databases, handedDatabase{db.name, db.paused, db.disabled, db.auto, db.idle, db.target()})
	}
	slices.SortFunc(h.Databases, func(a, b handedDatabase) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	for _, pl := range pools {
		set := pl.defaults.Value()
		hp := handedPool{
			Database: pl.db.name, User: pl.user, Known: pl.welcome != nil, Welcome: pl.welcome, Defaults: set[:len(p.tracked)],
			Stats: pl.stats.hand(), Shown: [2]handedStats{pl.shown[0].hand(), pl.shown[1].hand()}, Events: pl.events.hand(), HostIndex: pl.hostIndex,
		}
		for i := range p.tracked {
			hp.Told = append(hp.Told, pl.told.has(i))
		}
		if c := pl.creds.Load(); c != nil {
			hp.Secret, hp.ClientKey, hp.ServerKey = c.secret.Reveal(), c.keys.ClientKey, c.keys.ServerKey
		}
		h.Pools = append(h.Pools, hp)
		pl.EachServer(func(ps *pool.Server) {
			s, ok := ps.Owner.(*server)
			if !ok {
				return
			}
			for st := range s.prepared.byStatement {
				note(st)
			}
			for _, n := range s.pending.named[s.pending.first:] {
				note(n.st)
				note(n.prev)
			}
		})
	}
	return h
}

// target is what of a database's configuration decides where its servers lead: when it
// changes, they are replaced.
func (db *database) target() string {
	return fmt.Sprintf("%q", []any{
		db.Host, db.Port, db.serverName(), db.ConnectQuery, db.ClientEncoding, db.DateStyle, db.TimeZone,
		db.ApplicationName, db.TargetSessionAttrs.String(),
	})
}

func (c *conn) hand(id uint64, pool int, since time.Duration, vs vars) handedConn {
	set := vs.Value()
	h := handedConn{ID: id, Pool: pool, Remain: c.remain, Drop: c.drop, Since: since, Vars: set[:len(c.w.tracked)]}
	if c.out != nil {
		h.Out = bytes.Clone(c.out.Bytes())
	}
	if c.held != nil {
		h.Held = bytes.Clone(c.held.Bytes())
	}
	return h
}

func (c *client) hand(index int) *handedClient {
	h := &handedClient{
		Conn: c.conn.hand(c.id, index, c.since, c.vars), Waiting: c.pc.State() == pool.ClientWaiting,
		Listed: c.user != nil && c.user.listed, Key: c.key[:], Replication: c.replication.String(),
		Counted: c.counted, Cut: c.cut, Notified: c.notified, Leaked: c.leaked, RequestTime: c.requestTime,
	}
	if c.srv != nil {
		h.Link = c.srv.id
	}
	for name, st := range c.names {
		h.Names = append(h.Names, handedName{name, string(st.name), c.lapsed[name]})
	}
	return h
}

func (s *server) hand(index int) *handedServer {
	r := &s.pending
	h := &handedServer{
		Conn: s.conn.hand(s.id, index, s.since, s.vars), Idle: s.ps.State() == pool.ServerIdle, Dedicated: s.ps.Dedicated(),
		CloseNeeded: s.ps.CloseNeeded(), SettingVars: s.phase == serverVars, Status: s.status, Broken: s.broken, Dirty: s.dirty,
		Refused: s.refused, LateRelease: s.lateRelease, InRecovery: s.inRecovery, ReadOnly: s.readOnly,
		Block: s.session.block, Savepoint: s.session.savepoint, Sets: s.session.sets, Left: s.session.left, Host: s.host, Key: s.key, Created: s.ps.Created(),
		QueryStart: s.queryStart, XactStart: s.xactStart, IdleStart: s.idleStart,
		Queue: r.queue[r.head:], Copying: r.copying, Open: r.open, Failed: r.failed,
	}
	for e := s.prepared.oldest; e != nil; e = e.newer {
		h.Prepared = append(h.Prepared, string(e.st.name))
	}
	name := func(st *statement) string {
		if st == nil {
			return ""
		}
		return string(st.name)
	}
	for _, n := range r.named[r.first:] {
		h.Named = append(h.Named, handedRequest{n.kind, name(n.st), n.name, name(n.prev)})
	}
	return h
}
