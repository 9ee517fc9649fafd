package pooler

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"os"
	osuser "os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// Version is what SHOW VERSION and --version say.
const Version = "skytools pooler 4.0"

// Options are what the command line says beside the file.
type Options struct {
	// Verbose is added to the setting verbose.
	Verbose int
	// Warnings are those of loading the file; they go to the log.
	Warnings []ini.Warning
	// Log is where the log goes beside the file; nil: nowhere.
	Log io.Writer
}

// closing is how far the pooler is on its way to its end.
type closing uint8

const (
	closingNot     closing = iota
	closingServers         // ends when no server is linked
	closingClients         // ends when no client is left
)

// Pooler is the whole pooler. Everything in it belongs to the loop's thread.
type Pooler struct {
	options Options
	loop    *evloop.Loop
	buffers evloop.Buffers
	log     *logrus.Logger
	logOut  *logWriter
	workers sync.WaitGroup // goroutines for slow things

	cfg       *ini.Config
	set       *settings
	authPath  string
	authFile  *ini.AuthFile
	tracked   tracked
	mockKey   []byte
	manager   pool.Manager
	databases map[string]*database
	users     map[string]*user
	dying     []*dbPool // of removed databases

	listeners   []*listener
	acceptAgain time.Duration // accepting rests until then; 0: it does not
	clients     map[*client]struct{}
	logins      map[*client]struct{}
	linger      map[*client]struct{}
	carriers    map[*carrier]struct{}
	consoles    map[*console]struct{}
	dns         map[string]*dnsEntry
	clientCount int // in max_client_conn
	servers     int
	lastID      uint64
	scratch     []byte
	paused      bool
	closing     closing
	consolePool *dbPool
	periods     int
	periodEnds  [2]time.Duration
	nextPeriod  time.Duration
	metrics     *metrics
	draining    bool
}

// newPooler makes the maps and lists of a pooler.
func newPooler(cfg *ini.Config, opt Options) *Pooler {
	p := &Pooler{
		options: opt, mockKey: make([]byte, 32),
		databases: map[string]*database{}, users: map[string]*user{}, clients: map[*client]struct{}{},
		logins: map[*client]struct{}{}, linger: map[*client]struct{}{}, carriers: map[*carrier]struct{}{},
		consoles: map[*console]struct{}{}, dns: map[string]*dnsEntry{}, cfg: cfg,
	}
	rand.Read(p.mockKey)
	p.consolePool = &dbPool{p: p, db: &database{Database: &ini.Database{}, p: p, name: consoleName}}
	return p
}

// New makes a pooler that listens and is ready to Run.
func New(cfg *ini.Config, opt Options) (*Pooler, error) {
	p := newPooler(cfg, opt)
	var err error
	if p.set, err = newSettings(cfg); err != nil {
		return nil, err
	}
	if p.tracked, err = newTracked(cfg.TrackExtraParameters); err != nil {
		return nil, fmt.Errorf("%s: [pgbouncer] %w", cfg.Path, err)
	}
	if p.logOut, err = newLogWriter(opt.Log, cfg.LogFile); err != nil {
		return nil, fmt.Errorf("%s: [pgbouncer] logfile = %s: %w", cfg.Path, cfg.LogFile, err)
	}
	p.log = newLog(p.logOut)
	if p.loop, err = evloop.New(evloop.Hooks{Sweep: p.sweep, Turn: p.turn}); err != nil {
		p.logOut.Close()
		return nil, err
	}
	if err := p.start(); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

func (p *Pooler) start() error {
	p.setVerbosity()
	for _, w := range p.options.Warnings {
		p.log.Warn(w.String())
	}
	if err := p.apply(p.cfg); err != nil {
		return err
	}
	p.logLimits()
	if err := p.listen(); err != nil {
		return err
	}
	if p.set.MetricsListen != "" {
		var err error
		if p.metrics, err = newMetrics(p, p.set.MetricsListen); err != nil {
			return fmt.Errorf("%s: [pgbouncer] metrics_listen = %s: %w", p.cfg.Path, p.set.MetricsListen, err)
		}
	}
	p.nextPeriod = p.loop.Tick() + p.set.StatsPeriod
	p.log.Info("process up: " + Version)
	return nil
}

// BecomeUser leaves root's rights behind, which a pooler must not run with. Call it
// before New.
func BecomeUser(cfg *ini.Config) error {
	if cfg.User != "" {
		u, err := osuser.Lookup(cfg.User)
		if err != nil {
			return fmt.Errorf("%s: [pgbouncer] user = %s: %w", cfg.Path, cfg.User, err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if os.Getuid() != uid {
			if os.Getuid() != 0 {
				return fmt.Errorf("%s: [pgbouncer] user = %s: only root can become another user; start as root, or as %s", cfg.Path, cfg.User, cfg.User)
			}
			err := syscall.Setgroups([]int{gid})
			if err == nil {
				err = syscall.Setgid(gid)
			}
			if err == nil {
				err = syscall.Setuid(uid)
			}
			if err != nil {
				return fmt.Errorf("%s: [pgbouncer] user = %s: %w", cfg.Path, cfg.User, err)
			}
		}
	}
	if os.Getuid() == 0 {
		return fmt.Errorf("%s: the pooler does not run as root; set user = NAME in [pgbouncer], or start it as another user", cfg.Path)
	}
	return nil
}

// logLimits compares the limit of descriptors with what may be needed.
func (p *Pooler) logLimits() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	need := uint64(p.set.MaxClientConn + p.set.ListenBacklog/16 + 20)
	for _, db := range p.cfg.Databases {
		need += uint64(db.PoolSize.Or(p.set.DefaultPoolSize))
	}
	p.log.Info(fmt.Sprintf("file descriptor limit: %d (hard %d), max_client_conn: %d, expected fd use: %d", limit.Cur, limit.Max, p.set.MaxClientConn, need))
	if need > limit.Cur {
		p.log.Warn(fmt.Sprintf("the limit of %d descriptors is below the %d that may be needed: raise it (ulimit -n) or lower max_client_conn", limit.Cur, need))
	}
}

// listen opens all listening sockets: one that fails is a warning, none at all an error.
func (p *Pooler) listen() error {
	var problems []string
	add := func(l *listener, err error, name string) {
		if err == nil {
			err = p.loop.Add(l.fd, evloop.Readable, l)
		}
		if err != nil {
			text := fmt.Sprintf("cannot listen on %s: %v", name, err)
			p.log.Warn(text)
			problems = append(problems, text)
			return
		}
		p.listeners = append(p.listeners, l)
		p.log.Info("listening on " + l.name)
	}
	for _, addr := range p.set.ListenAddr {
		ips, err := listenAddresses(addr)
		if err != nil {
			add(nil, err, addr)
		}
		for _, ip := range ips {
			l, err := listenTCP(p, ip, p.set.ListenPort)
			add(l, err, netip.AddrPortFrom(ip, uint16(p.set.ListenPort)).String())
		}
	}
	if dir := p.set.UnixSocketDir; dir != "" {
		l, err := listenUnix(p, dir, p.set.ListenPort)
		if err != nil {
			return fmt.Errorf("%s: [pgbouncer] unix_socket_dir = %s: %w", p.cfg.Path, dir, err)
		}
		add(l, nil, l.name)
	}
	if len(p.listeners) == 0 {
		return fmt.Errorf("%s: nothing to listen on: %s; change listen_addr, listen_port or unix_socket_dir", p.cfg.Path, strings.Join(problems, ", "))
	}
	return nil
}

// Run serves until the pooler is told to end.
func (p *Pooler) Run() error {
	err := p.loop.Run()
	p.end()
	return err
}

// Close ends a pooler that was not Run.
func (p *Pooler) Close() error {
	p.end()
	return nil
}

// end closes everything that is open.
func (p *Pooler) end() {
	for _, l := range p.listeners {
		l.close()
	}
	for c := range p.clients {
		c.shut()
	}
	for c := range p.linger {
		c.shut()
	}
	for r := range p.carriers {
		r.shut()
	}
	for _, pl := range p.manager.Pools() {
		pl.EachServer(func(ps *pool.Server) {
			if s, ok := ps.Owner.(*server); ok {
				s.shut()
			}
		})
	}
	if p.metrics != nil {
		p.metrics.stop()
	}
	p.loop.Stop()
	p.workers.Wait()
	p.loop.Close()
	p.logOut.Close()
}

// Signal does what a signal asks for; any goroutine may call it.
func (p *Pooler) Signal(sig os.Signal) {
	p.loop.Post(func() {
		switch sig {
		case syscall.SIGHUP:
			p.log.Info("got SIGHUP, re-reading config")
			p.reload()
		case syscall.SIGINT:
			p.log.Info("got SIGINT, shutting down, waiting for servers to be released")
			p.shutdown(closingServers)
		case syscall.SIGTERM:
			p.log.Info("got SIGTERM, shutting down, waiting for all clients to disconnect")
			p.shutdown(closingClients)
		case syscall.SIGQUIT:
			p.log.Info("got SIGQUIT, fast exit")
			p.loop.Stop()
		case syscall.SIGUSR1:
			p.log.Info("got SIGUSR1, pausing all activity")
			p.pauseAll()
		case syscall.SIGUSR2:
			if p.closing != closingNot {
				p.log.Info("got SIGUSR2 while shutting down, ignoring")
				return
			}
			p.log.Info("got SIGUSR2, continuing from PAUSE")
			p.resumeAll()
		}
	})
}

// shutdown begins the end; being asked again ends at once.
func (p *Pooler) shutdown(how closing) {
	if p.closing != closingNot {
		p.log.Info("asked again to shut down, fast exit")
		p.loop.Stop()
		return
	}
	p.closing = how
	var kept []*listener
	for _, l := range p.listeners {
		if !l.tcp {
			// The console stays reachable.
			kept = append(kept, l)
			continue
		}
		p.loop.Remove(l.fd)
		l.close()
	}
	p.listeners = kept
	if how == closingServers {
		p.pauseAll()
	}
}

func (p *Pooler) pauseAll() {
	p.paused = true
	for _, db := range p.databases {
		p.pause(db)
	}
}

func (p *Pooler) pause(db *database) {
	db.paused = true
	for _, pl := range db.pools {
		pl.Pause(p.loop.Now())
	}
}

func (p *Pooler) resumeAll() {
	p.paused = false
	for _, db := range p.databases {
		p.resume(db)
	}
}

func (p *Pooler) resume(db *database) {
	db.paused = false
	for _, pl := range db.pools {
		pl.Resume(p.loop.Now())
	}
}

// busy tells whether servers are in use.
func (p *Pooler) busy(only *database) bool {
	for _, pl := range p.manager.Pools() {
		if (only == nil || pl.Owner.(*dbPool).db == only) && pl.Busy() {
			return true
		}
	}
	return false
}

// background runs work in a goroutine, and what it returns in the loop.
func (p *Pooler) background(work func() func()) {
	p.workers.Add(1)
	go func() {
		defer p.workers.Done()
		p.loop.Post(work())
	}()
}

// run carries out what the state machine has decided.
func (p *Pooler) run() {
	if p.draining {
		return
	}
	p.draining = true
	for a, ok := p.manager.Next(); ok; a, ok = p.manager.Next() {
		s, _ := ownerOf[*server](a.Server)
		switch a.Kind {
		case pool.Connect:
			p.openServer(a.Server)
		case pool.Link:
			c := a.Client.Owner.(*client)
			if c.pc.Server() != a.Server {
				continue // one of them has gone since
			}
			p.link(c, s)
			c.resume()
		case pool.Reset:
			s.ownQuery(p.set.ServerResetQuery)
		case pool.Check:
			query := p.set.ServerCheckQuery
			if query == "<empty>" {
				query = ""
			}
			s.ownQuery(query)
		case pool.CloseServer:
			if s != nil {
				p.closeServer(s, a.Reason.Message)
			}
		case pool.DropClient:
			a.Client.Owner.(*client).dropped(a.Reason)
		case pool.Welcome:
			if c := a.Client.Owner.(*client); c.fd >= 0 && c.phase == phaseWelcome {
				c.welcome()
			}
		case pool.ReserveTaken:
			pl := a.Pool.Owner.(*dbPool)
			p.log.Info("taking connection from reserve_pool: " + pl.db.name + "/" + pl.user)
		}
	}
	p.draining = false
}

func ownerOf[T any](s *pool.Server) (t T, ok bool) {
	if s == nil {
		return t, false
	}
	t, ok = s.Owner.(T)
	return t, ok
}

// turn is the end of each turn of the loop.
func (p *Pooler) turn() {
	p.run()
	for c := range p.consoles {
		c.goOn()
	}
	switch p.closing {
	case closingServers:
		if !p.busy(nil) {
			p.log.Info("server connections dropped, exiting")
			p.loop.Stop()
		}
	case closingClients:
		if p.clientCount == 0 {
			p.log.Info("all clients have disconnected, exiting")
			p.loop.Stop()
		}
	}
}

// sweep does what time brings.
func (p *Pooler) sweep() {
	now := p.loop.Now()
	p.manager.Sweep(now)
	p.run()
	for _, pl := range p.manager.Pools() {
		p.sweepPool(pl.Owner.(*dbPool), now)
	}
	p.run()
	if limit := p.set.ClientLoginTimeout; limit > 0 {
		for c := range p.logins {
			if now-c.since >= limit {
				p.failClient(c, "", "client_login_timeout")
			}
		}
	}
	for c := range p.linger {
		if now-c.since >= lingerTime {
			p.closeClient(c, "")
		}
	}
	for r := range p.carriers {
		if limit := p.set.CancelWaitTimeout; limit > 0 && now-r.since >= limit {
			if r.sent {
				// It may still arrive, when the server has another client.
				r.cancel.Server.RequireClose("cancel_wait_timeout")
			}
			r.done()
		}
	}
	dying := p.dying
	p.dying = nil
	for _, pl := range dying {
		if !p.manager.RemovePool(pl.Pool) {
			p.dying = append(p.dying, pl)
		}
	}
	p.expireAutoDatabases(now)
	if p.acceptAgain != 0 && now >= p.acceptAgain {
		p.acceptAgain = 0
		for _, l := range p.listeners {
			p.loop.Modify(l.fd, evloop.Readable)
		}
	}
	if p.metrics != nil {
		p.metrics.publish(p)
	}
	if now >= p.nextPeriod {
		p.nextPeriod = now + p.set.StatsPeriod
		p.endPeriod()
	}
	p.run()
}

// lingerTime is how long a closed client may take for its last bytes.
const lingerTime = 10 * time.Second

// sweepPool ends what takes too long.
func (p *Pooler) sweepPool(pl *dbPool, now time.Duration) {
	over := func(since, limit time.Duration) bool { return limit > 0 && since != 0 && now-since >= limit }
	var late []*server
	var why []string
	pl.EachServer(func(ps *pool.Server) {
		s, ok := ps.Owner.(*server)
		if !ok || s.cl == nil {
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
	p.notifyWaiters(pl, now)
	if pl.limits.clientIdle <= 0 && pl.limits.query <= 0 {
		return
	}
	var idle []*client
	pl.EachClient(func(pc *pool.Client) {
		c := pc.Owner.(*client)
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
		p.failClient(c, "", reason)
	}
}

// notifyWaiters tells clients that have waited for query_wait_notify what holds them up.
func (p *Pooler) notifyWaiters(pl *dbPool, now time.Duration) {
	limit := p.set.QueryWaitNotify
	if limit <= 0 {
		return
	}
	pl.EachWaiter(func(pc *pool.Client) bool {
		if now-pc.Since() < limit {
			return false // those behind it came later
		}
		if c := pc.Owner.(*client); !c.notified {
			c.notified = true
			// Should this fail, reading from the client will tell.
			c.send(pgwire.AppendNoticeResponse(nil, &pgwire.Report{Severity: pgwire.SeverityNotice, Code: "00000",
				Message: "No server connection available in postgres backend, client being queued"}))
		}
		return true
	})
}

// expireAutoDatabases forgets databases made from * that nobody has used for long.
func (p *Pooler) expireAutoDatabases(now time.Duration) {
	limit := p.set.AutoDBIdleTimeout
	if limit <= 0 {
		return
	}
	for _, db := range p.databases {
		if !db.auto || db.clients > 0 || db.group.Servers() > 0 || db.paused {
			db.idle = now
		} else if now-db.idle >= limit {
			p.removeDatabase(db, "autodb idle timeout")
		}
	}
}

// closePending tells whether servers are still linked that are to be closed.
func (p *Pooler) closePending(only *database) bool {
	for _, q := range p.manager.Pools() {
		if only != nil && q.Owner.(*dbPool).db != only {
			continue
		}
		found := false
		q.EachServer(func(s *pool.Server) { found = found || s.CloseNeeded() })
		if found {
			return true
		}
	}
	return false
}
