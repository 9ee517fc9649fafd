/*
 * insert.c
 *	  Calls pgq.insert_event(text, text, text, text, text, text, text).
 *
 * The function is looked up by name and called as any other, so whoever replaces
 * it gets the events, whatever it is written in; but no plan is run for it. What
 * the lookup found is kept until an invalidation says that a function, a schema
 * or somebody's rights changed.
 *
 * Only a function in C keeps its FmgrInfo over calls: others hold a state in it
 * that neither an error nor a call within the call may find. A call within a call
 * has one of its own, too, so that it can never rebuild the outer one's.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "pgstat.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "triggers.h"

#define NUM_ARGS (1 + NUM_EV_FIELDS)

/* All zero: not looked up */
static struct
{
	Oid			oid;			/* InvalidOid: look it up */
	Oid			allowed_role;	/* may execute it; InvalidOid: ask */
	bool		keep;			/* info may be kept over calls */
	bool		ready;			/* info is filled in */
	bool		running;		/* info is in use */
	FmgrInfo	info;
	MemoryContext context;		/* of what info points to */
}			function;

/* function prototypes */
static void function_lookup(void);
static FmgrInfo *function_info(FmgrInfo *fresh);
static void function_changed(Datum arg, int cacheid, uint32 hashvalue);

/* The fields stand in the order of EventField. */
void
triga_insert_event(text *queue_name, const NullableDatum *fields)
{
	LOCAL_FCINFO(fcinfo, NUM_ARGS);
	PgStat_FunctionCallUsage usage;
	FmgrInfo	fresh;
	FmgrInfo   *info;

	if (!OidIsValid(function.oid))
		function_lookup();
	if (function.allowed_role != GetUserId())
	{
		AclResult	result = object_aclcheck(ProcedureRelationId, function.oid, GetUserId(), ACL_EXECUTE);

		if (result != ACLCHECK_OK)
			aclcheck_error(result, OBJECT_FUNCTION, "insert_event");
		function.allowed_role = GetUserId();
	}
	InvokeFunctionExecuteHook(function.oid);

	info = function_info(&fresh);
	if (info->fn_strict)
	{
		for (int i = 0; i < NUM_EV_FIELDS; i++)
		{
			if (fields[i].isnull)
				return;
		}
	}
	InitFunctionCallInfoData(*fcinfo, info, NUM_ARGS, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(queue_name);
	fcinfo->args[0].isnull = false;
	memcpy(&fcinfo->args[1], fields, sizeof(NullableDatum) * NUM_EV_FIELDS);

	pgstat_init_function_usage(fcinfo, &usage);
	if (info == &fresh)
		(void) FunctionCallInvoke(fcinfo);
	else
	{
		function.running = true;
		PG_TRY();
		{
			(void) FunctionCallInvoke(fcinfo);
		}
		PG_FINALLY();
		{
			function.running = false;
		}
		PG_END_TRY();
	}
	pgstat_end_function_usage(&usage, true);
}

static void
function_lookup(void)
{
	static bool callbacks_registered = false;
	Oid			types[NUM_ARGS];
	List	   *name = list_make2(makeString("pgq"), makeString("insert_event"));
	HeapTuple	tuple;
	Form_pg_proc proc;
	Oid			oid;

	if (!callbacks_registered)
	{
		function.context = AllocSetContextCreate(TopMemoryContext, "pgq.insert_event",
												 ALLOCSET_SMALL_SIZES);
		CacheRegisterSyscacheCallback(PROCOID, function_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, function_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, function_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, function_changed, (Datum) 0);
		callbacks_registered = true;
	}
	for (int i = 0; i < NUM_ARGS; i++)
		types[i] = TEXTOID;
	oid = LookupFuncName(name, NUM_ARGS, types, false);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", oid);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("pgq.insert_event(text, text, text, text, text, text, text) is not a function that returns one value")));
	function.keep = proc->prolang == ClanguageId;
	function.allowed_role = InvalidOid;
	function.ready = false;
	function.oid = oid;
	ReleaseSysCache(tuple);
}

static FmgrInfo *
function_info(FmgrInfo *fresh)
{
	if (!function.keep || function.running)
	{
		fmgr_info(function.oid, fresh);
		return fresh;
	}
	if (!function.ready)
	{
		MemoryContextReset(function.context);
		fmgr_info_cxt(function.oid, &function.info, function.context);
		function.ready = true;
	}
	return &function.info;
}

static void
function_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	function.oid = InvalidOid;
}
