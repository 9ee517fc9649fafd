/*
 * local.c
 *	  Runs the SQL that a call needs on this side: what stands behind RUN ON,
 *	  CLUSTER and CONNECT, and the version of a cluster.
 *
 * Each ProxyQuery is prepared through SPI once per backend, and the plan cache
 * keeps it right: it hears of every change of what the query names. When the plan
 * is no more than one expression, as it is for a call of a function that returns
 * no set, a call evaluates it without SPI, which takes a small part of the time.
 * Whether that is still so is asked at the beginning of each call; anything else
 * runs through SPI.
 *
 * Nothing of the executor outlives the call: the ExprState is made for each call
 * (for SPLIT once for all elements), so the privilege to execute the function is
 * asked for each time, and what functions remember in it never gets old. The plan
 * is pinned in CurrentResourceOwner meanwhile.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parser.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "plproxy.h"

/* what stands in front of a fragment to make it a query */
#define SELECT_VALUE "select "
#define SELECT_ROWS "select * from "

static CachedPlan * local_pin(ProxyQuery *query, ProxyFunction *func);
static CachedPlan * local_plan(ProxyQuery *query, ProxyFunction *func);
pg_noreturn static void local_rethrow(ProxyQuery *query, ProxyFunction *func);
static Expr * local_expression(CachedPlan * plan);
static void local_expression_begin(ProxyLocal *local);
static void local_prepare(ProxyQuery *query, ProxyFunction *func);
static char *local_sql(const char *sql);
static bool local_is_expression(List *parsed);
static Datum local_first_column(Datum row, Oid *type, bool *isnull);

/*
 * Begin to run a query for a call, once or several times. Without "func" the
 * query knows the types of its parameters. What is allocated stays in the current
 * context until the call is over; plproxy_local_end gives back the rest.
 */
void
plproxy_local_begin(ProxyLocal *local, ProxyQuery *query, ProxyFunction *func)
{
	memset(local, 0, sizeof(ProxyLocal));
	local->query = query;
	local->params = makeParamList(query->nparams);
	local->plan = local_pin(query, func);
	if (local->plan)
	{
		local_expression_begin(local);
		return;
	}

	local->values = palloc(sizeof(Datum) * (query->nparams + 1));
	local->flags = palloc(query->nparams + 1);
	SPI_connect();
}

/*
 * Run the query for these arguments; returns the number of rows, whose first
 * columns plproxy_local_value gives until the next run. The query sees the
 * snapshot of the calling one and may not write by itself (volatile functions
 * that it calls may), unless it wants a fresh one.
 */
uint64
plproxy_local_run(ProxyLocal *local, const Datum *args, const bool *nulls)
{
	ProxyQuery *query = local->query;
	int			code;

	if (local->plan)
	{
		ExprContext *econtext = local->econtext;

		for (int i = 0; i < query->nparams; i++)
		{
			local->params->params[i].value = args[query->params[i]];
			local->params->params[i].isnull = nulls[query->params[i]];
		}
		ResetExprContext(econtext);
		if (local->snapshot)
		{
			CommandCounterIncrement();
			PushActiveSnapshot(GetTransactionSnapshot());
		}
		local->value = ExecEvalExprSwitchContext(local->expr, econtext, &local->isnull);
		if (local->snapshot)
			PopActiveSnapshot();
		return 1;
	}

	for (int i = 0; i < query->nparams; i++)
	{
		local->values[i] = args[query->params[i]];
		local->flags[i] = nulls[query->params[i]] ? 'n' : ' ';
	}
	if (local->rows)
		SPI_freetuptable(local->rows);
	local->rows = NULL;
	code = SPI_execute_plan(query->plan, local->values, local->flags, !query->fresh, 0);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan of \"%s\" failed: %s", query->sql,
			 SPI_result_code_string(code));
	local->rows = SPI_tuptable;
	return SPI_processed;
}

/*
 * The first column of a row of the last run, and its type, a domain's base. Of a
 * row type it is the first column in it.
 */
Datum
plproxy_local_value(ProxyLocal *local, uint64 row, Oid *type, bool *isnull)
{
	Datum		value;

	if (local->plan)
	{
		value = local->value;
		*isnull = local->isnull;
		*type = local->type;
		if (local->type_is_simple)
			return value;
	}
	else
	{
		value = SPI_getbinval(local->rows->vals[row], local->rows->tupdesc, 1, isnull);
		*type = getBaseType(SPI_gettypeid(local->rows->tupdesc, 1));
	}
	return type_is_rowtype(*type) ? local_first_column(value, type, isnull) : value;
}

void
plproxy_local_end(ProxyLocal *local)
{
	if (local->plan == NULL)
	{
		SPI_finish();
		return;
	}
	FreeExprContext(local->econtext, true);
	ReleaseCachedPlan(local->plan, CurrentResourceOwner);
}

/* The function goes, and its query with it. */
void
plproxy_local_free(ProxyQuery *query)
{
	if (query && query->plan)
		SPI_freeplan(query->plan);
}

/*
 * Prepare the query as a call would, for the validator. Returns the base type of
 * its first column, or InvalidOid if only a call can tell.
 */
Oid
plproxy_local_check(ProxyQuery *query, ProxyFunction *func)
{
	CachedPlanSource *source;
	Oid			type;

	MemoryContext cxt = CurrentMemoryContext;

	PG_TRY();
	{
		local_prepare(query, func);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		local_rethrow(query, func);
	}
	PG_END_TRY();
	source = linitial(SPI_plan_get_plan_sources(query->plan));
	type = source->resultDesc->natts > 0
		? getBaseType(TupleDescAttr(source->resultDesc, 0)->atttypid) : InvalidOid;
	return type_is_rowtype(type) ? InvalidOid : type;
}

/*
 * Get the query's plan, pinned, if it is one that we can evaluate; or NULL.
 *
 * "query->simple" is only compared, so it does no harm that the plan behind it
 * may be gone. A new plan at the same address would have been made here too: for
 * a query with "simple" set nobody else asks the plan cache for plans.
 */
static CachedPlan *
local_pin(ProxyQuery *query, ProxyFunction *func)
{
	CachedPlanSource *source;
	CachedPlan *plan;

	source = query->plan ? linitial(SPI_plan_get_plan_sources(query->plan)) : NULL;
	if (query->simple)
	{
		if (CachedPlanIsSimplyValid(source, query->simple, CurrentResourceOwner))
			return query->simple;
		query->simple = NULL;
	}
	else if (query->complex &&source->is_valid)
		return NULL;

	plan = local_plan(query, func);
	source = linitial(SPI_plan_get_plan_sources(query->plan));
	query->complex = plan == NULL || local_expression(plan) == NULL ||
		!CachedPlanAllowsSimpleValidityCheck(source, plan, NULL);
	if (query->complex)
	{
		query->simple = NULL;
		if (plan)
			ReleaseCachedPlan(plan, CurrentResourceOwner);
		return NULL;
	}
	query->simple = plan;
	query->constant = !contain_mutable_functions((Node *) local_expression(plan));
	return plan;
}

/* Make the query's plan, unless it is not one but several. */
static CachedPlan *
local_plan(ProxyQuery *query, ProxyFunction *func)
{
	MemoryContext cxt = CurrentMemoryContext;
	CachedPlan *volatile plan = NULL;

	PG_TRY();
	{
		if (query->plan == NULL)
			local_prepare(query, func);

		/* SPI adds to errors which query they are about */
		SPI_connect();
		plan = SPI_plan_get_cached_plan(query->plan);
		SPI_finish();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		local_rethrow(query, func);
	}
	PG_END_TRY();
	return plan;
}

/*
 * Throw the error that was caught once more. If it shows a place in the query that
 * was made of the fragment, let it show that place in what the user wrote.
 */
static void
local_rethrow(ProxyQuery *query, ProxyFunction *func)
{
	ErrorData  *error = CopyErrorData();
	const char *shown = error->internalquery;
	int			begin;
	int			at;

	if (query->source == NULL || shown == NULL || error->internalpos <= 0)
		PG_RE_THROW();
	begin = strlen(shown) - strlen(query->sql);
	if (begin < 0 || strcmp(shown + begin, query->sql) != 0 ||
		(strncmp(shown, SELECT_VALUE, begin) != 0 && strncmp(shown, SELECT_ROWS, begin) != 0))
		PG_RE_THROW();
	at = pg_mbcharcliplen(shown, strlen(shown), error->internalpos - 1) - begin;
	at = plproxy_query_origin(func, psprintf("%s;", query->source), Max(at, 0));
	FlushErrorState();
	error->internalquery = query->source;
	error->internalpos = pg_mbstrlen_with_len(query->source, at) + 1;
	ReThrowError(error);
}

/* The expression that the plan consists of, or NULL if there is more to it. */
static Expr *
local_expression(CachedPlan * plan)
{
	PlannedStmt *stmt = linitial_node(PlannedStmt, plan->stmt_list);
	Plan	   *top = stmt->planTree;
	TargetEntry *entry;

	if (list_length(plan->stmt_list) != 1 || stmt->commandType != CMD_SELECT ||
		stmt->subplans != NIL || stmt->rowMarks != NIL || !IsA(top, Result))
		return NULL;
	if (top->lefttree || top->righttree || top->initPlan || top->qual ||
		((Result *) top)->resconstantqual || list_length(top->targetlist) != 1)
		return NULL;
	entry = linitial_node(TargetEntry, top->targetlist);
	return entry->resjunk ? NULL : entry->expr;
}

/* Get ready to evaluate the expression of the pinned plan. */
static void
local_expression_begin(ProxyLocal *local)
{
	Expr	   *expr = local_expression(local->plan);

	for (int i = 0; i < local->query->nparams; i++)
	{
		local->params->params[i].pflags = PARAM_FLAG_CONST;
		local->params->params[i].ptype = local->query->types[i];
	}
	local->expr = ExecInitExprWithParams(expr, local->params);
	local->econtext = CreateStandaloneExprContext();
	local->econtext->ecxt_param_list_info = local->params;

	local->type = exprType((Node *) expr);
	local->type_is_simple = local->type == INT4OID || local->type == INT8OID || local->type == TEXTOID;
	if (!local->type_is_simple)
		local->type = getBaseType(local->type);

	/* what cannot change needs no snapshot to see the latest */
	local->snapshot = local->query->fresh && !local->query->constant;
}

/* Prepare the query, whose parameters have the types of the arguments. */
static void
local_prepare(ProxyQuery *query, ProxyFunction *func)
{
	CachedPlanSource *source;
	SPIPlanPtr	plan;
	char	   *sql;

	if (query->types == NULL)
	{
		query->types = MemoryContextAlloc(func->cxt, sizeof(Oid) * (query->nparams + 1));
		for (int i = 0; i < query->nparams; i++)
		{
			ProxyArg   *arg = &func->args[query->params[i]];

			/* only RUN is asked for each element */
			query->types[i] = arg->split && query == func->run_query
				? arg->element.oid : arg->type.oid;
		}
	}

	sql = local_sql(query->sql);
	SPI_connect();
	plan = SPI_prepare(sql, query->nparams, query->types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare of \"%s\" failed: %s", sql, SPI_result_code_string(SPI_result));

	source = linitial(SPI_plan_get_plan_sources(plan));
	if (source->resultDesc == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("\"%s\" returns no value", query->source ? query->source : query->sql)));

	/* planning may run functions, which may have called us */
	if (query->plan == NULL)
	{
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "SPI_keepplan failed");
		query->plan = plan;
	}
	SPI_finish();
}

/*
 * Parse a text. NIL if it has a syntax error, whose place, in bytes and from 0, is
 * "error_at" then. Such errors are all that is caught here, and the grammar holds
 * nothing but memory.
 */
List *
plproxy_local_parse(const char *sql, int *error_at)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *volatile parsed = NIL;

	PG_TRY();
	{
		parsed = raw_parser(sql, RAW_PARSE_DEFAULT);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		if (geterrcode() != ERRCODE_SYNTAX_ERROR)
			PG_RE_THROW();
		if (error_at)
			*error_at = pg_mbcharcliplen(sql, strlen(sql), geterrposition() - 1);
		FlushErrorState();
	}
	PG_END_TRY();
	return parsed;
}

/*
 * The query for a fragment, which reads as an expression, like "f($1)" or
 * "f($1) & 3", or as something to select from, like "f($1) as t(h) where h > 0
 * order by 1". Where both would do, as with a WHERE alone, it is something to
 * select from. Where neither does, it is what goes right for longer, whose error
 * says more.
 */
static char *
local_sql(const char *sql)
{
	char	   *value = psprintf("%s%s", SELECT_VALUE, sql);
	char	   *rows = psprintf("%s%s", SELECT_ROWS, sql);
	int			value_error = 0;
	int			rows_error = 0;
	List	   *parsed = plproxy_local_parse(value, &value_error);

	if (parsed)
		return local_is_expression(parsed) ? value : rows;
	if (plproxy_local_parse(rows, &rows_error))
		return rows;
	return value_error - (int) strlen(SELECT_VALUE) >= rows_error - (int) strlen(SELECT_ROWS) ? value : rows;
}

/* Is "select ..." the query of an expression? */
static bool
local_is_expression(List *parsed)
{
	SelectStmt *stmt;
	ResTarget  *target;

	if (list_length(parsed) != 1)
		return false;
	stmt = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	if (!IsA(stmt, SelectStmt) || stmt->op != SETOP_NONE)
		return false;
	if (stmt->fromClause)
		return true;
	if (list_length(stmt->targetList) != 1 || stmt->whereClause || stmt->groupClause ||
		stmt->havingClause || stmt->sortClause || stmt->limitOffset || stmt->limitCount)
		return false;
	target = linitial_node(ResTarget, stmt->targetList);
	return target->name == NULL;
}

/* The first column of a row. Of a null row it is null and of unknown type. */
static Datum
local_first_column(Datum row, Oid *type, bool *isnull)
{
	HeapTupleHeader header;
	TupleDesc	desc;
	int			first = 0;

	*type = UNKNOWNOID;
	if (*isnull)
		return (Datum) 0;

	header = DatumGetHeapTupleHeader(row);
	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	while (first < desc->natts && TupleDescAttr(desc, first)->attisdropped)
		first++;
	*isnull = first == desc->natts;
	if (!*isnull)
		*type = getBaseType(TupleDescAttr(desc, first)->atttypid);
	ReleaseTupleDesc(desc);
	return *isnull ? (Datum) 0 : GetAttributeByNum(header, first + 1, isnull);
}
