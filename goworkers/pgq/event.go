// Events: what they are, and how producers insert them.

package pgq

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Event is one event. What type, data and extras mean is up to those who write
// and read the queue; for what queue triggers wrote see DecodeEvent.
type Event struct {
	ID    int64     // given by the server
	Time  time.Time // when the event was made
	TxID  int64     // transaction that inserted it
	Retry int32     // how often it was put back for another try

	Type   pgtype.Text
	Data   pgtype.Text
	Extra1 pgtype.Text // the table's name in events of triggers
	Extra2 pgtype.Text // the old row in events of triggers with backup
	Extra3 pgtype.Text
	Extra4 pgtype.Text
}

const insertEventSQL = `select pgq.insert_event($1, $2, $3, $4, $5, $6, $7)`

// InsertEvent inserts one event as part of db's transaction and returns its id.
// The server gives id and time; those in ev are not looked at.
func InsertEvent(ctx context.Context, db DB, queue string, ev Event) (id int64, err error) {
	err = db.QueryRow(ctx, insertEventSQL, queue, ev.Type, ev.Data, ev.Extra1, ev.Extra2, ev.Extra3, ev.Extra4).Scan(&id)
	return id, wrap(err, "insert event into queue %q", queue)
}

const currentEventTableSQL = `select pgq.current_event_table($1), pg_catalog.now()`

// bulkColumns are the columns that BulkInsert fills; the server fills the rest.
var bulkColumns = []string{"ev_time", "ev_type", "ev_data", "ev_extra1", "ev_extra2", "ev_extra3", "ev_extra4"}

// BulkInsert inserts events by COPY and returns how many. Each keeps its Time; one
// whose Time is zero gets that of the transaction. Ids are given by the server in
// the order of the events. The events are streamed and never held together, so
// the sequence may read another connection, but not that of tx. When it ends with
// an error, that is the error, and tx can only be rolled back.
//
// The caller needs INSERT on the event tables, which pgq_admin has.
func BulkInsert(ctx context.Context, tx pgx.Tx, queue string, events iter.Seq2[*Event, error]) (int64, error) {
	var table string
	var now time.Time
	if err := tx.QueryRow(ctx, currentEventTableSQL, queue).Scan(&table, &now); err != nil {
		return 0, wrap(err, "bulk insert into queue %q", queue)
	}
	schema, name, found := strings.Cut(table, ".")
	if !found {
		return 0, fmt.Errorf("bulk insert into queue %q: the event table %q has no schema", queue, table)
	}
	next, stop := iter.Pull2(events)
	defer stop()
	rows := newEventRows(next, now)
	sql := fmt.Sprintf(`copy %s (%s) from stdin (format binary)`, pgx.Identifier{schema, name}.Sanitize(), strings.Join(bulkColumns, ", "))
	tag, err := tx.Conn().PgConn().CopyFrom(ctx, rows, sql)
	if own := rows.close(); own != nil {
		err = own // the server has it second-hand
	}
	return tag.RowsAffected(), wrap(err, "bulk insert into queue %q", queue)
}

// eventColumns are the columns of get_batch_events and get_batch_cursor.
const eventColumns = `ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4`

// eventOIDs are the types of eventColumns.
var eventOIDs = [...]uint32{
	pgtype.Int8OID, pgtype.TimestamptzOID, pgtype.Int8OID, pgtype.Int4OID,
	pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID,
}

const firstText = 4 // of eventColumns; a text is the same in either format

// decodeEvent reads a row of eventColumns. What comes in binary, as it does unless the
// connection is set to the simple protocol, is decoded here, with one piece of memory
// for all texts: scanning costs several times as much.
func decodeEvent(row pgx.CollectableRow) (*Event, error) {
	raw := row.RawValues()
	if !isBinaryEvent(row.FieldDescriptions(), raw) {
		return scanEvent(row)
	}
	ev := &Event{
		ID:   int64(binary.BigEndian.Uint64(raw[0])),
		Time: timeOf(int64(binary.BigEndian.Uint64(raw[1]))),
		TxID: int64(binary.BigEndian.Uint64(raw[2])),
	}
	if raw[3] != nil { // NULL is 0
		ev.Retry = int32(binary.BigEndian.Uint32(raw[3]))
	}
	size := 0
	for _, text := range raw[firstText:] {
		size += len(text)
	}
	var memory strings.Builder
	memory.Grow(size)
	for _, text := range raw[firstText:] {
		memory.Write(text)
	}
	rest := memory.String()
	for i, into := range [...]*pgtype.Text{&ev.Type, &ev.Data, &ev.Extra1, &ev.Extra2, &ev.Extra3, &ev.Extra4} {
		if text := raw[firstText+i]; text != nil {
			*into = pgtype.Text{String: rest[:len(text)], Valid: true}
			rest = rest[len(text):]
		}
	}
	return ev, nil
}

// isBinaryEvent says whether decodeEvent can read the row; what it cannot read, such as
// a NULL where none may be, scanEvent explains.
func isBinaryEvent(fields []pgconn.FieldDescription, raw [][]byte) bool {
	if len(fields) != len(eventOIDs) || len(raw) != len(eventOIDs) {
		return false
	}
	for i := range fields {
		if fields[i].DataTypeOID != eventOIDs[i] || i < firstText && fields[i].Format != pgx.BinaryFormatCode {
			return false
		}
	}
	return len(raw[0]) == 8 && len(raw[1]) == 8 && len(raw[2]) == 8 && (raw[3] == nil || len(raw[3]) == 4)
}

// timeOf makes a time of the server's microseconds since 2000, as moment does.
func timeOf(microseconds int64) time.Time {
	const epoch = 946684800 // of the server, in seconds since 1970
	switch microseconds {
	case math.MinInt64:
		return firstTime
	case math.MaxInt64:
		return lastTime
	}
	return time.Unix(epoch+microseconds/1e6, microseconds%1e6*1e3)
}

// size is how many bytes the event's texts have.
func (ev *Event) size() int64 {
	return int64(len(ev.Type.String) + len(ev.Data.String) +
		len(ev.Extra1.String) + len(ev.Extra2.String) + len(ev.Extra3.String) + len(ev.Extra4.String))
}

func scanEvent(row pgx.CollectableRow) (*Event, error) {
	ev := new(Event)
	var retry pgtype.Int4 // NULL is 0
	err := row.Scan(&ev.ID, &moment{&ev.Time}, &ev.TxID, &retry, &ev.Type, &ev.Data, &ev.Extra1, &ev.Extra2, &ev.Extra3, &ev.Extra4)
	ev.Retry = retry.Int32
	return ev, err
}
