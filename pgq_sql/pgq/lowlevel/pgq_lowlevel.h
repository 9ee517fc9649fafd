/*
 * pgq_lowlevel.h
 *	  The map of library pgq_lowlevel: what SQL calls, and what its files share.
 */
#ifndef PGQ_LOWLEVEL_H
#define PGQ_LOWLEVEL_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"

/* SQLSTATEs of schema pgq, listed in extensions/README.md */
#define ERRCODE_PGQ_QUEUE_NOT_FOUND MAKE_SQLSTATE('P', 'G', 'Q', '0', '1')
#define ERRCODE_PGQ_BATCH_NOT_FOUND MAKE_SQLSTATE('P', 'G', 'Q', '0', '3')
#define ERRCODE_PGQ_QUEUE_STATE MAKE_SQLSTATE('P', 'G', 'Q', '0', '6')
#define ERRCODE_PGQ_TX_LIMIT MAKE_SQLSTATE('P', 'G', 'Q', '0', '7')

/* The values of an event, in the order of insert_event_raw's arguments */
typedef enum EventField
{
	EV_ID,
	EV_TIME,
	EV_OWNER,
	EV_RETRY,
	EV_TYPE,
	EV_DATA,
	EV_EXTRA1,
	EV_EXTRA2,
	EV_EXTRA3,
	EV_EXTRA4,
	N_EVENT_FIELDS,
	/* a column that is nobody's to give */
	EV_TXID = N_EVENT_FIELDS,
	N_EVENT_COLUMNS
} EventField;

typedef struct QueueKey
{
	const char *name;			/* in an entry: terminated, and its own */
	int			len;
} QueueKey;

/*
 * What this backend knows of one queue. Entries live as long as the backend.
 */
typedef struct PgqQueue
{
	QueueKey	key;

	/* the row of pgq.queue */
	bool		row_known;		/* false: read it anew */
	int32		queue_id;
	bool		disable_insert;
	bool		has_limit;
	int32		per_tx_limit;
	bool		notify;
	char	   *table_name;		/* the current event table */
	char	   *seq_name;

	/* the table of that name */
	bool		table_known;	/* false: learn it anew */
	Oid			table_oid;
	Oid			seq_oid;
	MemoryContext table_context;	/* holds what is pointed to below */
	bool		plain;			/* rows may be written without the executor */
	TupleTableSlot *slot;		/* one row, by a copy of the table's columns */
	AttrNumber	attnums[N_EVENT_COLUMNS];
	int			n_indexes;
	Oid		   *index_oids;
	IndexInfo **index_infos;
	SPIPlanPtr	plan;			/* the insert by the executor, NULL until
								 * built */
	Oid			plan_table;		/* the table that it writes */

	/* the limit for each transaction */
	FullTransactionId counted_xid;	/* transaction that n_events counts for */
	int64		n_events;

	/* word to the ticker */
	bool		pending;		/* this transaction has written */
	bool		sending;		/* ... and its commit sends word */
	struct PgqQueue *next_pending;
	int64		last_id;		/* newest event id that we drew */
	int64		n_drawn;		/* ids drawn since our last commit */
	int64		commit_id;		/* last_id at our last commit */
	TimestampTz commit_time;	/* of our last commit with events */
	TimestampTz sent_time;		/* of the last one that sent word */
} PgqQueue;

/* in insert_event.c */
extern Datum pgq_insert_event_raw(PG_FUNCTION_ARGS);
extern Datum pgq_insert_event(PG_FUNCTION_ARGS);
extern Datum pgq_insert_events(PG_FUNCTION_ARGS);
extern Datum pgq_current_event_table(PG_FUNCTION_ARGS);

/* in queue.c */
extern Datum pgq_queue_changed(PG_FUNCTION_ARGS);
extern Datum pgq_next_txid(PG_FUNCTION_ARGS);
extern PgqQueue *pgq_queue_get(text *name, const char *missing, const char *disabled);
extern Relation pgq_queue_open(text *name, const char *missing, const char *disabled,
							   PgqQueue **queue);
extern void pgq_queue_count(PgqQueue *queue, int64 n_events);

/* in event_table.c */
extern void pgq_table_learn(PgqQueue *queue, Relation rel);
extern void pgq_table_forget(PgqQueue *queue);
extern void pgq_table_write(PgqQueue *queue, Relation rel, Datum *values, char *nulls);
extern void pgq_table_write_many(PgqQueue *queue, Relation rel, int n_events,
								 Datum *values[], bool *nulls[]);

/* in notify.c */
extern void pgq_notify_ticker(PgqQueue *queue);

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
