/*
 * batch_events.c
 *	  Reads the events of a batch: pgq.get_batch_events().
 *
 * What belongs to a batch is told by pgq._batch_sql(), which the readers in SQL
 * use; both must do the same. Here the text of the queries depends on the table
 * alone, so parsed queries are kept, and the snapshots are looked at in C. The
 * queries are planned anew each time: event tables have no statistics, and one
 * that was empty a minute ago may hold millions. They run with the rights of
 * the caller.
 *
 * Memory: the hash of queries lives as long as the backend; all else until the
 * end of the call.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/params.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "pg_compat.h"
#include "pgq_lowlevel.h"

/* Old transactions this near to the range are taken into it */
#define NEAR_TRANSACTIONS 100

/* Columns of an event as it is returned */
#define EVENT_ID_COLUMN 1
#define EVENT_TXID_COLUMN 3
#define EVENT_COLUMNS \
	"ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4"

/*
 * A txid_snapshot as it is stored, which pg_upgrade relies on. xip is in
 * ascending order.
 */
typedef struct StoredSnapshot
{
	int32		vl_len_;
	uint32		nxip;
	uint64		xmin;
	uint64		xmax;
	uint64		xip[FLEXIBLE_ARRAY_MEMBER];
} StoredSnapshot;

/* An open batch */
typedef struct Batch
{
	int32		sub_id;
	bool		has_slot;
	int32		slot;
	int32		slots;
	char	   *slot_key;
	StoredSnapshot *prev;		/* a batch is what this does not see */
	StoredSnapshot *next;		/* and this does */
	uint64		low;			/* transactions from here up to next->xmax ... */
	Datum	   *late;			/* and these below */
	int			n_late;
	char	   *tables[2];		/* where to look, in order of writing */
	int			n_tables;
} Batch;

/* A parsed query */
typedef struct EventQuery
{
	uint64		hash;			/* hash key, of the text */
	char	   *text;
	SPIPlanPtr	plan;
} EventQuery;

/* Parameters of the queries for a range and for single transactions */
typedef enum QueryParam
{
	PARAM_LOW,
	PARAM_LATE = PARAM_LOW,
	PARAM_HIGH,
	PARAM_SUB_ID,
	PARAM_SLOTS,
	PARAM_SLOT,
	N_PARAMS
} QueryParam;

/* Gets the rows of the queries */
typedef struct BatchReceiver
{
	DestReceiver pub;
	Batch	   *batch;
	TupleDesc	result_desc;
	EventOrder *order;
	uint64		txid;			/* of the last row; 0: none */
	bool		wanted;			/* it belongs to the batch */
} BatchReceiver;

static void batch_get(FunctionCallInfo fcinfo, Batch *batch);
static StoredSnapshot *stored_snapshot_get(Datum value);
static void batch_range_build(Batch *batch);
static void events_read(Batch *batch, const char *table, bool late,
						DestReceiver *dest);
static SPIPlanPtr event_query_get(const char *text, Oid *types);
static SPIPlanPtr kept_plan_build(const char *text, int nargs, Oid *types, int options);
static char *quote_table(const char *data_pfx, int number);
static bool txid_wanted(Batch *batch, uint64 txid);
static bool txid_visible(StoredSnapshot *snapshot, uint64 txid);
static bool txid_running(StoredSnapshot *snapshot, uint64 txid);
static void receiver_startup(DestReceiver *self, int operation, TupleDesc desc);
static bool receiver_receive(TupleTableSlot *slot, DestReceiver *self);
static void receiver_shutdown(DestReceiver *self);

static HTAB *event_queries = NULL;

PG_FUNCTION_INFO_V1(pgq_get_batch_events);

/*
 * pgq.get_batch_events(x_batch_id): all events of a batch by ev_id.
 */
Datum
pgq_get_batch_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Batch		batch;
	BatchReceiver receiver = {
		.pub = {
			.receiveSlot = receiver_receive,
			.rStartup = receiver_startup,
			.rShutdown = receiver_shutdown,
			.rDestroy = receiver_shutdown,
			.mydest = DestTuplestore
		},
		.batch = &batch
	};

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	batch_get(fcinfo, &batch);
	receiver.result_desc = rsinfo->setDesc;
	receiver.order = pgq_event_order_begin(rsinfo);
	for (int i = 0; i < batch.n_tables; i++)
	{
		/* their events are the older ones */
		if (batch.n_late > 0)
			events_read(&batch, batch.tables[i], true, &receiver.pub);
		events_read(&batch, batch.tables[i], false, &receiver.pub);
	}
	pgq_event_order_end(receiver.order);
	SPI_finish();
	return (Datum) 0;
}

/*
 * Learns all about the batch that is the function's argument. Within SPI.
 */
static void
batch_get(FunctionCallInfo fcinfo, Batch *batch)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0)};
	char		arg_nulls[1] = {PG_ARGISNULL(0) ? 'n' : ' '};
	Datum		fields[11];
	bool		nulls[11];
	char	   *data_pfx;
	int32		cur_table;
	int32		n_queue_tables;
	uint64		step1;
	uint64		step2;
	int			rc;

	if (plan == NULL)
		plan = kept_plan_build("select s.sub_id, s.sub_slots, s.sub_slot, s.sub_slot_key,"
							   " p.tick_snapshot, n.tick_snapshot, q.queue_data_pfx,"
							   " q.queue_cur_table, q.queue_ntables,"
							   " q.queue_switch_step1, q.queue_switch_step2"
							   " from pgq.subscription s"
							   " join pgq.queue q on q.queue_id operator(pg_catalog.=) s.sub_queue"
							   " join pgq.tick p on p.tick_queue operator(pg_catalog.=) s.sub_queue"
							   "  and p.tick_id operator(pg_catalog.=) s.sub_last_tick"
							   " join pgq.tick n on n.tick_queue operator(pg_catalog.=) s.sub_queue"
							   "  and n.tick_id operator(pg_catalog.=) s.sub_next_tick"
							   " where s.sub_batch operator(pg_catalog.=) $1",
							   1, types, CURSOR_OPT_GENERIC_PLAN);
	rc = SPI_execute_plan(plan, values, arg_nulls, false, 1);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of batch query: %s",
			 SPI_result_code_string(rc));
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_PGQ_BATCH_NOT_FOUND),
				 errmsg("batch not found"),
				 PG_ARGISNULL(0) ? errdetail("Batch NULL is not open.")
				 : errdetail("Batch " INT64_FORMAT " is not open.", PG_GETARG_INT64(0))));

	heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, fields, nulls);
	batch->sub_id = DatumGetInt32(fields[0]);
	batch->has_slot = !nulls[1];
	batch->slots = nulls[1] ? 0 : DatumGetInt32(fields[1]);
	batch->slot = nulls[2] ? 0 : DatumGetInt32(fields[2]);
	batch->slot_key = nulls[3] ? NULL : TextDatumGetCString(fields[3]);
	batch->prev = stored_snapshot_get(fields[4]);
	batch->next = stored_snapshot_get(fields[5]);
	data_pfx = TextDatumGetCString(fields[6]);
	cur_table = DatumGetInt32(fields[7]);
	n_queue_tables = DatumGetInt32(fields[8]);
	step1 = DatumGetInt64(fields[9]);
	step2 = DatumGetInt64(fields[10]);

	/*
	 * Whoever got its id after step2 writes into the current table; whoever
	 * was done when step1 was not, has written into the one before it.
	 */
	batch->n_tables = 0;
	if (nulls[10] || batch->prev->xmin <= step2)
		batch->tables[batch->n_tables++] =
			quote_table(data_pfx, (cur_table + n_queue_tables - 1) % n_queue_tables);
	if (batch->next->xmax >= step1)
		batch->tables[batch->n_tables++] = quote_table(data_pfx, cur_table);
	batch_range_build(batch);
}

/*
 * Names an event table for use in SQL, as pgq.quote_fqname() does.
 */
static char *
quote_table(const char *data_pfx, int number)
{
	char	   *table = psprintf("%s_%d", data_pfx, number);
	char	   *dot = strchr(table, '.');

	if (dot == NULL)
		return quote_qualified_identifier("public", table);
	*dot = '\0';
	return quote_qualified_identifier(table, dot + 1);
}

/*
 * Gives a snapshot, unpacked.
 */
static StoredSnapshot *
stored_snapshot_get(Datum value)
{
	StoredSnapshot *snapshot = (StoredSnapshot *) PG_DETOAST_DATUM(value);

	if (VARSIZE(snapshot) != offsetof(StoredSnapshot, xip) + snapshot->nxip * sizeof(uint64))
		elog(ERROR, "unexpected size of a snapshot: %zu bytes", (size_t) VARSIZE(snapshot));
	return snapshot;
}

/*
 * Most transactions of a batch lie between the ends of its snapshots. What was
 * running at the first and is done at the second lies below: what is near is
 * taken into the range, far ones are looked up singly, since one old
 * transaction must not widen the range over all that came after it.
 */
static void
batch_range_build(Batch *batch)
{
	batch->low = batch->prev->xmax;
	batch->late = palloc(Max(batch->prev->nxip, 1) * sizeof(Datum));
	batch->n_late = 0;
	for (uint32 i = batch->prev->nxip; i-- > 0;)
	{
		uint64		txid = batch->prev->xip[i];

		if (txid_running(batch->next, txid))
			continue;
		if (txid + NEAR_TRANSACTIONS >= batch->low)
			batch->low = txid;
		else
			batch->late[batch->n_late++] = Int64GetDatum((int64) txid);
	}
}

/*
 * Sends events of one table to dest: those of the late transactions or those
 * of the range.
 */
static void
events_read(Batch *batch, const char *table, bool late, DestReceiver *dest)
{
	ParamListInfo params = makeParamList(N_PARAMS);
	SPIExecuteOptions options = {
		.params = params,
		.must_return_tuples = true,
		.dest = dest
	};
	Datum		values[N_PARAMS] = {
		[PARAM_LOW] = Int64GetDatum((int64) batch->low),
		[PARAM_HIGH] = Int64GetDatum((int64) batch->next->xmax),
		[PARAM_SUB_ID] = Int32GetDatum(batch->sub_id),
		[PARAM_SLOTS] = Int32GetDatum(batch->slots),
		[PARAM_SLOT] = Int32GetDatum(batch->slot)
	};
	Oid			types[N_PARAMS] = {INT8OID, INT8OID, INT4OID, INT4OID, INT4OID};
	char	   *slot_condition = "";
	char	   *text;
	int			guc_level;
	int			rc;

	if (late)
	{
		types[PARAM_LATE] = INT8ARRAYOID;
		values[PARAM_LATE] =
			PointerGetDatum(construct_array(batch->late, batch->n_late, INT8OID,
											sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	}
	for (int i = 0; i < N_PARAMS; i++)
	{
		params->params[i].value = values[i];
		params->params[i].isnull = false;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = types[i];
	}

	if (batch->has_slot)
		slot_condition = psprintf(" and pgq.slot_of(%s, $4) operator(pg_catalog.=) $5",
								  quote_identifier(batch->slot_key));
	text = psprintf("select " EVENT_COLUMNS " from %s where %s"
					" and (ev_owner is null or ev_owner operator(pg_catalog.=) $3)%s",
					table,
					late ? "ev_txid operator(pg_catalog.=) any ($1)"
					: "ev_txid operator(pg_catalog.>=) $1 and ev_txid operator(pg_catalog.<) $2",
					slot_condition);

	/*
	 * Behind a large backlog the planner, which has no statistics, takes a
	 * batch of few events for one of many: compiling the query would then
	 * take a hundred times as long as running it.
	 */
	guc_level = NewGUCNestLevel();
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	rc = SPI_execute_plan_extended(event_query_get(text, types), &options);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of event query: %s",
			 SPI_result_code_string(rc));
	AtEOXact_GUC(true, guc_level);
}

/*
 * Gives the parsed query of a text. It is never freed nor changed, since it
 * may be running: a policy of an event table may read a batch, too.
 */
static SPIPlanPtr
event_query_get(const char *text, Oid *types)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) text, strlen(text), 0);
	EventQuery *query;

	if (event_queries == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(uint64);
		ctl.entrysize = sizeof(EventQuery);
		event_queries = hash_create("PgQ event queries", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	query = hash_search(event_queries, &hash, HASH_FIND, NULL);
	if (query == NULL)
	{
		char	   *kept_text = MemoryContextStrdup(TopMemoryContext, text);
		SPIPlanPtr	plan = kept_plan_build(text, N_PARAMS, types, CURSOR_OPT_CUSTOM_PLAN);

		query = hash_search(event_queries, &hash, HASH_ENTER, NULL);
		query->text = kept_text;
		query->plan = plan;
	}
	else if (strcmp(query->text, text) != 0)
		elog(ERROR, "two event queries have hash " UINT64_FORMAT, hash);
	return query->plan;
}

/*
 * Parses a query, for as long as the backend lives.
 */
static SPIPlanPtr
kept_plan_build(const char *text, int nargs, Oid *types, int options)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(text, nargs, types, options);

	if (plan == NULL)
		elog(ERROR, "unexpected result of batch query prepare: %s",
			 SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "batch query could not be kept");
	return plan;
}

/*
 * Does a transaction belong to the batch?
 */
static bool
txid_wanted(Batch *batch, uint64 txid)
{
	return txid_visible(batch->next, txid) && !txid_visible(batch->prev, txid);
}

/*
 * Does a snapshot see a transaction?
 */
static bool
txid_visible(StoredSnapshot *snapshot, uint64 txid)
{
	return txid < snapshot->xmin ||
		(txid < snapshot->xmax && !txid_running(snapshot, txid));
}

/*
 * Is a transaction among those that were running?
 */
static bool
txid_running(StoredSnapshot *snapshot, uint64 txid)
{
	uint32		low = 0;
	uint32		high = snapshot->nxip;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;

		if (snapshot->xip[middle] == txid)
			return true;
		if (snapshot->xip[middle] < txid)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/*
 * The rows must be of the function's type, since they are stored as they come.
 */
static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	TupleDesc	wanted = ((BatchReceiver *) self)->result_desc;

	for (int i = 0; i < wanted->natts; i++)
		if (TupleDescAttr(desc, i)->atttypid != TupleDescAttr(wanted, i)->atttypid)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of the event table has type %s",
							NameStr(TupleDescAttr(desc, i)->attname),
							format_type_be(TupleDescAttr(desc, i)->atttypid)),
					 errdetail("An event has %s there.",
							   format_type_be(TupleDescAttr(wanted, i)->atttypid))));
}

/*
 * Takes a row, unless its transaction is not of the batch.
 */
static bool
receiver_receive(TupleTableSlot *slot, DestReceiver *self)
{
	BatchReceiver *receiver = (BatchReceiver *) self;
	bool		isnull;
	uint64		txid = DatumGetInt64(slot_getattr(slot, EVENT_TXID_COLUMN, &isnull));

	if (txid != receiver->txid)
	{
		receiver->txid = txid;
		receiver->wanted = txid_wanted(receiver->batch, txid);
	}
	if (receiver->wanted)
		pgq_event_order_put(receiver->order,
							DatumGetInt64(slot_getattr(slot, EVENT_ID_COLUMN, &isnull)),
							slot);
	return true;
}

/*
 * Nothing to do when a query ends.
 */
static void
receiver_shutdown(DestReceiver *self)
{
}
