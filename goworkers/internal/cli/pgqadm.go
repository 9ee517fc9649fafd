package cli

// pgqadm: install pgq and look after queues and consumers.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/ticker"
	"goworkers/pgq"
)

const pgqadmSection = "pgqadm"

// admin is one admin command under way.
type admin struct {
	ini  string
	db   *pgx.Conn
	name string // of the database
	args []string
	json bool
	set  map[string]bool // switches given
	out  io.Writer
}

// adminCommand is what stands behind the ini file.
type adminCommand struct {
	name, args, usage string
	min, max          int      // of arguments; max -1 is any number
	switches          []string // that it knows
	noSchema          bool     // works without pgq
	run               func(ctx context.Context, a *admin) error
}

var adminCommands = []adminCommand{
	{name: "install", usage: "create the extension pgq in the database", noSchema: true, run: adminInstall},
	{name: "ticker", usage: "run the ticker; -d -s -k -r are for it"},
	{name: "create", args: "QUEUE", usage: "create a queue", min: 1, max: 1, run: adminCreate},
	{name: "drop", args: "QUEUE [--force]", usage: "drop a queue; --force: with its consumers", min: 1, max: 1, switches: []string{"force"}, run: adminDrop},
	{name: "register", args: "QUEUE CONSUMER", usage: "register a consumer on a queue", min: 2, max: 2, run: adminRegister},
	{name: "unregister", args: "QUEUE CONSUMER", usage: "remove a consumer from a queue", min: 2, max: 2, run: adminUnregister},
	{name: "status", args: "[--json]", usage: "show queues and consumers", switches: []string{"json"}, run: adminStatus},
	{name: "config", args: "[QUEUE [KEY=VALUE …]]", usage: "show or set settings of queues (--json)", max: -1, switches: []string{"json"}, run: adminConfig},
	{name: "check", args: "[--json]", usage: "name queues and consumers in trouble; exit code 1 if any", switches: []string{"json"}, run: adminCheck},
}

func newPgqadm() *cli.Command {
	var help strings.Builder
	help.WriteString("Works on the database that db names in the section [pgqadm]. Commands:\n\n")
	for _, c := range adminCommands {
		fmt.Fprintf(&help, "   %-34s %s\n", strings.TrimSpace(c.name+" "+c.args), c.usage)
	}
	help.WriteString("\nExample:\n\n   pgqadm ticker.ini install\n   pgqadm -d ticker.ini ticker\n   pgqadm ticker.ini create myqueue")
	return jobCommand("pgqadm", "install pgq, run its ticker, look after queues and consumers",
		"CONFIG.ini COMMAND [arguments]", help.String(),
		func(c *cli.Context, opt batch.Options, args []string) error {
			if opt.Sample || opt.Reload || opt.Stop || opt.Kill {
				return runPgqadmTicker(c.Context, opt)
			}
			return runAdmin(c.Context, opt, args)
		})
}

func runAdmin(ctx context.Context, opt batch.Options, args []string) error {
	var names []string
	for _, c := range adminCommands {
		names = append(names, c.name)
	}
	if len(args) == 0 {
		return batch.Usagef("no command given; behind the ini file stands one of %s", strings.Join(names, ", "))
	}
	if strings.HasPrefix(args[0], "-") {
		return batch.Usagef("option %s stands behind the ini file; usage: pgqadm [options] CONFIG.ini COMMAND [arguments]", args[0])
	}
	i := slices.Index(names, args[0])
	if i < 0 {
		return batch.Usagef("unknown command %q; it is one of %s", args[0], strings.Join(names, ", "))
	}
	if i := slices.Index(args, ""); i > 0 {
		return batch.Usagef("argument %d of %s is empty", i, args[0])
	}
	command := adminCommands[i]
	a := &admin{ini: opt.Path, set: map[string]bool{}, out: opt.Stdout}
	for _, arg := range args[1:] {
		if !strings.HasPrefix(arg, "-") {
			a.args = append(a.args, arg)
			continue
		}
		name := strings.TrimLeft(arg, "-")
		if !slices.Contains(command.switches, name) {
			return batch.Usagef("%s has no option %s; usage: pgqadm [options] CONFIG.ini %s %s", command.name, arg, command.name, command.args)
		}
		a.set[name] = true
	}
	if n := len(a.args); n < command.min || (n > command.max && command.max >= 0) {
		return batch.Usagef("wrong number of arguments; usage: pgqadm [options] CONFIG.ini %s", strings.TrimSpace(command.name+" "+command.args))
	}
	if command.name == "ticker" {
		return runPgqadmTicker(ctx, opt)
	}
	if opt.Daemon {
		return batch.Usagef("%s does not run in the background; only ticker does", command.name)
	}
	if opt.Quiet {
		switch command.name {
		case "status", "config", "check":
		default:
			a.out = io.Discard
		}
	}

	var cfg ticker.Config
	if _, err := batch.LoadConfig(pgqadmSection, &cfg, opt); err != nil {
		return err
	}
	db, err := batch.Connect(ctx, cfg.DB, cfg.JobName)
	if err != nil {
		return fmt.Errorf("%s: [%s] db: %w", opt.Path, pgqadmSection, err)
	}
	defer db.Close(context.WithoutCancel(ctx))
	a.db, a.name, a.json = db, db.Config().Database, a.set["json"]
	if !command.noSchema {
		if err := a.checkVersion(ctx); err != nil {
			return err
		}
	}
	return a.explain(command.run(ctx, a))
}

// checkVersion says what to do about a database that has no pgq or an old one.
func (a *admin) checkVersion(ctx context.Context) error {
	version, err := pgq.Version(ctx, a.db)
	if err != nil {
		return a.explain(err)
	}
	if !pgq.Supported(version) {
		return fmt.Errorf("%s: [%s] db: database %q has pgq %s, but 3.0 or newer is needed; update it with: alter extension pgq update",
			a.ini, pgqadmSection, a.name, version)
	}
	return nil
}

// explain turns an error of the server into one line that says what to do.
func (a *admin) explain(err error) error {
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case pgq.IsNotInstalled(err):
		return fmt.Errorf("%s: [%s] db: pgq is not installed in database %[3]q; install it with: pgqadm %[1]s install", a.ini, pgqadmSection, a.name)
	case pgq.IsQueueNotFound(err) && len(a.args) > 0:
		return a.noQueue(a.args[0])
	case errors.As(err, &pgErr):
		what, _, _ := strings.Cut(err.Error(), ": "+pgErr.Error())
		line := fmt.Sprintf("%s: %s (SQLSTATE %s)", what, pgErr.Message, pgErr.Code)
		if what == err.Error() {
			line = fmt.Sprintf("%s (SQLSTATE %s)", pgErr.Message, pgErr.Code)
		}
		for _, more := range []string{pgErr.Detail, pgErr.Hint} {
			if more != "" {
				line += "; " + strings.TrimSuffix(more, ".")
			}
		}
		return errors.New(line)
	}
	return err
}

func (a *admin) say(format string, args ...any) error {
	_, err := fmt.Fprintf(a.out, format+"\n", args...)
	return err
}

const (
	availableSQL = `
		select installed_version, default_version
		  from pg_catalog.pg_available_extensions
		 where name = 'pgq'`
	installSQL = `create extension pgq`
)

func adminInstall(ctx context.Context, a *admin) error {
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
	if _, err := a.db.Exec(ctx, installSQL); err != nil {
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
	registered, err := pgq.RegisterConsumer(ctx, a.db, a.args[0], a.args[1])
	switch {
	case err != nil:
		return err
	case !registered:
		return a.say("consumer %s is registered on queue %s already", a.args[1], a.args[0])
	}
	return a.say("consumer %s registered on queue %s", a.args[1], a.args[0])
}

func adminUnregister(ctx context.Context, a *admin) error {
	gone, err := pgq.UnregisterConsumer(ctx, a.db, a.args[0], a.args[1])
	switch {
	case err != nil:
		return err
	case gone == 0:
		return fmt.Errorf("consumer %q is not registered on queue %q; list them with: pgqadm %s status", a.args[1], a.args[0], a.ini)
	}
	return a.say("consumer %s removed from queue %s", a.args[1], a.args[0])
}
