/*
 * conf.c
 *	  What a backend knows of the database's place in its cluster: the one row of
 *	  partconf.conf, kept until somebody changes it.
 *
 * Trigger _conf_changed on the table makes each change of it, by whomever, send
 * an invalidation. It only marks; the next use reads the row as it is then, not
 * as the transaction's snapshot has it: a transaction from before a fence must
 * see that. The snapshot is a catalog's, which can be had in parallel workers
 * too. A change in our own transaction invalidates at the end of its command,
 * and once more when it is rolled back.
 *
 * Memory: what the row points to lives in "partconf configuration", emptied when
 * the row is read anew. Nobody keeps such a pointer over a call into SQL.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "partconf.h"

/* Columns of partconf.conf by their place; new ones come behind them */
typedef enum ConfColumn
{
	COL_ONLY_ROW,
	COL_PART_NR,
	COL_MAX_PART,
	COL_DB_CODE,
	COL_HASH_FUNCTION,
	COL_PROBES,
	COL_FENCED_AT,
	COL_FENCED_BY,
	N_CONF_COLUMNS
} ConfColumn;

static void conf_find(void);
static void conf_read(void);
static void conf_set(const Datum *values, const bool *nulls);
static void relcache_callback(Datum arg, Oid relid);

static PartconfConf conf;
static MemoryContext conf_context = NULL;

/* How often we were told of changes, to notice one while we are reading */
static uint64 n_news = 0;

SKYTOOLS_MODULE("partconf");

PG_FUNCTION_INFO_V1(partconf_conf_changed);

/*
 * Trigger partconf._conf_changed(): what backends have kept of the row is stale
 * when this transaction commits, for this one at once.
 */
Datum
partconf_conf_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("partconf._conf_changed() can only be called as trigger")));
	CacheInvalidateRelcache(trigger->tg_relation);
	return PointerGetDatum(NULL);
}

/*
 * Gives what the row says now; configured is false if there is none.
 */
PartconfConf *
partconf_conf_get(void)
{
	if (!conf.known)
		conf_read();
	return &conf;
}

/*
 * The same, and raises an error if there is no row.
 */
PartconfConf *
partconf_conf_configured(void)
{
	if (!conf.known)
		conf_read();
	if (!conf.configured)
		ereport(ERROR,
				(errcode(ERRCODE_PARTCONF_NOT_CONFIGURED),
				 errmsg("partconf is not configured in database \"%s\"",
						get_database_name(MyDatabaseId)),
				 errdetail("Table partconf.conf has no row."),
				 errhint("Say which partition this is with partconf.set_conf(part_nr, max_part, db_code).")));
	return &conf;
}

/*
 * The table's oid, as far as we know: who locks it looks again then.
 */
Oid
partconf_conf_table(void)
{
	if (!conf.known)
		conf_find();
	return conf.table_oid;
}

/*
 * Finds the table and the sequence. Another CREATE EXTENSION has made others.
 */
static void
conf_find(void)
{
	static bool callback_registered = false;
	Oid			schema_oid = get_namespace_oid("partconf", false);

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
		callback_registered = true;
	}
	conf.table_oid = get_relname_relid("conf", schema_oid);
	conf.seq_oid = get_relname_relid("global_id_seq", schema_oid);
	if (!OidIsValid(conf.table_oid) || !OidIsValid(conf.seq_oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table partconf.conf or sequence partconf.global_id_seq does not exist"),
				 errhint("Install them with CREATE EXTENSION partconf.")));
}

static void
conf_read(void)
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	uint64		news;

	conf_find();
	partconf_hash_forget();
	if (conf_context == NULL)
		conf_context = AllocSetContextCreate(TopMemoryContext, "partconf configuration",
											 ALLOCSET_SMALL_SIZES);

	rel = table_open(conf.table_oid, AccessShareLock);
	news = n_news;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	tuple = systable_getnext(scan);
	conf.configured = false;
	if (HeapTupleIsValid(tuple))
	{
		Datum		values[N_CONF_COLUMNS];
		bool		nulls[N_CONF_COLUMNS];

		for (int i = 0; i < N_CONF_COLUMNS; i++)
			values[i] = heap_getattr(tuple, i + 1, RelationGetDescr(rel), &nulls[i]);
		conf_set(values, nulls);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	/* unless there are newer news */
	conf.known = news == n_news;
}

static void
conf_set(const Datum *values, const bool *nulls)
{
	MemoryContext old;
	ArrayType  *probes;

	MemoryContextReset(conf_context);
	old = MemoryContextSwitchTo(conf_context);
	conf.part_nr = DatumGetInt32(values[COL_PART_NR]);
	conf.max_part = DatumGetInt32(values[COL_MAX_PART]);
	conf.db_code = DatumGetInt32(values[COL_DB_CODE]);
	conf.hash_function = nulls[COL_HASH_FUNCTION] ? NULL :
		TextDatumGetCString(values[COL_HASH_FUNCTION]);
	probes = DatumGetArrayTypePCopy(values[COL_PROBES]);
	if (ARR_HASNULL(probes))
		elog(ERROR, "probes of partconf.conf contain NULL");
	conf.n_probes = ArrayGetNItems(ARR_NDIM(probes), ARR_DIMS(probes));
	conf.probes = (int32 *) ARR_DATA_PTR(probes);
	conf.fenced = !nulls[COL_FENCED_AT];
	conf.fenced_at = conf.fenced ? DatumGetTimestampTz(values[COL_FENCED_AT]) : 0;
	conf.fenced_by = nulls[COL_FENCED_BY] ? NULL : TextDatumGetCString(values[COL_FENCED_BY]);
	MemoryContextSwitchTo(old);
	conf.configured = true;
}

/*
 * A table changed. InvalidOid means all.
 */
static void
relcache_callback(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == conf.table_oid || relid == conf.seq_oid)
	{
		n_news++;
		conf.known = false;
	}
}
