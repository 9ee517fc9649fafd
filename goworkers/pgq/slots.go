// Parallel consumers: workers that share one consumer, with order for each key.

package pgq

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	registerSlotsSQL    = `select pgq.register_slots($1, $2, $3)`
	registerSlotsKeySQL = `select pgq.register_slots($1, $2, $3, $4)`
)

// RegisterSlots registers a consumer that is split into slots, each of which gets
// the events whose key hashes to it. key is the event's field that is the key
// (ev_extra1 to ev_extra4, ev_type, ev_data); "" is ev_extra1. It returns how many
// slots were made, 0 when the consumer was split so before.
func RegisterSlots(ctx context.Context, db DB, queue, consumer string, slots int, key string) (made int, err error) {
	sql, args := registerSlotsSQL, []any{queue, consumer, slots}
	if key != "" {
		sql, args = registerSlotsKeySQL, append(args, key)
	}
	err = db.QueryRow(ctx, sql, args...).Scan(&made)
	return made, wrap(err, "register consumer %q on queue %q with %d slots", consumer, queue, slots)
}

const unregisterSlotsSQL = `select pgq.unregister_slots($1, $2)`

// UnregisterSlots takes a split consumer off a queue with all its slots, and returns
// how many there were.
func UnregisterSlots(ctx context.Context, db DB, queue, consumer string) (gone int, err error) {
	err = db.QueryRow(ctx, unregisterSlotsSQL, queue, consumer).Scan(&gone)
	return gone, wrap(err, "unregister the slots of consumer %q from queue %q", consumer, queue)
}

const nextSlotBatchSQL = `select ` + batchColumns + `, slot from pgq.next_slot_batch($1, $2, $3, $4) where batch_id is not null`

// NextSlotBatch gives a worker of a split consumer its open batch or, if it has
// none, one of a slot that nobody works on. With dead above 0 it may also be the
// batch of a worker that was not heard of for so long; it comes under a new id, so
// that the late worker's FinishBatch does nothing. A worker that is busy says so by
// TouchBatch. It returns nil when there is nothing to do.
//
// The batch's Consumer is the slot's own name, as SlotName makes it.
func NextSlotBatch(ctx context.Context, db DB, queue, consumer, worker string, dead time.Duration) (*Batch, error) {
	b := &Batch{Queue: queue}
	err := db.QueryRow(ctx, nextSlotBatchSQL, queue, consumer, worker, asInterval(dead)).Scan(
		&b.ID, &b.PrevTick, &moment{&b.PrevTickTime}, &b.PrevSeq, &b.Tick, &moment{&b.TickTime}, &b.Seq, &b.Slot)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap(err, "take the next batch of consumer %q on queue %q for worker %q", consumer, queue, worker)
	}
	b.Consumer = SlotName(consumer, b.Slot)
	return b, nil
}

// SlotName is the consumer that a slot of a split consumer is registered as.
func SlotName(consumer string, slot int) string { return consumer + "#" + strconv.Itoa(slot) }

const touchBatchSQL = `select pgq.touch_batch($1) = 1`

// TouchBatch tells that the batch is being worked on. It says false when the batch
// is not open any more: it was finished, or another worker has it now.
func TouchBatch(ctx context.Context, db DB, batch int64) (open bool, err error) {
	err = db.QueryRow(ctx, touchBatchSQL, batch).Scan(&open)
	return open, wrap(err, "touch batch %d", batch)
}

const slotOfSQL = `select pgq.slot_of($1, $2)`

// SlotOf says which slot gets the events of a key.
func SlotOf(ctx context.Context, db DB, key pgtype.Text, slots int) (slot int, err error) {
	err = db.QueryRow(ctx, slotOfSQL, key, slots).Scan(&slot)
	return slot, wrap(err, "ask for the slot of a key")
}
