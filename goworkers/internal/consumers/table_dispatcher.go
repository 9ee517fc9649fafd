package consumers

// The table dispatcher: rows of events into one table, or into parts of it by date.

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

// TableDispatcherService is the dispatcher's section in the ini file.
const TableDispatcherService = "table_dispatcher"

// byEventTime stands as part_field for the events' own time.
const byEventTime = "_EVTIME"

// TableDispatcherConfig holds the keys of a table dispatcher.
type TableDispatcherConfig struct {
	batch.RemoteConfig
	batch.BadEvents
	// DestTable is the table that rows go to. Required.
	DestTable string `ini:"dest_table" required:"true" help:"table in dst_db that the rows go to, schema.table"`
	// Fields are the columns to load. Default: all.
	Fields []string `ini:"fields" default:"*" help:"fields of the events to load, comma separated; field:column puts it into a column of another name; *: all"`
	// PartField is the column that rows are split by. Default: none, all go to DestTable.
	PartField string `ini:"part_field" help:"field with the date that the rows are split by, or _EVTIME for the events' time (in the job's time zone); empty: all into dest_table"`
	// PartMethod is how long a part is. Default: daily.
	PartMethod string `ini:"part_method" default:"daily" choice:"yearly,monthly,daily,hourly" help:"how much time a part holds; its name is dest_table_YYYY, _YYYY_MM, _YYYY_MM_DD or _YYYY_MM_DD_HH"`
	// PartTemplate makes a part. Default: a partition if DestTable is partitioned by the
	// field, else a table like DestTable.
	PartTemplate string `ini:"part_template" help:"SQL that makes a missing table; _DEST_TABLE is its name, _PARENT is dest_table, _SCHEMA_TABLE its name without a dot; empty: a partition if dest_table is partitioned by part_field, else a table like dest_table"`
}

// Validate finds what does not go together.
func (c *TableDispatcherConfig) Validate() []batch.Problem {
	var problems []batch.Problem
	rename, err := fieldList(c.Fields)
	switch {
	case err != "":
		problems = append(problems, batch.Problem{Key: "fields", What: err})
	case rename != nil && c.PartField != "" && c.PartField != byEventTime && c.PartTemplate == "":
		if _, there := rename[c.PartField]; !there {
			problems = append(problems, batch.Problem{Key: "part_field", What: "is not among fields; add it there, or give a part_template"})
		}
	}
	return problems
}

// fieldList reads the key fields: columns by field, nil for all.
func fieldList(fields []string) (rename map[string]string, wrong string) {
	if len(fields) == 0 || slices.Equal(fields, []string{"*"}) {
		return nil, ""
	}
	rename = map[string]string{}
	used := map[string]bool{}
	for _, entry := range fields {
		name, column, found := strings.Cut(entry, ":")
		name, column = strings.TrimSpace(name), strings.TrimSpace(column)
		switch {
		case name == "" || name == "*" || found && column == "":
			return nil, "is not a list of field or field:column; write for example id,name:user_name, or * alone for all"
		case !found:
			column = name
		}
		if _, again := rename[name]; again {
			return nil, "names " + name + " twice"
		}
		if used[column] {
			return nil, "puts two fields into the column " + column
		}
		rename[name], used[column] = column, true
	}
	return rename, ""
}

// NewTableDispatcher makes a dispatcher. Each event's row is inserted, whatever the
// operation was that made it; TRUNCATE has no row and is passed over. The place is kept
// as a tick in the transaction that inserts.
func NewTableDispatcher(job *batch.Job, cfg TableDispatcherConfig) (*batch.SerialConsumer, error) {
	rename, wrong := fieldList(cfg.Fields)
	switch {
	case cfg.DestTable == "":
		return nil, batch.Usagef("%s: dest_table is empty", job.Service)
	case wrong != "":
		return nil, batch.Usagef("%s: fields %s", job.Service, wrong)
	}
	parent := fullTable(cfg.DestTable)
	column := cfg.PartField
	if as, renamed := rename[cfg.PartField]; renamed {
		column = as
	}
	splits := perWorker[*dateSplit]{make: func(n int) *dateSplit {
		return &dateSplit{
			l: newLoader(n, job, cfg.DstDB, cfg.BadEvents, cfg.PartTemplate), parent: parent, field: cfg.PartField, encoded: encodeName(cfg.PartField),
			column: column, period: period(cfg.PartMethod),
		}
	}}
	return batch.NewSerialConsumer(job, cfg.RemoteConfig, func(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
		split := splits.take()
		defer splits.give(split)
		split.reset()
		l := split.l
		run := l.begin(b, tx)
		return run.run(ctx, func(ev *pgq.Event, fields []field) (*dest, byte, error) {
			if isTruncate(ev) {
				return nil, 0, nil
			}
			table := parent
			var err error
			switch cfg.PartField {
			case "":
				if cfg.PartTemplate != "" {
					err = l.parts.ensure(ctx, tx, partition{table: parent, parent: parent})
				}
			case byEventTime:
				at := ev.Time.In(time.Local)
				table = parent + split.period.suffix(at)
				err = l.parts.ensure(ctx, tx, partition{table: table, parent: parent})
			default:
				table, err = split.table(ctx, tx, fields)
			}
			if err != nil {
				return nil, 0, err
			}
			d, err := run.dest(table, func() (*dest, error) { return &dest{mode: loadPlain, rename: rename}, nil })
			return d, 'I', err
		})
	})
}

// isTruncate tells whether the event is a trigger's of a TRUNCATE.
func isTruncate(ev *pgq.Event) bool {
	switch ev.Data.String {
	case "":
		return ev.Type.String == "R"
	case "{}":
		ch, err := pgq.DecodeJSONType(ev.Type.String)
		return err == nil && ch.Op == 'R'
	}
	return false
}

// encodeName is a column's name as logutriga writes it.
func encodeName(name string) string { return pgq.Row{name: {}}.Encode() }
