// Package pgq is the client of the schemas pgq, pgq_ext and pgq_coop: one Go func for
// each of their SQL functions, and the types that pass between them.
//
// The model. Producers append events to a queue. A ticker marks points in time,
// the ticks; what became visible between two ticks is a batch. A consumer is a
// name registered on a queue, and its whole state is the last tick it has done:
// NextBatch gives it the batch that follows, GetBatchEvents or BatchEvents the
// events in it, FinishBatch moves it on. Until then NextBatch gives the same batch
// again, so a consumer that dies loses nothing and sees the batch once more. To
// have each effect just once, note the batch or its tick in the database that the
// effects are written to, in the same transaction: the functions of pgq_ext
// (SetBatchDone, SetLastTick) are for that. Package batch has loops that do it.
//
// The server's clock and the server's snapshots decide everything; this package
// keeps no state. All funcs may be used concurrently as far as the DB given to
// them may: a *pgxpool.Pool may, a *pgx.Conn or pgx.Tx may not.
//
// What the queue triggers write into events is read by DecodeEvent, or, format by
// format, by DecodeRow, DecodeJSON and DecodeSQL. The Quote funcs write SQL and COPY.
//
// Errors carry the server's SQLSTATE; ask with IsQueueNotFound and its siblings.
package pgq

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// DB runs SQL: a *pgx.Conn, a pgx.Tx or a *pgxpool.Pool.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Text makes a text that is not NULL. The zero pgtype.Text is NULL, which is not
// the same as Text("").
func Text(s string) pgtype.Text { return pgtype.Text{String: s, Valid: true} }

const versionSQL = `select pgq.version()`

// Version returns the version of the extension pgq.
func Version(ctx context.Context, db DB) (string, error) {
	var version string
	err := db.QueryRow(ctx, versionSQL).Scan(&version)
	return version, wrap(err, "ask for the version of pgq")
}

// Supported says whether a version of pgq can be worked with: 3.0 or newer.
func Supported(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= 3
}
