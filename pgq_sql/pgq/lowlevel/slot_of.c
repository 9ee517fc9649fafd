/*
 * slot_of.c
 *	  Tells which slot of a split consumer gets the events of a key.
 *
 * The hash is defined here, not by the server, whose hash functions may change:
 * slots must mean the same after an upgrade, and in PL/pgSQL. It is FNV-1a over
 * the bytes of the key; the last steps let all bits of it count, whatever the
 * number of slots.
 */
#include "postgres.h"

#include "fmgr.h"

#include "pg_compat.h"
#include "pgq_lowlevel.h"

#define FNV_OFFSET 2166136261U
#define FNV_PRIME 16777619U

PG_FUNCTION_INFO_V1(pgq_slot_of);

/*
 * pgq.slot_of(key, slots)
 */
Datum
pgq_slot_of(PG_FUNCTION_ARGS)
{
	int32		slots;
	text	   *key;
	const unsigned char *bytes;
	uint32		hash = FNV_OFFSET;

	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	slots = PG_GETARG_INT32(1);
	if (slots < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number of slots must be positive")));
	if (PG_ARGISNULL(0))
		PG_RETURN_INT32(0);

	key = PG_GETARG_TEXT_PP(0);
	bytes = (const unsigned char *) VARDATA_ANY(key);
	for (size_t i = 0; i < VARSIZE_ANY_EXHDR(key); i++)
		hash = (hash ^ bytes[i]) * FNV_PRIME;
	hash = (hash ^ hash >> 15) * FNV_PRIME;
	hash ^= hash >> 13;
	PG_RETURN_INT32(hash % (uint32) slots);
}
