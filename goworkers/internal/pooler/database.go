// Databases, users and the pools that they make together.

package pooler

import (
	"sync/atomic"
	"time"

	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// database is one database that clients may name.
type database struct {
	*ini.Database
	p        *Pooler
	name     string
	group    pool.Group
	pools    map[string]*dbPool // by server-side user
	clients  atomic.Int32
	paused   bool
	disabled bool
	dead     bool // removed from the configuration
	auto     bool // made from *
	idle     time.Duration
	home     *worker // of its pools, when they share a limit
}

// user is one user that clients may log in as.
type user struct {
	ini.User
	name    string
	creds   atomic.Pointer[credentials] // of auth_file, never nil
	listed  bool                        // in auth_file
	group   pool.Group
	clients atomic.Int32
	home    *worker // of its pools, when they share a limit
}

func (u *user) maxClients(set *settings) int {
	return u.MaxUserClientConnections.Or(set.MaxUserClientConnections)
}

func (db *database) maxClients() int {
	return db.MaxDBClientConnections.Or(db.p.set.MaxDBClientConnections)
}

// serverName is the database's name on the server.
func (db *database) serverName() string {
	if db.DBName != "" {
		return db.DBName
	}
	return db.name
}

const (
	// failoverRetry is the pause before the hosts of a list are asked again which of
	// them is what target_session_attrs wants.
	failoverRetry = time.Second

	// rescueTimeout is how long a lost client's transaction may take to end.
	rescueTimeout = 10 * time.Second
)

// timeouts are those of a linked server and of an idle client; 0 = none.
type timeouts struct {
	query, transaction, idleTransaction, clientIdle time.Duration
}

// dbPool is a database as one server-side user.
type dbPool struct {
	*pool.Pool
	w         *worker // whose loop serves it
	db        *database
	user      string // server-side
	account   *user  // whose settings hold; nil for a forced user that is in no list
	settings  pool.Settings
	mode      ini.PoolMode
	prepares  bool // clients' prepared statements follow them from server to server
	readsTags bool // the tags of CommandComplete tell us something
	limits    timeouts
	welcome   []byte // ParameterStatus of the parameters that are not tracked
	defaults  vars
	told      toldSet // of the tracked parameters, those whose values servers tell
	stats     counters
	events    poolEvents
	shown     [2]counters // stats at the last two ends of a stats period

	idle          time.Duration // since then nobody uses it; 0: somebody does
	failureLogged string
	hostIndex     int
	hosts         map[string]*hostState       // those that have failed
	creds         atomic.Pointer[credentials] // of the last login, if auth_file has none
}

// findDatabase finds a database by name, or makes one from the entry *.
func (p *Pooler) findDatabase(name string) *database {
	if db := p.databases[name]; db != nil {
		return db
	}
	template := p.cfg.Databases[ini.AutoName]
	if template == nil {
		return nil
	}
	db := p.addDatabase(name, template)
	db.auto = true
	p.log.Info("registered new auto-database: " + name)
	return db
}

// lacksForcedUser tells that a database, which may still have to be made from the
// entry *, leaves the choice of the server's user to its clients.
func (p *Pooler) lacksForcedUser(name string) bool {
	conf := p.cfg.Databases[ini.AutoName]
	if db := p.databases[name]; db != nil {
		conf = db.Database
	}
	return conf != nil && conf.User == ""
}

func (p *Pooler) addDatabase(name string, conf *ini.Database) *database {
	db := &database{Database: conf, p: p, name: name, pools: map[string]*dbPool{}, paused: p.paused}
	db.group.Max = db.MaxDBConnections.Or(p.set.MaxDBConnections)
	p.databases[name] = db
	return db
}

// userNamed finds or makes a user.
func (p *Pooler) userNamed(name string) *user {
	u := p.users[name]
	if u == nil {
		u = &user{name: name}
		u.creds.Store(&credentials{})
		if conf := p.cfg.Users[name]; conf != nil {
			u.User = *conf
		}
		u.group.Max = u.MaxUserConnections.Or(p.set.MaxUserConnections)
		p.users[name] = u
	}
	return u
}

// poolOf finds or makes the pool for a database and a client's user.
func (p *Pooler) poolOf(db *database, u *user) *dbPool {
	if db.User != "" {
		return p.poolAs(db, db.User, p.users[db.User])
	}
	return p.poolAs(db, u.name, u)
}

// poolAs finds or makes the pool for a database and a user of its server; u is what we
// know of that user, or nil.
func (p *Pooler) poolAs(db *database, name string, u *user) *dbPool {
	if pl := db.pools[name]; pl != nil {
		return pl
	}
	pl := &dbPool{w: p.homeOf(db, u), db: db, user: name, account: u, defaults: noVars}
	pl.configure()
	var group *pool.Group
	if u != nil {
		group = &u.group
	}
	p.alone(func() {
		pl.w.pools++
		pl.Pool = pl.w.manager.AddPool(&pl.settings, &db.group, group, pl)
		db.pools[name] = pl
		if db.paused || p.paused {
			pl.Pause(p.now())
		}
		if p.suspended != suspendNot {
			pl.Suspend(p.now())
		}
	})
	return pl
}

// homeOf chooses the loop of a new pool. Pools that share a limit are kept together, as
// far as that can be, since a loop can take servers away from its own pools only.
func (p *Pooler) homeOf(db *database, u *user) *worker {
	if db.group.Limit() > 0 && db.home != nil {
		return db.home
	}
	if u != nil && u.group.Limit() > 0 && u.home != nil {
		return u.home
	}
	home := p.workers[0]
	for _, w := range p.workers[1:] {
		// The first loop has the logins to do as well.
		if w.pools <= home.pools {
			home = w
		}
	}
	db.home = home
	if u != nil {
		u.home = home
	}
	return home
}

// configure works out which settings hold: the user's before the database's before
// the global ones.
func (pl *dbPool) configure() {
	set, db := pl.w.set, pl.db
	var u ini.User
	if pl.account != nil {
		u = pl.account.User
	}
	pl.mode = u.PoolMode.Or(db.PoolMode.Or(set.PoolMode))
	pl.prepares = pl.mode != ini.PoolSession && set.MaxPreparedStatements > 0
	pl.setReadsTags()
	pl.limits = timeouts{
		query:           u.QueryTimeout.Or(set.QueryTimeout),
		transaction:     u.TransactionTimeout.Or(set.TransactionTimeout),
		idleTransaction: u.IdleTransactionTimeout.Or(set.IdleTransactionTimeout),
		clientIdle:      u.ClientIdleTimeout.Or(set.ClientIdleTimeout),
	}
	hosts := time.Duration(max(1, len(db.Hosts)))
	retry := set.ServerLoginRetry
	if db.TargetSessionAttrs != ini.AttrsAny {
		retry = min(retry, failoverRetry)
	}
	pl.settings = pool.Settings{
		PoolSize:       u.PoolSize.Or(db.PoolSize.Or(set.DefaultPoolSize)),
		MinPoolSize:    db.MinPoolSize.Or(set.MinPoolSize),
		ReserveSize:    u.ReservePoolSize.Or(db.ReservePoolSize.Or(set.ReservePoolSize)),
		ReserveTimeout: set.ReservePoolTimeout,
		QueryWait:      u.QueryWaitTimeout.Or(db.QueryWaitTimeout.Or(set.QueryWaitTimeout)),
		// Each host has its time: see sweepPool.
		ConnectTimeout:   set.ServerConnectTimeout * hosts,
		ParallelConnects: set.ServerParallelConnects,
		RescueTimeout:    rescueTimeout,
		LoginRetry:       retry,
		ServerIdle:       set.ServerIdleTimeout,
		ServerLifetime:   db.ServerLifetime.Or(set.ServerLifetime),
		CheckDelay:       set.ServerCheckDelay,
		Check:            set.ServerCheckQuery != "",
		Reset:            set.ServerResetQuery != "" && (pl.mode == ini.PoolSession || set.ServerResetQueryAlways),
		RoundRobin:       set.ServerRoundRobin,
		FillAlways:       pl.forced(),
	}
}

// forced tells that the pool's user is the database's, whoever the clients are.
func (pl *dbPool) forced() bool { return pl.db.User != "" && pl.db.User == pl.user }

// serverSecret is what servers are logged in to with: the database's own before that of
// auth_file, and that before what a client's login has brought.
func (pl *dbPool) serverSecret() (pgwire.Secret, pgwire.SCRAMKeys) {
	if pl.db.Password.Kind() != pgwire.SecretNone && (pl.forced() || pl.db.User == "") {
		return pl.db.Password, pgwire.SCRAMKeys{}
	}
	var creds *credentials
	if u := pl.account; u != nil && u.listed {
		creds = u.creds.Load()
	}
	if creds == nil || creds.secret.Kind() == pgwire.SecretNone {
		creds = pl.creds.Load()
	}
	if creds == nil {
		return pgwire.Secret{}, pgwire.SCRAMKeys{}
	}
	if !pl.forced() && creds.secret.Kind() == pgwire.SecretSCRAM {
		return creds.secret, creds.keys
	}
	return creds.secret, pgwire.SCRAMKeys{}
}

// takeCredentials keeps what a login has brought that auth_file does not have. The keys
// that open servers stay over a login that brings none, as long as the secret does.
func (pl *dbPool) takeCredentials(c *credentials) {
	if old := pl.creds.Load(); old != nil && c.keys.ClientKey == nil && old.secret.Equal(c.secret) {
		return
	}
	pl.creds.Store(c)
}

// startupParams are those of a server login.
func (pl *dbPool) startupParams() []pgwire.Param {
	db := pl.db
	params := []pgwire.Param{{Name: "user", Value: pl.user}, {Name: "database", Value: db.serverName()}}
	for _, f := range [...]pgwire.Param{
		{Name: "client_encoding", Value: db.ClientEncoding}, {Name: "datestyle", Value: db.DateStyle},
		{Name: "timezone", Value: db.TimeZone}, {Name: "application_name", Value: db.ApplicationName},
	} {
		if f.Value != "" {
			params = append(params, f)
		}
	}
	return params
}

// setReadsTags works out whether the tags of clients' commands are looked at.
func (pl *dbPool) setReadsTags() {
	allReported := pl.told == 1<<len(pl.w.tracked)-1
	pl.readsTags = pl.prepares || pl.mode != ini.PoolSession && (pl.w.set.SessionStateGuard != ini.LeakIgnore || !allReported)
}

// rememberWelcome keeps what the first server said for the clients to come.
func (pl *dbPool) rememberWelcome(s *server) {
	if pl.welcome != nil {
		return
	}
	pl.welcome = []byte{}
	pl.told = 0
	for _, param := range s.params {
		if i := pl.w.tracked.index(param.Name); i >= 0 {
			pl.told |= 1 << i
		} else {
			pl.welcome = pgwire.AppendParameterStatus(pl.welcome, param.Name, param.Value)
		}
	}
	pl.defaults = s.vars
	pl.setReadsTags()
}

// restart has every server replaced and the welcome asked for anew.
func (pl *dbPool) restart(reason string) {
	pl.welcome = nil
	pl.ForgetWelcome()
	pl.Reconnect(reason, pl.w.loop.Now())
}

// reconnect is restart at the pace of reconnect_rate.
func (pl *dbPool) reconnect() {
	const reason = "obsolete connection"
	rate := pl.w.set.ReconnectRate
	if rate == 0 {
		pl.restart(reason)
		return
	}
	pl.welcome = nil
	pl.ReconnectSlowly(reason, rate, pl.w.loop.Now())
}
