package consumers

// Loading: rows of events into tables of a target database, as sets. Rows are gathered
// by table in COPY's own format up to loadBudget bytes, whatever the size of the batch,
// and go there by COPY, straight or through a temporary table.
//
// A set that the server refuses is split until the rows are found that are the cause;
// those events are put aside, and the others go on.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sirupsen/logrus"

	"goworkers/batch"
	"goworkers/pgq"
)

// loadBudget is how many bytes of rows wait for being loaded. Tests have less.
var loadBudget = 8 << 20

// loadMode is what becomes of the rows.
type loadMode int

const (
	loadPlain   loadMode = iota // each event is a row to insert
	loadLatest                  // of each key the latest row stays
	loadBulk                    // inserts, updates and deletes are carried out
	loadMerge                   // the same, updates as delete and insert
	loadUpsert                  // the same, inserts and updates as delete and insert
	loadReplace                 // the old rows of all keys go first; no mode of a dest
)

// loader loads for one worker of a job. What it knows of the target's tables stays from batch to
// batch, until an error.
type loader struct {
	job    *batch.Job
	bad    batch.BadEvents
	budget int
	unique map[string]bool // tables by table and key: whether an index makes the key unique
	tables map[string]columns
	parts  partitions
}

// newLoader makes the loader of the n-th worker of a job.
func newLoader(n int, job *batch.Job, dst batch.ConnString, bad batch.BadEvents, template string) *loader {
	return &loader{
		job: job, bad: bad, budget: loadBudget,
		parts: partitions{job: job, dst: dst, key: fmt.Sprintf("dst_db/partitions/%d", n), template: template},
	}
}

// forget drops what the loader believes of the target.
func (l *loader) forget() {
	l.unique, l.tables = nil, nil
	l.parts.known = nil
}

// loading is the loading of one batch.
type loading struct {
	*loader
	b      *batch.Batch
	tx     pgx.Tx
	dests  map[string]*dest
	order  []*dest // as they came
	last   *dest
	held   int // bytes
	fields []field
}

func (l *loader) begin(b *batch.Batch, tx pgx.Tx) *loading {
	return &loading{loader: l, b: b, tx: tx, dests: map[string]*dest{}}
}

// badRow is what is wrong with one event.
type badRow struct{ what string }

func (e *badRow) Error() string { return e.what }

func badRowf(format string, args ...any) error { return &badRow{fmt.Sprintf(format, args...)} }

// run loads all events of the batch. place finds an event's table and operation, or tells
// that it is not to be loaded (nil). Its error is a badRow, or that of the whole batch.
func (l *loading) run(ctx context.Context, place func(ev *pgq.Event, fields []field) (*dest, byte, error)) (err error) {
	defer func() {
		if err != nil {
			l.forget()
		}
	}()
	for ev, err := range l.b.Events() {
		if err != nil {
			return err
		}
		err := l.add(ctx, ev, place)
		var bad *badRow
		switch {
		case errors.As(err, &bad):
			err = l.bad.PutAside(l.job, l.b, ev, bad)
		case err == nil && l.held >= l.budget:
			err = l.flush(ctx)
		}
		if err != nil {
			return err
		}
	}
	return l.flush(ctx)
}

// add puts an event's row to the others of its table.
func (l *loading) add(ctx context.Context, ev *pgq.Event, place func(ev *pgq.Event, fields []field) (*dest, byte, error)) error {
	data := ev.Data.String
	if strings.HasPrefix(data, "{") {
		row, err := pgq.DecodeJSON(data)
		if err != nil {
			return badRowf("its data is no row of pgq.jsontriga: %v", err)
		}
		data = row.Encode()
	}
	l.fields = splitRow(l.fields[:0], data)
	d, op, err := place(ev, l.fields)
	if err != nil || d == nil {
		return err
	}
	return d.add(ctx, ev, op, l.fields)
}

// dest finds a table to load into. make is called for one that is new in this batch.
func (l *loading) dest(table string, make func() (*dest, error)) (*dest, error) {
	if l.last != nil && l.last.table == table {
		return l.last, nil
	}
	d := l.dests[table]
	if d == nil {
		var err error
		if d, err = make(); err != nil {
			return nil, err
		}
		d.l, d.table, d.number = l, table, len(l.order)
		l.dests[table] = d
		l.order = append(l.order, d)
	}
	l.last = d
	return d, nil
}

func (l *loading) flush(ctx context.Context) error {
	for _, d := range l.order {
		if err := d.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// dest is a table with the rows that wait for it.
type dest struct {
	l      *loading
	number int
	table  string // schema.table
	mode   loadMode
	key    []string          // columns of the key, where the mode has one
	rename map[string]string // columns to load, and what they are in the table; nil is all

	// How rows look: changed by an event of another form, when no rows wait.
	names   []string // of the events' fields, as they stand there
	take    []int    // which of them is the n-th column
	columns []string
	keyAt   []int // which columns are the key

	rows   []loadRow
	buf    []byte
	latest map[string]int // of rows, by key
	keyBuf []byte
	cells  []int // where the cells of the last row end

	staged bool // its temporary table is there
}

// loadRow is a line of a dest's buffer.
type loadRow struct {
	event      int64
	start, end int
	first, op  byte // of the key's events since the last load
	dead       bool
}

// rekey takes over another key, as after the source's table got another one.
func (d *dest) rekey(ctx context.Context, key []string) error {
	if slices.Equal(d.key, key) {
		return nil
	}
	if err := d.flush(ctx); err != nil {
		return err
	}
	d.key, d.names = key, nil
	return nil
}

// fits tells whether an event's row has the form of those before it.
func (d *dest) fits(fields []field) bool {
	if len(fields) != len(d.names) {
		return false
	}
	for i := range fields {
		if fields[i].name != d.names[i] {
			return false
		}
	}
	return true
}

// columns are those of a table of the target: whether they can be written to.
type columns map[string]bool

const columnsSQL = `
	select a.attname::text, a.attgenerated = ''
	  from pg_catalog.pg_attribute a
	 where a.attrelid = $1::text::pg_catalog.regclass and a.attnum > 0 and not a.attisdropped`

// target gives the columns of the table; again asks once more for what was asked before.
func (d *dest) target(ctx context.Context, again bool) (columns, error) {
	if known := d.l.tables[d.table]; known != nil && !again {
		return known, nil
	}
	list := columns{}
	rows, err := d.l.tx.Query(ctx, columnsSQL, quoteTable(d.table))
	if err == nil {
		var name string
		var writable bool
		_, err = pgx.ForEachRow(rows, []any{&name, &writable}, func() error {
			list[name] = writable
			return nil
		})
	}
	if err != nil {
		return nil, d.explain(err)
	}
	if d.l.tables == nil {
		d.l.tables = map[string]columns{}
	}
	d.l.tables[d.table] = list
	return list, nil
}

// writable takes those columns out that the target makes itself; one that it lacks is an
// error.
func (d *dest) writable(ctx context.Context, take []int, names []string) ([]int, []string, error) {
	for _, again := range []bool{false, true} {
		there, err := d.target(ctx, again)
		if err != nil {
			return nil, nil, err
		}
		var keptTake []int
		var kept []string
		missing := ""
		for i, name := range names {
			switch write, found := there[name]; {
			case !found:
				missing = name
			case write:
				keptTake, kept = append(keptTake, take[i]), append(kept, name)
			}
		}
		if missing == "" {
			return keptTake, kept, nil
		}
		if again {
			return nil, nil, badRowf("its field %q is no column of table %s; add the column there, or leave it out of the events", missing, d.table)
		}
	}
	return nil, nil, nil
}

// arrange takes over the form of an event's row.
func (d *dest) arrange(ctx context.Context, fields []field) error {
	at := map[string]int{}
	var order []string
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = strings.Clone(f.name)
		name, err := url.QueryUnescape(f.name)
		if err != nil {
			return badRowf("its data is not url-encoded: column %v", err)
		}
		if _, again := at[name]; !again {
			order = append(order, name)
		}
		at[name] = i // of two columns of one name the later counts
	}
	if len(fields) == 0 {
		return badRowf("it has no columns: its data is not that of a row")
	}
	var take []int
	var columns []string
	for _, name := range order {
		as := name
		if d.rename != nil {
			var wanted bool
			if as, wanted = d.rename[name]; !wanted {
				continue
			}
		}
		take, columns = append(take, at[name]), append(columns, as)
	}
	for name := range d.rename {
		if _, there := at[name]; !there {
			return badRowf("it has no field %q, which the key fields names", name)
		}
	}
	take, columns, err := d.writable(ctx, take, columns)
	if err != nil {
		return err
	}
	var keyAt []int
	for _, name := range d.key {
		i := slices.Index(columns, name)
		if i < 0 {
			return badRowf("it has no field %q, which is of its key", name)
		}
		keyAt = append(keyAt, i)
	}
	if d.staged && !slices.Equal(d.columns, columns) {
		if _, err := d.l.tx.Exec(ctx, "drop table "+d.stageName()); err != nil {
			return err
		}
		d.staged = false
	}
	d.names, d.take, d.columns, d.keyAt = names, take, columns, keyAt
	return nil
}

// add puts an event's row to the others.
func (d *dest) add(ctx context.Context, ev *pgq.Event, op byte, fields []field) error {
	if !d.fits(fields) {
		if err := d.flush(ctx); err != nil {
			return err
		}
		if err := d.arrange(ctx, fields); err != nil {
			return err
		}
	}
	start := len(d.buf)
	d.cells = d.cells[:0]
	for n, i := range d.take {
		if n > 0 {
			d.buf = append(d.buf, '\t')
		}
		if fields[i].null {
			d.buf = append(d.buf, copyNull...)
		} else {
			to, err := appendCopy(d.buf, fields[i].value)
			if err != nil {
				d.buf = d.buf[:start]
				return badRowf("its data is not url-encoded: field %q: %v", d.columns[n], err)
			}
			d.buf = to
		}
		d.cells = append(d.cells, len(d.buf))
	}
	row := loadRow{event: ev.ID, start: start, first: op, op: op}
	if d.mode != loadPlain {
		if err := d.fold(&row); err != nil {
			d.buf = d.buf[:start]
			return err
		}
		d.buf = append(d.buf, '\t', row.op)
	}
	d.buf = append(d.buf, '\n')
	row.end = len(d.buf)
	d.l.held += row.end - start + d.overhead()
	d.rows = append(d.rows, row)
	return nil
}

// overhead is about what a row costs beside its text: its place, and that of its key.
func (d *dest) overhead() int {
	if d.mode == loadPlain {
		return 64
	}
	return 256
}

// fold lets the row take the place of one with the same key.
func (d *dest) fold(row *loadRow) error {
	d.keyBuf = d.keyBuf[:0]
	for _, n := range d.keyAt {
		from := row.start
		if n > 0 {
			from = d.cells[n-1] + 1
		}
		cell := d.buf[from:d.cells[n]]
		if string(cell) == copyNull {
			return badRowf("its field %q, which is of the key, is NULL", d.columns[n])
		}
		d.keyBuf = append(append(d.keyBuf, cell...), '\t')
	}
	if d.latest == nil {
		d.latest = map[string]int{}
	}
	before, found := d.latest[string(d.keyBuf)]
	if !found {
		d.latest[string(d.keyBuf)] = len(d.rows)
		return nil
	}
	old := &d.rows[before]
	old.dead = true
	row.first = old.first
	d.latest[string(d.keyBuf)] = len(d.rows)
	return nil
}

// settle decides what is to be done for each key, and brings the rows together.
func (d *dest) settle() {
	if d.mode == loadPlain {
		return
	}
	live, end := d.rows[:0], 0
	for _, r := range d.rows {
		if r.dead {
			continue
		}
		if r.op = d.outcome(r.first, r.op); r.op == 0 {
			continue
		}
		d.buf[r.end-2] = r.op
		n := copy(d.buf[end:], d.buf[r.start:r.end])
		r.start, r.end = end, end+n
		end += n
		live = append(live, r)
	}
	d.rows, d.buf = live, d.buf[:end]
}

// outcome is what the first and the last event of a key come down to; 0 is nothing.
func (d *dest) outcome(first, last byte) byte {
	switch {
	case d.mode == loadLatest && last != 'D':
		return 'U'
	case d.mode == loadLatest:
		return 'D'
	case first == 'I' && last == 'D' && d.mode != loadUpsert: // there might have been one there
		return 0
	case first == 'I' && last != 'D':
		return 'I'
	case last == 'I': // it was deleted before, or was not there to be deleted
		return 'R'
	}
	return last
}

// flush loads the rows that wait.
func (d *dest) flush(ctx context.Context) error {
	if len(d.rows) == 0 {
		return nil
	}
	d.l.held -= len(d.buf) + len(d.rows)*d.overhead()
	d.settle()
	if d.mode != loadPlain && len(d.rows) > 0 {
		if err := d.stage(ctx); err != nil {
			return err
		}
		if err := d.lookAtKey(ctx); err != nil {
			return err
		}
	}
	err := d.load(ctx, d.rows)
	d.rows, d.buf = d.rows[:0], d.buf[:0]
	clear(d.latest)
	return err
}

// load loads rows, and of those that the server refuses all but the bad ones.
func (d *dest) load(ctx context.Context, rows []loadRow) error {
	if len(rows) == 0 {
		return nil
	}
	err := pgx.BeginFunc(ctx, d.l.tx, func(tx pgx.Tx) error { return d.put(ctx, tx, rows, d.mode) })
	if d.mode == loadBulk || d.mode == loadLatest {
		// Rows may have passed a unique value on; as a set they fit when the old ones go first.
		var server *pgconn.PgError
		if errors.As(err, &server) && server.Code == "23505" {
			err = pgx.BeginFunc(ctx, d.l.tx, func(tx pgx.Tx) error { return d.put(ctx, tx, rows, loadReplace) })
		}
	}
	if err == nil || !isRefusal(err) {
		return d.explain(err)
	}
	if len(rows) == 1 {
		return d.putAside(rows[0].event, err)
	}
	if n, ok := refusedLine(err, len(rows)); ok {
		if err := d.load(ctx, rows[:n]); err != nil {
			return err
		}
		if err := d.putAside(rows[n].event, err); err != nil {
			return err
		}
		return d.load(ctx, rows[n+1:])
	}
	if err := d.load(ctx, rows[:len(rows)/2]); err != nil {
		return err
	}
	return d.load(ctx, rows[len(rows)/2:])
}

// putAside does with an event whose row the server refuses what is configured.
func (d *dest) putAside(event int64, err error) error {
	return d.l.bad.PutAside(d.l.job, d.l.b, &pgq.Event{ID: event}, refusal(err))
}

// put loads rows that lie side by side.
func (d *dest) put(ctx context.Context, tx pgx.Tx, rows []loadRow, mode loadMode) error {
	data := d.buf[rows[0].start:rows[len(rows)-1].end]
	if d.mode == loadPlain {
		return copyTo(ctx, tx, quoteTable(d.table), quoteNames(d.columns), data)
	}
	if err := copyTo(ctx, tx, d.stageName(), quoteNames(d.columns)+", "+opColumn, data); err != nil {
		return err
	}
	for _, step := range d.steps(rows, mode) {
		tag, err := tx.Exec(ctx, step.sql)
		if err != nil {
			return err
		}
		if got := int(tag.RowsAffected()); step.want >= 0 && got != step.want {
			d.l.job.Log.WithFields(logrus.Fields{
				"table": d.table, "events": step.want, "rows": got, "operation": step.what, "batch_id": d.l.b.ID,
			}).Warn("fewer rows changed than there were events: source and target differ")
		}
	}
	_, err := tx.Exec(ctx, "truncate "+d.stageName())
	return err
}

// opColumn is the temporary table's column for what is to be done.
const opColumn = `"skytools op"`

func (d *dest) stageName() string { return fmt.Sprintf("pg_temp.skytools_load_%d", d.number) }

// stage makes the temporary table that rows go through. It goes with the transaction, so
// that a pooler may stand between.
func (d *dest) stage(ctx context.Context) error {
	if d.staged {
		return nil
	}
	// Without constraints: what a default fills or a trigger mends is not refused here.
	_, err := d.l.tx.Exec(ctx, fmt.Sprintf(`create temp table skytools_load_%d on commit drop as select %s, null::pg_catalog."char" as %s from %s limit 0`,
		d.number, quoteNames(d.columns), opColumn, quoteTable(d.table)))
	d.staged = err == nil
	return d.explain(err)
}

const uniqueKeySQL = `
	select exists (
		select from pg_catalog.pg_index i
		 where i.indrelid = $1::text::pg_catalog.regclass
		   and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null
		   and $2::text[] = (
				select pg_catalog.array_agg(a.attname::text order by a.attname::text collate "C")
				  from pg_catalog.unnest(i.indkey[0:i.indnkeyatts-1]) k
				  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k))`

func (d *dest) keyName() string { return d.table + "\x00" + strings.Join(d.key, "\x00") }

// lookAtKey asks whether the table sees to it that a key has one row.
func (d *dest) lookAtKey(ctx context.Context) error {
	if _, known := d.l.unique[d.keyName()]; known || d.mode != loadLatest {
		return nil
	}
	var unique bool
	if err := d.l.tx.QueryRow(ctx, uniqueKeySQL, quoteTable(d.table), slices.Sorted(slices.Values(d.key))).Scan(&unique); err != nil {
		return err
	}
	if d.l.unique == nil {
		d.l.unique = map[string]bool{}
	}
	d.l.unique[d.keyName()] = unique
	return nil
}

// step is a statement of a load; want is how many rows it should change, -1 is any.
type step struct {
	sql, what string
	want      int
}

// steps bring the temporary table's rows into the table.
func (d *dest) steps(rows []loadRow, mode loadMode) []step {
	var count [256]int
	for _, r := range rows {
		count[r.op]++
	}
	table, stage, columns := quoteTable(d.table), d.stageName(), quoteNames(d.columns)
	var match, sets, isKey []string
	for _, name := range d.key {
		isKey = append(isKey, name)
		match = append(match, fmt.Sprintf("d.%[1]s = s.%[1]s", quoteName(name)))
	}
	for _, name := range d.columns {
		if !slices.Contains(isKey, name) {
			sets = append(sets, quoteName(name))
		}
	}
	where := strings.Join(match, " and ")
	remove := func(ops string, what string, want int) step {
		return step{fmt.Sprintf("delete from %s d using %s s where %s and s.%s in (%s)", table, stage, where, opColumn, ops), what, want}
	}
	insert := func(ops string) step {
		return step{fmt.Sprintf("insert into %s (%s) overriding system value select %s from %s where %s in (%s)", table, columns, columns, stage, opColumn, ops), "insert", -1}
	}
	var steps []step
	switch {
	case mode == loadLatest && d.l.unique[d.keyName()]:
		if count['D'] > 0 {
			steps = append(steps, remove("'D'", "delete", -1))
		}
		if count['U'] > 0 {
			s := insert("'U'")
			s.sql += fmt.Sprintf(" on conflict (%s) do ", quoteNames(d.key))
			if len(sets) == 0 {
				s.sql += "nothing"
			} else {
				for i, name := range sets {
					sets[i] = fmt.Sprintf("%[1]s = excluded.%[1]s", name)
				}
				s.sql += "update set " + strings.Join(sets, ", ")
			}
			steps = append(steps, s)
		}
	case mode == loadLatest, mode == loadReplace:
		steps = append(steps, remove("'D', 'U', 'R'", "delete", -1), insert("'I', 'U', 'R'"))
	case mode == loadBulk:
		switch {
		case count['R'] > 0:
			steps = append(steps, remove("'D', 'R'", "delete", -1))
		case count['D'] > 0:
			steps = append(steps, remove("'D'", "delete", count['D']))
		}
		if count['U'] > 0 && len(sets) > 0 {
			for i, name := range sets {
				sets[i] = fmt.Sprintf("%[1]s = s.%[1]s", name)
			}
			steps = append(steps, step{fmt.Sprintf("update %s d set %s from %s s where %s and s.%s = 'U'",
				table, strings.Join(sets, ", "), stage, where, opColumn), "update", count['U']})
		}
		if count['I']+count['R'] > 0 {
			steps = append(steps, insert("'I', 'R'"))
		}
	case mode == loadMerge:
		n := count['D'] + count['U']
		if count['R'] > 0 {
			n = -1
		}
		steps = append(steps, remove("'D', 'U', 'R'", "delete and update", n), insert("'I', 'U', 'R'"))
	default:
		steps = append(steps, remove("'D', 'U', 'R', 'I'", "delete", -1), insert("'I', 'U', 'R'"))
	}
	return steps
}

// explain adds to an error of the target what to do.
func (d *dest) explain(err error) error {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return err
	}
	switch server.Code {
	case "42P01":
		return fmt.Errorf("load table %s: %w; create it in dst_db", d.table, err)
	case "42703":
		return fmt.Errorf("load table %s: %w; add the column to the table in dst_db, or leave it out of the events", d.table, err)
	}
	return fmt.Errorf("load table %s: %w", d.table, err)
}

// copyTo loads lines of COPY's text format.
func copyTo(ctx context.Context, tx pgx.Tx, table, columns string, lines []byte) error {
	_, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(lines), fmt.Sprintf("copy %s (%s) from stdin", table, columns))
	return err
}

// isRefusal tells whether an error lies in the rows: their values, what constraints and
// triggers say of them, or two rows for one key.
func isRefusal(err error) bool {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return false
	}
	switch server.Code {
	case "21000", "54000": // such as a value too long for an index
		return true
	case "23514":
		return server.ConstraintName != "" // else a partition is missing that was there
	}
	return isDataError(err)
}

// refusal says what the server has against a row.
func refusal(err error) error {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return err
	}
	text := fmt.Sprintf("%s (SQLSTATE %s)", server.Message, server.Code)
	for _, more := range []struct{ name, value string }{
		{"table", server.TableName}, {"column", server.ColumnName}, {"constraint", server.ConstraintName}, {"detail", server.Detail},
	} {
		if more.value != "" {
			text += fmt.Sprintf(", %s %s", more.name, more.value)
		}
	}
	if m := copyWhere.FindStringSubmatch(server.Where); m != nil && m[2] != "" {
		text += ", field " + m[2]
	}
	return badRowf("%s", text)
}

// copyWhere finds in an error of COPY the line and the column, in any language.
var copyWhere = regexp.MustCompile(`^COPY .*?, \pL+ (\d+)(?:, \pL+ ([^:]+):)?`)

// refusedLine is which of n rows the server has refused, when it says so.
func refusedLine(err error, n int) (line int, ok bool) {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return 0, false
	}
	m := copyWhere.FindStringSubmatch(server.Where)
	if m == nil {
		return 0, false
	}
	line, _ = strconv.Atoi(m[1])
	return line - 1, line >= 1 && line <= n
}
