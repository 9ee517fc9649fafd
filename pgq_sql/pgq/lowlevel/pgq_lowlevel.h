/*
 * pgq_lowlevel.h
 *	  The map of library pgq_lowlevel: what SQL calls.
 */
#ifndef PGQ_LOWLEVEL_H
#define PGQ_LOWLEVEL_H

#include "executor/tuptable.h"
#include "nodes/execnodes.h"

/* SQLSTATEs of schema pgq, listed in extensions/README.md */
#define ERRCODE_PGQ_QUEUE_NOT_FOUND MAKE_SQLSTATE('P', 'G', 'Q', '0', '1')
#define ERRCODE_PGQ_BATCH_NOT_FOUND MAKE_SQLSTATE('P', 'G', 'Q', '0', '3')
#define ERRCODE_PGQ_QUEUE_STATE MAKE_SQLSTATE('P', 'G', 'Q', '0', '6')
#define ERRCODE_PGQ_TX_LIMIT MAKE_SQLSTATE('P', 'G', 'Q', '0', '7')

/* in insert_event.c */
extern Datum pgq_insert_event_raw(PG_FUNCTION_ARGS);
extern Datum pgq_insert_event(PG_FUNCTION_ARGS);
extern Datum pgq_current_event_table(PG_FUNCTION_ARGS);
extern Datum pgq_next_txid(PG_FUNCTION_ARGS);

/* in batch_events.c */
extern Datum pgq_get_batch_events(PG_FUNCTION_ARGS);

/* in slot_of.c */
extern Datum pgq_slot_of(PG_FUNCTION_ARGS);

/* in event_order.c */
typedef struct EventOrder EventOrder;

extern EventOrder *pgq_event_order_begin(ReturnSetInfo *rsinfo);
extern void pgq_event_order_put(EventOrder *order, int64 ev_id, TupleTableSlot *slot);
extern void pgq_event_order_end(EventOrder *order);

#endif							/* PGQ_LOWLEVEL_H */
