// What the tests of logins share: a server that asks for passwords, and logins that may
// fail.

package pooler

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
)

// bothThreads runs a test with one loop and with two.
func bothThreads(t *testing.T, test func(t *testing.T, threads string)) {
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", n), func(t *testing.T) { test(t, fmt.Sprintf("threads = %d\n", n)) })
	}
}

// guarded is a server of the test's own that lets only the user postgres in without a
// password: from everybody else it asks for SCRAM, or what hba says before.
func guarded(t *testing.T, sql string, hba ...string) *pgtest.PrivateServer {
	t.Helper()
	server := pgtest.Server(t)
	admin := &pgtest.Database{DSN: server.DSN}
	if sql != "" {
		admin.Exec(t, sql)
	}
	lines := append([]string{"host all postgres 127.0.0.1/32 trust", "local all postgres trust"}, hba...)
	lines = append(lines, "host all all 127.0.0.1/32 scram-sha-256")
	for i, line := range lines {
		lines[i] = fmt.Sprintf("(%d, '%s')", i, line)
	}
	path := pgtest.Value[string](t, admin, "show hba_file")
	admin.Exec(t, "copy (select line from (values "+strings.Join(lines, ", ")+") v(n, line) order by n) to '"+path+"'")
	admin.Exec(t, "select pg_catalog.pg_reload_conf()")
	// Rules of the kind hostssl are wrong until the server has TLS.
	admin.WaitFor(t, fmt.Sprintf("select count(*) = %d from pg_catalog.pg_hba_file_rules", len(lines)))
	return server
}

// leading is a line of [databases] that leads to the database postgres of a server.
func leading(name string, server *pgtest.PrivateServer, more ...string) string {
	return fmt.Sprintf("%s = host=127.0.0.1 port=%d dbname=postgres %s\n", name, server.Port, strings.Join(more, " "))
}

// try logs in and asks the server who it is talking to.
func (r *rig) try(db string, more ...string) (user string, err error) {
	ctx := background(r.t)
	cfg, err := pgx.ParseConfig(r.dsn(db, more...))
	if err != nil {
		return "", err
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.Background())
	err = conn.QueryRow(ctx, "select current_user::text").Scan(&user)
	return user, err
}

// enters fails the test unless a login works, and on the server as that user.
func (r *rig) enters(t *testing.T, as, db string, more ...string) {
	t.Helper()
	user, err := r.try(db, more...)
	if err != nil || user != as {
		t.Errorf("login to %s %v: user %q, %v", db, more, user, err)
	}
}

// bounces fails the test unless a login is refused with that message, or what begins
// with it if it ends in dots.
func (r *rig) bounces(t *testing.T, why, db string, more ...string) {
	t.Helper()
	user, err := r.try(db, more...)
	if err == nil {
		t.Errorf("login to %s %v works, as %q; want %q", db, more, user, why)
		return
	}
	e, ok := asPgError(err)
	begin, open := strings.CutSuffix(why, "...")
	if !ok || e.Severity != "FATAL" || e.Message != why && !(open && strings.HasPrefix(e.Message, begin)) {
		t.Errorf("login to %s %v: %v; want %q", db, more, err, why)
	}
}

// reload has the pooler read its changed files.
func (r *rig) reload(t *testing.T, c config) {
	t.Helper()
	r.write(c)
	if _, err := r.command("reload"); err != nil {
		t.Fatalf("reload: %v", err)
	}
}
