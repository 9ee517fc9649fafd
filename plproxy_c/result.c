/*
 * result.c
 *	  What a function returns, and making it from what partitions answered.
 *
 * Values are made by transfer.c, of the local types and with the column's typmod,
 * so lengths, precisions and domains are enforced. Columns are matched by name. A
 * set is always materialized: the executor owns the tuplestore, and several sets
 * in one target list cannot disturb each other.
 *
 * Rows are converted as they arrive, so that a result of any size takes bounded
 * memory: work_mem, and what libpq holds of one row or a few.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "plproxy.h"

/*
 * What converting a row allocates is freed when that may be more than this. A
 * row counts as its values and something for each.
 */
#define MAX_ROWS_BYTES 8192
#define ROW_BYTES 200

static void result_store(ProxyTask *task);
static void result_append(ProxyTask *task);
static void result_map(ProxyTask *task);
static void result_values(ProxyTask *task, PGresult *result, int row);
static void shape_check_row(ProxyShape *shape, Datum *values, bool *nulls);

/*
 * What does the function return? With "fcinfo" NULL, NULL means that it depends
 * on the calling query, which is asked when "fcinfo" is given. The shape is made
 * in the current context.
 */
ProxyShape *
plproxy_result_shape(ProxyFunction *func, FunctionCallInfo fcinfo)
{
	ProxyShape *shape = palloc0(sizeof(ProxyShape));
	TupleDesc	desc = NULL;
	Oid			type;

	switch (fcinfo
			? get_call_result_type(fcinfo, &type, &desc)
			: get_func_result_type(func->oid, &type, &desc))
	{
		case TYPEFUNC_SCALAR:
			desc = CreateTemplateTupleDesc(1);
			TupleDescInitEntry(desc, 1, "result", type, -1, 0);
			break;
		case TYPEFUNC_COMPOSITE:
			shape->composite = true;
			break;
		case TYPEFUNC_COMPOSITE_DOMAIN:
			shape->composite = true;
			shape->domain = type;
			break;
		case TYPEFUNC_RECORD:
			if (fcinfo == NULL)
				return NULL;
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("function returning record called in context that cannot accept type record"),
					 errhint("Call it in FROM with a column definition list: AS (column type, ...).")));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("PL/Proxy functions cannot return type %s",
							format_type_be(get_func_rettype(func->oid)))));
	}

	if (fcinfo && func->shape)
		desc = ((ReturnSetInfo *) fcinfo->resultinfo)->expectedDesc;
	shape->desc = CreateTupleDescCopy(desc);
	if (shape->composite)
		shape->desc = BlessTupleDesc(shape->desc);
	shape->columns = palloc0(sizeof(ProxyType) * Max(shape->desc->natts, 1));
	for (int i = 0; i < shape->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(shape->desc, i);

		if (attribute->attisdropped)
			continue;
		shape->ncolumns++;
		plproxy_type_init(&shape->columns[i], attribute->atttypid, attribute->atttypmod,
						  true, CurrentMemoryContext);
	}
	shape->query = func->select
		? func->select
		: plproxy_query_default(func, shape, fcinfo && func->shape == NULL);
	plproxy_transfer_init(shape, func->select == NULL);
	return shape;
}

/*
 * Does the function's own shape fit the call? It does not when there is none, or
 * when the row type has changed since the calling query was parsed, which then
 * gets the columns that it knows.
 */
bool
plproxy_result_fits(ProxyFunction *func, FunctionCallInfo fcinfo)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TupleDesc	expected;

	if (func->shape == NULL)
		return false;
	if (!func->returns_set || !OidIsValid(func->rowtype) || rsinfo == NULL ||
		!IsA(rsinfo, ReturnSetInfo) || rsinfo->expectedDesc == NULL)
		return true;

	expected = rsinfo->expectedDesc;
	if (expected->natts != func->shape->desc->natts)
		return false;
	for (int i = 0; i < expected->natts; i++)
	{
		Form_pg_attribute wanted = TupleDescAttr(expected, i);
		Form_pg_attribute own = TupleDescAttr(func->shape->desc, i);

		if (wanted->attisdropped != own->attisdropped || wanted->atttypid != own->atttypid ||
			wanted->atttypmod != own->atttypmod)
			return false;
	}
	return true;
}

/*
 * Make ready for rows. A set gets its tuplestore, which the executor owns from
 * the start.
 */
void
plproxy_result_begin(ProxyCall *call)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) call->fcinfo->resultinfo;
	int			natts = Max(call->shape->desc->natts, 1);
	MemoryContext old;

	call->values = palloc(sizeof(Datum) * natts);
	call->isnull = palloc(sizeof(bool) * natts);
	call->binary = call->shape->binary && !call->cluster->config.disable_binary;
	if (!call->func->returns_set)
		return;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		(rsinfo->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));

	call->row_cxt = AllocSetContextCreate(call->cxt, "PL/Proxy row", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	call->store = tuplestore_begin_heap((rsinfo->allowedModes & SFRM_Materialize_Random) != 0,
										false, work_mem);
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = call->store;
	rsinfo->setDesc = CreateTupleDescCopy(call->shape->desc);
	MemoryContextSwitchTo(old);
}

/*
 * Rows have arrived, or the word that there are no more: task->result. Its
 * columns are looked at when the first one comes, be it empty.
 */
void
plproxy_result_rows(ProxyTask *task)
{
	ProxyCall  *call = task->call;
	PGresult   *result = task->result;
	int			nrows = PQntuples(result);

	if (task->fields == NULL)
		result_map(task);
	task->rows += nrows;
	for (int row = 0; call->tracked && row < nrows; row++)
	{
		for (int i = 0; i < call->shape->ncolumns; i++)
			task->bytes += PQgetlength(result, row, i);
	}
	if (call->func->returns_set)
		result_store(task);
	else if (nrows > 0 && call->row == NULL)
	{
		/* is it the only one? plproxy_result_return knows */
		call->row = result;
		call->row_task = task;
		task->result = NULL;
	}
}

/*
 * The task has answered. Rows of a set are in the order in which the partitions
 * were chosen: those of the first task that is not done go straight to the
 * result, the others wait in tuplestores of their own until it is their turn.
 */
void
plproxy_result_done(ProxyTask *task)
{
	ProxyCall  *call = task->call;

	if (!call->func->returns_set)
		return;
	while (call->turn < call->ntasks && call->tasks[call->turn].done)
	{
		result_append(&call->tasks[call->turn]);
		call->turn++;
	}
	if (call->turn < call->ntasks && !call->retractable)
		result_append(&call->tasks[call->turn]);
}

/* The task has failed, and drops what it has answered so far. */
void
plproxy_result_restart(ProxyTask *task)
{
	ProxyCall  *call = task->call;

	if (task->store)
		tuplestore_end(task->store);
	task->store = NULL;
	if (call->row_task == task)
	{
		PQclear(call->row);
		call->row = NULL;
		call->row_task = NULL;
	}
	task->fields = NULL;
	task->rows = 0;
	task->bytes = 0;
}

/*
 * Return the result of the call as the executor wants it.
 */
Datum
plproxy_result_return(ProxyCall *call)
{
	ProxyShape *shape = call->shape;
	ProxyTask  *task = call->row_task;
	MemoryContext old;
	int64		nrows = 0;
	Datum		result;

	if (call->func->returns_set)
	{
		call->fcinfo->isnull = true;
		return (Datum) 0;
	}

	for (int i = 0; i < call->ntasks; i++)
		nrows += call->tasks[i].rows;
	if (nrows != 1)
		ereport(ERROR,
				(errcode(nrows == 0 ? ERRCODE_NO_DATA_FOUND : ERRCODE_TOO_MANY_ROWS),
				 errmsg("function returns one row, but partitions returned " INT64_FORMAT, nrows),
				 errhint("Declare it with RETURNS SETOF if any number of rows is right."),
				 plproxy_error_answers(call)));

	/* what it cannot be made of is the task's fault */
	task->result = call->row;
	call->row = NULL;

	/* a scalar is made in place, a row is copied out below */
	old = MemoryContextSwitchTo(shape->composite ? call->cxt : call->caller_cxt);
	result_values(task, task->result, 0);
	plproxy_transfer_done(task);
	MemoryContextSwitchTo(call->caller_cxt);
	if (shape->composite)
	{
		result = HeapTupleGetDatum(heap_form_tuple(shape->desc, call->values, call->isnull));
		call->fcinfo->isnull = false;
	}
	else
	{
		result = call->values[0];
		call->fcinfo->isnull = call->isnull[0];
	}
	MemoryContextSwitchTo(old);

	PQclear(task->result);
	task->result = NULL;
	return result;
}

/* The call has failed: free what libpq has allocated. */
void
plproxy_result_abort(ProxyCall *call)
{
	for (int i = 0; i < call->ntasks; i++)
	{
		PQclear(call->tasks[i].result);
		call->tasks[i].result = NULL;
	}
	PQclear(call->row);
	call->row = NULL;
}

/* Convert the rows of task->result and store them. */
static void
result_store(ProxyTask *task)
{
	ProxyCall  *call = task->call;
	Tuplestorestate *store = call->store;
	int			nrows = PQntuples(task->result);
	MemoryContext old;

	if (nrows == 0)
		return;
	if (task != &call->tasks[call->turn] || call->retractable)
	{
		/* those that wait share what is there once more */
		if (task->store == NULL)
			task->store = tuplestore_begin_heap(false, false, Max(work_mem / call->ntasks, 64));
		store = task->store;
	}

	old = MemoryContextSwitchTo(call->row_cxt);
	for (int row = 0; row < nrows; row++)
	{
		call->row_bytes += ROW_BYTES;
		result_values(task, task->result, row);
		tuplestore_putvalues(store, call->shape->desc, call->values, call->isnull);
		if (call->row_bytes > MAX_ROWS_BYTES)
		{
			MemoryContextReset(call->row_cxt);
			call->row_bytes = 0;
		}
	}
	MemoryContextSwitchTo(old);
}

/* It is the task's turn: its rows need not wait any longer. */
static void
result_append(ProxyTask *task)
{
	ProxyCall  *call = task->call;
	TupleTableSlot *slot;

	if (task->store == NULL)
		return;
	slot = MakeSingleTupleTableSlot(call->shape->desc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(task->store, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		tuplestore_puttupleslot(call->store, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(task->store);
	task->store = NULL;
}

/*
 * Find the field of the partition's answer for each column: the only one for a
 * scalar, the one of the same name for a row.
 */
static void
result_map(ProxyTask *task)
{
	ProxyShape *shape = task->call->shape;
	PGresult   *result = task->result;
	int			nfields = PQnfields(result);
	int		   *fields;

	if (nfields != shape->ncolumns)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("too %s columns from the partition: %d expected, got %d",
						nfields < shape->ncolumns ? "few" : "many", shape->ncolumns, nfields),
				 plproxy_error_partition(task)));

	fields = MemoryContextAllocZero(task->call->cxt, sizeof(int) * Max(shape->desc->natts, 1));
	task->fields = fields;
	for (int i = 0; shape->composite && i < shape->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(shape->desc, i);
		const char *name = NameStr(attribute->attname);
		int			field = -1;

		if (attribute->attisdropped)
			continue;
		/* mostly they come in the same order */
		if (i < nfields && strcmp(PQfname(result, i), name) == 0)
			field = i;
		for (int k = 0; field < 0 && k < nfields; k++)
		{
			if (strcmp(PQfname(result, k), name) == 0)
				field = k;
		}
		if (field < 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" is missing from the partition's answer", name),
					 errhint("Columns are matched by name."),
					 plproxy_error_partition(task)));
		fields[i] = field;
	}

	/*
	 * the query's casts have seen to it, unless names mean something else
	 * there
	 */
	for (int i = 0; task->call->binary && i < shape->desc->natts; i++)
	{
		if (OidIsValid(shape->columns[i].oid) &&
			PQftype(result, fields[i]) != shape->columns[i].oid)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("the partition answered with type %u instead of %s",
							PQftype(result, fields[i]), format_type_be(shape->columns[i].oid)),
					 errhint("Set disable_binary for the cluster if names mean other types there."),
					 plproxy_error_partition(task)));
	}
}

/*
 * Convert a row into call->values. Nulls go through input too, since domains may
 * mind.
 */
static void
result_values(ProxyTask *task, PGresult *result, int row)
{
	ProxyCall  *call = task->call;
	ProxyShape *shape = call->shape;
	int			nestlevel = shape->nested && !call->binary ? plproxy_type_begin_input() : 0;
	ErrorContextCallback callback;

	callback.callback = plproxy_error_value;
	callback.arg = task;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	for (int i = 0; i < shape->desc->natts; i++)
	{
		ProxyType  *type = &shape->columns[i];
		int			field = task->fields[i];
		char	   *value = NULL;
		int			len;

		call->column = i;
		call->values[i] = (Datum) 0;
		call->isnull[i] = true;
		if (!OidIsValid(type->oid))
			continue;
		len = PQgetlength(result, row, field);
		if (len > 0 || !PQgetisnull(result, row, field))
		{
			call->isnull[i] = false;
			value = PQgetvalue(result, row, field);
			call->row_bytes += len;
			if (type->date && !call->binary)
				plproxy_transfer_date(task, PQftype(result, field), value);
		}
		call->values[i] = call->binary
			? plproxy_transfer_binary(task, type, value, len)
			: plproxy_transfer_text(task, type, value, len);
	}
	call->column = -1;
	plproxy_type_end(nestlevel);
	if (OidIsValid(shape->domain))
		shape_check_row(shape, call->values, call->isnull);
	error_context_stack = callback.previous;
}

/* Does the row fit the domain over its type? */
static void
shape_check_row(ProxyShape *shape, Datum *values, bool *nulls)
{
	HeapTuple	tuple = heap_form_tuple(shape->desc, values, nulls);

	domain_check(HeapTupleGetDatum(tuple), false, shape->domain, NULL, NULL);
}
