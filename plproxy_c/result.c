/*
 * result.c
 *	  What a function returns, and making it from what partitions answered.
 *
 * Values arrive as text and go through the input functions of the local types
 * with the column's typmod, so lengths, precisions and domains are enforced. Rows
 * are matched by column name. A set is always materialized: the executor owns
 * the tuplestore, and several sets in one target list cannot disturb each other.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "plproxy.h"

static Datum result_one(ProxyCall *call);
static void result_set(ProxyCall *call);
static void result_map(ProxyCall *call, ProxyTask *task, int *fields);
static void result_values(ProxyCall *call, PGresult *result, int row, const int *fields,
						  Datum *values, bool *nulls);
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
		: plproxy_query_default(func, shape, fcinfo != NULL);
	return shape;
}

/*
 * Return the result of the call as the executor wants it. Results are cleared as
 * they are used up; on error, plproxy_execute_abort does it.
 */
Datum
plproxy_result_return(ProxyCall *call)
{
	if (!call->func->returns_set)
		return result_one(call);

	result_set(call);
	call->fcinfo->isnull = true;
	return (Datum) 0;
}

static Datum
result_one(ProxyCall *call)
{
	ProxyShape *shape = call->shape;
	int		   *fields = palloc(sizeof(int) * Max(shape->desc->natts, 1));
	Datum	   *values = palloc(sizeof(Datum) * Max(shape->desc->natts, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(shape->desc->natts, 1));
	ProxyTask  *found = NULL;
	MemoryContext old;
	int64		nrows = 0;
	Datum		result;

	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyTask  *task = &call->tasks[i];

		nrows += PQntuples(task->result);
		if (found == NULL && PQntuples(task->result) > 0)
			found = task;
		result_map(call, task, fields);
	}
	if (nrows != 1)
		ereport(ERROR,
				(errcode(nrows == 0 ? ERRCODE_NO_DATA_FOUND : ERRCODE_TOO_MANY_ROWS),
				 errmsg("function returns one row, but partitions returned " INT64_FORMAT, nrows),
				 errhint("Declare it with RETURNS SETOF if any number of rows is right.")));

	result_map(call, found, fields);
	/* a scalar is made in place, a row is copied out below */
	old = MemoryContextSwitchTo(shape->composite ? call->cxt : call->caller_cxt);
	result_values(call, found->result, 0, fields, values, nulls);
	MemoryContextSwitchTo(call->caller_cxt);
	if (shape->composite)
	{
		result = HeapTupleGetDatum(heap_form_tuple(shape->desc, values, nulls));
		call->fcinfo->isnull = false;
	}
	else
	{
		result = values[0];
		call->fcinfo->isnull = nulls[0];
	}
	MemoryContextSwitchTo(old);

	for (int i = 0; i < call->ntasks; i++)
	{
		PQclear(call->tasks[i].result);
		call->tasks[i].result = NULL;
	}
	return result;
}

static void
result_set(ProxyCall *call)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) call->fcinfo->resultinfo;
	ProxyShape *shape = call->shape;
	int		   *fields = palloc(sizeof(int) * Max(shape->desc->natts, 1));
	Datum	   *values = palloc(sizeof(Datum) * Max(shape->desc->natts, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(shape->desc->natts, 1));
	MemoryContext row_cxt;
	MemoryContext old;
	Tuplestorestate *store;

	row_cxt = AllocSetContextCreate(call->cxt, "PL/Proxy row", ALLOCSET_DEFAULT_SIZES);

	old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	store = tuplestore_begin_heap(rsinfo->allowedModes & SFRM_Materialize_Random, false, work_mem);
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = store;
	rsinfo->setDesc = CreateTupleDescCopy(shape->desc);
	MemoryContextSwitchTo(old);

	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyTask  *task = &call->tasks[i];
		int			nrows = PQntuples(task->result);

		result_map(call, task, fields);
		old = MemoryContextSwitchTo(row_cxt);
		for (int row = 0; row < nrows; row++)
		{
			if ((row & 1023) == 0)
				CHECK_FOR_INTERRUPTS();
			result_values(call, task->result, row, fields, values, nulls);
			tuplestore_putvalues(store, shape->desc, values, nulls);
			MemoryContextReset(row_cxt);
		}
		MemoryContextSwitchTo(old);
		PQclear(task->result);
		task->result = NULL;
	}
}

/*
 * Find the field of the partition's answer for each column: the only one for a
 * scalar, the one of the same name for a row.
 */
static void
result_map(ProxyCall *call, ProxyTask *task, int *fields)
{
	ProxyShape *shape = call->shape;
	int			nfields = PQnfields(task->result);

	if (nfields != shape->ncolumns)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("too %s columns from the partition: %d expected, got %d",
						nfields < shape->ncolumns ? "few" : "many", shape->ncolumns, nfields),
				 plproxy_error_partition(task)));
	if (!shape->composite)
	{
		fields[0] = 0;
		return;
	}

	for (int i = 0; i < shape->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(shape->desc, i);
		const char *name = NameStr(attribute->attname);
		int			field = -1;

		if (attribute->attisdropped)
			continue;
		/* mostly they come in the same order */
		if (i < nfields && strcmp(PQfname(task->result, i), name) == 0)
			field = i;
		for (int k = 0; field < 0 && k < nfields; k++)
		{
			if (strcmp(PQfname(task->result, k), name) == 0)
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
}

/* Convert a row of text. Nulls go through input too, since domains may mind. */
static void
result_values(ProxyCall *call, PGresult *result, int row, const int *fields,
			  Datum *values, bool *nulls)
{
	ProxyShape *shape = call->shape;

	for (int i = 0; i < shape->desc->natts; i++)
	{
		ProxyType  *type = &shape->columns[i];

		values[i] = (Datum) 0;
		nulls[i] = true;
		if (!OidIsValid(type->oid))
			continue;
		nulls[i] = PQgetisnull(result, row, fields[i]);
		values[i] = InputFunctionCall(&type->input,
									  nulls[i] ? NULL : PQgetvalue(result, row, fields[i]),
									  type->ioparam, type->typmod);
	}
	if (OidIsValid(shape->domain))
		shape_check_row(shape, values, nulls);
}

/* Does the row fit the domain over its type? */
static void
shape_check_row(ProxyShape *shape, Datum *values, bool *nulls)
{
	HeapTuple	tuple = heap_form_tuple(shape->desc, values, nulls);

	domain_check(HeapTupleGetDatum(tuple), false, shape->domain, NULL, NULL);
}
