/*
 * event_table.c
 *	  Puts events into an event table.
 *
 * Event tables are made by create_queue() and have no more than columns, defaults
 * and a plain index. Into such a table the row goes directly, past planner and
 * executor, with the same checks and locks. What users may add, triggers, rules,
 * row security, constraints, columns, unique or partial indexes, is the executor's
 * to honour: then a kept plan writes.
 *
 * Memory: what is learned lives in a context of its own, with the queue's entry;
 * a row being written in the caller's context.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "pg_compat.h"
#include "pgq_lowlevel.h"

/* As many rows go to the table at once as COPY would send */
#define MANY_ROWS 1000
#define MANY_BYTES 65535

/* A table with more is the executor's */
#define MAX_INDEXES 8

static const char *const column_names[N_EVENT_COLUMNS] = {
	"ev_id", "ev_time", "ev_owner", "ev_retry", "ev_type", "ev_data",
	"ev_extra1", "ev_extra2", "ev_extra3", "ev_extra4", "ev_txid"
};

/* not const: SPI wants them as they are */
static Oid	column_types[N_EVENT_COLUMNS] = {
	INT8OID, TIMESTAMPTZOID, INT4OID, INT4OID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID
};

static bool columns_learn(PgqQueue *queue, Relation rel);
static bool txid_by_default(Relation rel, AttrNumber attnum);
static bool indexes_learn(PgqQueue *queue, Relation rel);
static bool may_write_plainly(PgqQueue *queue);
static void row_set(PgqQueue *queue, TupleTableSlot *slot, Datum *values, const char *nulls);
static void row_index(PgqQueue *queue, Relation *indexes, Relation rel, TupleTableSlot *slot);
static void execute_insert(PgqQueue *queue, Relation rel, Datum *values, char *nulls);
static SPIPlanPtr plan_take(PgqQueue *queue, Relation rel);

/*
 * Learns how to write into a table, which the caller has opened and locked.
 */
void
pgq_table_learn(PgqQueue *queue, Relation rel)
{
	MemoryContext old;

	pgq_table_forget(queue);
	queue->table_oid = RelationGetRelid(rel);
	queue->table_context = AllocSetContextCreate(TopMemoryContext, "PgQ event table",
												 ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(queue->table_context);
	queue->plain = rel->rd_rel->relkind == RELKIND_RELATION &&
		!rel->rd_rel->relispartition &&
		!rel->rd_rel->relrowsecurity &&
		rel->rd_rules == NULL &&
		rel->trigdesc == NULL &&
		columns_learn(queue, rel) &&
		indexes_learn(queue, rel);
	if (queue->plain)
		queue->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(rel)),
											   &TTSOpsVirtual);
	MemoryContextSwitchTo(old);
}

void
pgq_table_forget(PgqQueue *queue)
{
	queue->table_known = false;
	queue->plain = false;
	queue->n_indexes = 0;
	queue->slot = NULL;
	if (queue->plan != NULL)
	{
		SPIPlanPtr	plan = queue->plan;

		queue->plan = NULL;
		SPI_freeplan(plan);
	}
	if (queue->table_context != NULL)
	{
		MemoryContext context = queue->table_context;

		queue->table_context = NULL;
		MemoryContextDelete(context);
	}
}

/*
 * Writes one event. nulls is as for SPI.
 */
void
pgq_table_write(PgqQueue *queue, Relation rel, Datum *values, char *nulls)
{
	Relation	indexes[MAX_INDEXES];
	TupleTableSlot *slot = queue->slot;

	if (!may_write_plainly(queue))
	{
		execute_insert(queue, rel, values, nulls);
		return;
	}
	row_set(queue, slot, values, nulls);
	table_tuple_insert(rel, slot, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < queue->n_indexes; i++)
		indexes[i] = index_open(queue->index_oids[i], RowExclusiveLock);
	row_index(queue, indexes, rel, slot);
	for (int i = 0; i < queue->n_indexes; i++)
		index_close(indexes[i], NoLock);
	ExecClearTuple(slot);
}

/*
 * Writes events, values[field][event]. A missing field is null for all.
 */
void
pgq_table_write_many(PgqQueue *queue, Relation rel, int n_events,
					 Datum *values[], bool *nulls[])
{
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "PgQ rows",
													  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	bool		plain = may_write_plainly(queue);
	Relation	indexes[MAX_INDEXES];
	TupleTableSlot **slots = NULL;
	int			n_slots = 0;

	if (plain)
	{
		slots = palloc(sizeof(TupleTableSlot *) * Min(n_events, MANY_ROWS));
		for (int i = 0; i < queue->n_indexes; i++)
			indexes[i] = index_open(queue->index_oids[i], RowExclusiveLock);
	}
	for (int next = 0; next < n_events;)
	{
		Size		n_bytes = 0;
		int			n_rows = 0;

		do
		{
			Datum		row_values[N_EVENT_FIELDS];
			char		row_nulls[N_EVENT_FIELDS];

			for (int f = 0; f < N_EVENT_FIELDS; f++)
			{
				bool		is_null = values[f] == NULL || (nulls[f] != NULL && nulls[f][next]);

				row_nulls[f] = is_null ? 'n' : ' ';
				row_values[f] = is_null ? (Datum) 0 : values[f][next];
				if (!is_null && column_types[f] == TEXTOID)
					n_bytes += VARSIZE_ANY(DatumGetPointer(row_values[f]));
			}
			next++;
			if (!plain)
			{
				execute_insert(queue, rel, row_values, row_nulls);
				continue;
			}
			if (n_rows == n_slots)
				slots[n_slots++] = MakeSingleTupleTableSlot(queue->slot->tts_tupleDescriptor, &TTSOpsVirtual);
			row_set(queue, slots[n_rows++], row_values, row_nulls);
		} while (next < n_events && n_rows < MANY_ROWS && n_bytes < MANY_BYTES);

		CHECK_FOR_INTERRUPTS();
		if (!plain)
			continue;
		old = MemoryContextSwitchTo(row_context);
		table_multi_insert(rel, slots, n_rows, GetCurrentCommandId(true), 0, NULL);
		for (int i = 0; i < n_rows; i++)
			row_index(queue, indexes, rel, slots[i]);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	if (plain)
		for (int i = 0; i < queue->n_indexes; i++)
			index_close(indexes[i], NoLock);
	MemoryContextDelete(row_context);
}

/*
 * Has the table the columns of an event and nothing that a row must fulfil?
 */
static bool
columns_learn(PgqQueue *queue, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			n_found = 0;

	if (desc->constr != NULL && desc->constr->num_check > 0)
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		int			column = 0;

		if (att->attisdropped)
			continue;
		while (column < N_EVENT_COLUMNS && strcmp(NameStr(att->attname), column_names[column]) != 0)
			column++;
		if (column == N_EVENT_COLUMNS || att->atttypid != column_types[column] ||
			att->atttypmod != -1 || att->attgenerated != '\0' || att->attidentity != '\0')
			return false;

		/*
		 * id and time are filled in, the transaction's id is there; others
		 * may be null
		 */
		if (att->attnotnull && column != EV_ID && column != EV_TIME && column != EV_TXID)
			return false;
		if (column == EV_TXID && !txid_by_default(rel, att->attnum))
			return false;
		queue->attnums[column] = att->attnum;
		n_found++;
	}
	return n_found == N_EVENT_COLUMNS;
}

/*
 * Is txid_current() the column's default? Then we know what it gives.
 */
static bool
txid_by_default(Relation rel, AttrNumber attnum)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	for (int i = 0; constr != NULL && i < constr->num_defval; i++)
	{
		if (constr->defval[i].adnum == attnum)
		{
			Node	   *expr = stringToNode(constr->defval[i].adbin);

			return IsA(expr, FuncExpr) && ((FuncExpr *) expr)->funcid == F_TXID_CURRENT;
		}
	}
	return false;
}

/*
 * Are all indexes such that a row only needs to be entered?
 */
static bool
indexes_learn(PgqQueue *queue, Relation rel)
{
	List	   *oids = RelationGetIndexList(rel);
	ListCell   *cell;
	bool		plain = list_length(oids) <= MAX_INDEXES;

	queue->index_oids = palloc(sizeof(Oid) * (list_length(oids) + 1));
	queue->index_infos = palloc(sizeof(IndexInfo *) * (list_length(oids) + 1));
	foreach(cell, oids)
	{
		Relation	index;
		IndexInfo  *info;

		if (!plain)
			break;
		index = index_open(lfirst_oid(cell), RowExclusiveLock);
		info = BuildIndexInfo(index);
		plain = index->rd_rel->relam == BTREE_AM_OID &&
			info->ii_ReadyForInserts && !info->ii_Unique &&
			info->ii_Expressions == NIL && info->ii_Predicate == NIL &&
			info->ii_ExclusionOps == NULL;
		queue->index_oids[queue->n_indexes] = lfirst_oid(cell);
		queue->index_infos[queue->n_indexes] = info;
		queue->n_indexes++;
		index_close(index, NoLock);
	}
	return plain;
}

/*
 * May this user write into this table without the executor? A hook that wants to
 * see what is executed, or privileges on columns only, are left to it.
 */
static bool
may_write_plainly(PgqQueue *queue)
{
	return queue->plain && ExecutorCheckPerms_hook == NULL &&
		pg_class_aclcheck(queue->table_oid, GetUserId(), ACL_INSERT) == ACLCHECK_OK;
}

static void
row_set(PgqQueue *queue, TupleTableSlot *slot, Datum *values, const char *nulls)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts);
	for (int i = 0; i < N_EVENT_FIELDS; i++)
	{
		int			att = queue->attnums[i] - 1;

		slot->tts_values[att] = values[i];
		slot->tts_isnull[att] = nulls[i] == 'n';
	}
	slot->tts_values[queue->attnums[EV_TXID] - 1] =
		Int64GetDatum((int64) U64FromFullTransactionId(GetTopFullTransactionId()));
	slot->tts_isnull[queue->attnums[EV_TXID] - 1] = false;
	ExecStoreVirtualTuple(slot);
}

static void
row_index(PgqQueue *queue, Relation *indexes, Relation rel, TupleTableSlot *slot)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	for (int i = 0; i < queue->n_indexes; i++)
	{
		FormIndexDatum(queue->index_infos[i], slot, NULL, values, isnull);
		index_insert(indexes[i], values, isnull, &slot->tts_tid, rel,
					 UNIQUE_CHECK_NO, false, queue->index_infos[i]);
	}
}

/*
 * Writes one event as an INSERT does. A trigger of the table may come back here,
 * so the plan that runs is out of its sight.
 */
static void
execute_insert(PgqQueue *queue, Relation rel, Datum *values, char *nulls)
{
	SPIPlanPtr volatile plan;

	SPI_connect();
	plan = plan_take(queue, rel);
	PG_TRY();
	{
		int			rc = SPI_execute_plan(plan, values, nulls, false, 0);

		if (rc != SPI_OK_INSERT)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("event was not inserted into table \"%s\"",
							RelationGetRelationName(rel)),
					 errdetail("A rule of the table does something instead (%s).",
							   SPI_result_code_string(rc))));
	}
	PG_FINALLY();
	{
		if (queue->plan != NULL)
			SPI_freeplan(plan);
		else
		{
			queue->plan = plan;
			queue->plan_table = RelationGetRelid(rel);
		}
	}
	PG_END_TRY();
	SPI_finish();
}

/*
 * Takes the kept plan for a table, or makes one. It is the caller's.
 */
static SPIPlanPtr
plan_take(PgqQueue *queue, Relation rel)
{
	SPIPlanPtr	plan = queue->plan;
	const char *name;

	queue->plan = NULL;
	if (plan != NULL && queue->plan_table == RelationGetRelid(rel))
		return plan;
	if (plan != NULL)
		SPI_freeplan(plan);

	name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
	plan = SPI_prepare_cursor(psprintf("insert into %s"
									   " (ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,"
									   " ev_extra1, ev_extra2, ev_extra3, ev_extra4)"
									   " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", name),
							  N_EVENT_FIELDS, column_types, CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "unexpected result of event prepare: %s",
			 SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "event plan could not be kept");
	return plan;
}
