/*
 * insert_event.c
 *	  Writes events into the table that rotation has chosen, and never into a
 *	  table that batches no longer look at.
 *
 * Order is everything here. A batch looks into the table before the current
 * one only for transactions up to queue_switch_step2, the next id there was
 * to give when everybody could see the switch. So a writer takes its id first
 * and then reads the queue's row as it is at that moment, whatever the
 * snapshot of its transaction is: "saw the old table" then means "has an id
 * from before step2". How long it waits for locks afterwards makes no
 * difference, since the next rotation does not start before all ids up to
 * step2 are done.
 *
 * Memory: a hash of queues lives as long as the backend; an entry owns its
 * saved plan. A row of pgq.queue is read anew for each event, only what the
 * catalogs say is kept, and marked as stale by relcache invalidation.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "pg_compat.h"
#include "pgq_lowlevel.h"

SKYTOOLS_MODULE("pgq_lowlevel");

/* Columns of pgq.queue that we read, by their place in column_names */
typedef enum QueueColumn
{
	COL_QUEUE_ID,
	COL_QUEUE_NAME,
	COL_CUR_TABLE,
	COL_DISABLE_INSERT,
	COL_PER_TX_LIMIT,
	COL_DATA_PFX,
	COL_EVENT_SEQ,
	N_COLUMNS
} QueueColumn;

static const char *const column_names[N_COLUMNS] = {
	"queue_id",
	"queue_name",
	"queue_cur_table",
	"queue_disable_insert",
	"queue_per_tx_limit",
	"queue_data_pfx",
	"queue_event_seq"
};

/* Where pgq.queue is; table_oid is invalid before first use and after change */
typedef struct QueueTable
{
	Oid			table_oid;
	Oid			name_index_oid;
	AttrNumber	attnums[N_COLUMNS];
} QueueTable;

/* The row of one queue as of now; texts live in the caller's memory context */
typedef struct QueueRow
{
	int32		queue_id;
	int32		cur_table;
	bool		disable_insert;
	bool		has_limit;
	int32		per_tx_limit;
	Datum		data_pfx;
	Datum		event_seq;
} QueueRow;

/* What this backend knows of one queue */
typedef struct QueueEntry
{
	int32		queue_id;		/* hash key */
	bool		stale;			/* an invalidation came: build anew */
	int32		cur_table;		/* which table the plan writes */
	Oid			table_oid;
	Oid			seq_oid;
	SPIPlanPtr	insert_plan;	/* NULL until built */
	FullTransactionId counted_xid;	/* transaction that n_events counts for */
	int64		n_events;
} QueueEntry;

/* The values of an event, in the order of the plan's parameters */
typedef enum EventParam
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
	N_EVENT_PARAMS
} EventParam;

static int64 event_insert(text *queue_name, Datum *values, char *nulls);
static void queue_row_get(text *queue_name, const char *missing, QueueRow *row);
static text *event_table_name(const QueueRow *row);
static void queue_table_build(void);
static QueueEntry *queue_entry_get(const QueueRow *row);
static void queue_entry_build(QueueEntry *entry, const QueueRow *row);
static void refuse_if_disabled(text *queue_name, const QueueRow *row,
							   const char *message);
static void count_event(text *queue_name, QueueEntry *entry, const QueueRow *row);
static void relcache_callback(Datum arg, Oid relid);

static QueueTable queue_table;
static HTAB *queue_entries = NULL;

PG_FUNCTION_INFO_V1(pgq_insert_event_raw);
PG_FUNCTION_INFO_V1(pgq_insert_event);
PG_FUNCTION_INFO_V1(pgq_current_event_table);
PG_FUNCTION_INFO_V1(pgq_next_txid);

/*
 * pgq.insert_event_raw(queue_name, ev_id, ev_time, ev_owner, ev_retry,
 * ev_type, ev_data, ev_extra1 .. ev_extra4): all columns are the caller's.
 */
Datum
pgq_insert_event_raw(PG_FUNCTION_ARGS)
{
	Datum		values[N_EVENT_PARAMS];
	char		nulls[N_EVENT_PARAMS];

	for (int i = 0; i < N_EVENT_PARAMS; i++)
	{
		nulls[i] = PG_ARGISNULL(i + 1) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i + 1) ? (Datum) 0 : PG_GETARG_DATUM(i + 1);
	}
	PG_RETURN_INT64(event_insert(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0),
								 values, nulls));
}

/*
 * pgq.insert_event(queue_name, ev_type, ev_data, ev_extra1 .. ev_extra4)
 */
Datum
pgq_insert_event(PG_FUNCTION_ARGS)
{
	Datum		values[N_EVENT_PARAMS];
	char		nulls[N_EVENT_PARAMS];

	for (int i = 0; i < EV_TYPE; i++)
	{
		nulls[i] = 'n';
		values[i] = (Datum) 0;
	}
	for (int i = EV_TYPE; i < N_EVENT_PARAMS; i++)
	{
		int			arg = i - EV_TYPE + 1;

		nulls[i] = PG_ARGISNULL(arg) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(arg) ? (Datum) 0 : PG_GETARG_DATUM(arg);
	}
	PG_RETURN_INT64(event_insert(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0),
								 values, nulls));
}

/*
 * pgq.current_event_table(queue_name): where to COPY to. The name is good until
 * the transaction ends: having an id, it holds up the rotation after the next.
 */
Datum
pgq_current_event_table(PG_FUNCTION_ARGS)
{
	text	   *queue_name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	QueueRow	row;

	PreventCommandIfReadOnly("pgq.current_event_table()");
	PreventCommandIfParallelMode("pgq.current_event_table()");
	(void) GetTopFullTransactionId();
	queue_row_get(queue_name, "Event queue not found", &row);
	refuse_if_disabled(queue_name, &row, "Writing to queue disabled");
	PG_RETURN_TEXT_P(event_table_name(&row));
}

/*
 * pgq._next_txid(): the id that the next transaction will get. All who have
 * one by now have a smaller one.
 */
Datum
pgq_next_txid(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) U64FromFullTransactionId(ReadNextFullTransactionId()));
}

/*
 * Writes one event, returns its id. queue_name may be NULL, which is refused.
 */
static int64
event_insert(text *queue_name, Datum *values, char *nulls)
{
	QueueRow	row;
	QueueEntry *entry;
	int64		new_id;
	int			rc;

	if (queue_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("Queue name must not be NULL")));
	PreventCommandIfReadOnly("pgq.insert_event()");
	PreventCommandIfParallelMode("pgq.insert_event()");

	/* first the id, then the row: see the head of this file */
	(void) GetTopFullTransactionId();
	queue_row_get(queue_name, "No such queue", &row);
	refuse_if_disabled(queue_name, &row, "Insert into queue disallowed");

	SPI_connect();
	entry = queue_entry_get(&row);
	/* what one consumer gets again was counted when it came */
	if (nulls[EV_OWNER] == 'n')
		count_event(queue_name, entry, &row);

	/* the ticker sees by the sequence that something came, so it moves always */
	new_id = nextval_internal(entry->seq_oid, true);
	if (nulls[EV_ID] == 'n')
	{
		values[EV_ID] = Int64GetDatum(new_id);
		nulls[EV_ID] = ' ';
	}
	else
		new_id = DatumGetInt64(values[EV_ID]);
	if (nulls[EV_TIME] == 'n')
	{
		values[EV_TIME] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
		nulls[EV_TIME] = ' ';
	}

	rc = SPI_execute_plan(entry->insert_plan, values, nulls, false, 0);
	if (rc != SPI_OK_INSERT)
		elog(ERROR, "unexpected result of event insert: %s",
			 SPI_result_code_string(rc));
	SPI_finish();
	return new_id;
}

/*
 * Reads the queue's row as it is now, not as the transaction's snapshot has it.
 * If there is none, raises an error with the given message.
 */
static void
queue_row_get(text *queue_name, const char *missing, QueueRow *row)
{
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
	ScanKeyData key;
	Snapshot	snapshot;
	HeapTuple	tuple = NULL;
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS];

	if (!OidIsValid(queue_table.table_oid))
		queue_table_build();

	if (queue_name != NULL)
	{
		rel = table_open(queue_table.table_oid, AccessShareLock);
		index = index_open(queue_table.name_index_oid, AccessShareLock);
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		ScanKeyEntryInitialize(&key, 0, queue_table.attnums[COL_QUEUE_NAME],
							   BTEqualStrategyNumber, InvalidOid,
							   index->rd_indcollation[0], F_TEXTEQ,
							   PointerGetDatum(queue_name));
		scan = systable_beginscan(rel, queue_table.name_index_oid, true, snapshot, 1, &key);
		tuple = systable_getnext(scan);
		if (HeapTupleIsValid(tuple))
		{
			for (int i = 0; i < N_COLUMNS; i++)
				values[i] = heap_getattr(tuple, queue_table.attnums[i],
										 RelationGetDescr(rel), &nulls[i]);
			row->queue_id = DatumGetInt32(values[COL_QUEUE_ID]);
			row->cur_table = DatumGetInt32(values[COL_CUR_TABLE]);
			row->disable_insert = DatumGetBool(values[COL_DISABLE_INSERT]);
			row->has_limit = !nulls[COL_PER_TX_LIMIT];
			row->per_tx_limit = row->has_limit ? DatumGetInt32(values[COL_PER_TX_LIMIT]) : 0;
			row->data_pfx = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[COL_DATA_PFX]));
			row->event_seq = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[COL_EVENT_SEQ]));
		}
		systable_endscan(scan);
		UnregisterSnapshot(snapshot);
		index_close(index, AccessShareLock);
		table_close(rel, AccessShareLock);
	}
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_PGQ_QUEUE_NOT_FOUND),
				 errmsg("%s", missing),
				 queue_name == NULL ? errdetail("The name of the queue is NULL.")
				 : errdetail("There is no queue \"%s\".", text_to_cstring(queue_name)),
				 errhint("Create it with pgq.create_queue().")));
}

/*
 * Names the table that the row says is current.
 */
static text *
event_table_name(const QueueRow *row)
{
	return cstring_to_text(psprintf("%s_%d", TextDatumGetCString(row->data_pfx),
									row->cur_table));
}

/*
 * Finds pgq.queue, its index and columns. Their places differ between a fresh
 * schema and an upgraded one.
 */
static void
queue_table_build(void)
{
	static bool callback_registered = false;
	Oid			schema_oid = get_namespace_oid("pgq", false);
	Oid			table_oid = get_relname_relid("queue", schema_oid);
	Oid			index_oid = get_relname_relid("queue_name_uq", schema_oid);

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
		callback_registered = true;
	}
	if (!OidIsValid(table_oid) || !OidIsValid(index_oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table pgq.queue or its index queue_name_uq does not exist"),
				 errhint("Install it with CREATE EXTENSION pgq.")));
	for (int i = 0; i < N_COLUMNS; i++)
	{
		queue_table.attnums[i] = get_attnum(table_oid, column_names[i]);
		if (queue_table.attnums[i] == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("table pgq.queue has no column \"%s\"", column_names[i]),
					 errhint("Run pgq.upgrade_schema().")));
	}
	queue_table.name_index_oid = index_oid;
	queue_table.table_oid = table_oid;
}

/*
 * Gives what we know of a queue, after learning it if need be. Within SPI.
 */
static QueueEntry *
queue_entry_get(const QueueRow *row)
{
	QueueEntry *entry;
	bool		found;

	if (queue_entries == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(int32);
		ctl.entrysize = sizeof(QueueEntry);
		queue_entries = hash_create("PgQ queues", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(queue_entries, &row->queue_id, HASH_ENTER, &found);
	if (!found)
	{
		entry->insert_plan = NULL;
		entry->counted_xid = InvalidFullTransactionId;
		entry->n_events = 0;
		entry->stale = true;
	}
	if (entry->stale || entry->insert_plan == NULL ||
		entry->cur_table != row->cur_table)
		queue_entry_build(entry, row);
	return entry;
}

/*
 * Looks up the queue's sequence and current table and prepares the insert. If
 * that fails there is no plan, so the next use tries again.
 */
static void
queue_entry_build(QueueEntry *entry, const QueueRow *row)
{
	Oid			types[N_EVENT_PARAMS] = {
		INT8OID, TIMESTAMPTZOID, INT4OID, INT4OID, TEXTOID,
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID
	};
	List	   *table_name = textToQualifiedNameList(event_table_name(row));
	List	   *seq_name = textToQualifiedNameList(DatumGetTextPP(row->event_seq));
	RangeVar   *table = makeRangeVarFromNameList(table_name);
	RangeVar   *seq = makeRangeVarFromNameList(seq_name);
	SPIPlanPtr	plan;

	if (entry->insert_plan != NULL)
	{
		plan = entry->insert_plan;
		entry->insert_plan = NULL;
		SPI_freeplan(plan);
	}
	/* from here on an invalidation marks it again */
	entry->stale = false;
	entry->cur_table = row->cur_table;
	entry->seq_oid = RangeVarGetRelid(seq, NoLock, false);
	entry->table_oid = RangeVarGetRelid(table, NoLock, false);

	plan = SPI_prepare_cursor(psprintf("insert into %s"
									   " (ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,"
									   " ev_extra1, ev_extra2, ev_extra3, ev_extra4)"
									   " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
									   quote_qualified_identifier(table->schemaname,
																  table->relname)),
							  N_EVENT_PARAMS, types, CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "unexpected result of event prepare: %s",
			 SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "event plan could not be kept");
	entry->insert_plan = plan;
}

/*
 * A queue may be closed to all but replicated changes.
 */
static void
refuse_if_disabled(text *queue_name, const QueueRow *row,
				   const char *message)
{
	if (row->disable_insert &&
		SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		ereport(ERROR,
				(errcode(ERRCODE_PGQ_QUEUE_STATE),
				 errmsg("%s", message),
				 errdetail("Queue \"%s\" has queue_disable_insert set.",
						   text_to_cstring(queue_name))));
}

/*
 * Counts an event, and refuses it beyond the queue's limit. Events that a
 * savepoint takes back have counted.
 */
static void
count_event(text *queue_name, QueueEntry *entry, const QueueRow *row)
{
	FullTransactionId xid = GetTopFullTransactionId();

	if (!FullTransactionIdEquals(entry->counted_xid, xid))
	{
		entry->counted_xid = xid;
		entry->n_events = 0;
	}
	entry->n_events++;
	if (row->has_limit && entry->n_events > row->per_tx_limit)
		ereport(ERROR,
				(errcode(ERRCODE_PGQ_TX_LIMIT),
				 errmsg("Queue '%s' allows max %d events from one TX",
						text_to_cstring(queue_name), row->per_tx_limit),
				 errhint("The limit is column queue_per_tx_limit of pgq.queue.")));
}

/*
 * A table changed: what was learned from it is stale. InvalidOid means all.
 */
static void
relcache_callback(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	QueueEntry *entry;

	if (relid == InvalidOid || relid == queue_table.table_oid ||
		relid == queue_table.name_index_oid)
		queue_table.table_oid = InvalidOid;
	if (queue_entries == NULL)
		return;
	hash_seq_init(&status, queue_entries);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (relid == InvalidOid || relid == entry->table_oid ||
			relid == entry->seq_oid)
			entry->stale = true;
	}
}
