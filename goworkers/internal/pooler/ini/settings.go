package ini

// The settings of [pgbouncer] as the pooler uses them. Each field's meaning, default
// and bounds stand in table.go.

import (
	"os"
	"time"
)

// Settings is the section [pgbouncer]. Lists are parted by commas in the file.
type Settings struct {
	// Where clients come in.
	ListenAddr      []string // "*" is every address; none: unix socket only
	ListenPort      int
	UnixSocketDir   string // "@" prefix: abstract; empty: no unix socket
	UnixSocketMode  os.FileMode
	UnixSocketGroup string

	// Who may come in.
	AuthType        AuthType
	AuthFile        string
	AuthUser        string
	AuthQuery       string
	AuthDBName      string
	AuthHBAFile     string
	AuthIdentFile   string
	AuthLDAP        string
	AdminUsers      []string
	StatsUsers      []string
	ScramIterations int

	// Pools and limits; 0 means unlimited.
	PoolMode                 PoolMode
	MaxClientConn            int
	DefaultPoolSize          int
	MinPoolSize              int
	ReservePoolSize          int
	ReservePoolTimeout       time.Duration
	MaxDBConnections         int
	MaxDBClientConnections   int
	MaxUserConnections       int
	MaxUserClientConnections int

	// The process.
	LogFile           string
	PidFile           string
	User              string
	JobName           string
	ConfFile          string
	LogConnections    bool
	LogDisconnections bool
	LogPoolerErrors   bool
	LogStats          bool
	StatsPeriod       time.Duration
	Verbose           int
	Syslog            bool
	SyslogIdent       string
	SyslogFacility    string
	MetricsListen     string // ours, as are the next two: PgBouncer has no such settings
	LogFormat         LogFormat
	Threads           int

	// Server connections.
	ServerResetQuery       string
	ServerResetQueryAlways bool
	ServerCheckQuery       string // "<empty>": an empty query; "": no check
	ServerCheckDelay       time.Duration
	ServerLifetime         time.Duration
	ServerIdleTimeout      time.Duration
	ServerConnectTimeout   time.Duration
	ServerLoginRetry       time.Duration
	ServerFastClose        bool
	ServerRoundRobin       bool

	// Server connections, beyond PgBouncer.
	ServerParallelConnects int
	RescueTransactions     bool
	SessionStateGuard      LeakGuard
	ReconnectRate          int // servers of a pool in a second; 0: all at once

	// How long things may take; 0 means for ever.
	QueryWaitTimeout       time.Duration
	QueryTimeout           time.Duration
	TransactionTimeout     time.Duration
	IdleTransactionTimeout time.Duration
	ClientIdleTimeout      time.Duration
	ClientLoginTimeout     time.Duration
	CancelWaitTimeout      time.Duration
	SuspendTimeout         time.Duration
	AutoDBIdleTimeout      time.Duration
	PoolIdleTimeout        time.Duration
	QueryWaitNotify        time.Duration

	// The protocol.
	MaxPreparedStatements   int
	TrackExtraParameters    []string
	IgnoreStartupParameters []string
	ApplicationNameAddHost  bool
	DisablePQExec           bool
	MaxPacketSize           int
	PktBuf                  int
	SbufLoopCnt             int
	LoginNotifyMessage      string

	// TLS.
	ClientTLS          TLS
	ClientTLSECDHCurve string
	ClientTLSDHEParams string
	ServerTLS          TLS
	ServerTLS13Ciphers string
	ClientTLS13Ciphers string

	// Names of hosts.
	DNSMaxTTL          time.Duration
	DNSNXDomainTTL     time.Duration
	DNSZoneCheckPeriod time.Duration
	ResolvConf         string

	// Sockets and peers.
	ListenBacklog   int
	SoReusePort     bool
	TCPDeferAccept  int
	TCPKeepalive    bool
	TCPKeepIdle     time.Duration
	TCPKeepIntvl    time.Duration
	TCPKeepCnt      int
	TCPUserTimeout  int // milliseconds
	TCPSocketBuffer int
	PeerID          int
}

// TLS is what both sides of the pooler have alike.
type TLS struct {
	SSLMode   SSLMode
	KeyFile   string
	CertFile  string
	CAFile    string
	Protocols string
	Ciphers   string
}
