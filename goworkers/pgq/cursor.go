// Reading a batch in small parts.

package pgq

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5"
)

// cursorName is the name on the server. One transaction reads one batch.
const cursorName = "pgq_batch"

const (
	getBatchCursorSQL      = `select ` + eventColumns + ` from pgq.get_batch_cursor($1, $2, $3)`
	getBatchCursorWhereSQL = `select ` + eventColumns + ` from pgq.get_batch_cursor($1, $2, $3, $4)`
)

// BatchEvents reads the events of a batch by id, through a cursor that lives in tx,
// so that no more than fetch of them are held at a time. Between two events tx is
// free for other work. The sequence can be read once. where, unless empty, is an SQL
// condition over the ev_ columns that chooses among the events, such as FromTables
// makes. It is SQL of the program's author: never build it from what others wrote.
func BatchEvents(ctx context.Context, tx pgx.Tx, batch int64, fetch int, where string) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		fail := func(err error) { yield(nil, wrap(err, "read the events of batch %d", batch)) }
		if fetch < 1 {
			fail(fmt.Errorf("cannot fetch %d events at a time", fetch))
			return
		}
		sql, args := getBatchCursorSQL, []any{batch, cursorName, fetch}
		if where != "" {
			sql, args = getBatchCursorWhereSQL, append(args, where)
		}
		rest := fmt.Sprintf(`fetch %d from %s`, fetch, cursorName)
		for {
			events, err := fetchEvents(ctx, tx, sql, args)
			if err != nil {
				fail(err)
				return
			}
			for _, ev := range events {
				if !yield(ev, nil) {
					closeCursor(ctx, tx)
					return
				}
			}
			if len(events) < fetch {
				if err := closeCursor(ctx, tx); err != nil {
					fail(err)
				}
				return
			}
			sql, args = rest, nil
		}
	}
}

// FromTables makes a condition for BatchEvents: events that triggers wrote for these
// tables, named as in ev_extra1 (schema.table). No tables means no condition.
func FromTables(tables ...string) string {
	if len(tables) == 0 {
		return ""
	}
	quoted := make([]string, len(tables))
	for i, table := range tables {
		quoted[i] = QuoteLiteral(Text(table))
	}
	return `ev_extra1 in (` + strings.Join(quoted, ", ") + `)`
}

func fetchEvents(ctx context.Context, tx pgx.Tx, sql string, args []any) ([]*Event, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanEvent)
}

func closeCursor(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `close `+cursorName)
	return err
}
