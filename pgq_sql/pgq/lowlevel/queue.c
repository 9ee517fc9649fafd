/*
 * queue.c
 *	  What a backend knows of the queues: their rows in pgq.queue, kept until
 *	  somebody changes them.
 *
 * Order is everything here. A batch looks into the table before the current
 * one only for transactions up to queue_switch_step2, the next id there was
 * to give when everybody could see the switch. So a writer takes its id first
 * and then looks which table is current as of that moment, whatever the
 * snapshot of its transaction is: "saw the old table" then means "has an id
 * from before step2". How long it waits for locks afterwards makes no
 * difference, since the next rotation does not start before all ids up to
 * step2 are done.
 *
 * "As of that moment" is fast because rows are kept. Trigger queue_changed on
 * pgq.queue makes each change of the table, by whomever, send an invalidation
 * of it; we accept those after the id is assigned, and read what they name
 * with a new snapshot. That this sees every switch that it must see:
 *	 1. A transaction that commits becomes visible, then sends its invalidations,
 *		then releases its locks, the one on its own id among them.
 *	 2. step2 waits for the lock on step1's id before it reads the next id to
 *		give (pgq_next_txid). So step1's invalidation is in the queue by then.
 *	 3. Who gets an id from there on got it under the lock that step2 read the
 *		next one with, hence sees the invalidation when it accepts, and its new
 *		snapshot sees step1.
 * A change in our own transaction invalidates at the end of its command, and
 * once more when it is rolled back. Where the trigger is missing or does not
 * fire always (the schema is older than this library), rows are not kept.
 *
 * Memory: an entry for each queue written to lives as long as the backend.
 * Invalidations only mark; the next use reads.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "pg_compat.h"
#include "pgq_lowlevel.h"

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
	N_NEEDED_COLUMNS,
	/* a schema that is older than this library has not got it */
	COL_NOTIFY = N_NEEDED_COLUMNS,
	N_COLUMNS
} QueueColumn;

static const char *const column_names[N_COLUMNS] = {
	"queue_id",
	"queue_name",
	"queue_cur_table",
	"queue_disable_insert",
	"queue_per_tx_limit",
	"queue_data_pfx",
	"queue_event_seq",
	"queue_notify"
};

/* Where pgq.queue is */
typedef struct QueueTable
{
	bool		known;			/* false before first use and after change */
	Oid			table_oid;
	Oid			name_index_oid;
	AttrNumber	attnums[N_COLUMNS];
	bool		watched;		/* changes send invalidations: rows can be
								 * kept */
} QueueTable;

static void queue_table_build(void);
static bool queue_table_watched(Relation rel);
static PgqQueue *queue_read(text *name, const char *missing);
static void queue_set(PgqQueue *queue, const Datum *values, const bool *nulls);
static PgqQueue *queue_lookup(text *name, HASHACTION action);
static Relation queue_table_open(PgqQueue *queue, bool missing_ok);
static uint32 key_hash(const void *key, Size keysize);
static int	key_compare(const void *a, const void *b, Size keysize);
static void relcache_callback(Datum arg, Oid relid);

static QueueTable queue_table;
static HTAB *queues = NULL;

/* How often we were told of changes, to notice one while we are reading */
static uint64 n_news = 0;

PG_FUNCTION_INFO_V1(pgq_queue_changed);
PG_FUNCTION_INFO_V1(pgq_next_txid);

/*
 * Trigger pgq._queue_changed(): what backends have kept of the table is stale
 * when this transaction commits, for this one at once.
 */
Datum
pgq_queue_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("pgq._queue_changed() can only be called as trigger")));
	CacheInvalidateRelcache(trigger->tg_relation);
	return PointerGetDatum(NULL);
}

/*
 * pgq._next_txid(i_after): the id that the next transaction will get. All who
 * have one by now have a smaller one. Those who get this or a later one know what
 * the committed transaction i_after has changed: see the head of this file.
 */
Datum
pgq_next_txid(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0))
	{
		FullTransactionId after = FullTransactionIdFromU64((uint64) PG_GETARG_INT64(0));
		LOCKTAG		tag;

		SET_LOCKTAG_TRANSACTION(tag, XidFromFullTransactionId(after));
		(void) LockAcquire(&tag, ShareLock, false, false);
		LockRelease(&tag, ShareLock, false);
	}
	PG_RETURN_INT64((int64) U64FromFullTransactionId(ReadNextFullTransactionId()));
}

/*
 * Gives a queue as it is now, after taking a transaction id. Raises errors with
 * the given messages if there is none, or if it is closed to all but
 * replicated changes.
 */
PgqQueue *
pgq_queue_get(text *name, const char *missing, const char *disabled)
{
	PgqQueue   *queue = NULL;

	/* first the id, then the row: see the head of this file */
	(void) GetTopFullTransactionId();
	AcceptInvalidationMessages();

	if (queue_table.known && queue_table.watched && name != NULL)
		queue = queue_lookup(name, HASH_FIND);
	if (queue == NULL || !queue->row_known)
		queue = queue_read(name, missing);

	if (queue->disable_insert &&
		SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		ereport(ERROR,
				(errcode(ERRCODE_PGQ_QUEUE_STATE),
				 errmsg("%s", disabled),
				 errdetail("Queue \"%s\" has queue_disable_insert set.",
						   text_to_cstring(name))));
	return queue;
}

/*
 * The same, and opens its current event table to write into, with all there
 * is to know about it. The lock stays until the transaction ends.
 */
Relation
pgq_queue_open(text *name, const char *missing, const char *disabled, PgqQueue **result)
{
	for (bool again = false;; again = true)
	{
		PgqQueue   *queue = pgq_queue_get(name, missing, disabled);
		Relation	rel = NULL;

		if (queue->table_known)
			rel = try_relation_open(queue->table_oid, RowExclusiveLock);
		/* waiting for the lock may have brought news about the table */
		if (rel != NULL && !queue->table_known)
		{
			relation_close(rel, NoLock);
			rel = NULL;
		}
		if (rel == NULL)
			rel = queue_table_open(queue, !again);
		if (rel != NULL)
		{
			*result = queue;
			return rel;
		}
		/* dropped while we waited: so may be the queue */
		queue->row_known = false;
	}
}

/*
 * Counts events, and refuses them beyond the queue's limit. Events that a
 * savepoint takes back have counted.
 */
void
pgq_queue_count(PgqQueue *queue, int64 n_events)
{
	FullTransactionId xid = GetTopFullTransactionId();

	if (!FullTransactionIdEquals(queue->counted_xid, xid))
	{
		queue->counted_xid = xid;
		queue->n_events = 0;
	}
	queue->n_events += n_events;
	if (queue->has_limit && queue->n_events > queue->per_tx_limit)
		ereport(ERROR,
				(errcode(ERRCODE_PGQ_TX_LIMIT),
				 errmsg("Queue '%s' allows max %d events from one TX",
						pnstrdup(queue->key.name, queue->key.len), queue->per_tx_limit),
				 errhint("The limit is column queue_per_tx_limit of pgq.queue.")));
}

/*
 * Reads the queue's row as it is now, not as the transaction's snapshot has it.
 */
static PgqQueue *
queue_read(text *name, const char *missing)
{
	PgqQueue   *queue = NULL;

	if (!queue_table.known)
		queue_table_build();

	if (name != NULL)
	{
		Relation	rel = table_open(queue_table.table_oid, AccessShareLock);
		Relation	index = index_open(queue_table.name_index_oid, AccessShareLock);
		Snapshot	snapshot;
		SysScanDesc scan;
		ScanKeyData key;
		HeapTuple	tuple;
		uint64		news = n_news;

		snapshot = RegisterSnapshot(GetLatestSnapshot());
		ScanKeyEntryInitialize(&key, 0, queue_table.attnums[COL_QUEUE_NAME],
							   BTEqualStrategyNumber, InvalidOid,
							   index->rd_indcollation[0], F_TEXTEQ,
							   PointerGetDatum(name));
		scan = systable_beginscan(rel, queue_table.name_index_oid, true, snapshot, 1, &key);
		tuple = systable_getnext(scan);
		if (HeapTupleIsValid(tuple))
		{
			Datum		values[N_COLUMNS];
			bool		nulls[N_COLUMNS];

			for (int i = 0; i < N_COLUMNS; i++)
			{
				nulls[i] = true;
				if (queue_table.attnums[i] != InvalidAttrNumber)
					values[i] = heap_getattr(tuple, queue_table.attnums[i],
											 RelationGetDescr(rel), &nulls[i]);
			}
			queue = queue_lookup(name, HASH_ENTER);
			queue->row_known = false;
			queue_set(queue, values, nulls);
			/* unless there are newer news */
			queue->row_known = news == n_news;
		}
		else if ((queue = queue_lookup(name, HASH_FIND)) != NULL)
		{
			queue->row_known = false;
			pgq_table_forget(queue);
			queue = NULL;
		}
		systable_endscan(scan);
		UnregisterSnapshot(snapshot);
		index_close(index, AccessShareLock);
		table_close(rel, AccessShareLock);
	}
	if (queue == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PGQ_QUEUE_NOT_FOUND),
				 errmsg("%s", missing),
				 name == NULL ? errdetail("The name of the queue is NULL.")
				 : errdetail("There is no queue \"%s\".", text_to_cstring(name)),
				 errhint("Create it with pgq.create_queue().")));
	return queue;
}

/*
 * Keeps a row. What is known of its table stays while the row names the same.
 */
static void
queue_set(PgqQueue *queue, const Datum *values, const bool *nulls)
{
	int32		queue_id = DatumGetInt32(values[COL_QUEUE_ID]);
	char	   *table_name = psprintf("%s_%d", TextDatumGetCString(values[COL_DATA_PFX]),
									  DatumGetInt32(values[COL_CUR_TABLE]));
	char	   *seq_name = TextDatumGetCString(values[COL_EVENT_SEQ]);

	queue->disable_insert = DatumGetBool(values[COL_DISABLE_INSERT]);
	queue->has_limit = !nulls[COL_PER_TX_LIMIT];
	queue->per_tx_limit = queue->has_limit ? DatumGetInt32(values[COL_PER_TX_LIMIT]) : 0;
	queue->notify = !nulls[COL_NOTIFY] && DatumGetBool(values[COL_NOTIFY]);

	if (queue->table_name != NULL && queue->queue_id == queue_id &&
		strcmp(queue->table_name, table_name) == 0 && strcmp(queue->seq_name, seq_name) == 0)
		return;

	/* another queue of this name: what was counted and sent was not for it */
	if (queue->queue_id != queue_id)
	{
		queue->counted_xid = InvalidFullTransactionId;
		queue->last_id = queue->commit_id = queue->n_drawn = 0;
		queue->commit_time = queue->sent_time = 0;
	}
	queue->queue_id = queue_id;
	pgq_table_forget(queue);
	if (queue->table_name != NULL)
	{
		pfree(queue->table_name);
		pfree(queue->seq_name);
		queue->table_name = NULL;
	}
	seq_name = MemoryContextStrdup(TopMemoryContext, seq_name);
	queue->table_name = MemoryContextStrdup(TopMemoryContext, table_name);
	queue->seq_name = seq_name;
}

/*
 * Finds what is kept of a queue, or makes room for it.
 */
static PgqQueue *
queue_lookup(text *name, HASHACTION action)
{
	QueueKey	key = {VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)};
	PgqQueue   *queue;
	char	   *own_name;
	bool		found;

	if (queues == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(QueueKey);
		ctl.entrysize = sizeof(PgqQueue);
		ctl.hash = key_hash;
		ctl.match = key_compare;
		queues = hash_create("PgQ queues", 16, &ctl, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE);
	}
	queue = hash_search(queues, &key, HASH_FIND, NULL);
	if (queue != NULL || action == HASH_FIND)
		return queue;

	/* the key points to the caller's name until the entry has its own */
	own_name = MemoryContextAlloc(TopMemoryContext, key.len + 1);
	memcpy(own_name, key.name, key.len);
	own_name[key.len] = '\0';
	queue = hash_search(queues, &key, HASH_ENTER, &found);
	memset(queue, 0, sizeof(PgqQueue));
	queue->key.name = own_name;
	queue->key.len = key.len;
	return queue;
}

/*
 * Opens and learns the table that the row names. NULL if it does not exist and
 * that may be.
 */
static Relation
queue_table_open(PgqQueue *queue, bool missing_ok)
{
	RangeVar   *table = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(queue->table_name)));
	RangeVar   *seq = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(queue->seq_name)));
	Oid			table_oid = RangeVarGetRelid(table, RowExclusiveLock, missing_ok);
	Relation	rel;
	uint64		news = n_news;

	if (!OidIsValid(table_oid))
		return NULL;
	queue->seq_oid = RangeVarGetRelid(seq, NoLock, false);
	rel = table_open(table_oid, NoLock);
	pgq_table_learn(queue, rel);
	/* with the lock it is true now; next time too unless there are news */
	queue->table_known = news == n_news;
	return rel;
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
	Relation	rel;
	uint64		news;

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

	news = n_news;
	rel = table_open(table_oid, AccessShareLock);
	queue_table.table_oid = table_oid;
	queue_table.name_index_oid = index_oid;
	queue_table.watched = queue_table_watched(rel);
	for (int i = 0; i < N_COLUMNS; i++)
	{
		queue_table.attnums[i] = get_attnum(table_oid, column_names[i]);
		if (queue_table.attnums[i] == InvalidAttrNumber && i < N_NEEDED_COLUMNS)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("table pgq.queue has no column \"%s\"", column_names[i]),
					 errhint("Run pgq.upgrade_schema().")));
	}
	table_close(rel, AccessShareLock);
	queue_table.known = news == n_news;
}

/*
 * Does every change of pgq.queue call pgq._queue_changed()?
 */
static bool
queue_table_watched(Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];
		int16		all = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE | TRIGGER_TYPE_TRUNCATE;
		char	   *function = get_func_name(trigger->tgfoid);

		if (trigger->tgenabled == TRIGGER_FIRES_ALWAYS && trigger->tgtype == all &&
			trigger->tgnattr == 0 && trigger->tgqual == NULL && function != NULL &&
			strcmp(function, "_queue_changed") == 0 &&
			get_func_namespace(trigger->tgfoid) == RelationGetNamespace(rel))
			return true;
	}
	return false;
}

static uint32
key_hash(const void *key, Size keysize)
{
	const QueueKey *k = key;

	return DatumGetUInt32(hash_any((const unsigned char *) k->name, k->len));
}

static int
key_compare(const void *a, const void *b, Size keysize)
{
	const QueueKey *x = a;
	const QueueKey *y = b;

	return x->len == y->len ? memcmp(x->name, y->name, x->len) : 1;
}

/*
 * A table changed: what was learned from it is stale. InvalidOid means all.
 */
static void
relcache_callback(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	PgqQueue   *queue;
	bool		rows = relid == InvalidOid || relid == queue_table.table_oid ||
	relid == queue_table.name_index_oid;

	n_news++;
	if (rows)
		queue_table.known = false;
	if (queues == NULL)
		return;
	hash_seq_init(&status, queues);
	while ((queue = hash_seq_search(&status)) != NULL)
	{
		bool		table = relid == InvalidOid || relid == queue->table_oid ||
		relid == queue->seq_oid;

		for (int i = 0; i < queue->n_indexes && !table; i++)
			table = relid == queue->index_oids[i];
		if (table)
			queue->table_known = false;
		if (rows)
			queue->row_known = false;
	}
}
