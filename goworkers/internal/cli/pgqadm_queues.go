package cli

// pgqadm's commands that make, move and remove: extension, queues, consumers.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

const (
	availableSQL = `
		select installed_version, default_version
		  from pg_catalog.pg_available_extensions
		 where name = 'pgq'`
	installSQL = `create extension pgq`
)

func adminInstall(ctx context.Context, a *admin) error {
	path, scripted := a.values["script"]
	switch {
	case a.set["plonly"]:
		return a.installScript(ctx, path)
	case scripted:
		return batch.Usagef("install: --script names the script of --plonly")
	}
	var installed *string
	var available string
	switch err := a.db.QueryRow(ctx, availableSQL).Scan(&installed, &available); {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("the server of database %q has no extension pgq to install; install the SkyTools package on its machine first", a.name)
	case err != nil:
		return err
	case installed != nil && *installed == available:
		return a.say("pgq %s is installed already", *installed)
	case installed != nil:
		return a.say("pgq %s is installed already, the server has %s; update with: alter extension pgq update", *installed, available)
	}
	// A schema that was made by a script is no extension, and cannot become one.
	switch version, err := pgq.Version(ctx, a.db); {
	case err == nil:
		return a.say("pgq %s is installed already, by a script", version)
	case !pgq.IsNotInstalled(err):
		return err
	}
	if _, err := a.db.Exec(ctx, installSQL); err != nil {
		return fmt.Errorf("install pgq in database %q: %w", a.name, err)
	}
	version, err := pgq.Version(ctx, a.db)
	if err != nil {
		return err
	}
	return a.say("pgq %s installed", version)
}

// plonlyScript is the script that makes pgq without CREATE EXTENSION.
const plonlyScript = "pgq_plonly.sql"

// findScript looks for the script where `make install` puts it: in share/skytools
// beside the program's folder, for machines without a server, and among the
// extensions of the server that pg_config tells of.
func findScript(ctx context.Context) (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(program), "..", "share", "skytools", plonlyScript)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	config := os.Getenv("PG_CONFIG")
	if config == "" {
		config = "pg_config"
	}
	out, err := exec.CommandContext(ctx, config, "--sharedir").Output()
	if err != nil {
		return "", fmt.Errorf("no script %s, and %s --sharedir: %w; name the script with --script FILE", beside, config, err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "extension", plonlyScript), nil
}

// installScript installs pgq without CREATE EXTENSION, by a script on this machine.
func (a *admin) installScript(ctx context.Context, path string) error {
	if path == "" {
		found, err := findScript(ctx)
		if err != nil {
			return err
		}
		path = found
	}
	script, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w; install the SkyTools package on this machine, or name the script with --script FILE", err)
	}
	switch version, err := pgq.Version(ctx, a.db); {
	case err == nil:
		return a.say("pgq %s is installed already", version)
	case !pgq.IsNotInstalled(err):
		return err
	}
	// All of it goes as one string: it commits all or nothing.
	if _, err := a.db.PgConn().Exec(ctx, string(script)).ReadAll(); err != nil {
		return fmt.Errorf("install pgq in database %q: %w", a.name, err)
	}
	version, err := pgq.Version(ctx, a.db)
	if err != nil {
		return err
	}
	return a.say("pgq %s installed", version)
}

func adminCreate(ctx context.Context, a *admin) error {
	created, err := pgq.CreateQueue(ctx, a.db, a.args[0])
	switch {
	case err != nil:
		return err
	case !created:
		return a.say("queue %s exists already", a.args[0])
	}
	return a.say("queue %s created", a.args[0])
}

func adminDrop(ctx context.Context, a *admin) error {
	if err := pgq.DropQueue(ctx, a.db, a.args[0], a.set["force"]); err != nil {
		return err
	}
	return a.say("queue %s dropped", a.args[0])
}

func adminRegister(ctx context.Context, a *admin) error {
	queue, consumer := a.queue(), a.consumer()
	_, at := a.values["at"]
	_, slots := a.values["slots"]
	key, keyed := a.values["key"]
	tick, err := a.number("at", 0, 0)
	if err != nil {
		return err
	}
	n, err := a.number("slots", 0, 1)
	if err != nil {
		return err
	}
	switch {
	case at && slots:
		return batch.Usagef("register: --at and --slots do not go together; register the slots, then move them with: pgqadm %s seek %s %s TIME",
			a.ini, queue, consumer)
	case keyed && !slots:
		return batch.Usagef("register: --key is for --slots: events with the same key go to the same slot")
	case slots:
		made, err := pgq.RegisterSlots(ctx, a.db, queue, consumer, int(n), key)
		switch {
		case err != nil:
			return err
		case made == 0:
			return a.say("consumer %s is registered on queue %s with %d slots already", consumer, queue, n)
		}
		return a.say("consumer %s registered on queue %s with %d slots", consumer, queue, n)
	case at:
		registered, err := pgq.RegisterConsumerAt(ctx, a.db, queue, consumer, tick)
		switch {
		case err != nil:
			return err
		case !registered:
			return a.say("consumer %s on queue %s moved to tick %d", consumer, queue, tick)
		}
		return a.say("consumer %s registered on queue %s at tick %d", consumer, queue, tick)
	}
	registered, err := pgq.RegisterConsumer(ctx, a.db, queue, consumer)
	switch {
	case err != nil:
		return err
	case !registered:
		return a.say("consumer %s is registered on queue %s already", consumer, queue)
	}
	return a.say("consumer %s registered on queue %s", consumer, queue)
}

func adminUnregister(ctx context.Context, a *admin) error {
	gone, err := pgq.UnregisterConsumer(ctx, a.db, a.queue(), a.consumer())
	switch {
	case err != nil:
		return err
	case gone > 1:
		return a.say("consumer %s removed from queue %s, %d registrations", a.consumer(), a.queue(), gone)
	case gone == 1:
		return a.say("consumer %s removed from queue %s", a.consumer(), a.queue())
	}
	return a.noConsumer(a.queue(), a.consumer())
}

func adminPause(ctx context.Context, a *admin) error {
	changed, err := pgq.PauseConsumer(ctx, a.db, a.queue(), a.consumer())
	switch {
	case err != nil:
		return err
	case !changed:
		return a.say("consumer %s on queue %s is paused already", a.consumer(), a.queue())
	}
	return a.say("consumer %s on queue %s paused", a.consumer(), a.queue())
}

func adminResume(ctx context.Context, a *admin) error {
	changed, err := pgq.ResumeConsumer(ctx, a.db, a.queue(), a.consumer())
	switch {
	case err != nil:
		return err
	case !changed:
		return a.say("consumer %s on queue %s is not paused", a.consumer(), a.queue())
	}
	return a.say("consumer %s on queue %s resumed", a.consumer(), a.queue())
}

const (
	timeSQL = `select $1::timestamptz`
	agoSQL  = `select pg_catalog.now() - $1::interval`
)

func adminSeek(ctx context.Context, a *admin) error {
	text := strings.Join(a.args[2:], " ")
	sql, value := timeSQL, text
	if span, ok := strings.CutSuffix(text, " ago"); ok {
		sql, value = agoSQL, span
	}
	var at time.Time
	if err := a.db.QueryRow(ctx, sql, value).Scan(&at); err != nil {
		return batch.Usagef("seek: cannot read the time %q; write it like 2026-11-22 14:00, or 2 hours ago", text)
	}
	tick, err := pgq.SeekConsumer(ctx, a.db, a.queue(), a.consumer(), at)
	if err != nil {
		return err
	}
	return a.say("consumer %s on queue %s moved to tick %d", a.consumer(), a.queue(), tick)
}

func adminRebase(ctx context.Context, a *admin) error {
	rebased, err := pgq.RebaseQueue(ctx, a.db, a.queue())
	switch {
	case err != nil:
		return err
	case !rebased:
		return a.say("queue %s needs no repair", a.queue())
	}
	return a.say("queue %s rebased", a.queue())
}

const extensionsSQL = `
	select e.extname, e.extversion
	  from pg_catalog.pg_extension e
	 where e.extname in ('pgq', 'pgq_ext', 'pgq_coop', 'pgq_node', 'londiste', 'plproxy')
	 order by 1`

func adminVersion(ctx context.Context, a *admin) error {
	var server string
	if err := a.db.QueryRow(ctx, serverVersionSQL).Scan(&server); err != nil {
		return fmt.Errorf("ask for the server's version: %w", err)
	}
	rows, err := a.db.Query(ctx, extensionsSQL)
	if err != nil {
		return fmt.Errorf("list extensions: %w", err)
	}
	type versioned struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	extensions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[versioned])
	if err != nil {
		return fmt.Errorf("list extensions: %w", err)
	}
	// A script makes pgq without an extension.
	var scripted *string
	if !slices.ContainsFunc(extensions, func(e versioned) bool { return e.Name == "pgq" }) {
		switch version, err := pgq.Version(ctx, a.db); {
		case err == nil:
			scripted = &version
		case !pgq.IsNotInstalled(err):
			return err
		}
	}
	if a.json {
		return a.printJSON(struct {
			Program    string      `json:"pgqadm_version"`
			Postgres   string      `json:"postgres_version"`
			Database   string      `json:"database"`
			Extensions []versioned `json:"extensions"`
			Scripted   *string     `json:"pgq_by_script,omitempty"`
		}{Version, server, a.name, append([]versioned{}, extensions...), scripted})
	}
	if err := a.say("pgqadm %s\nPostgreSQL %s, database %s", Version, server, a.name); err != nil {
		return err
	}
	for _, e := range extensions {
		if err := a.say("%s %s", e.Name, e.Version); err != nil {
			return err
		}
	}
	if scripted != nil {
		return a.say("pgq %s, by a script", *scripted)
	}
	return nil
}
