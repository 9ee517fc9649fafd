// Package pgtest gives tests real servers: a database of the test's own on the
// server that SKYTOOLS_TEST_DSN names, or a whole server that the test may stop
// and start at will. scripts/with-server sets the environment; without it a test
// fails and says so, since a test that was not run has shown nothing.
//
// Every database has an empty search_path, so that a name without its schema
// fails at once. What a test was given is gone when the test ends.
package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	dsnEnv  = "SKYTOOLS_TEST_DSN"
	treeEnv = "SKYTOOLS_TEST_TREE"

	// setupTimeout bounds what pgtest itself asks of a server.
	setupTimeout = time.Minute

	// extensionLock serializes CREATE EXTENSION on a server, since extensions
	// create roles, which all its databases share.
	extensionLock = 0x70677465
)

// Database is a database of one test.
type Database struct {
	// Name is the database's name.
	Name string
	// DSN is the libpq connection string that leads to it.
	DSN string

	server string // connection string of the server, with another dbname
}

// DB creates a database on the shared server, with the given extensions in it,
// and drops it when the test ends.
func DB(t testing.TB, extensions ...string) *Database {
	t.Helper()
	return create(t, environ(t, dsnEnv), extensions)
}

// Conn opens a connection that is closed when the test ends.
func (d *Database) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	return connect(t, d.DSN)
}

// Exec runs SQL on a connection of its own; several statements may stand in it
// when there are no arguments.
func (d *Database) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.DSN)
	if err != nil {
		t.Fatalf("connect to %q: %v", d.DSN, err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Value returns the one value that a query gives on a connection of its own.
func Value[T any](t testing.TB, d *Database, sql string, args ...any) T {
	t.Helper()
	value, err := valueOf[T](d, sql, args)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// Rows returns a query's rows, each as text with the columns parted by "|" and
// NULL written as NULL: a form that is easy to compare.
func (d *Database) Rows(t testing.TB, sql string, args ...any) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.DSN)
	if err != nil {
		t.Fatalf("connect to %q: %v", d.DSN, err)
	}
	defer conn.Close(ctx)
	// Text comes in the simple protocol, whatever the types are.
	rows, err := conn.Query(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var fields []string
		for _, raw := range row.RawValues() {
			if raw == nil {
				fields = append(fields, "NULL")
			} else {
				fields = append(fields, string(raw))
			}
		}
		return strings.Join(fields, "|"), nil
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return lines
}

// WaitFor asks a query that gives one boolean until it says true, and fails the
// test when it did not within ten seconds. An error counts as false, so that one
// can wait for a server or a table to come.
func (d *Database) WaitFor(t testing.TB, sql string, args ...any) {
	t.Helper()
	var last error
	ok := poll(10*time.Second, func() bool {
		var done bool
		done, last = valueOf[bool](d, sql, args)
		return last == nil && done
	})
	if !ok {
		t.Fatalf("not true within 10s: %s (last error: %v)", sql, last)
	}
}

// Eventually calls done until it says true, and fails the test when it did not
// within the limit; what names the state that was waited for.
func Eventually(t testing.TB, limit time.Duration, what string, done func() bool) {
	t.Helper()
	if !poll(limit, done) {
		t.Fatalf("not within %s: %s", limit, what)
	}
}

func poll(limit time.Duration, done func() bool) bool {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}

func valueOf[T any](d *Database, sql string, args []any) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	var value T
	conn, err := pgx.Connect(ctx, d.DSN)
	if err != nil {
		return value, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, sql, args...).Scan(&value)
	return value, err
}

func create(t testing.TB, server string, extensions []string) *Database {
	t.Helper()
	if strings.Contains(server, "://") {
		t.Fatalf("%s must be of the form \"host=... dbname=...\", not a URL", dsnEnv)
	}
	random := make([]byte, 6)
	_, _ = rand.Read(random)
	name := "test_" + hex.EncodeToString(random)
	// The last of two settings of one name counts.
	db := &Database{Name: name, DSN: server + " dbname=" + name, server: server}

	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatalf("connect to the test server: %v", err)
	}
	defer admin.Close(ctx)
	// template0, since nobody can be connected to it.
	if _, err := admin.Exec(ctx, "create database "+name+" template template0"); err != nil {
		t.Fatalf("create database %s: %v", name, err)
	}
	t.Cleanup(func() { db.drop(t) })

	if _, err := admin.Exec(ctx, "select pg_advisory_lock($1)", extensionLock); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, db.DSN)
	if err != nil {
		t.Fatalf("connect to %s: %v", name, err)
	}
	defer conn.Close(ctx)
	for _, extension := range extensions {
		sql := "create extension " + pgx.Identifier{extension}.Sanitize()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if _, err := conn.Exec(ctx, "alter database "+name+" set search_path = ''"); err != nil {
		t.Fatal(err)
	}
	return db
}

// drop removes the database, connections of others included. A server that the
// test has left stopped takes it along.
func (d *Database) drop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	admin, err := pgx.Connect(ctx, d.server)
	if err != nil {
		return
	}
	defer admin.Close(ctx)
	if _, err := admin.Exec(ctx, "drop database if exists "+d.Name+" with (force)"); err != nil {
		t.Errorf("drop database %s: %v", d.Name, err)
	}
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatalf("connect to %q: %v", dsn, err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func parse(t testing.TB, dsn string) *pgx.ConnConfig {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatalf("read %q: %v", dsn, err)
	}
	return config
}

func environ(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run the tests through scripts/with-server", name)
	}
	return value
}
