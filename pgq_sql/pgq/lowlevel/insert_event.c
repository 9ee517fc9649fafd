/*
 * insert_event.c
 *	  SQL entry points that write events, and the course of a write.
 *
 * A write takes the transaction's id and then looks which table is current
 * (queue.c tells why in this order), draws ids from the queue's sequence, puts
 * the rows into the table (event_table.c) and sees to it that the ticker hears
 * of it (notify.c).
 *
 * Arguments may be NULL but for the queue's name, whose absence is refused.
 * Nothing allocated here outlives the call.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "pg_compat.h"
#include "pgq_lowlevel.h"

SKYTOOLS_MODULE("pgq_lowlevel");

static int64 event_insert(text *queue_name, Datum *values, char *nulls);
static Relation open_to_insert(text *queue_name, PgqQueue **queue);
static int64 draw_id(PgqQueue *queue);
static int	field_array(ArrayType *array, Datum **values, bool **nulls);

PG_FUNCTION_INFO_V1(pgq_insert_event_raw);
PG_FUNCTION_INFO_V1(pgq_insert_event);
PG_FUNCTION_INFO_V1(pgq_insert_events);
PG_FUNCTION_INFO_V1(pgq_current_event_table);

/*
 * pgq.insert_event_raw(queue_name, ev_id, ev_time, ev_owner, ev_retry,
 * ev_type, ev_data, ev_extra1 .. ev_extra4): all columns are the caller's.
 */
Datum
pgq_insert_event_raw(PG_FUNCTION_ARGS)
{
	Datum		values[N_EVENT_FIELDS];
	char		nulls[N_EVENT_FIELDS];

	for (int i = 0; i < N_EVENT_FIELDS; i++)
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
	Datum		values[N_EVENT_FIELDS];
	char		nulls[N_EVENT_FIELDS];

	for (int i = 0; i < EV_TYPE; i++)
	{
		nulls[i] = 'n';
		values[i] = (Datum) 0;
	}
	for (int i = EV_TYPE; i < N_EVENT_FIELDS; i++)
	{
		int			arg = i - EV_TYPE + 1;

		nulls[i] = PG_ARGISNULL(arg) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(arg) ? (Datum) 0 : PG_GETARG_DATUM(arg);
	}
	PG_RETURN_INT64(event_insert(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0),
								 values, nulls));
}

/*
 * pgq.insert_events(queue_name, ev_type[], ev_data[], ev_extra1[] .. ev_extra4[]):
 * an event for each element, as if insert_event had been called for one after
 * the other.
 */
Datum
pgq_insert_events(PG_FUNCTION_ARGS)
{
	Datum	   *values[N_EVENT_FIELDS] = {NULL};
	bool	   *nulls[N_EVENT_FIELDS] = {NULL};
	int			lengths[N_EVENT_FIELDS];
	int			n_events = -1;
	PgqQueue   *queue;
	Relation	rel;
	Datum		now = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());

	for (int i = EV_TYPE; i < N_EVENT_FIELDS; i++)
	{
		int			arg = i - EV_TYPE + 1;

		lengths[i] = PG_ARGISNULL(arg) ? -1 :
			field_array(PG_GETARG_ARRAYTYPE_P(arg), &values[i], &nulls[i]);
		/* one type may be for all */
		if (i != EV_TYPE && n_events < 0)
			n_events = lengths[i];
	}
	if (n_events < 0 || (lengths[EV_TYPE] >= 0 && lengths[EV_TYPE] != 1))
		n_events = lengths[EV_TYPE];
	if (n_events < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("events to insert must not be NULL"),
				 errdetail("All arrays are NULL.")));
	for (int i = EV_TYPE; i < N_EVENT_FIELDS; i++)
	{
		if (lengths[i] < 0 || lengths[i] == n_events || (i == EV_TYPE && lengths[i] == 1))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("arrays of events differ in length"),
				 errdetail("Array number %d has %d elements, others have %d.",
						   i - EV_TYPE + 1, lengths[i], n_events),
				 errhint("Only the array of types may have one element, for all events.")));
	}

	rel = open_to_insert(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0), &queue);
	if (n_events > 0)
	{
		pgq_queue_count(queue, n_events);
		values[EV_ID] = palloc(sizeof(Datum) * n_events);
		values[EV_TIME] = palloc(sizeof(Datum) * n_events);
		for (int i = 0; i < n_events; i++)
		{
			values[EV_ID][i] = Int64GetDatum(draw_id(queue));
			values[EV_TIME][i] = now;
		}
		if (lengths[EV_TYPE] == 1 && n_events > 1)
		{
			Datum		type = values[EV_TYPE][0];
			bool		is_null = nulls[EV_TYPE][0];

			values[EV_TYPE] = palloc(sizeof(Datum) * n_events);
			nulls[EV_TYPE] = palloc(sizeof(bool) * n_events);
			for (int i = 0; i < n_events; i++)
			{
				values[EV_TYPE][i] = type;
				nulls[EV_TYPE][i] = is_null;
			}
		}
		pgq_table_write_many(queue, rel, n_events, values, nulls);
	}
	relation_close(rel, NoLock);
	PG_RETURN_ARRAYTYPE_P(construct_array(values[EV_ID], n_events, INT8OID,
										  sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * pgq.current_event_table(queue_name): where to COPY to. The name is good until
 * the transaction ends: having an id, it holds up the rotation after the next.
 */
Datum
pgq_current_event_table(PG_FUNCTION_ARGS)
{
	PgqQueue   *queue;

	PreventCommandIfReadOnly("pgq.current_event_table()");
	PreventCommandIfParallelMode("pgq.current_event_table()");
	queue = pgq_queue_get(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0),
						  "Event queue not found", "Writing to queue disabled");
	pgq_notify_ticker(queue);
	PG_RETURN_TEXT_P(cstring_to_text(queue->table_name));
}

/*
 * Writes one event, returns its id. queue_name may be NULL, which is refused.
 */
static int64
event_insert(text *queue_name, Datum *values, char *nulls)
{
	PgqQueue   *queue;
	Relation	rel = open_to_insert(queue_name, &queue);
	int64		new_id;

	/* what one consumer gets again was counted when it came */
	if (nulls[EV_OWNER] == 'n')
		pgq_queue_count(queue, 1);

	/* the ticker sees by the sequence that something came, so it moves always */
	new_id = draw_id(queue);
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
	pgq_table_write(queue, rel, values, nulls);
	relation_close(rel, NoLock);
	return new_id;
}

/*
 * Opens the queue's current table, after all that may forbid to write there.
 */
static Relation
open_to_insert(text *queue_name, PgqQueue **queue)
{
	Relation	rel;

	if (queue_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("Queue name must not be NULL")));
	PreventCommandIfReadOnly("pgq.insert_event()");
	PreventCommandIfParallelMode("pgq.insert_event()");
	rel = pgq_queue_open(queue_name, "No such queue", "Insert into queue disallowed", queue);
	pgq_notify_ticker(*queue);
	return rel;
}

static int64
draw_id(PgqQueue *queue)
{
	queue->last_id = nextval_internal(queue->seq_oid, true);
	queue->n_drawn++;
	return queue->last_id;
}

/*
 * Takes an array of texts apart, returns how many there are.
 */
static int
field_array(ArrayType *array, Datum **values, bool **nulls)
{
	int			n;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("arrays of events must have one dimension")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, values, nulls, &n);
	return n;
}
