// Producers' other ways to insert: many events in one call, JSON, later.

package pgq

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

const insertJSONSQL = `select pgq.insert_event($1::text, $2::text, $3::jsonb, $4::text, $5::text, $6::text, $7::text)`

// InsertJSON inserts one event whose data is payload as JSON, and returns its id;
// ev.Data is not looked at. The server keeps the payload in the form of jsonb.
func InsertJSON(ctx context.Context, db DB, queue string, ev Event, payload any) (id int64, err error) {
	data, err := json.Marshal(payload)
	if err == nil {
		err = db.QueryRow(ctx, insertJSONSQL, queue, ev.Type, string(data), ev.Extra1, ev.Extra2, ev.Extra3, ev.Extra4).Scan(&id)
	}
	return id, wrap(err, "insert event into queue %q", queue)
}

const insertEventsSQL = `select pgq.insert_events($1::text, $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])`

// InsertEvents inserts events in one call, as part of db's transaction, and returns
// their ids in the order of the events. Server and network see one statement; for
// more events than shall be held in memory there is BulkInsert.
func InsertEvents(ctx context.Context, db DB, queue string, events []Event) (ids []int64, err error) {
	err = db.QueryRow(ctx, insertEventsSQL, queue,
		column(events, func(ev *Event) pgtype.Text { return ev.Type }),
		column(events, func(ev *Event) pgtype.Text { return ev.Data }),
		sparse(events, func(ev *Event) pgtype.Text { return ev.Extra1 }),
		sparse(events, func(ev *Event) pgtype.Text { return ev.Extra2 }),
		sparse(events, func(ev *Event) pgtype.Text { return ev.Extra3 }),
		sparse(events, func(ev *Event) pgtype.Text { return ev.Extra4 })).Scan(&ids)
	return ids, wrap(err, "insert %d events into queue %q", len(events), queue)
}

// column makes an array of one field of the events.
func column(events []Event, field func(*Event) pgtype.Text) []pgtype.Text {
	list := make([]pgtype.Text, len(events))
	for i := range events {
		list[i] = field(&events[i])
	}
	return list
}

// sparse is column, but nil where no event has a value: nulls need not be sent.
func sparse(events []Event, field func(*Event) pgtype.Text) []pgtype.Text {
	for i := range events {
		if field(&events[i]).Valid {
			return column(events, field)
		}
	}
	return nil
}

const insertEventAtSQL = `select pgq.insert_event_at($1, $2, $3, $4, $5, $6, $7, $8)`

// InsertEventAt inserts an event that consumers shall not see before the time at,
// and returns its id. Until then it waits outside of the queue's tables; its Time
// will be at. One whose time has passed comes soon.
func InsertEventAt(ctx context.Context, db DB, queue string, at time.Time, ev Event) (id int64, err error) {
	err = db.QueryRow(ctx, insertEventAtSQL, queue, at, ev.Type, ev.Data, ev.Extra1, ev.Extra2, ev.Extra3, ev.Extra4).Scan(&id)
	return id, wrap(err, "insert event for %s into queue %q", at.Format(time.RFC3339), queue)
}
