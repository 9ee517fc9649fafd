package pooler

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	osuser "os/user"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"goworkers/internal/pooler/dns"
	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/hba"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/ldap"
	"goworkers/internal/pooler/pool"
	"goworkers/internal/pooler/systemd"
	"goworkers/internal/pooler/tlsconn"
)

// Version is what SHOW VERSION and --version say.
const Version = programName + " 4.0"

const programName = "skytools pooler"

// Options are what the command line says beside the file.
type Options struct {
	// Verbose is added to the setting verbose.
	Verbose int
	// Warnings are those of loading the file; they go to the log.
	Warnings []ini.Warning
	// Log is where the log goes beside the file; nil: nowhere.
	Log io.Writer
	// Syslog is the unix socket of the syslog; empty: the machine's own.
	Syslog string
	// Notify, unless nil, is told how things stand in the service manager's words, see
	// package systemd; the first loop calls it, so it must not block.
	Notify func(lines ...string)
	// Watchdog is the time in which the service manager wants to hear of us; 0: never.
	Watchdog time.Duration
	// Sockets are those that the service manager has passed: they replace our own.
	Sockets []systemd.Listener

	heritage *heritage
	step     func(name string) // is told how far TakeOver has come; nil: nobody wants to know
}

// closing is how far the pooler is on its way to its end.
type closing uint8

const (
	closingNot     closing = iota
	closingServers         // ends when no server is linked
	closingClients         // ends when no client is left
)

// Pooler is the whole pooler: what its loops share. It belongs to the first loop, main,
// which accepts clients, logs them in and serves the console; the others read it, and
// stand still while it is changed (alone).
type Pooler struct {
	options    Options
	began      time.Time // all times count from it
	log        *logrus.Logger
	logOut     *logWriter
	syslog     *syslogHook     // nil: not wanted, or not there
	syslogAs   string          // the settings that it was opened with
	goroutines sync.WaitGroup  // for slow things
	ctx        context.Context // theirs
	cancel     context.CancelFunc

	main    *worker
	workers []*worker
	isAlone bool        // the other loops stand still, or do not run
	awaited atomic.Bool // a console, or the end, waits for something

	cfg         *ini.Config
	set         *settings
	authPath    string
	authFile    *ini.AuthFile
	hbaRules    *hba.Rules
	identMaps   *hba.IdentMaps
	ldapOptions *ldap.Options
	directories *ldap.Workers
	clientTLS   *tlsconn.Config // nil: none
	serverTLS   *tlsconn.Config
	handshaker  *tlsconn.Handshaker // nil until there is TLS
	tracked     tracked
	mockKey     []byte
	mockSCRAM   bool          // auth_type md5 asks unknown users for SCRAM
	hashing     chan struct{} // one for each login that computes now
	databases   map[string]*database
	users       map[string]*user
	peers       map[int]*peer
	dying       []*dbPool // of removed databases, and unused ones

	listeners   []*listener
	acceptAgain time.Duration // accepting rests until then; 0: it does not
	consoles    map[*console]struct{}
	dns         *dns.Resolver
	clientCount atomic.Int64 // in max_client_conn
	lastID      atomic.Uint64
	lastText    atomic.Uint64 // of the statements on all loops
	keys        keyring
	paused      bool
	suspended   suspension
	suspendedAt time.Duration
	suspender   *console      // whose leaving ends the suspension
	handing     *handing      // the sockets are on their way to another process
	heritage    *heritage     // what another process has handed to this one; nil: nothing
	release     chan struct{} // closed at the end of the turn: the other loops go on
	closing     closing
	consolePool *dbPool
	periods     int
	periodEnds  [2]time.Duration
	nextPeriod  time.Duration
	nextAlive   time.Duration
	metrics     *metrics
}

// newPooler makes a pooler with its loops, and puts nothing in force yet.
func newPooler(cfg *ini.Config, opt Options) (*Pooler, error) {
	p := &Pooler{
		options: opt, began: time.Now(), mockKey: make([]byte, 32), databases: map[string]*database{},
		users: map[string]*user{}, peers: map[int]*peer{}, consoles: map[*console]struct{}{}, cfg: cfg,
		hashing: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1)),
		isAlone: true, heritage: opt.heritage,
	}
	if h := p.heritage; h != nil {
		p.began, p.suspended = h.began(), suspendStop
	}
	rand.Read(p.mockKey)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.directories = ldap.NewWorkers(ldapWorkers, ldapQueue)
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
	p.dns, err = dns.New(dns.Config{Settings: dnsSettings(cfg), ResolvConf: cfg.ResolvConf, Changed: p.addressesChanged})
	if err != nil {
		p.end()
		return nil, fmt.Errorf("%s: [pgbouncer] resolv_conf: %w", cfg.Path, err)
	}
	for i := range cfg.Threads {
		w, err := newWorker(p, i)
		if err != nil {
			p.end()
			return nil, err
		}
		p.workers = append(p.workers, w)
	}
	p.main = p.workers[0]
	p.consolePool = &dbPool{w: p.main, db: &database{Database: &ini.Database{}, p: p, name: consoleName}}
	return p, nil
}

// New makes a pooler that listens and is ready to Run.
func New(cfg *ini.Config, opt Options) (*Pooler, error) {
	p, err := newPooler(cfg, opt)
	if err != nil {
		return nil, err
	}
	if err := p.start(); err != nil {
		if opt.Log == nil {
			// Nobody else tells the log; who started us is told by the error.
			p.log.Log(logrus.FatalLevel, err.Error())
		}
		p.end()
		return nil, err
	}
	return p, nil
}

func (p *Pooler) start() error {
	p.configureLog()
	for _, w := range p.options.Warnings {
		p.log.Warn(w.String())
	}
	for _, w := range p.workers {
		w.loop.Tick()
	}
	if err := p.apply(p.cfg); err != nil {
		return err
	}
	p.logLimits()
	if err := p.listen(); err != nil {
		return err
	}
	p.nextPeriod = p.now() + p.set.StatsPeriod
	if p.heritage != nil {
		if err := p.inherit(); err != nil {
			return err
		}
		p.log.Info("process up: " + Version)
		return nil
	}
	if err := p.startMetrics(); err != nil {
		return err
	}
	p.log.Info("process up: " + Version)
	return nil
}

func (p *Pooler) startMetrics() error {
	if p.set.MetricsListen == "" {
		return nil
	}
	m, err := newMetrics(p, p.set.MetricsListen)
	if err != nil {
		return fmt.Errorf("%s: [pgbouncer] metrics_listen = %s: %w", p.cfg.Path, p.set.MetricsListen, err)
	}
	p.metrics = m
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
			err = p.main.loop.Add(l.fd, evloop.Readable, l)
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
	if len(p.options.Sockets) > 0 {
		return p.listenPassed(p.options.Sockets)
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
	if len(p.set.ListenAddr) > 0 && len(p.listeners) == 0 {
		return fmt.Errorf("%s: [pgbouncer] listen_addr: none of the addresses can be listened on: %s; change listen_addr or listen_port",
			p.cfg.Path, strings.Join(problems, ", "))
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
	var others sync.WaitGroup
	errs := make([]error, len(p.workers))
	p.isAlone = len(p.workers) == 1
	// A loop under load does not leave its processor to other goroutines.
	if n := len(p.workers) + 1; runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
	trim()
	for _, w := range p.workers[1:] {
		others.Go(func() {
			if errs[w.index] = w.loop.Run(); errs[w.index] != nil {
				p.Stop()
			}
		})
	}
	errs[0] = p.main.loop.Run()
	for _, w := range p.workers[1:] {
		w.loop.Stop()
	}
	p.letGo()
	others.Wait()
	p.isAlone = true
	p.end()
	return errors.Join(errs...)
}

// Stop makes Run return soon; any goroutine may call it.
func (p *Pooler) Stop() { p.main.loop.Stop() }

// Close ends a pooler that was not Run.
func (p *Pooler) Close() error {
	p.end()
	return nil
}

// end closes everything that is open; no loop runs any more.
func (p *Pooler) end() {
	for _, l := range p.listeners {
		l.close()
	}
	for _, w := range p.workers {
		w.loop.Stop()
	}
	p.cancel()
	p.directories.Stop()
	if p.dns != nil {
		p.dns.Stop()
	}
	p.goroutines.Wait()
	if p.handshaker != nil {
		p.handshaker.Close()
	}
	for _, w := range p.workers {
		w.shut()
	}
	for _, q := range p.peers {
		for _, r := range q.links {
			r.shut()
		}
	}
	if p.metrics != nil {
		p.metrics.stop()
	}
	for _, w := range p.workers {
		w.loop.Close()
	}
	p.closeSyslog()
	p.logOut.Close()
}

// alone runs f while all other loops stand still: f may then read and change what
// belongs to any of them. Only the first loop calls it, for what is rare: the console,
// RELOAD, new pools, statistics.
func (p *Pooler) alone(f func()) {
	if p.isAlone {
		f()
		return
	}
	p.isAlone = true
	var still sync.WaitGroup
	goOn := make(chan struct{})
	for _, w := range p.workers[1:] {
		still.Add(1)
		if !w.loop.Post(func() { still.Done(); <-goOn }) {
			still.Done()
		}
	}
	still.Wait()
	f()
	if p.handing != nil {
		p.handing.goOn = goOn
		return
	}
	close(goOn)
	p.isAlone = false
}

// carryOutAll has the loops do what was decided; it is for use within alone.
func (p *Pooler) carryOutAll() {
	for _, w := range p.workers {
		w.run()
	}
}

// eachPool calls f for all pools; it is for use within alone.
func (p *Pooler) eachPool(f func(*dbPool)) {
	for _, w := range p.workers {
		for _, q := range w.manager.Pools() {
			f(q.Owner.(*dbPool))
		}
	}
}

// signaledEnd begins the end, and ends at once for those who ask a second time.
func (p *Pooler) signaledEnd(how closing) {
	if p.closing != closingNot {
		p.log.Info("asked again to shut down, fast exit")
		p.Stop()
		return
	}
	p.shutdown(how)
}

// Signal does what a signal asks for; any goroutine may call it.
func (p *Pooler) Signal(sig os.Signal) {
	p.main.loop.Post(func() {
		switch sig {
		case syscall.SIGHUP:
			p.log.Info("got SIGHUP, re-reading config")
			p.reload()
		case syscall.SIGINT:
			p.log.Info("got SIGINT, shutting down, waiting for servers to be released")
			p.signaledEnd(closingServers)
		case syscall.SIGTERM:
			p.log.Info("got SIGTERM, shutting down, waiting for all clients to disconnect")
			p.signaledEnd(closingClients)
		case syscall.SIGQUIT:
			p.log.Info("got SIGQUIT, fast exit")
			p.Stop()
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

// shutdown begins the end. Asked again, it may come to wait for less than before.
func (p *Pooler) shutdown(how closing) {
	if p.closing == how || p.closing == closingServers {
		return
	}
	p.closing = how
	p.tell(systemd.Stopping)
	p.awaited.Store(true)
	var kept []*listener
	for _, l := range p.listeners {
		if !l.tcp {
			// The console stays reachable.
			kept = append(kept, l)
			continue
		}
		l.drain()
		p.main.loop.Remove(l.fd)
		l.close()
	}
	p.listeners = kept
	if how == closingServers {
		p.pauseAll()
	}
}

// eachClient calls f for all clients; it is for use within alone.
func (p *Pooler) eachClient(f func(*client)) {
	for _, w := range p.workers {
		for c := range w.clients {
			f(c)
		}
	}
}

func (p *Pooler) pauseAll() {
	p.alone(func() {
		p.paused = true
		for _, db := range p.databases {
			p.pause(db)
		}
		p.carryOutAll()
	})
}

// pause, resume and busy are for use within alone.
func (p *Pooler) pause(db *database) {
	db.paused = true
	for _, pl := range db.pools {
		pl.Pause(p.now())
	}
}

func (p *Pooler) resumeAll() {
	p.alone(func() {
		p.paused = false
		for _, db := range p.databases {
			p.resume(db)
		}
		p.carryOutAll()
	})
}

func (p *Pooler) resume(db *database) {
	db.paused = false
	for _, pl := range db.pools {
		pl.Resume(p.now())
	}
}

// busy tells whether servers are in use.
func (p *Pooler) busy(only *database) bool {
	found := false
	p.eachPool(func(pl *dbPool) {
		found = found || (only == nil || pl.db == only) && pl.Busy()
	})
	return found
}

// now is the time of the first loop's turn.
func (p *Pooler) now() time.Duration { return p.main.loop.Now() }

// atTurn is what the first loop does at the end of each of its turns.
func (p *Pooler) atTurn() {
	if !p.awaited.Load() {
		return
	}
	p.alone(func() {
		for c := range p.consoles {
			c.goOn()
		}
		switch {
		case p.closing == closingServers && !p.busy(nil):
			p.log.Info("server connections dropped, exiting")
			p.Stop()
		case p.closing == closingClients && p.clientCount.Load() == int64(len(p.consoles)) && !p.lateLogins():
			p.log.Info("all clients have disconnected, exiting")
			p.Stop()
		}
		p.awaited.Store(p.closing != closingNot || p.consoleWaits())
	})
}

// atSweep is what the first loop does in each sweep for all of them.
func (p *Pooler) atSweep(now time.Duration) {
	if len(p.dying) > 0 {
		p.alone(p.bury)
	}
	if p.suspended != suspendNot {
		p.alone(func() { p.sweepSuspended(now) })
	}
	p.tellAlive(now)
	p.expireAutoDatabases(now)
	if p.set.PoolIdleTimeout > 0 {
		p.alone(func() { p.expirePools(now) })
	}
	p.sweepPeers(now)
	p.dns.Sweep()
	if p.acceptAgain != 0 && now >= p.acceptAgain && p.suspended == suspendNot {
		p.acceptAgain = 0
		for _, l := range p.listeners {
			p.main.loop.Modify(l.fd, evloop.Readable)
		}
	}
	if now >= p.nextPeriod {
		p.nextPeriod = now + p.set.StatsPeriod
		p.alone(p.endPeriod)
	}
}

// bury forgets the pools of removed databases that have become empty, and unused ones.
// Of the latter, one that a client has come to meanwhile lives on.
func (p *Pooler) bury() {
	dying := p.dying
	p.dying = nil
	for _, pl := range dying {
		switch {
		case pl.w.manager.RemovePool(pl.Pool):
			pl.w.pools--
		case !pl.db.dead && pl.db.pools[pl.user] == nil:
			pl.db.pools[pl.user] = pl
			pl.idle = 0
			pl.configure()
			if pl.db.paused {
				pl.Pause(p.now())
			}
		default:
			p.dying = append(p.dying, pl)
		}
	}
}

// expirePools takes pools that nobody has used for long out of their databases. They
// are forgotten in a later sweep: a client may be on its way to one.
func (p *Pooler) expirePools(now time.Duration) {
	for _, db := range p.databases {
		for name, pl := range db.pools {
			switch {
			case pl.TotalClients() > 0 || pl.TotalServers() > 0 || pl.Cancels() > 0:
				pl.idle = 0
			case pl.idle == 0:
				pl.idle = now
			case now-pl.idle >= p.set.PoolIdleTimeout:
				p.log.Info("cleaning up idle pool: db=" + db.name + " user=" + pl.user)
				delete(db.pools, name)
				p.dying = append(p.dying, pl)
			}
		}
	}
}

// expireAutoDatabases forgets databases made from * that nobody has used for long.
func (p *Pooler) expireAutoDatabases(now time.Duration) {
	limit := p.set.AutoDBIdleTimeout
	if limit <= 0 {
		return
	}
	for _, db := range p.databases {
		if !db.auto || db.clients.Load() > 0 || db.group.Servers() > 0 || db.paused {
			db.idle = now
		} else if now-db.idle >= limit {
			p.removeDatabase(db, "autodb idle timeout")
		}
	}
}

// closePending tells whether servers are still linked that are to be closed; it is for
// use within alone.
func (p *Pooler) closePending(only *database) bool {
	found := false
	p.eachPool(func(pl *dbPool) {
		if only == nil || pl.db == only {
			found = found || pl.Reconnecting()
			pl.EachServer(func(s *pool.Server) { found = found || s.CloseNeeded() })
		}
	})
	return found
}
