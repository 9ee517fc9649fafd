/*
 * function.c
 *	  Compiled functions and their cache.
 *
 * The cache is per backend and keyed by OID. A changed pg_proc row, a changed
 * pg_type row that the function names, or a changed row type that it returns
 * make a new ProxyFunction; calls that still run on the old one hold it by
 * use_count. Each has a context of its own under "PL/Proxy functions"; while
 * being compiled it hangs below the caller's, so an error frees it.
 *
 * Invalidation callbacks only mark. The next use looks at the catalogs; one that
 * arrives while a function is being compiled is seen by counting them.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "plproxy.h"

typedef struct FunctionEntry
{
	Oid			oid;			/* hash key, must be first */
	uint32		hash;			/* pg_proc syscache hash of "oid" */
	ProxyFunction *func;		/* NULL when it did not compile */
} FunctionEntry;

/* What is being compiled, for its error context. */
typedef struct CompileContext
{
	ProxyFunction *func;
	const char *body;			/* while it is read for the validator, or NULL */
	ProxyQuery *local;			/* fragment that is looked at, or NULL */
} CompileContext;

static ProxyFunction *function_compile(Oid oid, HeapTuple tuple, bool validate);
static void function_compile_error(void *arg);
static void function_check_local(CompileContext *context, ProxyQuery *query, const char *body);
static bool error_may_pass(int sqlstate);
static void function_check_kind(Form_pg_proc form);
static void function_check_select(ProxyQuery *query, const char *body);
static void function_compile_args(ProxyFunction *func, HeapTuple tuple);
static void function_add_type(ProxyFunction *func, Oid type);
static char *function_signature(ProxyFunction *func, Form_pg_proc form);
static char *function_application_name(ProxyFunction *func);
static bool function_is_current(ProxyFunction *func, HeapTuple tuple);
static uint64 function_rowtype_id(Oid rowtype);
static void function_forget(FunctionEntry *entry);
static void function_purge(void);
static void function_changed(Datum arg, int cacheid, uint32 hash);

static MemoryContext functions_cxt;
static HTAB *functions;
static uint64 changes;			/* callbacks so far */

void
plproxy_function_init(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(FunctionEntry)};

	functions_cxt = AllocSetContextCreate(TopMemoryContext, "PL/Proxy functions",
										  ALLOCSET_SMALL_SIZES);
	ctl.hcxt = functions_cxt;
	functions = hash_create("PL/Proxy function cache", 128, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterSyscacheCallback(PROCOID, function_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, function_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, function_changed, (Datum) 0);
}

/*
 * Get the compiled function for one call; plproxy_function_release ends it.
 */
ProxyFunction *
plproxy_function_get(Oid oid)
{
	FunctionEntry *entry;
	bool		found;

	/*
	 * A transaction that takes no lock hears of no change. What others have
	 * committed counts from the next call on all the same.
	 */
	AcceptInvalidationMessages();

	entry = hash_search(functions, &oid, HASH_ENTER, &found);
	if (!found)
	{
		entry->func = NULL;
		entry->hash = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(oid));
		function_purge();
	}

	if (entry->func == NULL || entry->func->stale ||
		entry->func->rowtype_id != function_rowtype_id(entry->func->rowtype))
	{
		uint64		before = changes;
		HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));

		if (!HeapTupleIsValid(tuple))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 entry->func
					 ? errmsg("function %s was dropped", entry->func->signature)
					 : errmsg("function with OID %u was dropped", oid)));
		if (entry->func && function_is_current(entry->func, tuple))
			entry->func->stale = (changes != before);
		else
		{
			ProxyFunction *func;

			function_forget(entry);
			func = function_compile(oid, tuple, false);
			MemoryContextSetParent(func->cxt, functions_cxt);
			entry->func = func;
			func->use_count = 1;

			/* it was not in the cache to be marked when that arrived */
			if (changes != before)
				func->stale = func->changed = true;
		}
		ReleaseSysCache(tuple);
	}

	entry->func->use_count++;
	return entry->func;
}

void
plproxy_function_release(ProxyFunction *func)
{
	if (--func->use_count > 0)
		return;
	plproxy_local_free(func->map_query);
	plproxy_local_free(func->run_query);
	MemoryContextDelete(func->cxt);
}

/* Compile for the validator: all that is wrong with it is an error. */
void
plproxy_function_check(Oid oid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	ProxyFunction *func;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", oid);
	func = function_compile(oid, tuple, true);
	MemoryContextDelete(func->cxt);
	ReleaseSysCache(tuple);
}

/*
 * Compile. The result hangs below CurrentMemoryContext and nobody uses it yet.
 * Only the validator looks at local fragments; in a call they are looked at when
 * they run.
 */
static ProxyFunction *
function_compile(Oid oid, HeapTuple tuple, bool validate)
{
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);
	CompileContext context;
	ErrorContextCallback callback;
	MemoryContext cxt,
				old;
	ProxyFunction *func;
	Oid			rettype = form->prorettype;
	Datum		prosrc;
	char	   *body;
	bool		isnull;

	cxt = AllocSetContextCreate(CurrentMemoryContext, "PL/Proxy function",
								ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	func = palloc0(sizeof(ProxyFunction));
	func->oid = oid;
	func->cxt = cxt;
	func->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	func->tid = tuple->t_self;
	func->returns_set = form->proretset;
	func->remote_name = quote_qualified_identifier(get_namespace_name(form->pronamespace),
												   NameStr(form->proname));
	func->signature = function_signature(func, form);
	func->application_name = function_application_name(func);
	func->application_set = psprintf("set application_name = %s",
									 quote_literal_cstr(func->application_name));
	MemoryContextSetIdentifier(cxt, func->signature);

	context.func = func;
	context.body = NULL;
	context.local = NULL;
	callback.callback = function_compile_error;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	function_check_kind(form);
	function_compile_args(func, tuple);

	prosrc = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
	if (isnull)
		elog(ERROR, "null prosrc for function %u", oid);
	body = TextDatumGetCString(prosrc);
	context.body = validate ? body : NULL;
	plproxy_parser_run(func, body);
	if (func->select)
		function_check_select(func->select, body);
	context.body = NULL;

	/* before the shape is read, so that a change meanwhile is seen later */
	function_add_type(func, rettype);
	rettype = getBaseType(rettype);
	if (rettype != RECORDOID && get_typtype(rettype) == TYPTYPE_COMPOSITE)
	{
		func->rowtype = rettype;
		func->rowtype_id = function_rowtype_id(rettype);
	}
	func->shape = plproxy_result_shape(func, NULL);
	if (func->shape)
	{
		for (int i = 0; i < func->shape->desc->natts; i++)
			function_add_type(func, func->shape->columns[i].oid);
	}

	if (validate)
	{
		function_check_local(&context, func->map_query, body);
		function_check_local(&context, func->run_query, body);
	}

	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old);
	return func;
}

/* Can a function that is declared so run on partitions? */
static void
function_check_kind(Form_pg_proc form)
{
	if (form->provolatile != PROVOLATILE_VOLATILE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("PL/Proxy functions must be volatile")));
	if (OidIsValid(form->provariadic))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("PL/Proxy functions cannot be variadic"),
				 errhint("Declare the last argument as an array.")));

	/* it would get no arguments but the frame's rows, which are here */
	if (form->prokind == PROKIND_WINDOW)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("PL/Proxy functions cannot be window functions")));
}

/*
 * SELECT ... INTO makes a table on the partition and has no rows to return, so it
 * must not get that far. All else about the query only the partition can tell: its
 * grammar may be newer than ours.
 */
static void
function_check_select(ProxyQuery *query, const char *body)
{
	List	   *parsed = plproxy_local_parse(query->sql, NULL);
	SelectStmt *stmt;

	if (parsed == NIL)
		return;
	stmt = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	while (IsA(stmt, SelectStmt) && stmt->larg)
		stmt = stmt->larg;
	if (IsA(stmt, SelectStmt) && stmt->intoClause)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("line %d: SELECT INTO returns no rows", query->line),
				 errhint("Let a function on the partition make the table, and TARGET name it."),
				 internalerrquery(body),
				 internalerrposition(pg_mbstrlen_with_len(body, query->offset) + 1)));
}

/*
 * errcontext callback: a position in the body becomes one in CREATE FUNCTION, which
 * says all; otherwise say which function it is, and which line of it.
 */
static void
function_compile_error(void *arg)
{
	CompileContext *context = arg;

	if (context->body && function_parse_error_transpose(context->body))
		return;
	if (context->local)
		errcontext("expression in line %d", context->local->line);
	plproxy_error_function(context->func);
}

/*
 * Would a call be able to prepare this fragment, and give a value of a right
 * type? What it names may be created later, and when it is not, a call says so.
 */
static void
function_check_local(CompileContext *context, ProxyQuery *query, const char *body)
{
	ProxyFunction *func = context->func;
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	const char *statement;
	volatile Oid type = InvalidOid;

	if (query == NULL)
		return;

	context->local = query;
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(cxt);
		type = plproxy_local_check(query, func);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
		if (!error_may_pass(error->sqlerrcode))
		{
			if (error->internalquery == NULL || strcmp(error->internalquery, query->source) != 0)
				ReThrowError(error);

			/* a place in the body, and so in CREATE FUNCTION, says all */
			error->internalpos += pg_mbstrlen_with_len(body, query->offset);
			error->internalquery = unconstify(char *, body);
			error->context = NULL;
			context->body = body;
			ThrowErrorData(error);
		}
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	context->local = NULL;
	plproxy_local_free(query);

	if (!OidIsValid(type))
		return;
	statement = query == func->run_query ? "RUN ON"
		: func->map == MAP_CONNECT ? "CONNECT" : "CLUSTER";
	if (query == func->run_query
		? type != INT2OID && type != INT4OID && type != INT8OID
		: !plproxy_type_is_string(type))
	{
		context->body = body;
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("line %d: the expression behind %s must be of type %s, not %s",
						query->line, statement,
						query == func->run_query ? "smallint, integer or bigint" : "text",
						format_type_be(type)),
				 internalerrquery(body),
				 internalerrposition(pg_mbstrlen_with_len(body, query->offset) + 1)));
	}
}

/* Is the error one that vanishes when something more has been created? */
static bool
error_may_pass(int sqlstate)
{
	switch (sqlstate)
	{
		case ERRCODE_UNDEFINED_FUNCTION:
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_UNDEFINED_OBJECT:
		case ERRCODE_UNDEFINED_SCHEMA:
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
			return true;
		default:
			return false;
	}
}

/* Fill in the IN and INOUT arguments. */
static void
function_compile_args(ProxyFunction *func, HeapTuple tuple)
{
	Oid		   *types;
	char	  **names;
	char	   *modes;
	int			total = get_func_arg_info(tuple, &types, &names, &modes);

	func->args = palloc0(sizeof(ProxyArg) * Max(total, 1));
	for (int i = 0; i < total; i++)
	{
		ProxyArg   *arg;

		if (modes && modes[i] != PROARGMODE_IN && modes[i] != PROARGMODE_INOUT)
			continue;
		arg = &func->args[func->nargs++];
		if (names && names[i] && names[i][0])
			arg->name = names[i];
		plproxy_type_init(&arg->type, types[i], -1, false, func->cxt);
		function_add_type(func, types[i]);
	}
}

/* Remember that the function must be looked at again when the type changes. */
static void
function_add_type(ProxyFunction *func, Oid type)
{
	if (!OidIsValid(type) || type < FirstNormalObjectId)
		return;
	if (func->type_hashes == NULL)
		func->type_hashes = palloc(sizeof(uint32));
	else
		func->type_hashes = repalloc(func->type_hashes, sizeof(uint32) * (func->ntypes + 1));
	func->type_hashes[func->ntypes++] =
		GetSysCacheHashValue1(TYPEOID, ObjectIdGetDatum(type));
}

static char *
function_signature(ProxyFunction *func, Form_pg_proc form)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s(", func->remote_name);
	for (int i = 0; i < form->pronargs; i++)
		appendStringInfo(&buf, "%s%s", i ? ", " : "",
						 format_type_be(form->proargtypes.values[i]));
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/*
 * The name under which servers show the function's calls, as they would keep it:
 * short, and in ASCII.
 */
static char *
function_application_name(ProxyFunction *func)
{
	char	   *name = psprintf("plproxy %s@%s", func->remote_name, get_database_name(MyDatabaseId));

	if (strlen(name) >= NAMEDATALEN)
		name[NAMEDATALEN - 1] = '\0';
	for (char *c = name; *c; c++)
	{
		if (*c < 32 || *c > 126)
			*c = '?';
	}
	return name;
}

/* Is the function still what the catalogs say? */
static bool
function_is_current(ProxyFunction *func, HeapTuple tuple)
{
	return !func->changed &&
		func->rowtype_id == function_rowtype_id(func->rowtype) &&
		func->xmin == HeapTupleHeaderGetRawXmin(tuple->t_data) &&
		ItemPointerEquals(&func->tid, &tuple->t_self);
}

/* Changes whenever the columns of the row type do. 0 for InvalidOid. */
static uint64
function_rowtype_id(Oid rowtype)
{
	if (!OidIsValid(rowtype))
		return 0;
	return lookup_type_cache(rowtype, TYPECACHE_TUPDESC)->tupDesc_identifier;
}

static void
function_forget(FunctionEntry *entry)
{
	ProxyFunction *func = entry->func;

	entry->func = NULL;
	if (func)
		plproxy_function_release(func);
}

/*
 * Free functions that have changed and are not in use; most will have been
 * dropped. One that is still there will be compiled at its next call.
 */
static void
function_purge(void)
{
	HASH_SEQ_STATUS seq;
	FunctionEntry *entry;

	hash_seq_init(&seq, functions);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		if (entry->func == NULL || !entry->func->stale || entry->func->use_count > 1)
			continue;
		function_forget(entry);
		hash_search(functions, &entry->oid, HASH_REMOVE, NULL);
	}
}

/* Syscache callback of pg_proc, pg_type, pg_namespace; hash 0: everything. */
static void
function_changed(Datum arg, int cacheid, uint32 hash)
{
	HASH_SEQ_STATUS seq;
	FunctionEntry *entry;

	changes++;
	hash_seq_init(&seq, functions);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		ProxyFunction *func = entry->func;

		if (func == NULL)
			continue;
		if (cacheid == PROCOID && (hash == 0 || entry->hash == hash))
			func->stale = true;

		/*
		 * names of schemas and types are in the queries, not in the pg_proc
		 * row
		 */
		if (cacheid == NAMESPACEOID)
			func->changed = true;
		for (int i = 0; cacheid == TYPEOID && i < func->ntypes; i++)
		{
			if (hash == 0 || func->type_hashes[i] == hash)
				func->changed = true;
		}
		func->stale |= func->changed;
	}
}
