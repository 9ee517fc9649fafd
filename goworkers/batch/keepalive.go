package batch

// Ends that vanish without a word: a cut network, a machine that loses its power.
// Both sides of a connection notice within half a minute, so that a client tries
// again, and the server gives up the locks and transactions of one that is gone.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

const (
	keepaliveIdle     = 10 * time.Second
	keepaliveInterval = 5 * time.Second
	keepaliveCount    = 4
	// ackTimeout is how long what was sent may stay without the other's kernel
	// having received it.
	ackTimeout = 30 * time.Second
)

// serverKeepalive are the server's settings to the same end.
var serverKeepalive = [][2]string{
	{"tcp_keepalives_idle", fmt.Sprint(int(keepaliveIdle.Seconds()))},
	{"tcp_keepalives_interval", fmt.Sprint(int(keepaliveInterval.Seconds()))},
	{"tcp_keepalives_count", fmt.Sprint(keepaliveCount)},
	{"tcp_user_timeout", fmt.Sprint(ackTimeout.Milliseconds())},
}

// dialWatched makes a connection whose other end is watched.
func dialWatched(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepaliveIdle, Interval: keepaliveInterval, Count: keepaliveCount},
		Control: func(network, _ string, raw syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			var fault error
			err := raw.Control(func(fd uintptr) {
				fault = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ackTimeout.Milliseconds()))
			})
			return errors.Join(err, fault)
		},
	}
	return dialer.DialContext(ctx, network, address)
}

// watchClient makes the server watch us. What the connection string or the server's
// configuration says goes first. Behind a pooler nothing is changed: the session is
// not ours.
func watchClient(ctx context.Context, c *pgx.Conn, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var rows []string
	for _, s := range serverKeepalive {
		rows = append(rows, fmt.Sprintf("('%s', '%s')", s[0], s[1]))
	}
	sql := fmt.Sprintf(`
		select pg_catalog.set_config(s.name, w.value, false)
		  from (values %s) w(name, value)
		  join pg_catalog.pg_settings s on s.name operator(pg_catalog.=) w.name and s.source operator(pg_catalog.=) 'default'
		 where pg_catalog.pg_backend_pid() operator(pg_catalog.=) %d`, strings.Join(rows, ", "), c.PgConn().PID())
	_, err := c.PgConn().Exec(ctx, sql).ReadAll()
	var refused *pgconn.PgError
	if errors.As(err, &refused) && !c.IsClosed() {
		return nil // it is a server that does without
	}
	if err != nil && c.IsClosed() && !IsConnectionLost(err) {
		return fmt.Errorf("%w (%w)", err, io.ErrUnexpectedEOF) // it broke before we asked
	}
	return err
}
