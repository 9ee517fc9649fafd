package ini

// What the pooler acts on so far. A name that is missing here is read and checked, and
// a warning tells that it changes nothing when it is set to another value than its
// default: whoever makes a setting work adds its name.

// effective are settings of [pgbouncer].
var effective = []string{
	"auth_dbname", "auth_hba_file", "auth_ident_file", "auth_ldap_options", "auth_query", "auth_user",
	"client_tls13_ciphers", "client_tls_ca_file", "client_tls_cert_file", "client_tls_ciphers", "client_tls_dheparams",
	"client_tls_ecdhcurve", "client_tls_key_file", "client_tls_protocols", "client_tls_sslmode", "dns_zone_check_period",
	"reconnect_rate", "rescue_transactions", "resolv_conf", "server_fast_close", "server_parallel_connects",
	"server_tls13_ciphers", "server_tls_ca_file", "server_tls_cert_file", "server_tls_ciphers", "server_tls_key_file",
	"server_tls_protocols", "server_tls_sslmode", "session_state_guard",
	"admin_users", "application_name_add_host", "auth_file", "auth_type", "autodb_idle_timeout", "cancel_wait_timeout",
	"client_idle_timeout", "client_login_timeout", "conffile", "default_pool_size", "disable_pqexec", "dns_max_ttl",
	"dns_nxdomain_ttl", "idle_transaction_timeout", "ignore_startup_parameters", "listen_addr", "listen_backlog",
	"listen_port", "log_connections", "log_disconnections", "log_pooler_errors", "log_stats", "logfile",
	"login_notify_message", "max_client_conn", "max_db_client_connections", "max_db_connections", "max_packet_size", "max_prepared_statements", "threads",
	"max_user_client_connections", "max_user_connections", "metrics_listen", "min_pool_size", "pidfile", "pool_mode",
	"query_timeout", "query_wait_notify", "query_wait_timeout", "reserve_pool_size", "reserve_pool_timeout", "sbuf_loopcnt",
	"scram_iterations", "server_check_delay", "server_check_query", "server_connect_timeout", "server_idle_timeout",
	"server_lifetime", "server_login_retry", "server_reset_query", "server_reset_query_always", "server_round_robin",
	"so_reuseport", "stats_period", "stats_users", "tcp_keepalive", "tcp_keepcnt", "tcp_keepidle", "tcp_keepintvl",
	"tcp_socket_buffer", "tcp_user_timeout", "track_extra_parameters", "transaction_timeout", "unix_socket_dir",
	"unix_socket_group", "unix_socket_mode", "user", "verbose",
}

// effectiveDatabase are keys of [databases].
var effectiveDatabase = []string{
	"auth_dbname", "auth_query", "auth_user", "target_session_attrs",
	"application_name", "client_encoding", "connect_query", "datestyle", "dbname", "host", "load_balance_hosts",
	"max_db_client_connections", "max_db_connections", "min_pool_size", "password", "pool_mode", "pool_size", "port",
	"query_wait_timeout", "reserve_pool_size", "server_lifetime", "timezone", "user",
}

// effectiveUser are keys of [users].
var effectiveUser = []string{
	"client_idle_timeout", "idle_transaction_timeout", "max_user_client_connections", "max_user_connections",
	"pool_mode", "pool_size", "query_timeout", "query_wait_timeout", "reserve_pool_size", "transaction_timeout",
}

// effectivePeer are keys of [peers].
var effectivePeer = []string{}
