package consumers

// The data maintainer: a statement for each row of a list of keys, in small commits, so
// that a change of very many rows holds up nobody.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/sirupsen/logrus"

	"goworkers/batch"
	"goworkers/pgq"
)

// DataMaintainerService is the data maintainer's section in the ini file.
const DataMaintainerService = "data_maintainer"

// DataMaintainerConfig holds the keys of a data maintainer.
type DataMaintainerConfig struct {
	batch.JobConfig
	// LoopDelay is the pause between two runs. Default: -1, one run.
	LoopDelay time.Duration `ini:"loop_delay" default:"-1" help:"seconds between two runs; -1: one run, as for cron"`

	// DBRead has the keys, if no file has them.
	DBRead batch.ConnString `ini:"dbread" help:"connection string of the database that sql_get_pk_list is run in"`
	// SQLGetPKList selects the keys. Required with DBRead.
	SQLGetPKList string `ini:"sql_get_pk_list" help:"query for the rows to work on, as a rule their keys"`
	// FileRead is the CSV file with the keys.
	FileRead string `ini:"fileread" path:"true" help:"CSV file with the rows to work on, instead of dbread; its first line names the columns"`
	// CSVDelimiter stands between fields. Default: a comma.
	CSVDelimiter string `ini:"csv_delimiter" default:"," help:"character between the fields of the file; \\t is a tab"`
	// CSVQuoteChar stands around fields. Default: a double quote.
	CSVQuoteChar string `ini:"csv_quotechar" default:"\"" help:"character around fields with special characters"`
	// CSVEmptyNull reads empty fields without quotes as NULL. Default: false, they are
	// empty texts.
	CSVEmptyNull bool `ini:"csv_empty_null" default:"0" help:"an empty field without quotes is NULL, as COPY writes it; 0: an empty text"`
	// SkipRows passes by the first rows of the file, to go on where a run has ended.
	SkipRows int `ini:"skip_rows" default:"0" min:"0" help:"rows of the file to pass by, to go on where a run has ended"`

	// DBWrite is the database that is changed. Required.
	DBWrite batch.ConnString `ini:"dbwrite" required:"true" help:"connection string of the database that sql_modify is run in"`
	// SQLModify is run for each row. Required.
	SQLModify string `ini:"sql_modify" raw:"true" required:"true" help:"statement to run for each row; %(name)s is the column of that name"`

	DBBefore     batch.ConnString `ini:"dbbefore" help:"connection string for sql_before_run; default: dbwrite"`
	SQLBeforeRun string           `ini:"sql_before_run" raw:"true" help:"statement to run first; may have %(job_name)s"`
	DBAfter      batch.ConnString `ini:"dbafter" help:"connection string for sql_after_run; default: dbwrite"`
	SQLAfterRun  string           `ini:"sql_after_run" raw:"true" help:"statement to run when all rows are done; may have %(job_name)s and %(rows)s"`
	DBCrash      batch.ConnString `ini:"dbcrash" help:"connection string for sql_on_crash; default: dbwrite"`
	SQLOnCrash   string           `ini:"sql_on_crash" raw:"true" help:"statement to run when a run fails; may have %(job_name)s, %(rows)s and %(error)s"`
	DBThrottle   batch.ConnString `ini:"dbthrottle" help:"connection string for sql_throttle; default: dbwrite"`
	SQLThrottle  string           `ini:"sql_throttle" help:"query whose first value says whether to wait: true or a number other than 0"`

	// WithHold has the server keep the list, so that no transaction stays open. Default: true.
	WithHold bool `ini:"with_hold" default:"1" help:"have dbread keep the list, so that no transaction stays open there; 0: one transaction while the run lasts"`
	// FetchCount is how many rows are read at a time, and committed together without
	// Autocommit. Default: 100.
	FetchCount int `ini:"fetch_count" default:"100" min:"1" help:"rows to read at a time, and to commit together with autocommit = 0"`
	// Autocommit commits each row. Default: true.
	Autocommit bool `ini:"autocommit" default:"1" help:"commit each row; 0: commit fetch_count rows together, which is faster"`
	// CommitDelay is the pause after each commit. Default: 0.
	CommitDelay time.Duration `ini:"commit_delay" default:"0" min:"0" help:"seconds to rest after each commit"`
	// AfterZeroRows runs SQLAfterRun even when there were no rows. Default: true.
	AfterZeroRows bool `ini:"after_zero_rows" default:"1" help:"run sql_after_run even when there were no rows"`

	// Progress is a terminal that a line about the progress is kept on. Default: none.
	Progress io.Writer
}

// Common gives the framework its part; a run is not repeated unless the file says so.
func (c *DataMaintainerConfig) Common() *batch.JobConfig {
	c.JobConfig.LoopDelay = c.LoopDelay
	return &c.JobConfig
}

// Validate finds what does not go together.
func (c *DataMaintainerConfig) Validate() []batch.Problem {
	var problems []batch.Problem
	fault := func(key, format string, args ...any) {
		problems = append(problems, batch.Problem{Key: key, What: fmt.Sprintf(format, args...)})
	}
	switch {
	case c.SQLGetPKList == "" && c.FileRead == "":
		fault("sql_get_pk_list", "is missing, and so is fileread; write the query for the rows with its dbread, or the file that has them")
	case c.SQLGetPKList != "" && c.FileRead != "":
		fault("fileread", "stands beside sql_get_pk_list; keep one of them")
	case c.SQLGetPKList != "" && c.DBRead == "":
		fault("dbread", "is missing; write the connection string of the database for sql_get_pk_list")
	case c.SQLGetPKList != "" && c.SkipRows > 0:
		fault("skip_rows", "is for fileread; let the condition of sql_get_pk_list leave out what is done")
	}
	if _, err := csvByte(c.CSVDelimiter); err != nil {
		fault("csv_delimiter", "%v", err)
	}
	if _, err := csvByte(c.CSVQuoteChar); err != nil {
		fault("csv_quotechar", "%v", err)
	} else if c.CSVQuoteChar == c.CSVDelimiter {
		fault("csv_quotechar", "is the same as csv_delimiter")
	}
	if _, err := parseOne(sqlModify, c.SQLModify); err != nil {
		fault(sqlModify, "%v", err)
	}
	for _, h := range c.hooks() {
		if _, err := h.parse(); err != nil {
			fault(h.key, "%v", err)
		}
	}
	return problems
}

const sqlModify = "sql_modify"

// csvByte is the character that a key gives.
func csvByte(text string) (byte, error) {
	switch {
	case text == `\t`:
		return '\t', nil
	case len(text) != 1 || text[0] >= 0x80 || text == "\n" || text == "\r":
		return 0, errors.New("must be one character of ASCII")
	}
	return text[0], nil
}

// hook is a statement beside the main one.
type hook struct {
	key, text  string
	dbKey      string
	db         batch.ConnString
	parameters []string // that it may have
}

func (c *DataMaintainerConfig) hooks() []hook {
	all := []hook{
		{"sql_before_run", c.SQLBeforeRun, "dbbefore", c.DBBefore, []string{"job_name"}},
		{"sql_after_run", c.SQLAfterRun, "dbafter", c.DBAfter, []string{"job_name", "rows"}},
		{"sql_on_crash", c.SQLOnCrash, "dbcrash", c.DBCrash, []string{"job_name", "rows", "error"}},
	}
	return slices.DeleteFunc(all, func(h hook) bool { return h.text == "" })
}

// parse reads a hook's statement; one without placeholders may be several.
func (h *hook) parse() (*query, error) {
	q, err := parseQuery(h.key, h.text)
	if err != nil {
		return nil, err
	}
	for _, name := range q.names {
		if !slices.Contains(h.parameters, name) {
			return nil, fmt.Errorf("has %%(%s)s; it may have %%(%s)s", name, strings.Join(h.parameters, ")s, %("))
		}
	}
	if q.several && len(q.names) > 0 {
		return nil, errors.New("is more than one statement; with placeholders it can only be one")
	}
	return q, nil
}

// DataMaintainer is a Worker that runs a statement for each row of a list. What was
// committed stays when a run ends early. The next run gets its list anew: so the
// statement should hold the condition of the list once more, and change no row twice.
type DataMaintainer struct {
	job    *batch.Job
	cfg    DataMaintainerConfig
	modify *query
	hooks  map[string]*query

	rows, modified int64 // of this run: done, and changed according to the server
	began          bool  // sql_before_run may have had effects
	throttleAsked  time.Time
	progress       progress
}

// NewDataMaintainer makes a data maintainer.
func NewDataMaintainer(job *batch.Job, cfg DataMaintainerConfig) (*DataMaintainer, error) {
	if problems := cfg.Validate(); len(problems) > 0 {
		return nil, batch.Usagef("%s: %s", job.Config.Key(problems[0].Key), problems[0].What)
	}
	m := &DataMaintainer{job: job, cfg: cfg, hooks: map[string]*query{}}
	m.modify, _ = parseOne(sqlModify, cfg.SQLModify) // valid, see above
	for _, h := range cfg.hooks() {
		m.hooks[h.key], _ = h.parse()
	}
	return m, nil
}

// errStopped ends a run between two commits since the operator wants it.
var errStopped = errors.New("stopped")

// Work does one run.
func (m *DataMaintainer) Work(ctx context.Context) (more bool, err error) {
	m.rows, m.modified, m.began, m.throttleAsked = 0, 0, false, time.Time{}
	m.progress = progress{job: m.job, out: m.cfg.Progress, period: m.job.Config.StatsPeriod, started: time.Now()}
	err = m.run(ctx)
	m.progress.over()
	m.job.Stats.Add("count", int(m.rows))
	m.job.Stats.Add("modified", int(m.modified))
	m.job.Stats.AddDuration("duration", time.Since(m.progress.started))
	log := m.job.Log.WithFields(logrus.Fields{"rows": m.rows, "modified": m.modified, "duration": time.Since(m.progress.started).Round(time.Millisecond)})
	switch {
	case err == nil:
		log.Info("run finished")
		return false, nil
	case errors.Is(err, errStopped):
		log.Info("run stopped between two commits" + m.howToGoOn())
		return false, nil
	}
	if m.rows > 0 {
		log.Warn("run failed, what was committed stays" + m.howToGoOn())
	}
	return false, errors.Join(err, m.crashed(err))
}

// howToGoOn says what the next run has to know.
func (m *DataMaintainer) howToGoOn() string {
	if m.cfg.FileRead == "" {
		return ""
	}
	return fmt.Sprintf("; go on with --set skip_rows=%d", int64(m.cfg.SkipRows)+m.rows)
}

func (m *DataMaintainer) run(ctx context.Context) error {
	write, err := m.job.DB(ctx, "dbwrite", m.cfg.DBWrite)
	if err != nil {
		return err
	}
	m.began = true
	if err := m.hook(ctx, "sql_before_run", nil); err != nil {
		return err
	}
	// Only now: what they name may be made by sql_before_run.
	if err := m.check(ctx, write); err != nil {
		return err
	}
	rows, err := m.open(ctx)
	if err != nil {
		return err
	}
	defer rows.close()
	columns, err := m.columns(rows.names())
	if err != nil {
		return err
	}
	for {
		if err := m.mayGoOn(ctx); err != nil {
			return err
		}
		portion, err := rows.next(ctx, m.cfg.FetchCount)
		if err != nil {
			return err
		}
		if len(portion) == 0 {
			break
		}
		args := make([][][]byte, len(portion))
		for i, row := range portion {
			args[i] = make([][]byte, len(columns))
			for j, column := range columns {
				args[i][j] = row[column]
			}
		}
		if m.cfg.Autocommit {
			err = m.each(ctx, write, args, rows)
		} else {
			err = m.together(ctx, write, args, rows)
		}
		if err != nil {
			return err
		}
	}
	if err := rows.close(); err != nil {
		return err
	}
	if m.rows == 0 && !m.cfg.AfterZeroRows {
		return nil
	}
	return m.hook(ctx, "sql_after_run", nil)
}

// check has the server read the statements that come later, since a run may take days
// until then.
func (m *DataMaintainer) check(ctx context.Context, write *pgx.Conn) error {
	if err := m.modify.check(ctx, write.PgConn(), &m.job.Config); err != nil {
		return err
	}
	for _, h := range m.cfg.hooks() {
		q := m.hooks[h.key]
		if q.several || h.key == "sql_before_run" {
			continue
		}
		conn, err := m.db(ctx, h.dbKey, h.db)
		if err != nil {
			return err
		}
		if err := q.check(ctx, conn, &m.job.Config); err != nil {
			return err
		}
	}
	return nil
}

// db opens the connection under a key, which is dbwrite's when the key is not set.
func (m *DataMaintainer) db(ctx context.Context, key string, dsn batch.ConnString) (*pgconn.PgConn, error) {
	if dsn == "" {
		dsn = m.cfg.DBWrite
	}
	conn, err := m.job.DB(ctx, key, dsn)
	if err != nil {
		return nil, err
	}
	return conn.PgConn(), nil
}

// hook runs a statement beside the main one, if there is such a one.
func (m *DataMaintainer) hook(ctx context.Context, key string, fault error) error {
	q, found := m.hooks[key]
	if !found {
		return nil
	}
	all := m.cfg.hooks()
	h := all[slices.IndexFunc(all, func(h hook) bool { return h.key == key })]
	conn, err := m.db(ctx, h.dbKey, h.db)
	if err != nil {
		return err
	}
	if len(q.names) == 0 {
		_, err = conn.Exec(ctx, q.sql).ReadAll()
	} else {
		args, _ := q.args(func(name string) (pgtype.Text, bool) { // parse has seen to the names
			switch name {
			case "rows":
				return pgq.Text(strconv.FormatInt(m.rows, 10)), true
			case "error":
				return pgq.Text(fmt.Sprint(fault)), true
			}
			return pgq.Text(m.job.Config.JobName), true
		}, nil)
		err = conn.ExecParams(ctx, q.sql, args, nil, nil, nil).Read().Err
	}
	if err != nil {
		return fmt.Errorf("%s: %w%s", m.job.Config.Key(key), err, q.legend())
	}
	return nil
}

// crashTimeout is how long sql_on_crash may take: the job may have been told to end.
const crashTimeout = 5 * time.Second

func (m *DataMaintainer) crashed(fault error) error {
	if !m.began {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), crashTimeout)
	defer cancel()
	return m.hook(ctx, "sql_on_crash", fault)
}

// columns finds the statement's parameters among the columns of the list.
func (m *DataMaintainer) columns(names []string) ([]int, error) {
	columns := make([]int, len(m.modify.names))
	for i, name := range m.modify.names {
		at := slices.Index(names, name)
		if at < 0 {
			return nil, batch.SetupError(fmt.Errorf("%s: needs the column %q, but the rows have %s", m.job.Config.Key(sqlModify), name, strings.Join(names, ", ")))
		}
		if slices.Contains(names[at+1:], name) {
			return nil, batch.SetupError(fmt.Errorf("%s: needs the column %q, but the rows have two of that name", m.job.Config.Key(sqlModify), name))
		}
		columns[i] = at
	}
	return columns, nil
}

// each runs and commits the statement for one row after the other, so that nothing is
// done behind a row that fails.
func (m *DataMaintainer) each(ctx context.Context, write *pgx.Conn, args [][][]byte, rows rowSource) error {
	for i, values := range args {
		if i > 0 {
			if err := m.mayGoOn(ctx); err != nil {
				return err
			}
		}
		result := write.PgConn().ExecParams(ctx, m.modify.sql, values, nil, nil, nil).Read()
		if result.Err != nil {
			return m.rowFault(1, values, result.Err)
		}
		m.committed(1, result.CommandTag.RowsAffected(), rows)
		if err := m.rest(ctx, m.cfg.CommitDelay); err != nil {
			return err
		}
	}
	return nil
}

// together runs the statement for all of the rows in one transaction.
func (m *DataMaintainer) together(ctx context.Context, write *pgx.Conn, args [][][]byte, rows rowSource) error {
	var modified int64
	err := pgx.BeginFunc(ctx, write, func(tx pgx.Tx) error {
		failed, err := m.modify.runAll(ctx, write.PgConn(), len(args),
			func(i int) [][]byte { return args[i] },
			func(_ int, r *pgconn.ResultReader) error {
				tag, err := r.Close()
				modified += tag.RowsAffected()
				return err
			})
		if failed >= 0 {
			return m.rowFault(int64(failed)+1, args[failed], err)
		}
		return err
	})
	if err != nil {
		return err
	}
	m.committed(int64(len(args)), modified, rows)
	return m.rest(ctx, m.cfg.CommitDelay)
}

// rowFault tells which row an error came of.
func (m *DataMaintainer) rowFault(ahead int64, values [][]byte, err error) error {
	var row strings.Builder
	for i, name := range m.modify.names {
		if i > 0 {
			row.WriteString(", ")
		}
		if values[i] == nil {
			fmt.Fprintf(&row, "%s NULL", name)
		} else {
			fmt.Fprintf(&row, "%s %q", name, clip(string(values[i])))
		}
	}
	return fmt.Errorf("%s: row %d (%s): %w", m.job.Config.Key(sqlModify), int64(m.cfg.SkipRows)+m.rows+ahead, row.String(), err)
}

func (m *DataMaintainer) committed(rows, modified int64, source rowSource) {
	m.rows += rows
	m.modified += modified
	m.progress.tell(m.rows, m.modified, source)
	m.job.Progress()
}

// mayGoOn waits while sql_throttle wants it, and says errStopped when the run shall
// end.
func (m *DataMaintainer) mayGoOn(ctx context.Context) error {
	if m.stopped() {
		return errStopped
	}
	if m.cfg.SQLThrottle == "" || time.Since(m.throttleAsked) < throttlePeriod {
		return nil
	}
	waiting := false
	for {
		wait, err := m.throttled(ctx)
		m.throttleAsked = time.Now()
		if err != nil {
			return err
		}
		if !wait {
			if waiting {
				m.job.Log.Info("sql_throttle lets the run go on")
			}
			return nil
		}
		if !waiting {
			waiting = true
			m.job.Log.Info("sql_throttle has the run wait")
		}
		if err := m.rest(ctx, throttlePeriod); err != nil {
			return err
		}
		if m.stopped() {
			return errStopped
		}
	}
}

// throttlePeriod is how often sql_throttle is asked.
const throttlePeriod = time.Second

func (m *DataMaintainer) throttled(ctx context.Context) (bool, error) {
	conn, err := m.db(ctx, "dbthrottle", m.cfg.DBThrottle)
	if err != nil {
		return false, err
	}
	results, err := conn.Exec(ctx, m.cfg.SQLThrottle).ReadAll()
	if err != nil {
		return false, fmt.Errorf("%s: %w", m.job.Config.Key("sql_throttle"), err)
	}
	if len(results) == 0 || len(results[0].Rows) == 0 || len(results[0].Rows[0]) == 0 {
		return false, nil
	}
	switch string(results[0].Rows[0][0]) { // NULL is ""
	case "", "f", "0", "false":
		return false, nil
	}
	return true, nil
}

func (m *DataMaintainer) stopped() bool {
	if m.job.Signals == nil {
		return false
	}
	select {
	case <-m.job.Signals.Stop:
		return true
	default:
		return false
	}
}

// rest pauses, until the run shall end at most.
func (m *DataMaintainer) rest(ctx context.Context, pause time.Duration) error {
	if pause <= 0 {
		return ctx.Err()
	}
	var stop <-chan struct{} // nil: never
	if m.job.Signals != nil {
		stop = m.job.Signals.Stop
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	beats, end := m.job.Beat()
	defer end()
	for {
		select {
		case <-beats:
			m.job.Progress()
			continue
		case <-timer.C:
		case <-stop:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
}
