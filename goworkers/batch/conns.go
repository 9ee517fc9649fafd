package batch

// The job's database connections: opened when first asked for, kept between
// rounds, replaced when they are old, dropped after an error.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	closeTimeout = time.Second
	// connectTimeout holds unless connect_timeout is in the connection string: a
	// server that takes a connection and then says nothing must not hold up a job
	// that shall end, or keep it from coming back.
	connectTimeout = 10 * time.Second
)

type conn struct {
	*pgx.Conn
	dsn    ConnString
	opened time.Time
}

// DB returns the job's connection of that name (by custom the ini key, like
// "src_db") and opens it when there is none, or when dsn has changed since.
// It stays the job's; do not close it. Goroutines may ask for different names.
func (j *Job) DB(ctx context.Context, name string, dsn ConnString) (*pgx.Conn, error) {
	j.connsMu.Lock()
	known := j.conns[name]
	j.connsMu.Unlock()
	if known != nil {
		if known.dsn == dsn && !known.IsClosed() {
			return known.Conn, nil
		}
		j.drop(name)
	}
	c, err := Connect(ctx, dsn, j.Config.JobName)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.Config.Key(name), err)
	}
	j.connsMu.Lock()
	defer j.connsMu.Unlock()
	j.conns[name] = &conn{Conn: c, dsn: dsn, opened: time.Now()}
	return c, nil
}

// Connect opens a connection that tells the server the application's name.
// Its error names server and database, never the password. The tweaks change
// the configuration before it is used.
//
// Either side notices within half a minute when the other has vanished, unless it
// is told otherwise (tcp_keepalives_idle, _interval, _count and tcp_user_timeout in
// dsn or in the server's configuration).
//
// No statement stays prepared on the server, so that the connection may lead
// through a pooler in transaction mode. Where it does not, a job with many small
// statements gains by default_query_exec_mode=cache_statement in dsn.
func Connect(ctx context.Context, dsn ConnString, application string, tweaks ...func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(string(dsn))
	if err != nil {
		return nil, fmt.Errorf("read connection string %q: %s", dsn.String(), connStringFault(err))
	}
	if _, ok := cfg.RuntimeParams["application_name"]; !ok {
		cfg.RuntimeParams["application_name"] = application
	}
	// Texts are UTF-8 here, whatever encoding the database has.
	cfg.RuntimeParams["client_encoding"] = "UTF8"
	if !strings.Contains(string(dsn), "default_query_exec_mode") {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if cfg.ConnectTimeout == 0 && !strings.Contains(string(dsn), "connect_timeout") {
		cfg.ConnectTimeout = connectTimeout
	}
	cfg.DialFunc = dialWatched
	for _, tweak := range tweaks {
		tweak(cfg)
	}
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		if err = watchClient(ctx, c, cmp.Or(cfg.ConnectTimeout, connectTimeout)); err != nil {
			closeNow(c)
		}
	}
	if err != nil {
		database := cfg.Database
		if database == "" {
			database = cfg.User // as the server takes it
		}
		return nil, &ConnectError{Host: cfg.Host, Port: cfg.Port, Database: database, User: cfg.User, Err: err}
	}
	return c, nil
}

func closeNow(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	c.Close(ctx) // an error here is only that it was closed already
}

// ConnectError is a database that cannot be reached.
type ConnectError struct {
	Host, Database, User string
	Port                 uint16
	Err                  error
}

func (e *ConnectError) Error() string {
	reason := e.Err.Error()
	var pgErr *pgconn.PgError
	if errors.As(e.Err, &pgErr) {
		reason = fmt.Sprintf("%s (SQLSTATE %s)", pgErr.Message, pgErr.Code)
	} else if inner := deepest(e.Err); inner != nil {
		reason = inner.Error()
	}
	return fmt.Sprintf("cannot connect to database %q at %s:%d as user %q: %s; %s", e.Database, e.Host, e.Port, e.User, reason, e.advice())
}

// advice is what the operator can do about it.
func (e *ConnectError) advice() string {
	var pgErr *pgconn.PgError
	if !errors.As(e.Err, &pgErr) {
		return "start the server, or correct host and port"
	}
	switch {
	case pgErr.Code == "3D000":
		return "create the database, or correct dbname"
	case strings.HasPrefix(pgErr.Code, "28"):
		return "correct user and password, or the server's pg_hba.conf"
	case pgErr.Code == "42501":
		return "grant connect on the database to the user"
	case pgErr.Code == "53300":
		return "raise the server's max_connections, or connect through a pooler"
	}
	return "see the server's log"
}

func (e *ConnectError) Unwrap() error { return e.Err }

// deepest follows an error to its cause.
func deepest(err error) error {
	for {
		switch next := err.(type) {
		case interface{ Unwrap() error }:
			inner := next.Unwrap()
			if inner == nil {
				return err
			}
			err = inner
		case interface{ Unwrap() []error }:
			list := next.Unwrap()
			if len(list) == 0 {
				return err
			}
			err = list[len(list)-1]
		default:
			return err
		}
	}
}

// DropConnections closes all connections; what they had open is undone by
// the server.
func (j *Job) DropConnections() {
	for name := range j.conns {
		j.drop(name)
	}
}

// recycle closes the connections that have lived connection_lifetime.
func (j *Job) recycle() {
	for name, c := range j.conns {
		if j.Config.ConnectionLifetime > 0 && time.Since(c.opened) >= j.Config.ConnectionLifetime {
			j.drop(name)
		}
	}
}

func (j *Job) drop(name string) {
	j.connsMu.Lock()
	c := j.conns[name]
	delete(j.conns, name)
	j.connsMu.Unlock()
	closeNow(c.Conn)
}
