// From the configuration file to what the pooler runs on, at start and at RELOAD.

package pooler

import (
	"fmt"
	osuser "os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"goworkers/internal/pooler/ini"
	"goworkers/pgwire"
)

// settings are the settings in force, and what is worked out from them.
type settings struct {
	ini.Settings
	authMethod pgwire.AuthMethod
	authAny    bool
	unixGroup  int // -1: not set
	loopCount  int
	sockets    socketOptions
}

// newSettings works out settings; the error names what this version cannot do.
func newSettings(cfg *ini.Config) (*settings, error) {
	s := &settings{Settings: cfg.Settings, unixGroup: -1, loopCount: cfg.SbufLoopCnt}
	if s.loopCount == 0 {
		s.loopCount = 1 << 30
	}
	wrong := func(key, value, what string) error {
		return fmt.Errorf("%s: [pgbouncer] %s = %s: %s", cfg.Path, key, value, what)
	}
	switch cfg.AuthType {
	case ini.AuthAny:
		s.authAny = true
	case ini.AuthTrust:
		s.authMethod = pgwire.MethodTrust
	case ini.AuthPlain:
		s.authMethod = pgwire.MethodPlain
	case ini.AuthMD5:
		s.authMethod = pgwire.MethodMD5
	case ini.AuthSCRAM:
		s.authMethod = pgwire.MethodSCRAM
	default:
		return nil, wrong("auth_type", cfg.AuthType.String(), "this version knows any, trust, plain, md5 and scram-sha-256; use one of them")
	}
	if m := cfg.ClientTLS.SSLMode; m >= ini.SSLRequire {
		return nil, wrong("client_tls_sslmode", m.String(), "this version has no TLS, so every client would be refused; use disable")
	}
	if m := cfg.ServerTLS.SSLMode; m >= ini.SSLRequire {
		return nil, wrong("server_tls_sslmode", m.String(), "this version has no TLS; use disable or prefer, over a network that you trust")
	}
	if cfg.UnixSocketGroup != "" {
		g, err := osuser.LookupGroup(cfg.UnixSocketGroup)
		if err != nil {
			return nil, wrong("unix_socket_group", cfg.UnixSocketGroup, err.Error())
		}
		if s.unixGroup, err = strconv.Atoi(g.Gid); err != nil {
			return nil, wrong("unix_socket_group", cfg.UnixSocketGroup, err.Error())
		}
	}
	s.sockets = socketOptions{
		keepalive: cfg.TCPKeepalive, keepIdle: int(cfg.TCPKeepIdle / time.Second), keepIntvl: int(cfg.TCPKeepIntvl / time.Second),
		keepCount: cfg.TCPKeepCnt, userTimeout: cfg.TCPUserTimeout, buf: cfg.TCPSocketBuffer,
	}
	return s, nil
}

// ignores tells whether a startup parameter may be dropped.
func (s *settings) ignores(name string) bool {
	return slices.ContainsFunc(s.IgnoreStartupParameters, func(n string) bool { return strings.EqualFold(n, name) })
}

// apply puts a configuration in force, at start and at RELOAD.
func (p *Pooler) apply(cfg *ini.Config) (err error) {
	p.alone(func() { err = p.applyAlone(cfg) })
	return err
}

func (p *Pooler) applyAlone(cfg *ini.Config) error {
	set, err := newSettings(cfg)
	if err != nil {
		return err
	}
	p.cfg, p.set = cfg, set
	p.setVerbosity()
	p.loadUsers()
	for name, db := range p.databases {
		conf := cfg.Databases[name]
		if conf == nil && db.auto {
			conf = cfg.Databases[ini.AutoName]
		}
		if conf == nil {
			p.removeDatabase(db, "database removed")
			continue
		}
		old := db.Database
		db.Database = conf
		db.auto = db.auto && cfg.Databases[name] == nil
		db.group.Max = db.MaxDBConnections.Or(set.MaxDBConnections)
		changed := old.Host != conf.Host || old.Port != conf.Port || old.DBName != conf.DBName || old.User != conf.User ||
			old.ConnectQuery != conf.ConnectQuery || old.LoadBalanceHosts != conf.LoadBalanceHosts ||
			old.ClientEncoding != conf.ClientEncoding || old.DateStyle != conf.DateStyle || old.TimeZone != conf.TimeZone ||
			old.ApplicationName != conf.ApplicationName
		for _, pl := range db.pools {
			pl.configure()
			if changed {
				pl.restart("database configuration changed")
			}
		}
	}
	for name, conf := range cfg.Databases {
		if name != ini.AutoName && p.databases[name] == nil {
			p.addDatabase(name, conf)
		}
	}
	for _, w := range p.workers {
		w.manager.Sweep(p.now())
		w.run()
	}
	return nil
}

// loadUsers reads auth_file, if it has changed, and the section [users].
func (p *Pooler) loadUsers() {
	if p.set.AuthFile != p.authPath {
		p.authPath, p.authFile = p.set.AuthFile, ini.NewAuthFile(p.set.AuthFile)
	}
	if p.authPath != "" {
		secrets, changed, warnings, err := p.authFile.Load()
		if err != nil {
			p.log.Error(err.Error())
		}
		for _, w := range warnings {
			p.log.Warn(w.String())
		}
		if changed {
			for name, u := range p.users {
				if _, ok := secrets[name]; !ok {
					u.secret, u.verifier, u.keys = pgwire.Secret{}, nil, pgwire.SCRAMKeys{}
					u.listed = false
				}
			}
			for name, secret := range secrets {
				u := p.userNamed(name)
				if !u.secret.Equal(secret) {
					u.secret, u.verifier, u.keys = secret, nil, pgwire.SCRAMKeys{}
				}
				u.listed = true
			}
		}
	}
	for name := range p.cfg.Users {
		p.userNamed(name)
	}
	for name, u := range p.users {
		u.User = ini.User{}
		if conf := p.cfg.Users[name]; conf != nil {
			u.User = *conf
		}
		u.group.Max = u.MaxUserConnections.Or(p.set.MaxUserConnections)
	}
}

// removeDatabase drops a database with its clients.
func (p *Pooler) removeDatabase(db *database, reason string) {
	p.alone(func() {
		db.dead = true
		delete(p.databases, db.name)
		for _, pl := range db.pools {
			pl.Kill(reason, p.now())
			p.dying = append(p.dying, pl)
		}
		p.carryOutAll()
	})
}

// reload reads the configuration file again. What is wrong with it is logged, and
// what could be read is put in force.
func (p *Pooler) reload() error {
	p.log.Info("reading configuration again")
	p.reopenLog()
	cfg, warnings, err := p.cfg.Reload()
	for _, w := range warnings {
		p.log.Warn(w.String())
	}
	if err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			p.log.Error(line)
		}
	}
	if e := p.apply(cfg); e != nil {
		p.log.Error(e.Error())
		err = e
	}
	return err
}
