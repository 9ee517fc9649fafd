package consumers

// Partitions of target tables: made when the first row comes for one.

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/batch"
)

// partitions makes tables that are missing. Each is made in a transaction of its own and
// under an advisory lock, so that jobs that need the same one do not stand in each other's
// way for longer than that takes. What needs a table that the batch itself has loaded into,
// as a template with "partition of" does, is done in the batch's transaction.
type partitions struct {
	job      *batch.Job
	dst      batch.ConnString
	key      string // of the connection
	template string
	known    map[string]bool
}

// partition is one of a parent.
type partition struct {
	table, parent string // schema.table
	key           []string
	many          bool // rows of one key
	// lower and upper are the bounds of a native partition; empty for a table that the
	// template makes.
	lower, upper string
}

// How long a table may be waited for that is in use: first it may be the batch's own use.
const (
	ddlLockTimeout      = 30 * time.Second
	ddlFirstLockTimeout = 2 * time.Second
)

const (
	tableExistsSQL   = `select pg_catalog.to_regclass($1::text) is not null`
	lockPartitionSQL = `select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('skytools partition ' || $1::text, 0))`
)

// ensure makes a partition unless it is there. batch is the batch's transaction.
func (p *partitions) ensure(ctx context.Context, batch pgx.Tx, part partition) error {
	if p.known[part.table] {
		return nil
	}
	if _, name := splitTable(part.table); len(name) > maxName {
		return fmt.Errorf("make table %s: its name is longer than %d bytes; shorten the name of the table that it is a part of", part.table, maxName)
	}
	// The batch's own transaction has another connection: what is made here is there for
	// everybody at once.
	db, err := p.job.DB(ctx, p.key, p.dst)
	if err != nil {
		return err
	}
	var made bool
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
		made, err = p.make(ctx, tx, part, ddlFirstLockTimeout)
		return err
	})
	var server *pgconn.PgError
	if errors.As(err, &server) && server.Code == "55P03" {
		err = pgx.BeginFunc(ctx, batch, func(tx pgx.Tx) (err error) {
			made, err = p.make(ctx, tx, part, ddlLockTimeout)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("make table %s: %w; make it by hand, or correct the template", part.table, err)
	}
	if made {
		p.job.Log.WithField("table", part.table).Info("table made")
	}
	if p.known == nil {
		p.known = map[string]bool{}
	}
	p.known[part.table] = true
	return nil
}

// make makes a partition unless somebody was faster.
func (p *partitions) make(ctx context.Context, tx pgx.Tx, part partition, patience time.Duration) (made bool, err error) {
	if _, err := tx.Exec(ctx, fmt.Sprintf("set local lock_timeout = %d", patience.Milliseconds())); err != nil {
		return false, err
	}
	if _, err := tx.Exec(ctx, lockPartitionSQL, part.table); err != nil {
		return false, err
	}
	var there bool
	if err := tx.QueryRow(ctx, tableExistsSQL, quoteTable(part.table)).Scan(&there); err != nil {
		return false, err
	}
	if !there {
		if _, err := tx.Conn().PgConn().Exec(ctx, p.definition(part)).ReadAll(); err != nil {
			return false, err
		}
	}
	_, err = tx.Exec(ctx, "set local lock_timeout to default")
	return !there, err
}

// definition is the SQL that makes a partition.
func (p *partitions) definition(part partition) string {
	switch {
	case p.template != "":
		return expandTemplate(p.template, part)
	case part.lower != "":
		// Made apart and then attached: readers of the parent are not held up.
		return fmt.Sprintf("create table %[1]s (like %[2]s including all);\nalter table %[2]s attach partition %[1]s for values from ('%[3]s') to ('%[4]s');",
			quoteTable(part.table), quoteTable(part.parent), part.lower, part.upper)
	case len(part.key) > 0:
		// No index but that of the key, and not that where a key has many rows.
		sql := fmt.Sprintf("create table %s (like %s including defaults including constraints including storage);", quoteTable(part.table), quoteTable(part.parent))
		if !part.many {
			sql += fmt.Sprintf("\nalter table only %s add primary key (%s);", quoteTable(part.table), quoteNames(part.key))
		}
		return sql
	}
	return fmt.Sprintf("create table %s (like %s including all);", quoteTable(part.table), quoteTable(part.parent))
}

// maxName is the longest name that PostgreSQL keeps whole, in bytes.
const maxName = 63

var (
	magicWord = regexp.MustCompile(`(\w*?)_(DEST_TABLE|SCHEMA_TABLE|PARENT|PKEY)(\w*)`)
	magicSign = regexp.MustCompile(`(\w*)%%?\((dest|base|pkey|schema_table)\)s(\w*)`)
	signWords = map[string]string{"dest": "DEST_TABLE", "base": "PARENT", "pkey": "PKEY", "schema_table": "SCHEMA_TABLE"}
)

// expandTemplate puts names into the words of a template: _DEST_TABLE, _PARENT, _PKEY and
// _SCHEMA_TABLE, or %(dest)s, %(base)s, %(pkey)s and %(schema_table)s. Where a table's name
// is a part of a longer word, as in _DEST_TABLE_pkey, it stands there without a dot, as
// _SCHEMA_TABLE does everywhere: schema__table.
func expandTemplate(template string, part partition) string {
	fill := func(before, word, after string) string {
		table := part.table
		switch word {
		case "PKEY":
			return before + quoteNames(part.key) + after
		case "PARENT":
			table = part.parent
		case "SCHEMA_TABLE":
			return quoteName(before + flatName(table) + after)
		}
		if before == "" && after == "" {
			return quoteTable(table)
		}
		return quoteName(before + flatName(table) + after)
	}
	template = magicSign.ReplaceAllStringFunc(template, func(found string) string {
		m := magicSign.FindStringSubmatch(found)
		return fill(m[1], signWords[m[2]], m[3])
	})
	return magicWord.ReplaceAllStringFunc(template, func(found string) string {
		m := magicWord.FindStringSubmatch(found)
		return fill(m[1], m[2], m[3])
	})
}

func flatName(table string) string { return strings.ReplaceAll(table, ".", "__") }

// splitTable parts schema.table at the first dot; without one the schema is public.
func splitTable(table string) (schema, name string) {
	schema, name, found := strings.Cut(table, ".")
	if !found {
		return "public", table
	}
	return schema, name
}

// fullTable names a table with its schema.
func fullTable(table string) string {
	schema, name := splitTable(table)
	return schema + "." + name
}

func quoteTable(table string) string {
	schema, name := splitTable(table)
	return pgx.Identifier{schema, name}.Sanitize()
}

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteNames(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quoteName(name)
	}
	return strings.Join(quoted, ", ")
}

// period is how much time a partition holds.
type period string

const (
	yearly  period = "yearly"
	monthly period = "monthly"
	daily   period = "daily"
	hourly  period = "hourly"
)

// layouts are a period's time as it stands in a date's text, and how long that is.
var layouts = map[period]string{yearly: "2006", monthly: "2006-01", daily: "2006-01-02", hourly: "2006-01-02 15"}

// start cuts the period's begin off a date or timestamp as PostgreSQL writes it in ISO.
func (p period) start(text string) (time.Time, error) {
	layout := layouts[p]
	if len(text) < len(layout) {
		return time.Time{}, fmt.Errorf("%q is no %s in ISO form", text, map[bool]string{true: "timestamp", false: "date"}[p == hourly])
	}
	at, err := time.Parse(layout, strings.Replace(text[:len(layout)], "T", " ", 1))
	if err != nil {
		return at, fmt.Errorf("%q is no date in ISO form", text)
	}
	return at, nil
}

// suffix is what a partition's name ends with.
func (p period) suffix(at time.Time) string {
	return at.Format(strings.NewReplacer("-", "_", " ", "_").Replace("_" + layouts[p]))
}

// next is when the next partition begins.
func (p period) next(at time.Time) time.Time {
	switch p {
	case yearly:
		return at.AddDate(1, 0, 0)
	case monthly:
		return at.AddDate(0, 1, 0)
	case hourly:
		return at.Add(time.Hour)
	}
	return at.AddDate(0, 0, 1)
}
