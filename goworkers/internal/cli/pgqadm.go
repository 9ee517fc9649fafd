package cli

// pgqadm: install pgq and look after queues and consumers.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/shell"
	"goworkers/internal/ticker"
	"goworkers/pgq"
)

const pgqadmSection = "pgqadm"

// admin is one admin command under way.
type admin struct {
	ini      string
	dsn      batch.ConnString
	job      string // its name, which the server is told
	db       *pgx.Conn
	name     string // of the database
	version  string // of pgq in it, once it is known
	args     []string
	json     bool
	checkLag time.Duration
	set      map[string]bool   // switches given
	values   map[string]string // switches given that have a value
	out      io.Writer
	err      io.Writer
}

// adminCommand is what stands behind the ini file.
type adminCommand struct {
	name, args, usage string
	min, max          int      // of arguments; max -1 is any number
	switches          []string // that it knows
	values            []string // that it knows and that have a value
	noSchema          bool     // works without pgq
	connects          bool     // opens its connection itself
	alone             bool     // not twice at a time: takes pidfile + ".admin"
	lists             bool     // what it prints is the result, -q or not
	run               func(ctx context.Context, a *admin) error
}

var adminCommands = []adminCommand{
	{name: "install", args: "[--plonly [--script FILE]]", usage: "create the extension pgq; --plonly: by a script, on servers that take no library",
		switches: []string{"plonly"}, values: []string{"script"}, noSchema: true, alone: true, run: adminInstall},
	{name: "version", args: "[--json]", usage: "show the versions of program, pgq and server",
		switches: []string{"json"}, noSchema: true, lists: true, run: adminVersion},
	{name: "ticker", usage: "run the ticker; -d -s -k -r are for it"},
	{name: "status", args: "[--json]", usage: "show queues and consumers",
		switches: []string{"json"}, lists: true, run: adminStatus},
	{name: "check", args: "[--lag SECONDS] [--json]", usage: "name what wants a person; exit code 1 if anything does",
		switches: []string{"json"}, values: []string{"lag"}, lists: true, run: adminCheck},
	{name: "blockers", args: "[--json]", usage: "show what keeps queues from rotating their tables",
		switches: []string{"json"}, lists: true, run: adminBlockers},
	{name: "create", args: "QUEUE", usage: "create a queue", min: 1, max: 1, run: adminCreate},
	{name: "drop", args: "QUEUE [--force]", usage: "drop a queue; --force: with its consumers",
		min: 1, max: 1, switches: []string{"force"}, run: adminDrop},
	{name: "config", args: "[QUEUE [KEY=VALUE …]] [--json]", usage: "show or set parameters of queues; value none: not set",
		max: -1, switches: []string{"json"}, lists: true, run: adminConfig},
	{name: "rebase", args: "QUEUE", usage: "repair a queue that was restored into another server",
		min: 1, max: 1, alone: true, run: adminRebase},
	{name: "register", args: "QUEUE CONSUMER [--at TICK]", usage: "register a consumer, or move it to a tick",
		min: 2, max: 2, values: []string{"at", "slots", "key"}, run: adminRegister},
	{name: "register", args: "QUEUE CONSUMER --slots N [--key FIELD]", usage: "register a consumer of N parallel slots"},
	{name: "unregister", args: "QUEUE CONSUMER", usage: "remove a consumer from a queue", min: 2, max: 2, run: adminUnregister},
	{name: "consumer-config", args: "[QUEUE [CONSUMER [KEY=VALUE …]]] [--json]", usage: "show or set parameters of consumers",
		max: -1, switches: []string{"json"}, lists: true, run: adminConsumerConfig},
	{name: "pause", args: "QUEUE CONSUMER", usage: "give a consumer no batches", min: 2, max: 2, run: adminPause},
	{name: "resume", args: "QUEUE CONSUMER", usage: "give it batches again", min: 2, max: 2, run: adminResume},
	{name: "seek", args: "QUEUE CONSUMER TIME", usage: "move a consumer to a time: 2026-11-22 14:00, or 2 hours ago",
		min: 3, max: -1, run: adminSeek},
	{name: "dlq list", args: "QUEUE CONSUMER [--limit N] [--json]", usage: "show events that a consumer has given up"},
	{name: "dlq count", args: "[QUEUE CONSUMER] [--json]", usage: "count them"},
	{name: "dlq retry", args: "QUEUE CONSUMER EVENT …|--all", usage: "put them back into the queue for this consumer"},
	{name: "dlq delete", args: "QUEUE CONSUMER EVENT …|--all", usage: "forget them"},
	{name: "dlq", args: "list|count|retry|delete …", min: 1, max: -1,
		switches: []string{"json", "all"}, values: []string{"limit"}, lists: true, run: adminDeadLetters},
	{name: "shell", args: "[-Q QUEUE] [-c STATEMENTS | -f FILE]", usage: "a console for commands and SQL; show help lists them",
		values: []string{"Q", "c", "f"}, connects: true, lists: true, run: adminShell},
}

func newPgqadm() *cli.Command {
	var help strings.Builder
	help.WriteString("Works on the database that db names in the section [pgqadm]. Commands:\n\n")
	for _, c := range adminCommands {
		if c.usage == "" {
			continue
		}
		line := strings.TrimSpace(c.name + " " + c.args)
		if len(line) >= helpIndent {
			line += "\n" + strings.Repeat(" ", helpIndent+3)
		}
		fmt.Fprintf(&help, "   %-*s%s\n", helpIndent, line, c.usage)
	}
	help.WriteString("\ninstall --plonly takes " + plonlyScript + " from share/skytools beside the program's folder, or from the\n" +
		"extensions of the server that pg_config (or $PG_CONFIG) tells of.\n")
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

// helpIndent is where the help tells what a command does.
const helpIndent = 36

// adminCommandNames are those of the commands that can be run.
func adminCommandNames() (names []string) {
	for _, c := range adminCommands {
		if c.run != nil || c.name == "ticker" {
			names = append(names, c.name)
		}
	}
	return names
}

func runAdmin(ctx context.Context, opt batch.Options, args []string) error {
	if len(args) == 0 {
		return batch.Usagef("no command given; behind the ini file stands one of %s", strings.Join(adminCommandNames(), ", "))
	}
	if strings.HasPrefix(args[0], "-") {
		return batch.Usagef("option %s stands behind the ini file; usage: pgqadm [options] CONFIG.ini COMMAND [arguments]", args[0])
	}
	if !slices.Contains(adminCommandNames(), args[0]) {
		return batch.Usagef("unknown command %q; it is one of %s", args[0], strings.Join(adminCommandNames(), ", "))
	}
	if i := slices.Index(args, ""); i > 0 {
		return batch.Usagef("argument %d of %s is empty", i, args[0])
	}
	command := adminCommands[slices.IndexFunc(adminCommands, func(c adminCommand) bool { return c.name == args[0] })]
	a := &admin{ini: opt.Path, out: opt.Stdout, err: opt.Stderr}
	if err := a.parse(command, args[1:]); err != nil {
		return err
	}
	if command.name == "ticker" {
		return runPgqadmTicker(ctx, opt)
	}
	if opt.Daemon {
		return batch.Usagef("%s does not run in the background; only ticker does", command.name)
	}
	if opt.Quiet && !command.lists {
		a.out = io.Discard
	}

	var cfg ticker.Config
	if _, err := batch.LoadConfig(pgqadmSection, &cfg, opt); err != nil {
		return err
	}
	if command.alone && cfg.PidFile != "" {
		// Never that of the ticker, which goes on meanwhile.
		pidfile, err := batch.WritePidFile(cfg.PidFile + ".admin")
		if err != nil {
			return err
		}
		defer pidfile.Remove()
	}
	a.dsn, a.job, a.json, a.checkLag = cfg.DB, cfg.JobName, a.set["json"], cfg.CheckLag
	if command.connects {
		return command.run(ctx, a)
	}
	db, err := batch.Connect(ctx, cfg.DB, cfg.JobName)
	if err != nil {
		return fmt.Errorf("%s: [%s] db: %w", opt.Path, pgqadmSection, err)
	}
	defer db.Close(context.WithoutCancel(ctx))
	a.db, a.name = db, db.Config().Database
	if !command.noSchema {
		if err := a.checkVersion(ctx); err != nil {
			return err
		}
	}
	return a.explain(command.run(ctx, a))
}

// parse sorts what stands behind a command's name into arguments and switches.
func (a *admin) parse(command adminCommand, args []string) error {
	a.set, a.values = map[string]bool{}, map[string]string{}
	usage := strings.TrimSpace("pgqadm [options] CONFIG.ini " + command.name + " " + command.args)
	for i := 0; i < len(args); i++ {
		if args[i] == "--" { // what follows are names, whatever they begin with
			a.args = append(a.args, args[i+1:]...)
			break
		}
		if !strings.HasPrefix(args[i], "-") {
			a.args = append(a.args, args[i])
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case slices.Contains(command.values, name):
			if !hasValue {
				if i++; i == len(args) {
					return batch.Usagef("option --%s of %s needs a value", name, command.name)
				}
				value = args[i]
			}
			a.values[name] = value
		case slices.Contains(command.switches, name) && !hasValue:
			a.set[name] = true
		default:
			return batch.Usagef("%s has no option %s; usage: %s", command.name, args[i], usage)
		}
	}
	if n := len(a.args); n < command.min || (n > command.max && command.max >= 0) {
		return batch.Usagef("wrong number of arguments; usage: %s", usage)
	}
	return nil
}

// number reads the value of a switch that is a number; without the switch it is
// fallback.
func (a *admin) number(name string, fallback, least int64) (int64, error) {
	text, given := a.values[name]
	if !given {
		return fallback, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least {
		return 0, batch.Usagef("--%s %q: give a whole number, %d or more", name, text, least)
	}
	return n, nil
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
	a.version = version
	return nil
}

// explain turns an error of the server into one line that says what to do.
func (a *admin) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case pgq.IsNotInstalled(err) && a.old():
		return a.tooOld("this")
	case pgq.IsNotInstalled(err) && a.version == "":
		return fmt.Errorf("%s: [%s] db: pgq is not installed in database %[3]q; install it with: pgqadm %[1]s install", a.ini, pgqadmSection, a.name)
	case pgq.IsQueueNotFound(err) && a.queue() != "":
		return a.noQueue(a.queue())
	case pgq.IsNotSubscribed(err) && a.consumer() != "":
		return a.noConsumer(a.queue(), a.consumer())
	}
	return serverError(err)
}

// serverError turns an error that comes from a server into one line.
func serverError(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
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

// old tells whether the database has a pgq from before 4.0: one that lacks much of
// what we can do.
func (a *admin) old() bool {
	return a.version != "" && strings.HasPrefix(a.version, "3")
}

// tooOld is the error of what an old pgq lacks.
func (a *admin) tooOld(what string) error {
	return fmt.Errorf("%s needs pgq 4.0 or newer, and database %q has pgq %s; update it with: alter extension pgq update", what, a.name, a.version)
}

// queue is the queue that the command names, consumer the consumer; "" is none.
func (a *admin) queue() string    { return a.arg(0) }
func (a *admin) consumer() string { return a.arg(1) }

func (a *admin) arg(i int) string {
	if i < len(a.args) {
		return a.args[i]
	}
	return ""
}

func (a *admin) noQueue(queue string) error {
	return fmt.Errorf("queue %q does not exist; create it with: pgqadm %s create %s", queue, a.ini, queue)
}

func (a *admin) noConsumer(queue, consumer string) error {
	return fmt.Errorf("consumer %q is not registered on queue %q; list them with: pgqadm %s status", consumer, queue, a.ini)
}

// say prints a line; what names hold must not steer the terminal.
func (a *admin) say(format string, args ...any) error {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = shell.Printable(text)
		}
	}
	_, err := fmt.Fprintf(a.out, format+"\n", args...)
	return err
}

func (a *admin) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
