package ini

// The table of settings, and those of the keys in connection strings: what the parser,
// SHOW CONFIG, SET and the sample are made from.

import (
	"maps"
	"slices"
	"strings"

	"goworkers/pgwire"
)

// Setting describes one setting of [pgbouncer].
type Setting struct {
	Name       string
	Default    string
	Reloadable bool   // SET and RELOAD change it; else it needs a restart
	Group      string // heading in the sample
	Doc        string // one line

	bounds bounds
	secret bool
	at     func(*Settings) any
}

const authQueryDefault = "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END " +
	"FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin"

const maxPort = 65535

// groups of settings, in the order of the sample.
const (
	groupListen  = "Where clients come in"
	groupAuth    = "Who may come in"
	groupPool    = "Pools and limits (0: unlimited)"
	groupProcess = "Process and log"
	groupServer  = "Server connections"
	groupTime    = "Timeouts in seconds (0: none)"
	groupProto   = "Protocol"
	groupTLS     = "TLS"
	groupDNS     = "Names of hosts"
	groupSocket  = "Sockets and peers"
)

var table = byName()

// AllSettings returns the table, sorted by name.
func AllSettings() []Setting {
	return slices.SortedFunc(maps.Values(table), func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
}

// aliases are other names of settings.
var aliases = map[string]string{"service_name": "job_name"}

func lookup(name string) (Setting, bool) {
	if real, ok := aliases[name]; ok {
		name = real
	}
	s, ok := table[name]
	return s, ok
}

func byName() map[string]Setting {
	t := make(map[string]Setting, len(rows))
	for _, s := range rows {
		t[s.Name] = s
	}
	return t
}

func mark(rows []Setting) []Setting {
	for i := range rows {
		s := &rows[i]
		s.Reloadable = !slices.Contains(fixed, s.Name)
	}
	return rows
}

// fixed are the settings that only a restart changes.
var fixed = []string{
	"disable_pqexec", "job_name", "listen_addr", "listen_backlog", "listen_port", "metrics_listen", "pidfile", "pkt_buf",
	"resolv_conf", "so_reuseport", "threads", "track_extra_parameters", "unix_socket_dir", "unix_socket_group",
	"unix_socket_mode", "user",
}

// rows is the table, in the order of the sample.
var rows = mark([]Setting{
	{Group: groupListen, Name: "listen_addr", at: func(s *Settings) any { return &s.ListenAddr },
		Doc: "addresses to listen on, parted by commas; * is all, empty is the unix socket only"},
	{Group: groupListen, Name: "listen_port", Default: "6432", bounds: bounds{1, maxPort}, at: func(s *Settings) any { return &s.ListenPort },
		Doc: "port of all addresses and of the unix socket's name"},
	{Group: groupListen, Name: "unix_socket_dir", Default: "/tmp", at: func(s *Settings) any { return &s.UnixSocketDir },
		Doc: "folder of the unix socket; @NAME is abstract, empty is none; servers without host are looked for there"},
	{Group: groupListen, Name: "unix_socket_mode", Default: "0777", at: func(s *Settings) any { return &s.UnixSocketMode },
		Doc: "file mode of the unix socket"},
	{Group: groupListen, Name: "unix_socket_group", at: func(s *Settings) any { return &s.UnixSocketGroup },
		Doc: "group of the unix socket"},

	{Group: groupAuth, Name: "auth_type", Default: "md5", at: func(s *Settings) any { return &s.AuthType },
		Doc: "how clients prove who they are: any, trust, plain, md5, scram-sha-256, cert, hba, ldap"},
	{Group: groupAuth, Name: "auth_file", at: func(s *Settings) any { return &s.AuthFile },
		Doc: "file of \"user\" \"secret\" lines"},
	{Group: groupAuth, Name: "auth_user", at: func(s *Settings) any { return &s.AuthUser },
		Doc: "user who asks the server for the secrets of users that auth_file does not have"},
	{Group: groupAuth, Name: "auth_query", Default: authQueryDefault, at: func(s *Settings) any { return &s.AuthQuery },
		Doc: "query that gives name and secret of user $1"},
	{Group: groupAuth, Name: "auth_dbname", at: func(s *Settings) any { return &s.AuthDBName },
		Doc: "database in which auth_query runs; empty is the client's"},
	{Group: groupAuth, Name: "auth_hba_file", at: func(s *Settings) any { return &s.AuthHBAFile },
		Doc: "file in the format of pg_hba.conf, for auth_type = hba"},
	{Group: groupAuth, Name: "auth_ident_file", at: func(s *Settings) any { return &s.AuthIdentFile },
		Doc: "file in the format of pg_ident.conf, for map= in auth_hba_file"},
	{Group: groupAuth, Name: "auth_ldap_options", secret: true, at: func(s *Settings) any { return &s.AuthLDAP },
		Doc: "options of auth_type = ldap"},
	{Group: groupAuth, Name: "admin_users", at: func(s *Settings) any { return &s.AdminUsers },
		Doc: "users who may do all on the console"},
	{Group: groupAuth, Name: "stats_users", at: func(s *Settings) any { return &s.StatsUsers },
		Doc: "users who may SHOW on the console"},
	{Group: groupAuth, Name: "scram_iterations", Default: "4096", bounds: bounds{1, pgwire.MaxIterations}, at: func(s *Settings) any { return &s.ScramIterations },
		Doc: "iterations when a SCRAM secret is derived from a plain one"},

	{Group: groupPool, Name: "pool_mode", Default: "session", at: func(s *Settings) any { return &s.PoolMode },
		Doc: "when a server is free again: session, transaction, statement"},
	{Group: groupPool, Name: "max_client_conn", Default: "100", at: func(s *Settings) any { return &s.MaxClientConn },
		Doc: "client connections in all"},
	{Group: groupPool, Name: "default_pool_size", Default: "20", at: func(s *Settings) any { return &s.DefaultPoolSize },
		Doc: "server connections of one database and user"},
	{Group: groupPool, Name: "min_pool_size", Default: "0", at: func(s *Settings) any { return &s.MinPoolSize },
		Doc: "server connections that are kept even when idle"},
	{Group: groupPool, Name: "reserve_pool_size", Default: "0", at: func(s *Settings) any { return &s.ReservePoolSize },
		Doc: "further server connections when clients wait long"},
	{Group: groupPool, Name: "reserve_pool_timeout", Default: "5", at: func(s *Settings) any { return &s.ReservePoolTimeout },
		Doc: "how long a client waits before the reserve is used"},
	{Group: groupPool, Name: "max_db_connections", Default: "0", at: func(s *Settings) any { return &s.MaxDBConnections },
		Doc: "server connections of one database, whatever the user"},
	{Group: groupPool, Name: "max_db_client_connections", Default: "0", at: func(s *Settings) any { return &s.MaxDBClientConnections },
		Doc: "client connections of one database"},
	{Group: groupPool, Name: "max_user_connections", Default: "0", at: func(s *Settings) any { return &s.MaxUserConnections },
		Doc: "server connections of one user, whatever the database"},
	{Group: groupPool, Name: "max_user_client_connections", Default: "0", at: func(s *Settings) any { return &s.MaxUserClientConnections },
		Doc: "client connections of one user"},

	{Group: groupProcess, Name: "logfile", at: func(s *Settings) any { return &s.LogFile },
		Doc: "file of the log"},
	{Group: groupProcess, Name: "pidfile", at: func(s *Settings) any { return &s.PidFile },
		Doc: "file of the process id; -d needs it"},
	{Group: groupProcess, Name: "user", at: func(s *Settings) any { return &s.User },
		Doc: "system user to become when started as root"},
	{Group: groupProcess, Name: "job_name", Default: "pgbouncer", at: func(s *Settings) any { return &s.JobName },
		Doc: "name of this service (also service_name)"},
	{Group: groupProcess, Name: "conffile", at: func(s *Settings) any { return &s.ConfFile },
		Doc: "file that the next RELOAD reads; default is the one on the command line"},
	{Group: groupProcess, Name: "log_connections", Default: "1", at: func(s *Settings) any { return &s.LogConnections },
		Doc: "log logins"},
	{Group: groupProcess, Name: "log_disconnections", Default: "1", at: func(s *Settings) any { return &s.LogDisconnections },
		Doc: "log disconnections with their reason"},
	{Group: groupProcess, Name: "log_pooler_errors", Default: "1", at: func(s *Settings) any { return &s.LogPoolerErrors },
		Doc: "log errors that are sent to clients"},
	{Group: groupProcess, Name: "log_stats", Default: "1", at: func(s *Settings) any { return &s.LogStats },
		Doc: "log statistics each stats_period"},
	{Group: groupProcess, Name: "stats_period", Default: "60", at: func(s *Settings) any { return &s.StatsPeriod },
		Doc: "seconds over which averages are taken"},
	{Group: groupProcess, Name: "verbose", Default: "0", bounds: bounds{0, 10}, at: func(s *Settings) any { return &s.Verbose },
		Doc: "log more, as -v does"},
	{Group: groupProcess, Name: "syslog", Default: "0", at: func(s *Settings) any { return &s.Syslog },
		Doc: "log to syslog too"},
	{Group: groupProcess, Name: "syslog_ident", Default: "pgbouncer", at: func(s *Settings) any { return &s.SyslogIdent },
		Doc: "name in syslog"},
	{Group: groupProcess, Name: "syslog_facility", Default: "daemon", at: func(s *Settings) any { return &s.SyslogFacility },
		Doc: "facility in syslog"},
	{Group: groupProcess, Name: "metrics_listen", at: func(s *Settings) any { return &s.MetricsListen },
		Doc: "HOST:PORT on which /metrics is served for Prometheus; empty is not (PgBouncer has no such setting)"},

	{Group: groupProcess, Name: "log_format", Default: "text", at: func(s *Settings) any { return &s.LogFormat },
		Doc: "lines of the log: text, as PgBouncer writes them, or json (PgBouncer has no such setting)"},
	{Group: groupProcess, Name: "threads", Default: "1", bounds: bounds{1, 256}, at: func(s *Settings) any { return &s.Threads },
		Doc: "event loops; each pool belongs to one of them (PgBouncer has no such setting)"},

	{Group: groupServer, Name: "server_reset_query", Default: "DISCARD ALL", at: func(s *Settings) any { return &s.ServerResetQuery },
		Doc: "query that clears a session before another client gets it, in session mode"},
	{Group: groupServer, Name: "server_reset_query_always", Default: "0", at: func(s *Settings) any { return &s.ServerResetQueryAlways },
		Doc: "run server_reset_query in every mode"},
	{Group: groupServer, Name: "server_check_query", Default: "<empty>", at: func(s *Settings) any { return &s.ServerCheckQuery },
		Doc: "query that tells whether an idle server lives; <empty> is the empty query, nothing is no check"},
	{Group: groupServer, Name: "server_check_delay", Default: "30", at: func(s *Settings) any { return &s.ServerCheckDelay },
		Doc: "how long a server may be idle without a check"},
	{Group: groupServer, Name: "server_lifetime", Default: "3600", at: func(s *Settings) any { return &s.ServerLifetime },
		Doc: "an unused server older than this is closed; 0 is after one use"},
	{Group: groupServer, Name: "server_idle_timeout", Default: "600", at: func(s *Settings) any { return &s.ServerIdleTimeout },
		Doc: "a server idle longer than this is closed"},
	{Group: groupServer, Name: "server_connect_timeout", Default: "15", at: func(s *Settings) any { return &s.ServerConnectTimeout },
		Doc: "how long connecting and logging in may take"},
	{Group: groupServer, Name: "server_login_retry", Default: "15", at: func(s *Settings) any { return &s.ServerLoginRetry },
		Doc: "how long to wait after a failed connect or login; clients wait meanwhile, unless a server refuses logins"},
	{Group: groupServer, Name: "server_fast_close", Default: "0", at: func(s *Settings) any { return &s.ServerFastClose },
		Doc: "close servers that are to be closed at the end of a transaction even in session mode"},
	{Group: groupServer, Name: "server_round_robin", Default: "0", at: func(s *Settings) any { return &s.ServerRoundRobin },
		Doc: "use idle servers in turn; 0 is the last used first"},
	{Group: groupServer, Name: "server_parallel_connects", Default: "4", bounds: bounds{1, 1000}, at: func(s *Settings) any { return &s.ServerParallelConnects },
		Doc: "servers of one pool that may log in at a time once one has; 1 is as PgBouncer (which has no such setting)"},
	{Group: groupServer, Name: "rescue_transactions", Default: "1", at: func(s *Settings) any { return &s.RescueTransactions },
		Doc: "end the transaction of a client that has vanished (cancel, ROLLBACK) and keep its server; 0 closes the server, as PgBouncer (which has no such setting)"},
	{Group: groupServer, Name: "session_state_guard", Default: "log", at: func(s *Settings) any { return &s.SessionStateGuard },
		Doc: "when a client of a transaction pool leaves SET, LISTEN, PREPARE, LOAD or a cursor WITH HOLD behind, as tags of commands tell it (they tell nothing of temporary tables, nor of functions): ignore, log, reset, close (PgBouncer has no such setting)"},
	{Group: groupServer, Name: "reconnect_rate", Default: "0", at: func(s *Settings) any { return &s.ReconnectRate },
		Doc: "servers of a pool that RECONNECT replaces in a second; 0 is all at once (PgBouncer has no such setting)"},

	{Group: groupTime, Name: "query_wait_timeout", Default: "120", at: func(s *Settings) any { return &s.QueryWaitTimeout },
		Doc: "how long a client waits for a server"},
	{Group: groupTime, Name: "query_timeout", Default: "0", at: func(s *Settings) any { return &s.QueryTimeout },
		Doc: "how long a query may take"},
	{Group: groupTime, Name: "transaction_timeout", Default: "0", at: func(s *Settings) any { return &s.TransactionTimeout },
		Doc: "how long a transaction may take"},
	{Group: groupTime, Name: "idle_transaction_timeout", Default: "0", at: func(s *Settings) any { return &s.IdleTransactionTimeout },
		Doc: "how long a client may do nothing within a transaction"},
	{Group: groupTime, Name: "client_idle_timeout", Default: "0", at: func(s *Settings) any { return &s.ClientIdleTimeout },
		Doc: "how long a client may do nothing"},
	{Group: groupTime, Name: "client_login_timeout", Default: "60", at: func(s *Settings) any { return &s.ClientLoginTimeout },
		Doc: "how long a client's login may take"},
	{Group: groupTime, Name: "cancel_wait_timeout", Default: "10", at: func(s *Settings) any { return &s.CancelWaitTimeout },
		Doc: "how long a cancel request waits for a server connection"},
	{Group: groupTime, Name: "suspend_timeout", Default: "10", at: func(s *Settings) any { return &s.SuspendTimeout },
		Doc: "how long SUSPEND waits for buffers to empty"},
	{Group: groupTime, Name: "autodb_idle_timeout", Default: "3600", at: func(s *Settings) any { return &s.AutoDBIdleTimeout },
		Doc: "an unused database made from * is forgotten after this"},
	{Group: groupTime, Name: "pool_idle_timeout", Default: "0", at: func(s *Settings) any { return &s.PoolIdleTimeout },
		Doc: "an unused pool is forgotten after this"},
	{Group: groupTime, Name: "query_wait_notify", Default: "5", at: func(s *Settings) any { return &s.QueryWaitNotify },
		Doc: "a client that waits this long is told so by a notice"},

	{Group: groupProto, Name: "max_prepared_statements", Default: "200", at: func(s *Settings) any { return &s.MaxPreparedStatements },
		Doc: "prepared statements kept on each server in transaction and statement mode; 0 passes them through"},
	{Group: groupProto, Name: "track_extra_parameters", Default: "IntervalStyle", at: func(s *Settings) any { return &s.TrackExtraParameters },
		Doc: "parameters that follow a client from server to server, beside the built-in ones"},
	{Group: groupProto, Name: "ignore_startup_parameters", at: func(s *Settings) any { return &s.IgnoreStartupParameters },
		Doc: "startup parameters that are dropped where others would be refused"},
	{Group: groupProto, Name: "application_name_add_host", Default: "0", at: func(s *Settings) any { return &s.ApplicationNameAddHost },
		Doc: "add the client's address to its application_name"},
	{Group: groupProto, Name: "disable_pqexec", Default: "0", at: func(s *Settings) any { return &s.DisablePQExec },
		Doc: "refuse the simple query protocol"},
	{Group: groupProto, Name: "max_packet_size", Default: "2147483647", bounds: bounds{1024, 2147483647}, at: func(s *Settings) any { return &s.MaxPacketSize },
		Doc: "the longest message that is let through"},
	{Group: groupProto, Name: "pkt_buf", Default: "4096", bounds: bounds{512, 1 << 24}, at: func(s *Settings) any { return &s.PktBuf },
		Doc: "accepted, and without effect: buffers have 64 kB while they are in use"},
	{Group: groupProto, Name: "sbuf_loopcnt", Default: "5", at: func(s *Settings) any { return &s.SbufLoopCnt },
		Doc: "buffers handled of one connection before others have their turn; 0 is no limit"},
	{Group: groupProto, Name: "login_notify_message", at: func(s *Settings) any { return &s.LoginNotifyMessage },
		Doc: "notice sent to each client after its login"},

	{Group: groupTLS, Name: "client_tls_sslmode", Default: "disable", at: func(s *Settings) any { return &s.ClientTLS.SSLMode },
		Doc: "TLS with clients: disable, allow, prefer, require, verify-ca, verify-full"},
	{Group: groupTLS, Name: "client_tls_key_file", at: func(s *Settings) any { return &s.ClientTLS.KeyFile },
		Doc: "our private key towards clients"},
	{Group: groupTLS, Name: "client_tls_cert_file", at: func(s *Settings) any { return &s.ClientTLS.CertFile },
		Doc: "our certificate towards clients"},
	{Group: groupTLS, Name: "client_tls_ca_file", at: func(s *Settings) any { return &s.ClientTLS.CAFile },
		Doc: "certificates that clients' are checked against"},
	{Group: groupTLS, Name: "client_tls_protocols", Default: "secure", at: func(s *Settings) any { return &s.ClientTLS.Protocols },
		Doc: "TLS versions with clients: secure, all, or a list such as tlsv1.2,tlsv1.3"},
	{Group: groupTLS, Name: "client_tls_ciphers", Default: "default", at: func(s *Settings) any { return &s.ClientTLS.Ciphers },
		Doc: "ciphers of TLS 1.2 with clients"},
	{Group: groupTLS, Name: "client_tls13_ciphers", at: func(s *Settings) any { return &s.ClientTLS13Ciphers },
		Doc: "ciphers of TLS 1.3 with clients (Go chooses them itself)"},
	{Group: groupTLS, Name: "client_tls_ecdhcurve", Default: "auto", at: func(s *Settings) any { return &s.ClientTLSECDHCurve },
		Doc: "curve of the key exchange with clients"},
	{Group: groupTLS, Name: "client_tls_dheparams", Default: "auto", at: func(s *Settings) any { return &s.ClientTLSDHEParams },
		Doc: "parameters of the classic key exchange with clients"},
	{Group: groupTLS, Name: "server_tls_sslmode", Default: "prefer", at: func(s *Settings) any { return &s.ServerTLS.SSLMode },
		Doc: "TLS with servers: disable, allow, prefer, require, verify-ca, verify-full"},
	{Group: groupTLS, Name: "server_tls_ca_file", at: func(s *Settings) any { return &s.ServerTLS.CAFile },
		Doc: "certificates that servers' are checked against"},
	{Group: groupTLS, Name: "server_tls_key_file", at: func(s *Settings) any { return &s.ServerTLS.KeyFile },
		Doc: "our private key towards servers"},
	{Group: groupTLS, Name: "server_tls_cert_file", at: func(s *Settings) any { return &s.ServerTLS.CertFile },
		Doc: "our certificate towards servers"},
	{Group: groupTLS, Name: "server_tls_protocols", Default: "secure", at: func(s *Settings) any { return &s.ServerTLS.Protocols },
		Doc: "TLS versions with servers"},
	{Group: groupTLS, Name: "server_tls_ciphers", Default: "default", at: func(s *Settings) any { return &s.ServerTLS.Ciphers },
		Doc: "ciphers of TLS 1.2 with servers"},
	{Group: groupTLS, Name: "server_tls13_ciphers", at: func(s *Settings) any { return &s.ServerTLS13Ciphers },
		Doc: "ciphers of TLS 1.3 with servers (Go chooses them itself)"},

	{Group: groupDNS, Name: "dns_max_ttl", Default: "15", at: func(s *Settings) any { return &s.DNSMaxTTL },
		Doc: "seconds for which a name's addresses are kept"},
	{Group: groupDNS, Name: "dns_nxdomain_ttl", Default: "15", at: func(s *Settings) any { return &s.DNSNXDomainTTL },
		Doc: "seconds for which an unknown name is remembered"},
	{Group: groupDNS, Name: "dns_zone_check_period", Default: "0", at: func(s *Settings) any { return &s.DNSZoneCheckPeriod },
		Doc: "how often zones are asked for a new serial"},
	{Group: groupDNS, Name: "resolv_conf", at: func(s *Settings) any { return &s.ResolvConf },
		Doc: "file to use in place of /etc/resolv.conf"},

	{Group: groupSocket, Name: "listen_backlog", Default: "128", at: func(s *Settings) any { return &s.ListenBacklog },
		Doc: "connections that the system may hold until they are accepted"},
	{Group: groupSocket, Name: "so_reuseport", Default: "0", at: func(s *Settings) any { return &s.SoReusePort },
		Doc: "let several poolers listen on one port"},
	{Group: groupSocket, Name: "tcp_defer_accept", Default: "1", at: func(s *Settings) any { return &s.TCPDeferAccept },
		Doc: "seconds for which a connection may be silent before it is accepted; 0 is off"},
	{Group: groupSocket, Name: "tcp_keepalive", Default: "1", at: func(s *Settings) any { return &s.TCPKeepalive },
		Doc: "keepalive on TCP connections"},
	{Group: groupSocket, Name: "tcp_keepidle", Default: "0", at: func(s *Settings) any { return &s.TCPKeepIdle },
		Doc: "seconds of silence before keepalive asks; 0 is the system's"},
	{Group: groupSocket, Name: "tcp_keepintvl", Default: "0", at: func(s *Settings) any { return &s.TCPKeepIntvl },
		Doc: "seconds between keepalive's questions; 0 is the system's"},
	{Group: groupSocket, Name: "tcp_keepcnt", Default: "0", at: func(s *Settings) any { return &s.TCPKeepCnt },
		Doc: "unanswered questions until a connection counts as lost; 0 is the system's"},
	{Group: groupSocket, Name: "tcp_user_timeout", Default: "0", at: func(s *Settings) any { return &s.TCPUserTimeout },
		Doc: "milliseconds for which sent data may stay unacknowledged; 0 is the system's"},
	{Group: groupSocket, Name: "tcp_socket_buffer", Default: "0", at: func(s *Settings) any { return &s.TCPSocketBuffer },
		Doc: "bytes of the sockets' buffers; 0 is the system's"},
	{Group: groupSocket, Name: "peer_id", Default: "0", bounds: bounds{0, maxPeerID}, at: func(s *Settings) any { return &s.PeerID },
		Doc: "our number among the poolers of [peers]; 0 is none"},
})
