/*
 * transaction.c
 *	  Remote transactions that are tied to the local one.
 *
 * With plproxy.transactions = tied, the first call to a partition begins a
 * transaction there, and its connection stays with the local transaction. The
 * remote one ends as the local one does: all of them are committed just before
 * the local commit, rolled back after the local rollback. Local subtransactions
 * become savepoints, made when a call first needs them and released with the
 * next call, so only undoing one costs a round trip.
 *
 * A ProxyRemote lives in TopTransactionContext. Its connection is in its pool as
 * ever, but marked by "remote", and nobody takes it who does not look for it.
 * "marks" says which local nesting level the work behind each remote savepoint
 * counts to; the levels strictly ascend. A connection that breaks takes its work
 * with it, so its ProxyRemote stays behind without one, as the reason why the
 * local transaction, or the subtransaction in which it began, cannot commit.
 *
 * Savepoint names are never used twice in a transaction. So when a statement's
 * fate is unknown, going back to a savepoint either undoes what it should or
 * fails, and never undoes something else.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/predicate.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "plproxy.h"

/* How long the end of a (sub)transaction waits for partitions to roll back. */
#define ROLLBACK_MS 2000

/* How long a commit that was given up waits for what became of it. */
#define RESOLVE_MS 3000

/* When statements that were cancelled and go on are cancelled again. */
#define RECANCEL_MS 100

typedef enum
{
	TRANSACTIONS_AUTOCOMMIT,	/* each call commits on its partitions */
	TRANSACTIONS_TIED			/* the local transaction decides */
} ProxyTransactions;

/* What has become of a remote transaction. */
typedef enum
{
	REMOTE_OPEN,
	REMOTE_COMMITTED,
	REMOTE_FAILED,				/* COMMIT was refused, all is undone */
	REMOTE_UNKNOWN				/* COMMIT was sent, the answer never came */
} ProxyResolution;

/* The remote begin, or a savepoint. */
typedef struct ProxyMark
{
	int			level;			/* local nesting level of the work behind it */
	int			number;			/* makes the savepoint's name */
} ProxyMark;

typedef struct ProxyRemote
{
	dlist_node	node;			/* in "remotes" */
	ProxyConn  *conn;			/* NULL when it is lost */
	char	   *key;			/* of the connection's pool */
	bool		read_only;		/* for a cluster that asks for that */
	bool		only_reads;		/* begun so, for whatever reason */
	bool		begun;			/* seen to be in a transaction */
	int			query_timeout;	/* of its cluster */
	ProxyMark  *marks;			/* the first one is the begin */
	int			nmarks;
	int			maxmarks;
	int			release;		/* number of a savepoint to release, or 0 */
	ProxyResolution outcome;

	/* a statement that ends something */
	char		command[96];	/* empty: none */
	bool		asked;			/* sent, and not yet answered */
	bool		silent;			/* not answered in time */
	bool		undoing;		/* the statement undoes something */
	bool		sent;			/* it may have reached the server */
	uint32		wait_events;	/* what its socket is waited for */
	char	   *trouble;		/* libpq's words when the connection broke */

	/* a call without a function, by which errors name the partition */
	ProxyCluster cluster;
	ProxyCall	call;
	ProxyTask	task;			/* its result is the answer, ours to clear */
} ProxyRemote;

static void tied_begin(ProxyTask *task);
static ProxyRemote *remote_build(ProxyTask *task);
static void remote_mark(ProxyRemote *remote, int level);
static void remote_untie(ProxyRemote *remote);
static void remote_settle(ProxyRemote *remote);
static void remote_lose(ProxyRemote *remote);
static void remote_forget(ProxyRemote *remote);
static void remote_send(ProxyRemote *remote);
static void remote_read(ProxyRemote *remote, bool broken);
static uint32 remote_wanted(const ProxyRemote *remote);
static bool remote_succeeded(const ProxyRemote *remote, const char *tag);
pg_noreturn static void remote_throw(ProxyRemote *remote);
static void remotes_command(const char *command);
static bool remotes_run(int timeout, bool cancel);
static void remotes_undo(void);
static void remotes_wait(TimestampTz until);
static WaitEventSet *remotes_wait_set(void);
static void remotes_cancel(void);
static TimestampTz remotes_deadline(void);
static int	remotes_asked(void);
static void transaction_commit(void);
static void transaction_check(void);
static void transaction_resolve(bool in_time);
pg_noreturn static void commit_timeout(void);
static int	silent_context(void);
static void transaction_end(bool committed);
static void subtransaction_commit(int level);
static void subtransaction_abort(int level);
static char *outcome_list(void);
static void outcome_append(StringInfo buf, ProxyResolution outcome, const char *title);
static void transaction_event(XactEvent event, void *arg);
static void subtransaction_event(SubXactEvent event, SubTransactionId id,
								 SubTransactionId parent, void *arg);

static const struct config_enum_entry transactions_options[] = {
	{"autocommit", TRANSACTIONS_AUTOCOMMIT, false},
	{"tied", TRANSACTIONS_TIED, false},
	{NULL, 0, false}
};

static int	transactions = TRANSACTIONS_AUTOCOMMIT;

static dlist_head remotes = DLIST_STATIC_INIT(remotes); /* oldest first */
static int	last_savepoint = 0;
static bool interrupts_held = false;	/* from the remote commits to the
										 * local one */

void
plproxy_transaction_init(void)
{
	DefineCustomEnumVariable("plproxy.transactions",
							 "When the work of calls on partitions is committed.",
							 "\"autocommit\": with each call; \"tied\": with the local transaction.",
							 &transactions,
							 TRANSACTIONS_AUTOCOMMIT,
							 transactions_options,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);
	RegisterXactCallback(transaction_event, NULL);
	RegisterSubXactCallback(subtransaction_event, NULL);
}

/* Is a call that begins now tied to the local transaction? */
bool
plproxy_transaction_tied(void)
{
	if (transactions != TRANSACTIONS_TIED)
		return false;
	if (IsParallelWorker())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a parallel worker cannot call functions with plproxy.transactions = tied"),
				 errhint("Mark the function PARALLEL UNSAFE.")));
	return true;
}

/*
 * The connection that carries the local transaction's work in this pool, or NULL
 * if there is none yet.
 */
ProxyConn *
plproxy_transaction_conn(ProxyTask *task, const char *key)
{
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		if (remote->read_only != task->call->cluster->config.read_only ||
			strcmp(remote->key, key) != 0)
			continue;
		if (remote->conn == NULL)
			remote_throw(remote);
		if (remote->conn->task)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("the transaction on partition %d is busy with another call",
							task->partition),
					 errdetail("A call within a call cannot use the connection of the outer one."),
					 errhint("Call the inner function with plproxy.transactions = autocommit."),
					 plproxy_error_partition(task)));
		return remote->conn;
	}
	return NULL;
}

/* Add the steps that come before the call's query. */
void
plproxy_transaction_begin(ProxyTask *task)
{
	if (task->call->tied)
		tied_begin(task);
	else if (task->call->cluster->config.read_only)
		plproxy_execute_step(task, STEP_BEGIN, "start transaction read only");
}

/*
 * Add the steps that come after the query. The sync keeps the end of a transaction
 * of its own from being skipped after an error.
 */
void
plproxy_transaction_finish(ProxyTask *task)
{
	if (task->call->tied || !task->call->cluster->config.read_only)
		return;
	plproxy_execute_step(task, STEP_SYNC, NULL);
	plproxy_execute_step(task, STEP_END, "commit");
}

/* Begin what a tied call needs on its connection. */
static void
tied_begin(ProxyTask *task)
{
	ProxyRemote *remote = task->conn->remote;
	int			level = GetCurrentTransactionNestLevel();

	task->in_transaction = true;
	if (remote == NULL)
	{
		/* the read-only state of a subtransaction ends with it */
		bool		below = XactReadOnly && level > 1;

		remote = remote_build(task);
		remote->only_reads = remote->read_only || (XactReadOnly && !below);
		remote_mark(remote, below ? level - 1 : level);
		plproxy_execute_step(task, STEP_BEGIN,
							 psprintf("start transaction isolation level %s%s%s",
									  XactIsoLevel == XACT_SERIALIZABLE ? "serializable" :
									  XactIsoLevel == XACT_REPEATABLE_READ ? "repeatable read" :
									  "read committed",
									  remote->only_reads ? ", read only" : "",
									  XactDeferrable ? ", deferrable" : ""));
	}
	if (remote->release)
		plproxy_execute_step(task, STEP_BEGIN,
							 psprintf("release savepoint plproxy_%d", remote->release));
	remote->release = 0;
	if (remote->marks[remote->nmarks - 1].level < level)
	{
		remote_mark(remote, level);
		plproxy_execute_step(task, STEP_BEGIN,
							 psprintf("savepoint plproxy_%d", last_savepoint));
	}
	if (XactReadOnly && !remote->only_reads)
		plproxy_execute_step(task, STEP_BEGIN, "set transaction read only");
	remote->query_timeout = task->call->cluster->config.query_timeout;

	/* an error there would undo what was done before, and no savepoint helps */
	task->guarded = remote->begun && task->nsteps > 0;
}

/*
 * A call is done with the connection. True if it stays with the local
 * transaction; otherwise nothing ties it any more.
 */
bool
plproxy_transaction_keep(ProxyConn *conn)
{
	ProxyRemote *remote = conn->remote;
	PGTransactionStatusType status = PQtransactionStatus(conn->pg);

	if (conn->state == CONN_IDLE && (status == PQTRANS_INTRANS || status == PQTRANS_INERROR))
	{
		remote->begun = true;
		return true;
	}
	if (conn->state == CONN_IDLE && status == PQTRANS_IDLE && !remote->begun)
	{
		/* its first call failed before the transaction began */
		conn->remote = NULL;
		remote_forget(remote);
		return false;
	}
	remote->trouble = MemoryContextStrdup(TopTransactionContext, PQerrorMessage(conn->pg));
	remote->conn = NULL;
	remote->asked = false;
	conn->remote = NULL;
	conn->doomed = true;
	return false;
}

/* The backend ends and closes its connections, which rolls back what they hold. */
void
plproxy_transaction_exit(void)
{
	dlist_init(&remotes);
}

/* The connection of the task begins to carry work of the local transaction. */
static ProxyRemote *
remote_build(ProxyTask *task)
{
	ProxyRemote *remote = MemoryContextAllocZero(TopTransactionContext, sizeof(ProxyRemote));
	const ProxyCluster *cluster = task->call->cluster;

	remote->conn = task->conn;
	remote->key = MemoryContextStrdup(TopTransactionContext, plproxy_connection_key(task->conn));
	remote->read_only = cluster->config.read_only;
	if (cluster->name)
		remote->cluster.name = MemoryContextStrdup(TopTransactionContext, cluster->name);
	remote->call.cluster = &remote->cluster;
	remote->task.call = &remote->call;
	remote->task.partition = task->partition;
	task->conn->remote = remote;
	dlist_push_tail(&remotes, &remote->node);
	return remote;
}

/* Work on this level follows. */
static void
remote_mark(ProxyRemote *remote, int level)
{
	if (remote->marks == NULL)
	{
		remote->maxmarks = 4;
		remote->marks = MemoryContextAlloc(TopTransactionContext,
										   sizeof(ProxyMark) * remote->maxmarks);
	}
	else if (remote->nmarks == remote->maxmarks)
	{
		remote->maxmarks *= 2;
		remote->marks = repalloc(remote->marks, sizeof(ProxyMark) * remote->maxmarks);
	}
	remote->marks[remote->nmarks].level = level;
	remote->marks[remote->nmarks].number = ++last_savepoint;
	remote->nmarks++;
}

/* Untie the connection, which goes back to its pool if it is fit for that. */
static void
remote_untie(ProxyRemote *remote)
{
	ProxyConn  *conn = remote->conn;

	if (conn == NULL)
		return;
	remote->conn = NULL;
	conn->remote = NULL;
	conn->task = &remote->task;
	plproxy_connection_release(conn);
}

/* The connection is of no use any more, and its work is undone. */
static void
remote_lose(ProxyRemote *remote)
{
	if (remote->conn)
		remote->conn->state = CONN_BROKEN;
	remote_untie(remote);
}

static void
remote_forget(ProxyRemote *remote)
{
	PQclear(remote->task.result);
	remote->task.result = NULL;
	dlist_delete(&remote->node);
}

/* Send the remote its command. */
static void
remote_send(ProxyRemote *remote)
{
	ProxyConn  *conn = remote->conn;

	PQclear(remote->task.result);
	remote->task.result = NULL;
	remote->task.conn = conn;
	conn->task = &remote->task;
	conn->state = CONN_RUNNING;
	remote->asked = true;
	remote->sent = PQsendQuery(conn->pg, remote->command);
	if (!remote->sent)
		remote_read(remote, true);
	else
		conn->unsent = PQflush(conn->pg) > 0;
}

/*
 * Take what has come. An error stays the answer, even if more follows. A broken
 * connection has an error to give, although it looks busy.
 */
static void
remote_read(ProxyRemote *remote, bool broken)
{
	ProxyConn  *conn = remote->conn;

	while (broken || !PQisBusy(conn->pg))
	{
		PGresult   *result = PQgetResult(conn->pg);

		if (result == NULL)
		{
			remote->asked = false;
			conn->state = PQstatus(conn->pg) == CONNECTION_OK ? CONN_IDLE : CONN_BROKEN;
			if (conn->state == CONN_BROKEN)
				remote->trouble = MemoryContextStrdup(TopTransactionContext,
													  PQerrorMessage(conn->pg));
			return;
		}
		if (remote->task.result && PQresultStatus(remote->task.result) == PGRES_FATAL_ERROR)
			PQclear(result);
		else
		{
			PQclear(remote->task.result);
			remote->task.result = result;
		}
	}
}

static uint32
remote_wanted(const ProxyRemote *remote)
{
	return WL_SOCKET_READABLE | (remote->conn->unsent ? WL_SOCKET_WRITEABLE : 0);
}

/* Has the command been run, whose answer carries this tag? */
static bool
remote_succeeded(const ProxyRemote *remote, const char *tag)
{
	/* COMMIT of a transaction that had failed is answered with ROLLBACK */
	return remote->conn && remote->conn->state == CONN_IDLE &&
		PQresultStatus(remote->task.result) == PGRES_COMMAND_OK &&
		strcmp(PQcmdStatus(remote->task.result), tag) == 0;
}

/* Throw why the transaction cannot commit. */
static void
remote_throw(ProxyRemote *remote)
{
	PGresult   *answer = remote->task.result;

	if (remote->conn && PQresultStatus(answer) == PGRES_FATAL_ERROR &&
		PQresultErrorField(answer, PG_DIAG_MESSAGE_PRIMARY) && !plproxy_execute_farewell(answer))
		plproxy_error_task(&remote->task, FAIL_REMOTE, NULL, false);
	if (remote->conn == NULL || remote->conn->state != CONN_IDLE)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the transaction on %s is lost",
						plproxy_error_partition_name(&remote->task)),
				 remote->trouble && *remote->trouble
				 ? errdetail_internal("%s", plproxy_error_text(pchomp(remote->trouble))) : 0,
				 errhint("What was done there is undone, so this transaction must be rolled back.")));
	ereport(ERROR,
			(errcode(ERRCODE_TRANSACTION_ROLLBACK),
			 errmsg("the transaction on %s has failed",
					plproxy_error_partition_name(&remote->task)),
			 errhint("What was done there is undone, so this transaction must be rolled back.")));
}

/* All that have a transaction are to run this. */
static void
remotes_command(const char *command)
{
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		remote->command[0] = '\0';
		if (remote->conn && remote->outcome == REMOTE_OPEN)
			strlcpy(remote->command, command, sizeof(remote->command));
	}
}

/*
 * Run the commands, all at the same time, until "timeout" (ms), or, when that is
 * 0, until the timeouts of the clusters. What goes on then, or when the user
 * wants to stop, is cancelled if that is allowed, and in the end the connection
 * is given up. Throws no error for what partitions do. False if it was cut short.
 */
static bool
remotes_run(int timeout, bool cancel)
{
	TimestampTz until = timeout
	? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout)
	: remotes_deadline();
	volatile bool in_time = false;
	MemoryContext cxt = CurrentMemoryContext;
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		if (remote->command[0])
			remote_send(remote);
	}
	PG_TRY();
	{
		remotes_wait(until);
		in_time = remotes_asked() == 0;
		dlist_foreach(iter, &remotes)
		{
			ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

			remote->silent = remote->asked;
		}
		if (!in_time && cancel)
			remotes_cancel();
	}
	PG_CATCH();
	{
		/*
		 * no memory or no descriptors to wait with: then what was asked has
		 * no answer, and that is what has to be told
		 */
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
		in_time = true;
	}
	PG_END_TRY();

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		if (!remote->asked)
			continue;
		remote->asked = false;
		remote->conn->state = CONN_BROKEN;
		remote->trouble = MemoryContextStrdup(TopTransactionContext, "There was no answer.");
	}
	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		if (remote->command[0] == '\0')
			continue;
		remote->command[0] = '\0';
		plproxy_notice_report(remote->conn, true);
		remote->conn->task = NULL;
	}
	return in_time;
}

/*
 * Wait for answers until all are there, the time is up (0: never), or the user
 * wants to stop or the backend is to end. As when waiting for a standby, no other
 * interrupt is looked at: it might throw, and what was found out would be lost.
 */
static void
remotes_wait(TimestampTz until)
{
	WaitEventSet *set = NULL;

	while (remotes_asked() > 0 && !QueryCancelPending && !ProcDiePending)
	{
		WaitEvent	events[16];
		long		timeout = -1;
		int			n;

		if (until)
		{
			timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
			if (timeout <= 0)
				break;
		}
		if (set == NULL)
			set = remotes_wait_set();
		n = WaitEventSetWait(set, timeout, events, lengthof(events), plproxy_wait_event(WAIT_TRANSACTION));
		for (int i = 0; i < n; i++)
		{
			ProxyRemote *remote = events[i].user_data;
			ProxyConn  *conn;
			bool		broken;

			if (remote == NULL)
			{
				ResetLatch(MyLatch);
				continue;
			}
			conn = remote->conn;
			if (remote->asked)
			{
				broken = (events[i].events & WL_SOCKET_READABLE) && !PQconsumeInput(conn->pg);
				if (conn->unsent && !broken)
					conn->unsent = PQflush(conn->pg) > 0;
				remote_read(remote, broken);
			}
			/* members cannot leave a set */
			if (set && (!remote->asked || remote->wait_events != remote_wanted(remote)))
			{
				FreeWaitEventSet(set);
				set = NULL;
			}
		}
	}
	if (set)
		FreeWaitEventSet(set);
}

/* The latch, the postmaster, and the connections that have not answered. */
static WaitEventSet *
remotes_wait_set(void)
{
	WaitEventSet *set = plproxy_wait_set(remotes_asked());
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		if (!remote->asked)
			continue;
		remote->wait_events = remote_wanted(remote);
		AddWaitEventToSet(set, remote->wait_events, PQsocket(remote->conn->pg), NULL, remote);
	}
	return set;
}

/*
 * Cancel what has not answered, and wait some time for the answers: they say what
 * became of it. Only another request to stop, or to end, ends the waiting.
 */
static void
remotes_cancel(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz give_up = TimestampTzPlusMilliseconds(now, RESOLVE_MS);
	ProxyConn **conns = palloc(sizeof(ProxyConn *) * remotes_asked());
	bool		to_stop = QueryCancelPending;
	bool		to_end = ProcDiePending;
	long		patience = RECANCEL_MS;

	QueryCancelPending = false;
	ProcDiePending = false;
	while (remotes_asked() > 0 && now < give_up && !QueryCancelPending && !ProcDiePending)
	{
		TimestampTz again = TimestampTzPlusMilliseconds(now, patience);
		dlist_iter	iter;
		int			n = 0;

		dlist_foreach(iter, &remotes)
		{
			ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

			if (remote->asked)
				conns[n++] = remote->conn;
		}
		plproxy_cancel(conns, n, Min(again, give_up));
		remotes_wait(Min(again, give_up));
		patience *= 2;
		now = GetCurrentTimestamp();
	}
	QueryCancelPending |= to_stop;
	ProcDiePending |= to_end;
	InterruptPending |= to_stop || to_end;
	pfree(conns);
}

/* When the first of the clusters' timeouts is over, or 0. */
static TimestampTz
remotes_deadline(void)
{
	int			timeout = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		if (remote->command[0] && remote->query_timeout &&
			(timeout == 0 || remote->query_timeout < timeout))
			timeout = remote->query_timeout;
	}
	return timeout ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout) : 0;
}

static int
remotes_asked(void)
{
	dlist_iter	iter;
	int			n = 0;

	dlist_foreach(iter, &remotes)
	{
		if (dlist_container(ProxyRemote, node, iter.cur)->asked)
			n++;
	}
	return n;
}

/*
 * The local transaction is about to commit: commit the remote ones. What may
 * still fail for its own sake is made to fail before the first of them commits.
 */
static void
transaction_commit(void)
{
	bool		in_time;
	dlist_iter	iter;

	transaction_check();
	if (dlist_head_node(&remotes) != dlist_tail_node(&remotes) && !XactReadOnly)
	{
		remotes_command("set constraints all immediate");
		in_time = remotes_run(0, true);
		CHECK_FOR_INTERRUPTS();
		if (!in_time)
			commit_timeout();
		dlist_foreach(iter, &remotes)
		{
			ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

			if (!remote_succeeded(remote, "SET CONSTRAINTS"))
				remote_throw(remote);
		}
	}

	/*
	 * The server does this after us, when it is too late. Doing it twice is
	 * no harm: from the first time on, conflicts are for others to give way
	 * to.
	 */
	PreCommit_CheckForSerializationFailure();

	/* from here on no interrupt may come between them and the local commit */
	HOLD_INTERRUPTS();
	interrupts_held = true;
	remotes_command("commit");
	in_time = remotes_run(0, true);
	transaction_resolve(in_time);
}

/* Is everything still there that must be committed? */
static void
transaction_check(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);
		ProxyConn  *conn = remote->conn;

		if (conn && !plproxy_connection_is_there(conn))
		{
			remote->trouble = MemoryContextStrdup(TopTransactionContext, PQerrorMessage(conn->pg));
			conn->state = CONN_BROKEN;
		}
		if (conn == NULL || conn->state != CONN_IDLE ||
			PQtransactionStatus(conn->pg) != PQTRANS_INTRANS)
			remote_throw(remote);
	}
}

/* COMMIT was sent everywhere: find out what came of it, and throw if it failed. */
static void
transaction_resolve(bool in_time)
{
	ProxyRemote *failed = NULL;
	ProxyRemote *unknown = NULL;
	int			ncommitted = 0;
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		n++;
		if (remote_succeeded(remote, "COMMIT"))
		{
			remote->outcome = REMOTE_COMMITTED;
			ncommitted++;
		}
		else if (remote->conn->state == CONN_IDLE || !remote->sent || remote->conn->unsent)
		{
			remote->outcome = REMOTE_FAILED;
			failed = failed ? failed : remote;
		}
		else
		{
			remote->outcome = REMOTE_UNKNOWN;
			unknown = unknown ? unknown : remote;
		}
	}

	if (ncommitted == n)
	{
		/* the request to stop came too late, as when waiting for a standby */
		QueryCancelPending = false;
		return;
	}
	RESUME_INTERRUPTS();
	interrupts_held = false;
	if (unknown)
		ereport(ERROR,
				(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
				 errmsg("it is not known whether the transaction was committed on %s",
						plproxy_error_partition_name(&unknown->task)),
				 errdetail_internal("%s", outcome_list()),
				 errhint("It is rolled back here. See what stands on the partitions before it is tried again.")));
	if (ncommitted > 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
				 errmsg("the transaction was committed on some of its partitions only"),
				 errdetail_internal("%s", outcome_list()),
				 errhint("It is rolled back here. See what stands on the partitions before it is tried again.")));
	CHECK_FOR_INTERRUPTS();
	if (!in_time)
		commit_timeout();
	remote_throw(failed);
}

static void
commit_timeout(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("canceling the commit on partitions due to query_timeout"),
			 silent_context()));
}

/* Among the fields of an error: which partitions have not answered. */
static int
silent_context(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		if (remote->silent)
			plproxy_error_context(&remote->task);
	}
	return 0;
}

/* The local transaction has ended, the remote ones follow. Throws no error. */
static void
transaction_end(bool committed)
{
	dlist_mutable_iter iter;
	bool		too_late = true;

	dlist_foreach_modify(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		remote_settle(remote);
		if (remote->outcome != REMOTE_COMMITTED)
			too_late = false;
	}
	if (!committed)
	{
		if (too_late)
			ereport(WARNING,
					(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
					 errmsg("the transaction fails here, but was committed on its partitions"),
					 errdetail_internal("%s", outcome_list())));
		remotes_command("rollback");
		remotes_undo();
	}
	dlist_foreach_modify(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		remote_untie(remote);
		remote_forget(remote);
	}
	last_savepoint = 0;
}

/* What a subtransaction did now counts to the one around it. */
static void
subtransaction_commit(int level)
{
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);
		ProxyMark  *mark = &remote->marks[remote->nmarks - 1];

		if (mark->level < level)
			continue;
		mark->level = level - 1;
		if (remote->nmarks > 1 && mark[-1].level == mark->level)
		{
			/* releases those within it, which may be waiting for that */
			remote->release = mark->number;
			remote->nmarks--;
		}
	}
}

/* Undo on partitions what a subtransaction did there. Throws no error. */
static void
subtransaction_abort(int level)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);
		ProxyMark  *mark = &remote->marks[remote->nmarks - 1];

		remote->command[0] = '\0';
		if (mark->level < level)
			continue;
		remote_settle(remote);
		if (remote->nmarks == 1)
			strlcpy(remote->command, "rollback", sizeof(remote->command));
		else
		{
			snprintf(remote->command, sizeof(remote->command),
					 "rollback to savepoint plproxy_%d; release savepoint plproxy_%d",
					 mark->number, mark->number);
			remote->release = 0;
		}
		remote->nmarks--;
		if (remote->conn == NULL)
			remote->command[0] = '\0';
	}
	remotes_undo();
	dlist_foreach_modify(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		/* all that it held is undone, so it has no say any more */
		if (remote->nmarks == 0)
		{
			remote_untie(remote);
			remote_forget(remote);
		}
	}
}

/* A connection in the midst of something, or broken, is of no more use. */
static void
remote_settle(ProxyRemote *remote)
{
	if (remote->conn == NULL)
		return;
	remote->conn->task = NULL;
	if (remote->conn->state != CONN_IDLE)
		remote_lose(remote);
}

/*
 * Run the commands, which undo things. A connection on which that fails, or takes
 * too long, is closed, and its server undoes everything.
 */
static void
remotes_undo(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		remote->undoing = remote->command[0] != '\0';
	}
	PG_TRY();
	{
		(void) remotes_run(ROLLBACK_MS, false);
	}
	PG_CATCH();
	{
		/* no memory: then nothing is saved but the outcome */
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
		dlist_foreach(iter, &remotes)
		{
			ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

			if (remote->undoing)
				remote->conn->state = CONN_BROKEN;
		}
	}
	PG_END_TRY();
	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);

		remote->asked = false;
		remote->command[0] = '\0';
		if (remote->undoing && (remote->conn->state != CONN_IDLE ||
								PQresultStatus(remote->task.result) != PGRES_COMMAND_OK))
			remote_lose(remote);
	}
}

/* What has become of the transaction on each partition, for a detail. */
static char *
outcome_list(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	outcome_append(&buf, REMOTE_COMMITTED, "Committed");
	outcome_append(&buf, REMOTE_FAILED, "Rolled back");
	outcome_append(&buf, REMOTE_UNKNOWN, "Not known");
	return buf.data;
}

static void
outcome_append(StringInfo buf, ProxyResolution outcome, const char *title)
{
	const char *before = title;
	dlist_iter	iter;

	dlist_foreach(iter, &remotes)
	{
		ProxyRemote *remote = dlist_container(ProxyRemote, node, iter.cur);
		const char *why = PQresultErrorField(remote->task.result, PG_DIAG_MESSAGE_PRIMARY);

		if (remote->outcome != outcome)
			continue;
		if (before == title)
			appendStringInfo(buf, "%s%s: ", buf->len ? " " : "", title);
		else
			appendStringInfoString(buf, ", ");
		before = ", ";
		appendStringInfoString(buf, plproxy_error_partition_name(&remote->task));
		if (outcome == REMOTE_COMMITTED)
			continue;
		if (why == NULL)
			why = remote->trouble && *remote->trouble ? pchomp(remote->trouble) : NULL;
		if (why)
			appendStringInfo(buf, " (%s)", plproxy_error_text(why));
	}
	if (before != title)
		appendStringInfoChar(buf, '.');
}

static void
transaction_event(XactEvent event, void *arg)
{
	if (dlist_is_empty(&remotes))
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			transaction_commit();
			break;
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot prepare a transaction that is tied to transactions on partitions"),
					 errdetail("It has called functions with plproxy.transactions = tied.")));
			break;
		case XACT_EVENT_COMMIT:
			transaction_end(true);
			if (interrupts_held)
				RESUME_INTERRUPTS();
			interrupts_held = false;
			break;
		case XACT_EVENT_ABORT:
			/* the error has let go of them */
			interrupts_held = false;
			transaction_end(false);
			break;
		default:
			break;
	}
}

static void
subtransaction_event(SubXactEvent event, SubTransactionId id, SubTransactionId parent,
					 void *arg)
{
	if (dlist_is_empty(&remotes))
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		subtransaction_commit(GetCurrentTransactionNestLevel());
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		subtransaction_abort(GetCurrentTransactionNestLevel());
}
