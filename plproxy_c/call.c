/*
 * call.c
 *	  One call from its arguments to its result: which cluster, which partitions,
 *	  which values each of them gets.
 *
 * All that is allocated on the way lives in the context "PL/Proxy call" and goes
 * with it; only the result is made in the caller's context. Connections and
 * PGresults are given back on every way out, by plproxy_execute or
 * plproxy_execute_abort.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "plproxy.h"

static void call_args(ProxyCall *call);
static ProxyCluster *call_cluster(ProxyCall *call);
static char *call_cluster_query(ProxyCall *call);
static ProxySplit *call_choose(ProxyCall *call);
static void call_choose_element(ProxyCall *call, ProxyLocal *hash, const Datum *args, const bool *nulls,
								int element);
static void call_choose_hash(ProxyCall *call, Datum hash, bool isnull, Oid type, int element);
static void call_choose_partition(ProxyCall *call, int64 partition, int element);
static void call_values(ProxyCall *call, const ProxySplit *arrays);

Datum
plproxy_call_run(ProxyFunction *func, FunctionCallInfo fcinfo)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(caller, "PL/Proxy call", ALLOCSET_DEFAULT_SIZES);
	ProxyCall  *call = MemoryContextAllocZero(cxt, sizeof(ProxyCall));
	volatile Datum result = (Datum) 0;

	call->func = func;
	call->fcinfo = fcinfo;
	call->cxt = cxt;
	call->caller_cxt = caller;
	call->tied = plproxy_transaction_tied();

	plproxy_connection_sweep();

	PG_TRY();
	{
		ProxySplit *arrays;

		MemoryContextSwitchTo(cxt);
		call_args(call);
		call->shape = plproxy_result_fits(func, fcinfo)
			? func->shape
			: plproxy_result_shape(func, fcinfo);
		call->cluster = call_cluster(call);
		call->login = plproxy_login_get(call->cluster);
		arrays = call_choose(call);
		call_values(call, arrays);
		plproxy_execute(call);
		result = plproxy_result_return(call);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = plproxy_execute_abort(call);
		if (call->login)
			plproxy_login_release(call->login);
		if (call->cluster)
			plproxy_cluster_release(call->cluster);
		MemoryContextDelete(cxt);
		ReThrowError(error);
	}
	PG_END_TRY();

	plproxy_login_release(call->login);
	plproxy_cluster_release(call->cluster);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
	return result;
}

static void
call_args(ProxyCall *call)
{
	int			n = call->func->nargs;

	call->args = palloc(sizeof(Datum) * Max(n, 1));
	call->nulls = palloc(sizeof(bool) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		call->args[i] = call->fcinfo->args[i].value;
		call->nulls[i] = call->fcinfo->args[i].isnull;
	}
}

/* Get the cluster, pinned. */
static ProxyCluster *
call_cluster(ProxyCall *call)
{
	ProxyFunction *func = call->func;
	char	   *name = func->map_name;

	if (func->map_query)
		name = call_cluster_query(call);
	else if (func->map_arg >= 0 && !call->nulls[func->map_arg])
		name = OutputFunctionCall(&func->args[func->map_arg].type.output,
								  call->args[func->map_arg]);
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 func->map == MAP_CONNECT
				 ? errmsg("the connect string is null")
				 : errmsg("the cluster name is null")));

	return func->map == MAP_CONNECT ? plproxy_cluster_connect(name, func) : plproxy_cluster_get(name);
}

/* Run the function that names the cluster; NULL if it returns null. */
static char *
call_cluster_query(ProxyCall *call)
{
	const char *statement = call->func->map == MAP_CONNECT ? "CONNECT" : "CLUSTER";
	char	   *name = NULL;
	ProxyLocal	local;
	MemoryContext old;
	uint64		nrows;
	Datum		value;
	Oid			type;
	bool		isnull;

	plproxy_local_begin(&local, call->func->map_query, call->func);
	nrows = plproxy_local_run(&local, call->args, call->nulls);
	if (nrows != 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("the function behind %s must return one row, but returned " UINT64_FORMAT,
						statement, nrows)));
	value = plproxy_local_value(&local, 0, &type, &isnull);
	if (!isnull && !plproxy_type_is_string(type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the function behind %s must return type text, not %s",
						statement, format_type_be(type))));
	if (!isnull)
	{
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(type, &output, &varlena);
		old = MemoryContextSwitchTo(call->cxt);
		name = type == TEXTOID ? TextDatumGetCString(value) : OidOutputFunctionCall(output, value);
		MemoryContextSwitchTo(old);
	}
	plproxy_local_end(&local);
	return name;
}

/*
 * Choose the partitions: once, or for SPLIT once for each element of the arrays,
 * whose RUN clause then sees the element instead of the array. Returns the arrays,
 * taken apart, or NULL without SPLIT.
 */
static ProxySplit *
call_choose(ProxyCall *call)
{
	ProxyFunction *func = call->func;
	ProxySplit *arrays = NULL;
	ProxyLocal	hash;
	int			length = 0;

	call->tasks = palloc0(sizeof(ProxyTask) * call->cluster->npartitions);
	call->task_of = palloc(sizeof(int) * call->cluster->npartitions);
	for (int i = 0; i < call->cluster->npartitions; i++)
		call->task_of[i] = -1;

	if (func->split)
		arrays = plproxy_split_begin(call, &length);

	if (func->run == RUN_QUERY)
		plproxy_local_begin(&hash, func->run_query, func);
	if (!func->split)
		call_choose_element(call, &hash, call->args, call->nulls, -1);
	else
	{
		Datum	   *args = palloc(sizeof(Datum) * func->nargs);
		bool	   *nulls = palloc(sizeof(bool) * func->nargs);

		memcpy(args, call->args, sizeof(Datum) * func->nargs);
		memcpy(nulls, call->nulls, sizeof(bool) * func->nargs);
		for (int i = 0; i < length; i++)
		{
			CHECK_FOR_INTERRUPTS();
			for (int k = 0; k < func->nargs; k++)
			{
				if (!func->args[k].split)
					continue;
				args[k] = arrays[k].values[i];
				nulls[k] = arrays[k].nulls[i];
			}
			call_choose_element(call, &hash, args, nulls, i);
		}
	}
	if (func->run == RUN_QUERY)
		plproxy_local_end(&hash);
	return arrays;
}

/*
 * Evaluate RUN for these arguments; "hash" is what stands there if that is a
 * query. "element" is -1 without SPLIT.
 */
static void
call_choose_element(ProxyCall *call, ProxyLocal *hash, const Datum *args, const bool *nulls, int element)
{
	ProxyFunction *func = call->func;
	int			n = call->cluster->npartitions;

	switch (func->run)
	{
		case RUN_ALL:
			for (int i = 0; i < n; i++)
				call_choose_partition(call, i, element);
			break;
		case RUN_ANY:
			call_choose_partition(call, plproxy_failover_any(call), element);
			break;
		case RUN_NUMBER:
			if (func->run_number >= n)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("partition number %d is out of range", func->run_number),
						 errdetail_plural("Cluster \"%s\" has %d partition.",
										  "Cluster \"%s\" has %d partitions.",
										  n, call->cluster->name, n)));
			call_choose_partition(call, func->run_number, element);
			break;
		case RUN_ARGUMENT:
			{
				ProxyArg   *arg = &func->args[func->run_number];

				call_choose_hash(call, args[func->run_number], nulls[func->run_number],
								 arg->split ? arg->element.oid : arg->type.oid, element);
			}
			break;
		case RUN_QUERY:
			{
				uint64		nrows = plproxy_local_run(hash, args, nulls);

				if (!func->returns_set && nrows != 1)
					ereport(ERROR,
							(errcode(ERRCODE_CARDINALITY_VIOLATION),
							 errmsg("the function behind RUN ON returned " UINT64_FORMAT " hashes", nrows),
							 errhint("Only a function that returns a set can run on none or many.")));
				for (uint64 i = 0; i < nrows; i++)
				{
					Oid			type;
					bool		isnull;
					Datum		value = plproxy_local_value(hash, i, &type, &isnull);

					call_choose_hash(call, value, isnull, type, element);
				}
			}
			break;
	}
}

static void
call_choose_hash(ProxyCall *call, Datum hash, bool isnull, Oid type, int element)
{
	int64		value = 0;

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the hash behind RUN ON is null")));
	if (type != INT2OID && type != INT4OID && type != INT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the function behind RUN ON must return smallint, integer or bigint, not %s",
						format_type_be(type))));

	if (type == INT2OID)
		value = DatumGetInt16(hash);
	else if (type == INT4OID)
		value = DatumGetInt32(hash);
	else
		value = DatumGetInt64(hash);
	call_choose_partition(call, plproxy_cluster_partition(call->cluster, value), element);
}

/*
 * The call, or this element of it, goes to the partition. Partitions with the
 * same connect string are one.
 */
static void
call_choose_partition(ProxyCall *call, int64 number, int element)
{
	int			partition = call->cluster->partitions[number].first;
	ProxyTask  *task;

	if (call->task_of[partition] < 0)
	{
		call->task_of[partition] = call->ntasks++;
		task = &call->tasks[call->task_of[partition]];
		task->call = call;
		task->partition = partition;
	}
	task = &call->tasks[call->task_of[partition]];

	/* one element may choose the partition twice, but goes there once */
	if (element < 0 || (task->nelements > 0 && task->elements[task->nelements - 1] == element))
		return;
	if (task->nelements == 0)
		task->elements = MemoryContextAlloc(call->cxt, sizeof(int) * 8);
	else if (task->nelements >= 8 && (task->nelements & (task->nelements - 1)) == 0)
		task->elements = repalloc_huge(task->elements, sizeof(int) * 2 * task->nelements);
	task->elements[task->nelements++] = element;
}

/*
 * Turn the arguments into what the query's parameters want: text, or for arrays
 * that were split what suits them.
 */
static void
call_values(ProxyCall *call, const ProxySplit *arrays)
{
	ProxyFunction *func = call->func;
	ProxyQuery *query = call->shape->query;
	int			nestlevel = plproxy_type_begin_output(func);

	for (int t = 0; t < call->ntasks; t++)
		call->tasks[t].values = palloc0(sizeof(char *) * Max(query->nparams, 1));

	for (int p = 0; p < query->nparams; p++)
	{
		int			i = query->params[p];
		ProxyArg   *arg = &func->args[i];
		const char *value = NULL;

		if (!arg->split && !call->nulls[i])
		{
			value = OutputFunctionCall(&arg->type.output, call->args[i]);
			call->sends_null = call->sends_null || plproxy_type_shows_null(&arg->type, value);
		}
		for (int t = 0; t < call->ntasks; t++)
		{
			if (arg->split)
				plproxy_split_value(arg, &arrays[i], &call->tasks[t], p);
			else
				call->tasks[t].values[p] = value;
		}
	}
	plproxy_type_end(nestlevel);
}
