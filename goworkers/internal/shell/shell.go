// Package shell is an interactive console for queues: commands of its own for queues
// and consumers, and SQL for everything else.
//
// A Session has one connection and, if the user has named one, a queue that commands
// without a queue mean. A statement ends at a ; outside of quotes; a command also at
// the end of its line. An error is told and the session goes on; Ctrl-C cancels the
// statement that runs, by a cancel request, and keeps the connection. A connection
// that is lost is opened anew before the next statement.
//
// The commands stand in one table (commands.go), which parsing, help and completion
// read; a further family of commands is further entries.
package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"goworkers/batch"
	"goworkers/pgq"
)

// cancelTimeout is how long the server may take to obey a cancel request before the
// connection is given up.
const cancelTimeout = 10 * time.Second

// Config says where a session works, and with whom it talks.
type Config struct {
	// DSN leads to the database. Required.
	DSN batch.ConnString
	// Application is the name that the server is told.
	Application string
	// Program is the name of the program in messages. Default: the application.
	Program string
	// Version is the version of the program.
	Version string
	// Queue is the queue that commands without one mean. Default: none.
	Queue string
	// In is where statements come from. When it is a terminal, and the process's
	// own, there is a prompt, editing, history and completion.
	In io.Reader
	// Out takes results, Err takes errors and notices.
	Out, Err io.Writer
	// History is the file of the history. Default: "", none.
	History string
}

// Session is one console. It belongs to one goroutine.
type Session struct {
	cfg      Config
	db       *pgx.Conn
	override settings // what connect has changed
	queue    string
	ended    bool
}

// settings are those of a connection that the user can change; "" is as before.
type settings struct {
	host, port, user, password, dbname string
}

// New connects.
func New(ctx context.Context, cfg Config) (*Session, error) {
	if cfg.Program == "" {
		cfg.Program = cfg.Application
	}
	s := &Session{cfg: cfg, queue: cfg.Queue}
	db, err := s.open(ctx, s.override)
	if err != nil {
		return nil, err
	}
	s.db = db
	return s, nil
}

// Close ends the connection.
func (s *Session) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.db.Close(ctx) // an error here is only that it was closed already
}

// errInterrupted is what a statement ends with that Ctrl-C has stopped.
var errInterrupted = errors.New("interrupted")

// Run reads statements from In until its end or exit. Errors of statements are told
// and do not end it.
func (s *Session) Run(ctx context.Context) error {
	in, interactive, err := s.input()
	if err != nil {
		return err
	}
	defer in.close()
	var g gatherer
	for !s.ended && ctx.Err() == nil {
		line, err := in.read(s.prompt(g.pending != ""))
		statements := []string(nil)
		switch {
		case errors.Is(err, errInterrupted):
			g.pending = ""
			if line != "" {
				statements = g.add(line)
			}
		case errors.Is(err, io.EOF):
			if interactive {
				fmt.Fprintln(s.cfg.Out)
			}
			statements, s.ended = g.end(), true
		case err != nil:
			return fmt.Errorf("read a statement: %w", err)
		default:
			statements = g.add(line)
		}
		for _, statement := range statements {
			in.keep(statement)
			if err := s.Execute(ctx, statement); err != nil {
				s.tell(err)
			}
		}
	}
	return ctx.Err()
}

// Script runs the statements of a text up to the first error, a *ScriptError.
func (s *Session) Script(ctx context.Context, text string) error {
	var g gatherer
	run := func(statements []string) error {
		for _, statement := range statements {
			if s.ended {
				break
			}
			if err := s.Execute(ctx, statement); err != nil {
				return &ScriptError{Line: g.begun, Err: err}
			}
		}
		return nil
	}
	for line := range strings.Lines(text) {
		if err := run(g.add(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return run(g.end())
}

// ScriptError is an error of a statement, and the line where that begins.
type ScriptError struct {
	Line int
	Err  error
}

func (e *ScriptError) Error() string { return e.Err.Error() }
func (e *ScriptError) Unwrap() error { return e.Err }

// gatherer makes statements of lines. A line that is a command needs no ; behind it.
type gatherer struct {
	pending string // lines of a statement that goes on
	line    int    // number of the last line
	begun   int    // line where the last statements began
}

// longStatement is what is not looked through with each new line.
const longStatement = 64 << 10

func (g *gatherer) add(line string) (statements []string) {
	if g.line++; g.pending == "" {
		g.begun = g.line
	}
	g.pending += line + "\n"
	if len(g.pending) > longStatement && !strings.Contains(line, ";") {
		return nil
	}
	statements, g.pending = split(g.pending)
	if _, _, ok := find(g.pending); ok || strings.HasPrefix(strings.TrimSpace(g.pending), `\`) {
		statements = append(statements, g.end()...)
	}
	return statements
}

// end gives what is there without a ;.
func (g *gatherer) end() []string {
	statements, rest := split(g.pending)
	if rest = strings.TrimSpace(rest); rest != "" {
		statements = append(statements, rest)
	}
	g.pending = ""
	return statements
}

// Execute runs one statement: a command or SQL. Ctrl-C cancels it.
func (s *Session) Execute(ctx context.Context, statement string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	if err := s.reconnect(ctx); err != nil {
		return err
	}
	if c, args, ok := find(statement); ok {
		return s.explain(ctx, s.command(ctx, c, args))
	}
	if strings.HasPrefix(strings.TrimSpace(statement), `\`) {
		return fmt.Errorf("unknown command %s; show help lists the commands", words(statement)[0])
	}
	return s.sql(ctx, statement)
}

// explain says of a command that wants what an old pgq lacks what to do.
func (s *Session) explain(ctx context.Context, err error) error {
	if !pgq.IsNotInstalled(err) {
		return err
	}
	version, versionErr := pgq.Version(ctx, s.db)
	if versionErr != nil || !strings.HasPrefix(version, "3.") {
		return err
	}
	return fmt.Errorf("this needs pgq 4.0 or newer, and database %q has pgq %s; update it with: alter extension pgq update", s.database(), version)
}

// open connects as the settings say. A cancelled context asks the server to cancel
// and keeps the connection.
func (s *Session) open(ctx context.Context, set settings) (*pgx.Conn, error) {
	var port uint16
	if set.port != "" {
		if n, err := fmt.Sscan(set.port, &port); n != 1 || err != nil {
			return nil, fmt.Errorf("port %q is not a port", set.port)
		}
	}
	return batch.Connect(ctx, s.cfg.DSN, s.cfg.Application, func(cfg *pgx.ConnConfig) {
		if set.host != "" {
			cfg.Host, cfg.Fallbacks = set.host, nil
			if cfg.TLSConfig != nil {
				cfg.TLSConfig.ServerName = set.host
			}
		}
		if port != 0 {
			cfg.Port, cfg.Fallbacks = port, nil
		}
		if set.user != "" {
			cfg.User = set.user
		}
		if set.password != "" {
			cfg.Password = set.password
		}
		if set.dbname != "" {
			cfg.Database = set.dbname
		}
		cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { s.notice(n) }
		cfg.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: cancelTimeout}
		}
	})
}

// reconnect opens a connection that was lost anew.
func (s *Session) reconnect(ctx context.Context) error {
	if !s.db.IsClosed() {
		return nil
	}
	db, err := s.open(ctx, s.override)
	if err != nil {
		return fmt.Errorf("the connection was lost: %w", err)
	}
	s.db = db
	fmt.Fprintln(s.cfg.Err, "the connection was lost; connected anew")
	return nil
}

// prompt is queue@db> , and - in place of > where a statement goes on.
func (s *Session) prompt(goesOn bool) string {
	queue := s.queue
	if queue == "" {
		queue = "(noqueue)"
	}
	end := "> "
	if goesOn {
		end = "- "
	}
	return Printable(queue) + "@" + Printable(s.database()) + end
}

func (s *Session) database() string {
	cfg := s.db.Config()
	if cfg.Database == "" {
		return cfg.User
	}
	return cfg.Database
}

func (s *Session) say(format string, args ...any) error {
	_, err := fmt.Fprintf(s.cfg.Out, format+"\n", args...)
	return err
}

func (s *Session) notice(n *pgconn.Notice) {
	fmt.Fprintf(s.cfg.Err, "%s:  %s\n", n.Severity, n.Message)
	s.details(n.Detail, n.Hint)
}

func (s *Session) details(detail, hint string) {
	if detail != "" {
		fmt.Fprintf(s.cfg.Err, "DETAIL:  %s\n", detail)
	}
	if hint != "" {
		fmt.Fprintf(s.cfg.Err, "HINT:  %s\n", hint)
	}
}

// tell writes an error for people.
func (s *Session) tell(err error) {
	var server *pgconn.PgError
	switch {
	case errors.As(err, &server):
		fmt.Fprintf(s.cfg.Err, "%s:  %s (SQLSTATE %s)\n", server.Severity, server.Message, server.Code)
		hint := server.Hint
		if hint == "" && pgq.IsNotInstalled(err) && strings.Contains(server.Message, "pgq.") {
			hint = "Install the extension with: install pgq"
		}
		s.details(server.Detail, hint)
	default:
		fmt.Fprintf(s.cfg.Err, "ERROR:  %v\n", err)
	}
}

var (
	copyIn  = regexp.MustCompile(`(?is)^\s*copy\b.*\bfrom\s+(stdin|'stdin')`)
	copyOut = regexp.MustCompile(`(?is)^\s*copy\b.*\bto\s+stdout`)
)

// sql runs a statement that is not ours, and prints what it gives.
func (s *Session) sql(ctx context.Context, statement string) error {
	conn := s.db.PgConn()
	switch {
	case copyIn.MatchString(statement):
		return errors.New("copy … from stdin is not for this console; use psql")
	case copyOut.MatchString(statement):
		tag, err := conn.CopyTo(ctx, s.cfg.Out, statement)
		if err != nil {
			return s.ending(ctx, err)
		}
		return s.say("%s", tag)
	}
	results := conn.Exec(ctx, statement)
	var printErr error
	for results.NextResult() && printErr == nil {
		printErr = s.result(results.ResultReader())
	}
	if err := results.Close(); err != nil {
		return s.ending(ctx, err)
	}
	return printErr
}

// ending is the error that a statement ended with, told by what the user did.
func (s *Session) ending(ctx context.Context, err error) error {
	var server *pgconn.PgError
	if ctx.Err() != nil && !errors.As(err, &server) {
		return errInterrupted
	}
	return err
}

// result prints one result: rows as a table, else the server's word for what was
// done.
func (s *Session) result(r *pgconn.ResultReader) error {
	fields := r.FieldDescriptions()
	t := &table{}
	for _, f := range fields {
		t.columns = append(t.columns, f.Name)
		t.right = append(t.right, isNumber(f.DataTypeOID))
	}
	for r.NextRow() {
		row := make([]*string, len(fields))
		for i, value := range r.Values() {
			if value != nil {
				text := string(value)
				row[i] = &text
			}
		}
		t.rows = append(t.rows, row)
	}
	tag, err := r.Close()
	switch {
	case err != nil:
		return nil // results.Close tells it
	case len(fields) > 0:
		return t.print(s.cfg.Out)
	case tag.String() == "":
		return nil
	}
	return s.say("%s", tag)
}

// query prints what a statement of ours gives.
func (s *Session) query(ctx context.Context, sql string, args ...any) error {
	t, err := s.table(ctx, sql, args...)
	if err != nil {
		return err
	}
	return t.print(s.cfg.Out)
}

// table reads a query's rows as text.
func (s *Session) table(ctx context.Context, sql string, args ...any) (*table, error) {
	rows, err := s.db.Query(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	t := &table{}
	for _, f := range rows.FieldDescriptions() {
		t.columns = append(t.columns, f.Name)
		t.right = append(t.right, isNumber(f.DataTypeOID))
	}
	for rows.Next() {
		var row []*string
		for _, raw := range rows.RawValues() {
			var cell *string
			if raw != nil {
				text := string(raw)
				cell = &text
			}
			row = append(row, cell)
		}
		t.rows = append(t.rows, row)
	}
	return t, rows.Err()
}

// reader reads lines.
type reader interface {
	read(prompt string) (string, error)
	keep(statement string)
	close()
}

// lines reads from a file or a pipe: no prompt, no history.
type lines struct{ in *bufio.Reader }

func (l lines) read(string) (string, error) {
	line, err := l.in.ReadString('\n')
	if err == io.EOF && line != "" {
		return line, nil
	}
	return strings.TrimSuffix(line, "\n"), err
}

func (lines) keep(string) {}
func (lines) close()      {}
