/*
 * handler.c
 *	  What the server calls: the call handler and the validator of the language.
 *
 * The handler finds the compiled function, keeps it from being freed while it
 * runs, and hands over to call.c. Nothing else happens here.
 */
#include "postgres.h"

#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "plproxy.h"

SKYTOOLS_MODULE("plproxy");

PG_FUNCTION_INFO_V1(plproxy_call_handler);
PG_FUNCTION_INFO_V1(plproxy_validator);

void		_PG_init(void);

void
_PG_init(void)
{
	plproxy_function_init();
	plproxy_cluster_init();
	plproxy_login_init();
	plproxy_transaction_init();
	plproxy_stat_init();
	plproxy_error_init();

	MarkGUCPrefixReserved("plproxy");
}

Datum
plproxy_call_handler(PG_FUNCTION_ARGS)
{
	ProxyFunction *func;
	ErrorContextCallback callback;
	volatile Datum result = (Datum) 0;

	if (CALLED_AS_TRIGGER(fcinfo) || CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("PL/Proxy functions cannot be called as triggers")));

	/* a hash function may be a proxy function that hashes by itself */
	check_stack_depth();

	func = plproxy_function_get(fcinfo->flinfo->fn_oid);

	callback.callback = plproxy_error_function;
	callback.arg = func;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	PG_TRY();
	{
		result = plproxy_call_run(func, fcinfo);
	}
	PG_FINALLY();
	{
		plproxy_function_release(func);
	}
	PG_END_TRY();

	error_context_stack = callback.previous;
	return result;
}

Datum
plproxy_validator(PG_FUNCTION_ARGS)
{
	Oid			oid = PG_GETARG_OID(0);

	if (!CheckFunctionValidatorAccess(fcinfo->flinfo->fn_oid, oid))
		PG_RETURN_VOID();

	/* a restore creates functions before the types and functions they name */
	if (check_function_bodies)
		plproxy_function_check(oid);

	PG_RETURN_VOID();
}
