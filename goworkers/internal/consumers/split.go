package consumers

// Which partition a row belongs to, by a date in one of its columns.

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// dateSplit parts the rows of one table by a date in a column. A table that is
// partitioned by that column gets partitions; another one gets tables beside it.
type dateSplit struct {
	l      *loader
	parent string // schema.table
	field  string // as events have it
	column string // as the table has it
	period period
	key    []string
	many   bool // rows of one key
	// name makes the name of a part; nil is the parent's with the period's suffix.
	name func(at time.Time) string

	looked bool
	native bool
	zoned  bool // the column is a timestamptz: its text depends on who wrote it

	encoded string // field, url-encoded
	at      int    // where it was in the last event
	tables  map[string]string
}

// splitCache is how many dates are remembered.
const splitCache = 10000

const partitionedSQL = `
	select p.partstrat = 'r' and p.partnatts = 1, coalesce(a.attname::text, ''), coalesce(pg_catalog.format_type(a.atttypid, null), '')
	  from pg_catalog.pg_partitioned_table p
	  left join pg_catalog.pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
	 where p.partrelid = pg_catalog.to_regclass($1::text)`

// look finds out how the table is partitioned.
func (s *dateSplit) look(ctx context.Context, tx pgx.Tx) error {
	if s.looked {
		return nil
	}
	s.native, s.zoned = false, false
	if s.l.parts.template == "" {
		var usable bool
		var column, kind string
		switch err := tx.QueryRow(ctx, partitionedSQL, quoteTable(s.parent)).Scan(&usable, &column, &kind); {
		case err == pgx.ErrNoRows:
		case err != nil:
			return err
		case !usable || column != s.column:
			return fmt.Errorf("table %s is partitioned, but not by range of %q alone: give a template that makes its partitions, or another field to split by", s.parent, s.column)
		default:
			s.native, s.zoned = true, kind == "timestamp with time zone"
		}
	}
	s.looked = true
	return nil
}

// reset has the target looked at again, in a new batch.
func (s *dateSplit) reset() {
	if s.l.parts.known == nil {
		s.looked, s.tables = false, nil
	}
}

// table is where a row goes; it exists then.
func (s *dateSplit) table(ctx context.Context, tx pgx.Tx, fields []field) (string, error) {
	if err := s.look(ctx, tx); err != nil {
		return "", err
	}
	if s.at >= len(fields) || fields[s.at].name != s.encoded {
		s.at = -1
		for i, f := range fields {
			if f.name == s.encoded {
				s.at = i
			}
		}
		if s.at < 0 {
			s.at = 0
			return "", badRowf("it has no field %q, which the table is split by", s.field)
		}
	}
	f := fields[s.at]
	if f.null {
		return "", badRowf("its field %q is NULL, and the table is split by that", s.field)
	}
	date := f.value
	if strings.HasSuffix(date, "BC") {
		return "", badRowf("its field %q, which the table is split by, is before our era, and tables are named without that", s.field)
	}
	if n := len(layouts[s.period]); !s.zoned && s.period != hourly && len(date) > n {
		date = date[:n] // no need to look at the time
	}
	if table, known := s.tables[date]; known {
		return table, nil
	}
	at, err := s.start(ctx, tx, date)
	if err != nil {
		return "", err
	}
	part := partition{table: s.parent + s.period.suffix(at), parent: s.parent, key: s.key, many: s.many}
	if s.name != nil {
		part.table = s.name(at)
	}
	table := part.table
	if s.native {
		const bound = "2006-01-02 15:04:05"
		part.lower, part.upper = at.Format(bound), s.period.next(at).Format(bound)
		table = s.parent // the server finds the partition
	}
	if err := s.l.parts.ensure(ctx, tx, part); err != nil {
		return "", err
	}
	if s.tables == nil || len(s.tables) >= splitCache {
		s.tables = map[string]string{}
	}
	s.tables[strings.Clone(date)] = table // not all of the event with it
	return table, nil
}

const startSQL = `select coalesce(pg_catalog.to_char($1::text::timestamptz, 'YYYY-MM-DD HH24'), $1::text)`

// start is when the period begins that a url-encoded date is in.
func (s *dateSplit) start(ctx context.Context, tx pgx.Tx, encoded string) (time.Time, error) {
	text, err := url.QueryUnescape(encoded)
	if err != nil {
		return time.Time{}, badRowf("its data is not url-encoded: field %q: %v", s.field, err)
	}
	if s.zoned {
		// The table's partitions begin by the clock of the target.
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, startSQL, text).Scan(&text) })
		if isRefusal(err) {
			return time.Time{}, badRowf("its field %q, which the table is split by: %v", s.field, refusal(err))
		}
		if err != nil {
			return time.Time{}, err
		}
	}
	at, err := s.period.start(text)
	if err != nil {
		return at, badRowf("its field %q, which the table is split by: %v", s.field, err)
	}
	return at, nil
}
