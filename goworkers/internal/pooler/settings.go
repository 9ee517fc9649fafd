// From the configuration file to what the pooler runs on, at start and at RELOAD.

package pooler

import (
	"errors"
	"fmt"
	osuser "os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"goworkers/internal/pooler/dns"
	"goworkers/internal/pooler/hba"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/ldap"
	"goworkers/internal/pooler/systemd"
	"goworkers/internal/pooler/tlsconn"
	"goworkers/pgwire"
)

// settings are the settings in force, and what is worked out from them.
type settings struct {
	ini.Settings
	inForce   bool // at start they are not yet
	unixGroup int  // -1: not set
	loopCount int
	sockets   socketOptions
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
	if cfg.AuthType == ini.AuthPAM {
		return nil, wrong("auth_type", "pam", "PAM runs other people's C libraries in the process, which this pooler does not; use ldap, or hba")
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

// ignores tells whether a startup parameter is dropped. Case counts.
func (s *settings) ignores(name string) bool { return slices.Contains(s.IgnoreStartupParameters, name) }

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
	if err := p.loadRules(cfg); err != nil {
		return err
	}
	tlsChanged, tlsErr := p.loadTLS(cfg)
	if tlsErr != nil && !p.set.inForce {
		return tlsErr
	}
	set.Settings, set.inForce = cfg.Settings, true
	p.cfg, p.set = cfg, set
	p.configureLog()
	p.dns.Configure(dnsSettings(cfg))
	for _, l := range p.listeners {
		l.configure()
	}
	p.loadUsers()
	for name, db := range p.databases {
		conf := cfg.Databases[name]
		if conf == nil && db.auto {
			conf = cfg.Databases[ini.AutoName]
		}
		if conf == nil {
			p.removeDatabase(db, toldKilled)
			continue
		}
		old := db.Database
		db.Database = conf
		db.auto = db.auto && cfg.Databases[name] == nil
		db.group.SetMax(db.MaxDBConnections.Or(set.MaxDBConnections))
		changed := old.Host != conf.Host || old.Port != conf.Port || old.DBName != conf.DBName || old.User != conf.User ||
			old.ConnectQuery != conf.ConnectQuery || old.LoadBalanceHosts != conf.LoadBalanceHosts ||
			old.ClientEncoding != conf.ClientEncoding || old.DateStyle != conf.DateStyle || old.TimeZone != conf.TimeZone ||
			old.ApplicationName != conf.ApplicationName || old.AuthDBName != conf.AuthDBName || old.AuthQuery != conf.AuthQuery ||
			old.TargetSessionAttrs != conf.TargetSessionAttrs
		for _, pl := range db.pools {
			pl.configure()
			if tlsChanged {
				pl.restart("TLS configuration changed")
			}
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
	p.applyPeers()
	for _, w := range p.workers {
		w.manager.Sweep(p.now())
		w.run()
	}
	return tlsErr
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
					u.creds.Store(&credentials{})
					u.listed = false
				}
			}
			for name, secret := range secrets {
				u := p.userNamed(name)
				if !u.creds.Load().secret.Equal(secret) {
					u.creds.Store(&credentials{secret: secret})
				}
				u.listed = true
			}
			p.mockSCRAM = mostlySCRAM(secrets)
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
		u.group.SetMax(u.MaxUserConnections.Or(p.set.MaxUserConnections))
	}
}

// mostlySCRAM tells how an unknown user is best asked, so as not to stand out: as most of
// the others are.
func mostlySCRAM(secrets map[string]pgwire.Secret) bool {
	balance := 0
	for _, s := range secrets {
		switch s.Kind() {
		case pgwire.SecretSCRAM:
			balance++
		case pgwire.SecretMD5, pgwire.SecretPlain:
			balance--
		}
	}
	return balance > 0
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
	p.tell(systemd.Reloading())
	defer p.tell(systemd.Ready)
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
		for _, line := range strings.Split(e.Error(), "\n") {
			p.log.Error(line)
		}
		err = e
	}
	return err
}

// loadRules reads the files that say who may log in how.
func (p *Pooler) loadRules(cfg *ini.Config) error {
	rules, maps := &hba.Rules{}, &hba.IdentMaps{}
	var warnings []ini.Warning
	if cfg.AuthHBAFile != "" && cfg.AuthType == ini.AuthHBA {
		r, w, err := hba.Load(cfg.AuthHBAFile)
		if err != nil {
			return err
		}
		rules, warnings = r, append(warnings, w...)
	}
	if cfg.AuthIdentFile != "" {
		m, w, err := hba.LoadIdent(cfg.AuthIdentFile)
		if err != nil {
			return err
		}
		maps, warnings = m, append(warnings, w...)
	}
	for _, w := range warnings {
		p.log.Warn(w.String())
	}
	if cfg.AuthType == ini.AuthLDAP {
		options, err := ldap.Parse(cfg.AuthLDAP)
		if err != nil {
			return fmt.Errorf("%s: [pgbouncer] auth_ldap_options: %w", cfg.Path, err)
		}
		p.ldapOptions = options
	}
	p.hbaRules, p.identMaps = rules, maps
	return nil
}

// loadTLS reads certificates and keys. It tells whether connections to servers that
// were made before are to be replaced. The error tells of a side that cannot be set up;
// that stays as it is, also in cfg.
func (p *Pooler) loadTLS(cfg *ini.Config) (changed bool, err error) {
	failed := func(e error) {
		err = errors.Join(err, fmt.Errorf("TLS setup failed: %s: [pgbouncer] %w", cfg.Path, e))
	}
	was := &p.set.Settings
	clients, w1, e := tlsconn.ForClients(&cfg.Settings)
	if e != nil {
		failed(e)
		clients = p.clientTLS
		cfg.ClientTLS, cfg.ClientTLS13Ciphers = was.ClientTLS, was.ClientTLS13Ciphers
		cfg.ClientTLSECDHCurve, cfg.ClientTLSDHEParams = was.ClientTLSECDHCurve, was.ClientTLSDHEParams
	}
	servers, w2, e := tlsconn.ForServers(&cfg.Settings)
	if e != nil {
		failed(e)
		servers = p.serverTLS
		cfg.ServerTLS, cfg.ServerTLS13Ciphers = was.ServerTLS, was.ServerTLS13Ciphers
	}
	for _, w := range append(w1, w2...) {
		p.log.Warn(cfg.Path + ": [pgbouncer] " + w)
	}
	if (clients != nil || servers != nil) && p.handshaker == nil {
		h, e := tlsconn.NewHandshaker(max(1, runtime.GOMAXPROCS(0)-1))
		if e != nil {
			return false, e
		}
		p.handshaker = h
	}
	changed = !tlsconn.Equal(p.serverTLS, servers)
	p.clientTLS, p.serverTLS = clients, servers
	return changed, err
}

func dnsSettings(cfg *ini.Config) dns.Settings {
	return dns.Settings{MaxTTL: cfg.DNSMaxTTL, FailureTTL: cfg.DNSNXDomainTTL, ZoneCheckPeriod: cfg.DNSZoneCheckPeriod}
}
