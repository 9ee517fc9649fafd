/*
 * fence.c
 *	  The writers' side of the fence.
 *
 * partconf.fence() must not return before every writer that it does not stop has
 * ended. So a writer takes the lock of partconf.conf in ROW EXCLUSIVE mode, looks
 * whether there is a fence, and keeps the lock until its transaction ends;
 * fence() takes SHARE ROW EXCLUSIVE, which waits for these, and sets the row. A
 * writer that waits behind it sees the row as it is then:
 *	 1. Getting a lock accepts invalidations, and a transaction that commits sends
 *		its own before it releases its locks.
 *	 2. The row is read as it is now, whatever the writer's snapshot is.
 * The lock is one of the kind that a backend notes for itself (fast path), so
 * writers do not meet in shared memory as long as there is no fence.
 *
 * The lock belongs to the transaction as a whole: a savepoint that is rolled back
 * does not give it up, so that it is taken once for each transaction. A
 * prepared transaction keeps it.
 *
 * A read-only transaction, hence everything on a standby, takes no lock and meets
 * no fence. Nor does replication (session_replication_role = replica), which
 * must be able to fill a database that is fenced.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "partconf.h"

static void writer_lock(Oid table_oid);

/* The transaction that has the lock */
static LocalTransactionId locked_lxid = InvalidLocalTransactionId;

/*
 * Gives the configuration to somebody who may be about to write, and raises an
 * error if there is none, or a fence.
 */
PartconfConf *
partconf_enter(void)
{
	PartconfConf *conf;

	if (XactReadOnly || SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return partconf_conf_configured();

	for (;;)
	{
		Oid			table_oid;

		if (locked_lxid == SKYTOOLS_MY_LXID)
		{
			conf = partconf_conf_configured();
			break;
		}
		table_oid = partconf_conf_table();
		writer_lock(table_oid);
		conf = partconf_conf_configured();
		/* while we waited the extension may have been made anew */
		if (conf->table_oid == table_oid)
		{
			locked_lxid = SKYTOOLS_MY_LXID;
			break;
		}
	}
	if (conf->fenced)
		ereport(ERROR,
				(errcode(ERRCODE_PARTCONF_FENCED),
				 errmsg("database \"%s\" is fenced: it takes no writes",
						get_database_name(MyDatabaseId)),
				 errdetail("%s has fenced it at %s.", conf->fenced_by ? conf->fenced_by : "Somebody",
						   timestamptz_to_str(conf->fenced_at)),
				 errhint("Its data is being moved: try again, the proxy will know where. "
						 "To open it again, call partconf.unfence().")));
	return conf;
}

static void
writer_lock(Oid table_oid)
{
	ResourceOwner owner = CurrentResourceOwner;

	/* the lock would go with the worker, before the transaction ends */
	if (IsParallelWorker())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("a key cannot be checked for writing in a parallel worker"),
				 errhint("Declare the function that calls partconf.check_hash() PARALLEL RESTRICTED.")));

	CurrentResourceOwner = TopTransactionResourceOwner;
	PG_TRY();
	{
		LockRelationOid(table_oid, RowExclusiveLock);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = owner;
	}
	PG_END_TRY();
}
