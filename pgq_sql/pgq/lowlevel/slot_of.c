/*
 * slot_of.c
 *	  Tells which slot of a split consumer gets the events of a key.
 *
 * The hash is defined by itself, not by the server's hash functions, which may
 * change: slots must mean the same after an upgrade, and in PL/pgSQL.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "pg_compat.h"
#include "pgq_lowlevel.h"

PG_FUNCTION_INFO_V1(pgq_slot_of);

/*
 * pgq.slot_of(key, slots)
 */
Datum
pgq_slot_of(PG_FUNCTION_ARGS)
{
	int32		slots;
	unsigned char *hash;

	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	slots = PG_GETARG_INT32(1);
	if (slots < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number of slots must be positive")));
	if (PG_ARGISNULL(0))
		PG_RETURN_INT32(0);

	/* a text is laid out like a bytea */
	hash = (unsigned char *) VARDATA_ANY(DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
																			 PG_GETARG_DATUM(0))));
	PG_RETURN_INT32(((uint32) hash[0] << 24 | hash[1] << 16 | hash[2] << 8 | hash[3]) % (uint32) slots);
}
