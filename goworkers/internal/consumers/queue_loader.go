package consumers

// The queue loader: events of many tables, each loaded in a way of its own.

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

// QueueLoaderService is the loader's section in the ini file.
const QueueLoaderService = "queue_loader"

// QueueLoaderConfig holds the keys of a queue loader. A section named after a table of the
// source, schema.table, may have those of TableRules for that table.
type QueueLoaderConfig struct {
	batch.RemoteConfig
	batch.BadEvents
	TableRules
	// RenameTables are tables that have another name at the target.
	RenameTables []string `ini:"rename_tables" help:"tables that have another name in dst_db: source:target, comma separated"`
}

// TableRules say how the rows of a table are loaded.
type TableRules struct {
	// TableMode is direct, split or ignore. Default: direct.
	TableMode string `ini:"table_mode" default:"direct" choice:"direct,split,ignore" help:"direct: into the table; split: into parts of it by time; ignore: not at all. A section [schema.table] may have this and the keys below for one table"`
	// RowMode is plain, keep_latest, keep_all or bulk. Default: plain.
	RowMode string `ini:"row_mode" default:"plain" choice:"plain,keep_latest,keep_all,bulk" help:"plain: inserts, other operations are refused; keep_all: each state of a row is inserted, deletes are refused; keep_latest: the latest state of each row stays; bulk: inserts, updates and deletes are carried out"`
	// BulkMode is how row_mode = bulk works. Default: correct.
	BulkMode string `ini:"bulk_mode" default:"correct" choice:"correct,delete,merged" help:"of row_mode = bulk: correct: updates are updates; delete: updates are delete and insert; merged: inserts too"`
	// SplitMode is what a row is split by. Default: by-batch-time.
	SplitMode string `ini:"split_mode" default:"by-batch-time" help:"of table_mode = split: by-batch-time, by-event-time, or by-date-field:FIELD"`
	// SplitPart is the name of a part. Default: by day.
	SplitPart string `ini:"split_part" raw:"true" default:"%(table_name)s_%(year)s_%(month)s_%(day)s" help:"name of a part, of %(table_name)s, %(schema_name)s, %(year)s, %(month)s, %(day)s, %(hour)s"`
	// SplitPartTemplate makes a part. Default: like the table, with the key as primary key.
	SplitPartTemplate string `ini:"split_part_template" raw:"true" help:"SQL that makes a missing part; %(dest)s is its name, %(base)s the table that it is a part of, %(pkey)s the columns of the key, %(schema_table)s the name without a dot; empty: a partition if the table is partitioned by FIELD, else a table like it with the primary key"`
}

// Validate finds what does not go together.
func (c *QueueLoaderConfig) Validate() []batch.Problem {
	problems := c.problems()
	if _, wrong := tablePairs(c.RenameTables); wrong != "" {
		problems = append(problems, batch.Problem{Key: "rename_tables", What: wrong})
	}
	return problems
}

func (r *TableRules) problems() []batch.Problem {
	var problems []batch.Problem
	if mode, field, _ := strings.Cut(r.SplitMode, ":"); !slices.Contains([]string{"by-batch-time", "by-event-time"}, r.SplitMode) &&
		(mode != byDateField || field == "") {
		problems = append(problems, batch.Problem{Key: "split_mode", What: "must be by-batch-time, by-event-time, or by-date-field:FIELD"})
	}
	if r.TableMode == "split" {
		if _, err := partName(r.SplitPart); err != nil {
			problems = append(problems, batch.Problem{Key: "split_part", What: err.Error()})
		}
	}
	return problems
}

const byDateField = "by-date-field"

// partName reads a name made of %(table_name)s and parts of a time; it returns what they
// come down to: the shortest period that they tell apart.
func partName(pattern string) (period, error) {
	p := period("")
	for _, part := range []struct {
		word string
		is   period
	}{{"year", yearly}, {"month", monthly}, {"day", daily}, {"hour", hourly}} {
		if strings.Contains(pattern, "%("+part.word+")s") {
			p = part.is
		}
	}
	rest := partWords(pattern, "", "", time.Time{})
	switch {
	case strings.Contains(rest, "%"):
		return "", fmt.Errorf("has words that are not known; write %%(table_name)s, %%(schema_name)s, %%(year)s, %%(month)s, %%(day)s, %%(hour)s")
	case p == "":
		return "", fmt.Errorf("has no time in it; write for example %%(table_name)s_%%(year)s_%%(month)s_%%(day)s")
	}
	return p, nil
}

func partWords(pattern, schema, table string, at time.Time) string {
	pattern = strings.ReplaceAll(pattern, "%%(", "%(") // as it had to be written once
	return strings.NewReplacer("%(table_name)s", table, "%(schema_name)s", schema,
		"%(year)s", at.Format("2006"), "%(month)s", at.Format("01"), "%(day)s", at.Format("02"), "%(hour)s", at.Format("15")).Replace(pattern)
}

// tableLoader loads one table of the source.
type tableLoader struct {
	l     *loader
	rules TableRules
	table string // at the target
	split *dateSplit
}

// NewQueueLoader makes a loader. Events are those of pgq.logutriga or pgq.jsontriga. The place is kept as a
// tick in the transaction that loads.
func NewQueueLoader(job *batch.Job, cfg QueueLoaderConfig) (*batch.SerialConsumer, error) {
	rename, wrong := tablePairs(cfg.RenameTables)
	if wrong != "" {
		return nil, batch.Usagef("%s: rename_tables %s", job.Service, wrong)
	}
	own, err := tableSections(cfg)
	if err != nil {
		return nil, err
	}
	if len(own) > 0 { // a slip in a table's name shows here alone
		job.Log.WithField("tables", strings.Join(slices.Sorted(maps.Keys(own)), ", ")).Info("these tables have sections of their own")
	}
	all := perWorker[*tableLoaders]{make: func(n int) *tableLoaders {
		return &tableLoaders{n: n, job: job, cfg: &cfg, own: own, rename: rename, l: newLoader(n, job, cfg.DstDB, cfg.BadEvents, "")}
	}}
	return batch.NewSerialConsumer(job, cfg.RemoteConfig, func(ctx context.Context, tx pgx.Tx, b *batch.Batch) (err error) {
		tables := all.take()
		defer func() {
			if err != nil {
				tables.list = nil // what they believe of the target may be wrong
			}
			all.give(tables)
		}()
		types := changes{}
		run := tables.l.begin(b, tx)
		return run.run(ctx, func(ev *pgq.Event, fields []field) (*dest, byte, error) {
			source, err := tableOf(ev)
			if err != nil {
				return nil, 0, err
			}
			t := tables.of(source)
			if t.rules.TableMode == "ignore" {
				return nil, 0, nil
			}
			return t.place(ctx, tx, run, types, ev, fields)
		})
	})
}

// tableLoaders are those of one worker.
type tableLoaders struct {
	n      int
	job    *batch.Job
	cfg    *QueueLoaderConfig
	own    map[string]TableRules
	rename map[string]string
	l      *loader
	list   map[string]*tableLoader
}

// of finds the loader of a table of the source.
func (a *tableLoaders) of(source string) *tableLoader {
	if t := a.list[source]; t != nil {
		return t
	}
	t := &tableLoader{rules: a.cfg.TableRules, table: source}
	if rules, found := a.own[source]; found {
		t.rules = rules
	}
	if to, renamed := a.rename[source]; renamed {
		t.table = to
	}
	t.l = newLoader(a.n, a.job, a.cfg.DstDB, a.cfg.BadEvents, t.rules.SplitPartTemplate)
	if mode, field, _ := strings.Cut(t.rules.SplitMode, ":"); mode == byDateField {
		t.split = &dateSplit{l: t.l, parent: t.table, field: field, encoded: encodeName(field), column: field, name: t.part}
		t.split.period, _ = partName(t.rules.SplitPart) // it was looked at
	}
	if a.list == nil {
		a.list = map[string]*tableLoader{}
	}
	a.list[source] = t
	return t
}

// tableSections reads the sections of single tables. What they lack is as in the main one.
func tableSections(cfg QueueLoaderConfig) (map[string]TableRules, error) {
	if cfg.File() == "" {
		return nil, nil
	}
	main, err := batch.Load(cfg.File(), QueueLoaderService, batch.LoadOptions{})
	if err != nil {
		return nil, err
	}
	rules := map[string]TableRules{}
	for _, name := range main.Others() {
		if !strings.Contains(name, ".") {
			continue // of another job
		}
		section, err := batch.Load(cfg.File(), name, batch.LoadOptions{Default: main})
		if err != nil {
			return nil, err
		}
		var r TableRules
		if err := section.Decode(&r); err != nil {
			return nil, err
		}
		if problems := r.problems(); len(problems) > 0 {
			for i := range problems {
				problems[i].File, problems[i].Section = cfg.File(), name
			}
			return nil, &batch.ConfigError{Problems: problems}
		}
		rules[name] = r
	}
	return rules, nil
}

// part names the part of the table for a time.
func (t *tableLoader) part(at time.Time) string {
	schema, name := splitTable(t.table)
	part := partWords(t.rules.SplitPart, schema, name, at)
	if strings.Contains(t.rules.SplitPart, ".") {
		return part
	}
	return schema + "." + part
}

var bulkModesByName = map[string]loadMode{"correct": loadBulk, "delete": loadMerge, "merged": loadUpsert}

// place finds where an event's row goes.
func (t *tableLoader) place(ctx context.Context, tx pgx.Tx, run *loading, types changes, ev *pgq.Event, fields []field) (*dest, byte, error) {
	mode, needsKey := loadPlain, false
	switch t.rules.RowMode {
	case "keep_latest":
		mode, needsKey = loadLatest, true
	case "bulk":
		mode, needsKey = bulkModesByName[t.rules.BulkMode], true
	}
	ch, err := types.of(ev)
	if needsKey && err == nil {
		ch, err = types.keyed(ev)
	}
	switch {
	case err != nil:
		return nil, 0, err
	case ch.op == 'R':
		return nil, 0, badRowf("it truncates table %s, which is not carried out; truncate the target by hand", t.table)
	case t.rules.RowMode == "plain" && ch.op != 'I', t.rules.RowMode == "keep_all" && ch.op == 'D':
		return nil, 0, badRowf("its operation is %c, which row_mode = %s does not take; choose another row_mode for table %s", ch.op, t.rules.RowMode, ev.Extra1.String)
	}
	table := t.table
	if t.rules.TableMode == "split" {
		if table, err = t.partOf(ctx, tx, run.b, ev, ch, fields, mode); err != nil {
			return nil, 0, err
		}
	}
	d, err := run.dest(table, func() (*dest, error) { return &dest{mode: mode, key: ch.key}, nil })
	if err == nil && mode != loadPlain {
		err = d.rekey(ctx, ch.key)
	}
	return d, ch.op, err
}

// partOf finds the part of a split table, and makes it.
func (t *tableLoader) partOf(ctx context.Context, tx pgx.Tx, b *batch.Batch, ev *pgq.Event, ch change, fields []field, mode loadMode) (string, error) {
	if t.split != nil {
		t.split.key, t.split.many = ch.key, mode == loadPlain
		return t.split.table(ctx, tx, fields)
	}
	at := b.TickTime
	if t.rules.SplitMode == "by-event-time" {
		at = ev.Time
	}
	part := partition{table: t.part(at.In(time.Local)), parent: t.table, key: ch.key, many: mode == loadPlain}
	return part.table, t.l.parts.ensure(ctx, tx, part)
}
