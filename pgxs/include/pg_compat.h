/*
 * pg_compat.h
 *	  The newest names of the server's C interface on every server we build for.
 *
 * PG_VERSION_NUM stands only here. A branch goes the day its server is dropped.
 */
#ifndef PG_COMPAT_H
#define PG_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 140000
#error "PostgreSQL 14 or newer is needed"
#endif

#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* 15: the random generator of our own; its state does not exist before */
#if PG_VERSION_NUM >= 150000
#include "common/pg_prng.h"
#else
#define pg_prng_uint64_range(state, low, high) ((low) + (uint64) random() % ((high) - (low) + 1))
#endif

/* 15: shared memory is asked for in a hook of its own; before, at once */
#if PG_VERSION_NUM >= 150000
#define SKYTOOLS_SHMEM_REQUEST(next, function) (next = shmem_request_hook, shmem_request_hook = (function))
#else
typedef void (*shmem_request_hook_type) (void);
#define SKYTOOLS_SHMEM_REQUEST(next, function) ((void) next, (function) ())
#endif

/* 15: sets up the tuplestore of a set-returning function */
#if PG_VERSION_NUM < 150000
static inline void
InitMaterializedSRF(FunctionCallInfo fcinfo, bits32 flags)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;
	TupleDesc	desc;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) || !(rsinfo->allowedModes & SFRM_Materialize))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = tuplestore_begin_heap(rsinfo->allowedModes & SFRM_Materialize_Random,
											  false, work_mem);
	rsinfo->setDesc = desc;
	MemoryContextSwitchTo(old);
}
#endif

/* 16: one function asks for privileges on anything; we ask about servers and functions */
#if PG_VERSION_NUM < 160000
#include "catalog/pg_foreign_server.h"
#include "utils/acl.h"
#define object_aclcheck(class, object, role, mode) \
	((class) == ForeignServerRelationId ? pg_foreign_server_aclcheck(object, role, mode) : \
	 pg_proc_aclcheck(object, role, mode))
#endif

/* 16: what is inside of variable-length values has a header of its own */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 17: a wait event set belongs to a resource owner, NULL: to the backend */
#if PG_VERSION_NUM < 170000
#define CreateWaitEventSet(owner, nevents) CreateWaitEventSet(TopMemoryContext, nevents)
#endif

/* 17: intervals can be infinite; before, one that comes in binary is a huge one */
#if PG_VERSION_NUM >= 170000
#define SKYTOOLS_INFINITE_INTERVALS true
#else
#define SKYTOOLS_INFINITE_INTERVALS false
#endif

/* 17: a backend's ids of its transaction stand together; who asks includes storage/proc.h */
#if PG_VERSION_NUM >= 170000
#define SKYTOOLS_MY_LXID (MyProc->vxid.lxid)
#else
#define SKYTOOLS_MY_LXID (MyProc->lxid)
#endif

/* 17: the waits of an extension have names */
#if PG_VERSION_NUM < 170000
#define WaitEventExtensionNew(name) PG_WAIT_EXTENSION
#endif

/* 15: a GUC prefix is reserved instead of only warned about */
#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* 18: stands before the declaration, as C11 has it */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 18: the module block tells name and version to pg_get_loaded_modules() */
#if PG_VERSION_NUM >= 180000
#define SKYTOOLS_MODULE(name_) PG_MODULE_MAGIC_EXT(.name = name_, .version = "4.0")
#else
#define SKYTOOLS_MODULE(name_) PG_MODULE_MAGIC
#endif

#endif							/* PG_COMPAT_H */
