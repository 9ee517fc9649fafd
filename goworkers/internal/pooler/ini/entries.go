package ini

// The entries of [databases], [users] and [peers], and what wins when several of them
// and the global settings speak of the same thing.

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"goworkers/pgwire"
)

const (
	// ConsoleName is the database that is the pooler's own console.
	ConsoleName = "pgbouncer"

	// AutoName is the entry that serves every database without one of its own.
	AutoName = "*"

	maxPeerID   = 16383 // 14 bits in our cancel keys
	maxNameSize = 127
)

// Database is an entry of [databases].
type Database struct {
	Name string // AutoName for the template
	File string
	Line int

	DBName                 string   // empty in the template: the name that was asked for
	Host                   string   // as written
	Hosts                  []string // none: unix socket in unix_socket_dir
	Port                   int
	User                   string // not empty: every server login is as this user
	Password               pgwire.Secret
	AuthUser               string
	AuthQuery              string
	AuthDBName             string
	ClientEncoding         string
	DateStyle              string
	TimeZone               string
	ApplicationName        string
	ConnectQuery           string
	PoolMode               Opt[PoolMode]
	PoolSize               Opt[int]
	MinPoolSize            Opt[int]
	ReservePoolSize        Opt[int]
	MaxDBConnections       Opt[int]
	MaxDBClientConnections Opt[int]
	ServerLifetime         Opt[time.Duration]
	QueryWaitTimeout       Opt[time.Duration]
	LoadBalanceHosts       Opt[Balance]
	TargetSessionAttrs     SessionAttrs
}

// User is an entry of [users].
type User struct {
	Name string
	File string
	Line int

	PoolMode                 Opt[PoolMode]
	PoolSize                 Opt[int]
	ReservePoolSize          Opt[int]
	MaxUserConnections       Opt[int]
	MaxUserClientConnections Opt[int]
	QueryTimeout             Opt[time.Duration]
	QueryWaitTimeout         Opt[time.Duration]
	IdleTransactionTimeout   Opt[time.Duration]
	TransactionTimeout       Opt[time.Duration]
	ClientIdleTimeout        Opt[time.Duration]
}

// Peer is an entry of [peers].
type Peer struct {
	ID   int
	File string
	Line int

	Host     string
	Port     int
	PoolSize Opt[int]
}

// key describes a key of a connection string in a section whose entries are T.
type key[T any] struct {
	name   string
	doc    string
	bounds bounds
	at     func(*T) any
}

var databaseKeys = []key[Database]{
	{name: "dbname", at: func(d *Database) any { return &d.DBName }, doc: "name on the server; default is the entry's"},
	{name: "host", at: func(d *Database) any { return &d.Host }, doc: "name, address, /folder or @abstract of the server, or several parted by commas; default is unix_socket_dir"},
	{name: "port", at: func(d *Database) any { return &d.Port }, bounds: bounds{1, maxPort}, doc: "port of the server (5432)"},
	{name: "user", at: func(d *Database) any { return &d.User }, doc: "log in to the server as this user, whoever the client is"},
	{name: "password", at: func(d *Database) any { return &d.Password }, doc: "secret for the server; default is the one in auth_file"},
	{name: "auth_user", at: func(d *Database) any { return &d.AuthUser }, doc: "as the setting"},
	{name: "auth_query", at: func(d *Database) any { return &d.AuthQuery }, doc: "as the setting"},
	{name: "auth_dbname", at: func(d *Database) any { return &d.AuthDBName }, doc: "as the setting"},
	{name: "client_encoding", at: func(d *Database) any { return &d.ClientEncoding }, doc: "sent to the server at login"},
	{name: "datestyle", at: func(d *Database) any { return &d.DateStyle }, doc: "sent to the server at login"},
	{name: "timezone", at: func(d *Database) any { return &d.TimeZone }, doc: "sent to the server at login"},
	{name: "application_name", at: func(d *Database) any { return &d.ApplicationName }, doc: "sent to the server at login"},
	{name: "connect_query", at: func(d *Database) any { return &d.ConnectQuery }, doc: "query that each new server connection runs once"},
	{name: "pool_mode", at: func(d *Database) any { return &d.PoolMode }, doc: "as the setting"},
	{name: "pool_size", at: func(d *Database) any { return &d.PoolSize }, doc: "as default_pool_size"},
	{name: "min_pool_size", at: func(d *Database) any { return &d.MinPoolSize }, doc: "as the setting"},
	{name: "reserve_pool_size", at: func(d *Database) any { return &d.ReservePoolSize }, doc: "as the setting (also reserve_pool)"},
	{name: "max_db_connections", at: func(d *Database) any { return &d.MaxDBConnections }, doc: "as the setting"},
	{name: "max_db_client_connections", at: func(d *Database) any { return &d.MaxDBClientConnections }, doc: "as the setting"},
	{name: "server_lifetime", at: func(d *Database) any { return &d.ServerLifetime }, doc: "as the setting"},
	{name: "query_wait_timeout", at: func(d *Database) any { return &d.QueryWaitTimeout }, doc: "as the setting"},
	{name: "load_balance_hosts", at: func(d *Database) any { return &d.LoadBalanceHosts }, doc: "round-robin, or disable: stay with a host until it fails"},
	{name: "target_session_attrs", at: func(d *Database) any { return &d.TargetSessionAttrs }, doc: "which of several hosts will do: any, read-write, read-only, primary, standby, prefer-standby (PgBouncer has no such key)"},
}

var userKeys = []key[User]{
	{name: "pool_mode", at: func(u *User) any { return &u.PoolMode }, doc: "as the setting"},
	{name: "pool_size", at: func(u *User) any { return &u.PoolSize }, doc: "as default_pool_size"},
	{name: "reserve_pool_size", at: func(u *User) any { return &u.ReservePoolSize }, doc: "as the setting"},
	{name: "max_user_connections", at: func(u *User) any { return &u.MaxUserConnections }, doc: "as the setting"},
	{name: "max_user_client_connections", at: func(u *User) any { return &u.MaxUserClientConnections }, doc: "as the setting"},
	{name: "query_timeout", at: func(u *User) any { return &u.QueryTimeout }, doc: "as the setting"},
	{name: "query_wait_timeout", at: func(u *User) any { return &u.QueryWaitTimeout }, doc: "as the setting"},
	{name: "idle_transaction_timeout", at: func(u *User) any { return &u.IdleTransactionTimeout }, doc: "as the setting"},
	{name: "transaction_timeout", at: func(u *User) any { return &u.TransactionTimeout }, doc: "as the setting"},
	{name: "client_idle_timeout", at: func(u *User) any { return &u.ClientIdleTimeout }, doc: "as the setting"},
}

var peerKeys = []key[Peer]{
	{name: "host", at: func(p *Peer) any { return &p.Host }, doc: "name, address, /folder or @abstract of the other pooler"},
	{name: "port", at: func(p *Peer) any { return &p.Port }, bounds: bounds{1, maxPort}, doc: "its port (6432)"},
	{name: "pool_size", at: func(p *Peer) any { return &p.PoolSize }, doc: "connections to it at most; default is default_pool_size"},
}

// keyAliases are other names of keys in connection strings.
var keyAliases = map[string]string{"reserve_pool": "reserve_pool_size"}

// fill reads a connection string into an entry.
func fill[T any](c *Config, e entry, keys []key[T], into *T) {
	fail := func(value, what, fix string) {
		c.errs = append(c.errs, &Error{e.file, e.line, e.section, e.key, value, what, fix})
	}
	var seen []string
	what, fix := splitConnString(e.value, func(name, value string) {
		if real, ok := keyAliases[name]; ok {
			name = real
		}
		i := slices.IndexFunc(keys, func(k key[T]) bool { return k.name == name })
		if i < 0 {
			var names []string
			for _, k := range keys {
				names = append(names, k.name)
			}
			fail("", "unknown key "+shown(name), unknownFix(name, names))
			return
		}
		if slices.Contains(seen, name) {
			c.warn(e.place, e.section, e.key, "key "+name+" stands twice; the last one counts")
		}
		seen = append(seen, name)
		at := keys[i].at(into)
		said := name + "=" + value
		if _, secret := at.(*pgwire.Secret); secret {
			said = name + "=..."
		}
		if p := assign(at, value, keys[i].bounds); p != nil {
			fail(said, p.what, p.fix)
			return
		}
	})
	if what != "" {
		fail("", what, fix)
	}
}

func unknownFix(name string, known []string) string {
	if n := nearest(name, known); n != "" {
		return "did you mean " + n + "?"
	}
	slices.Sort(known)
	return "known are " + strings.Join(known, ", ")
}

// checkName tells what is wrong with the name of a database or user.
func checkName(name string) *problem {
	if name == "" || len(name) > maxNameSize {
		return &problem{fmt.Sprintf("name of %d bytes", len(name)), fmt.Sprintf("use 1 to %d", maxNameSize)}
	}
	return nil
}

// Target is the name on the server for a client that asked for requested.
func (d *Database) Target(requested string) string {
	if d.DBName == "" {
		return requested
	}
	return d.DBName
}

// Pool sizes and times for a database and a user, where both may be nil: the user's
// value wins over the database's, and that over the global one.

// PoolModeOf is the mode of a pool.
func (c *Config) PoolModeOf(d *Database, u *User) PoolMode {
	return pick(d, u, func(d *Database) Opt[PoolMode] { return d.PoolMode },
		func(u *User) Opt[PoolMode] { return u.PoolMode }, c.PoolMode)
}

// PoolSizeOf is the size of a pool; 0 is unlimited.
func (c *Config) PoolSizeOf(d *Database, u *User) int {
	return pick(d, u, func(d *Database) Opt[int] { return d.PoolSize },
		func(u *User) Opt[int] { return u.PoolSize }, c.DefaultPoolSize)
}

// ReservePoolSizeOf is the reserve of a pool.
func (c *Config) ReservePoolSizeOf(d *Database, u *User) int {
	return pick(d, u, func(d *Database) Opt[int] { return d.ReservePoolSize },
		func(u *User) Opt[int] { return u.ReservePoolSize }, c.ReservePoolSize)
}

// QueryWaitTimeoutOf is how long a client of the pool waits; 0 is for ever.
func (c *Config) QueryWaitTimeoutOf(d *Database, u *User) time.Duration {
	return pick(d, u, func(d *Database) Opt[time.Duration] { return d.QueryWaitTimeout },
		func(u *User) Opt[time.Duration] { return u.QueryWaitTimeout }, c.QueryWaitTimeout)
}

func pick[T any](d *Database, u *User, ofDB func(*Database) Opt[T], ofUser func(*User) Opt[T], global T) T {
	if d != nil {
		global = ofDB(d).Or(global)
	}
	if u != nil {
		global = ofUser(u).Or(global)
	}
	return global
}
