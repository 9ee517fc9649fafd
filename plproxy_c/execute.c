/*
 * execute.c
 *	  Runs a call's query on its partitions, all at the same time.
 *
 * A task and its connection hold a conversation: a list of steps (settings, what
 * begins and ends a transaction, the query) that is sent whole, in one round
 * trip, and answered in order. One step is a plain libpq query; more of them are
 * a libpq pipeline, in which an error makes the server skip to the next
 * STEP_SYNC. The loop waits on all sockets and the latch at once and moves on
 * whatever is ready. Deadlines are points in time, looked at on each turn. Rows
 * are handed to result.c as they arrive.
 *
 * Whatever goes wrong with a task goes through task_fail. When that or anything
 * else throws an error, plproxy_execute_abort cleans up on the way: it cancels
 * what still runs, reads the answers away for a bounded time, and keeps every
 * connection that is idle by then. Nothing is ever left half read.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#include "plproxy.h"

/*
 * How long a failed call waits for its partitions to be done with it. A server
 * that works needs milliseconds, and another's connection is no great loss.
 */
#define DRAIN_MS 2000

/*
 * How long they may go on before they are cancelled: what takes no longer is done
 * sooner than a request, which needs a connection of its own, could stop it.
 */
#define GRACE_MS 5

/* How long, of DRAIN_MS, until they have heard that it is over. */
#define CANCEL_MS 1500

/* When a query that goes on is asked again to stop; doubled each time. */
#define RECANCEL_MS 100

/*
 * So many connections keep a wait set of their own, which spares calls to one
 * partition the making of it. Each costs a file descriptor.
 */
#define MAX_KEPT_WAIT_SETS 32

/*
 * The wait set of the last call that ran on several connections, for the next one
 * on just these. While a call uses it, it is the call's and not here.
 */
static WaitEventSet *group_set = NULL;
static int	group_size;
static uint64 group_id = 0;		/* its members have it as theirs */

/* A row may be large, so few of them are held at once; more save little time. */
#define ROWS_AT_ONCE 8

/* Sockets handled in one turn. */
#define WAIT_EVENTS 16

static void task_begin(ProxyTask *task);
static void task_connecting(ProxyTask *task);
static void task_ask(ProxyTask *task);
static bool task_send(ProxyTask *task, const ProxyStep *step);
static void task_await(ProxyTask *task);
static void task_flush(ProxyTask *task);
static void task_event(ProxyTask *task, uint32 events);
static void task_read(ProxyTask *task, bool broken);
static void task_take(ProxyTask *task);
static bool task_step(ProxyTask *task, const PGresult *result);
static void task_finish(ProxyTask *task);
static void task_fail(ProxyTask *task, ProxyFailure failure, const char *message);
static bool task_skip(ProxyTask *task, ProxyFailure failure, const char *message);
static bool task_is_pending(const ProxyTask *task);
static bool task_is_guarded(const ProxyTask *task);
static uint32 task_wanted(const ProxyTask *task);
static void call_turn(ProxyCall *call);
static int	call_wait(ProxyCall *call, long timeout, ProxyWait wait, WaitEvent *events);
static ProxyWait call_wait_kind(const ProxyCall *call);
static WaitEventSet *call_wait_set(ProxyCall *call);
static WaitEventSet *conn_wait_set(ProxyTask *task);
static bool group_take(ProxyCall *call);
static void group_keep(ProxyCall *call);
static TimestampTz call_deadline(const ProxyCall *call);
static void call_check_deadlines(ProxyCall *call);
static void call_drain(ProxyCall *call);
static void call_finish(ProxyCall *call);
static void abort_hangup(ProxyCall *call);
static void abort_giveup(ProxyCall *call);
static void abort_cancel(ProxyCall *call);
static void abort_wait(ProxyCall *call, TimestampTz deadline);
static int	abort_pending(ProxyCall *call);
static bool abort_drain(ProxyTask *task, bool broken);

/*
 * Run the call's query. Afterwards result.c has all rows, and the connections are
 * free for others.
 */
void
plproxy_execute(ProxyCall *call)
{
	const ProxyConfig *config = &call->cluster->config;
	int			query_timeout = config->query_timeout;
	ErrorContextCallback callback;

	callback.callback = plproxy_error_waiting;
	callback.arg = call;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	plproxy_stat_begin(call);

	call->skipping = config->skip_failed && call->func->run == RUN_ALL && call->func->returns_set;
	call->retractable = call->skipping ||
		(config->failover && config->read_only && call->func->run == RUN_ANY);
	call->pending = call->ntasks;
	if (query_timeout)
		call->query_by = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), query_timeout);

	plproxy_result_begin(call);
	for (int i = 0; i < call->ntasks; i++)
		task_begin(&call->tasks[i]);
	while (call->pending > 0)
		call_turn(call);
	if (call->nskipped > 0)
		call_drain(call);
	call_finish(call);
	error_context_stack = callback.previous;
}

/*
 * The call has failed, and its error was caught: leave nothing behind. Returns the
 * error, made in the current context, to be thrown again when all is cleaned up.
 * Throws no error itself. A second cancel request ends the waiting.
 */
ErrorData *
plproxy_execute_abort(ProxyCall *call)
{
	MemoryContext cxt = CurrentMemoryContext;
	ErrorData  *error;

	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyTask  *task = &call->tasks[i];

		/* also when what it answered could not be taken */
		if (task->failed ||
			(task->result && ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_OPERATOR_INTERVENTION))
			plproxy_stat_task(task, OUTCOME_FAILED);
		else if (task->conn)
			plproxy_stat_task(task, OUTCOME_CANCELED);
	}

	error = CopyErrorData();
	FlushErrorState();
	PG_TRY();
	{
		call_drain(call);
	}
	PG_CATCH();
	{
		/* no memory or no descriptors to wait with */
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
		abort_giveup(call);
	}
	PG_END_TRY();
	call_finish(call);
	plproxy_result_abort(call);
	return error;
}

/*
 * Make the connections that still run idle, or find out that they cannot be used
 * again.
 */
static void
call_drain(ProxyCall *call)
{
	TimestampTz give_up = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DRAIN_MS);
	long		patience = RECANCEL_MS;

	/* what query_timeout has made us skip still runs */
	for (int i = 0; i < call->ntasks; i++)
		call->tasks[i].done &= !call->tasks[i].skipped;
	call->wait_stale = true;
	abort_hangup(call);
	call->pending = abort_pending(call);
	abort_wait(call, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GRACE_MS));
	while (call->pending > 0)
	{
		TimestampTz cancel_again;

		abort_cancel(call);
		call->wait_stale = true;
		call->pending = abort_pending(call);
		cancel_again = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), patience);
		abort_wait(call, Min(give_up, cancel_again));
		if (QueryCancelPending || ProcDiePending || GetCurrentTimestamp() >= give_up)
			break;
		patience *= 2;
	}
}

/* The name of a wait in pg_stat_activity. */
uint32
plproxy_wait_event(ProxyWait wait)
{
	static const char *const names[] = {"PlProxyConnect", "PlProxyQuery", "PlProxyCancel", "PlProxyTransaction"};
	static uint32 numbers[lengthof(names)];

	if (numbers[wait] == 0)
		numbers[wait] = WaitEventExtensionNew(names[wait]);
	return numbers[wait];
}

static void
task_begin(ProxyTask *task)
{
	if (plproxy_connection_acquire(task)->state == CONN_CONNECTING)
		task_connecting(task);
	else
		task_ask(task);
}

/* Connecting has begun, or failed to. */
static void
task_connecting(ProxyTask *task)
{
	ProxyConn  *conn = task->conn;
	int			timeout;

	if (conn->poll == PGRES_POLLING_FAILED)
	{
		task_fail(task, FAIL_CONNECT, PQerrorMessage(conn->pg));
		return;
	}

	/* what stands in the connect string is more special */
	timeout = conn->connect_timeout;
	if (timeout == 0)
		timeout = task->call->cluster->config.connect_timeout;
	task->connect_by = timeout ? TimestampTzPlusMilliseconds(conn->connected_at, timeout) : 0;
}

/*
 * The connection is idle: send it the conversation, made anew each time, since
 * what it needs depends on the state the connection is in.
 */
static void
task_ask(ProxyTask *task)
{
	ProxyConn  *conn = task->conn;

	task->nsteps = 0;
	task->step = 0;
	task->answered = false;
	plproxy_transaction_begin(task);
	plproxy_connection_settings(task);
	plproxy_prepared_steps(task);
	plproxy_execute_step(task, STEP_QUERY, NULL);
	plproxy_transfer_steps(task);
	plproxy_transaction_finish(task);

	task->pipeline = task->nsteps > 1;
	if (task->pipeline)
	{
		plproxy_execute_step(task, STEP_SYNC, NULL);
		if (!PQenterPipelineMode(conn->pg))
			elog(ERROR, "could not enter pipeline mode: %s", PQerrorMessage(conn->pg));
	}

	conn->state = CONN_RUNNING;
	for (int i = 0; i < task->nsteps; i++)
	{
		const ProxyStep *step = &task->steps[i];
		bool		flush;

		/* the server keeps answers up to the sync unless it is asked */
		flush = task->guarded && step[0].kind == STEP_BEGIN && step[1].kind != STEP_BEGIN;
		if (!task_send(task, step) || (flush && !PQsendFlushRequest(conn->pg)))
		{
			task_fail(task, FAIL_LOST, PQerrorMessage(conn->pg));
			return;
		}
	}
	task_await(task);
	task_flush(task);
}

/*
 * Add a step to the conversation that is being made. "sql" is one statement and
 * lives as long as the call.
 */
void
plproxy_execute_step(ProxyTask *task, ProxyStepKind kind, const char *sql)
{
	if (task->steps == NULL)
	{
		task->maxsteps = 4;
		task->steps = MemoryContextAlloc(task->call->cxt, sizeof(ProxyStep) * task->maxsteps);
	}
	else if (task->nsteps == task->maxsteps)
	{
		task->maxsteps *= 2;
		task->steps = repalloc(task->steps, sizeof(ProxyStep) * task->maxsteps);
	}
	task->steps[task->nsteps].kind = kind;
	task->steps[task->nsteps++].sql = sql;
}

/* Hand a step to libpq. */
static bool
task_send(ProxyTask *task, const ProxyStep *step)
{
	PGconn	   *pg = task->conn->pg;
	ProxyQuery *query = task->call->shape->query;

	switch (step->kind)
	{
		case STEP_PREPARE:
			return PQsendPrepare(pg, query->name, query->sql, 0, NULL);
#ifdef LIBPQ_HAS_CLOSE_PREPARED
		case STEP_CLOSE:
			return PQsendClosePrepared(pg, step->sql);
#endif
		case STEP_QUERY:
			if (task->prepared)
				return PQsendQueryPrepared(pg, query->name, query->nparams, task->values,
										   task->lengths, task->formats, task->call->binary);
			return PQsendQueryParams(pg, query->sql, query->nparams, NULL, task->values,
									 task->lengths, task->formats, task->call->binary);
		case STEP_SYNC:
			return PQpipelineSync(pg);
		default:
			return PQsendQueryParams(pg, step->sql, 0, NULL, NULL, NULL, NULL, 0);
	}
}

/*
 * The next answer is that to task->step. Rows are wanted as they arrive: one by
 * one, or where libpq can do that, a few at once.
 */
static void
task_await(ProxyTask *task)
{
	PGconn	   *pg = task->conn->pg;
	bool		ok;

	/* behind an error in a pipeline there will be none */
	if (task->steps[task->step].kind != STEP_QUERY ||
		PQpipelineStatus(pg) == PQ_PIPELINE_ABORTED)
		return;
#ifdef LIBPQ_HAS_CHUNK_MODE
	ok = task->call->func->returns_set
		? PQsetChunkedRowsMode(pg, ROWS_AT_ONCE)
		: PQsetSingleRowMode(pg);
#else
	ok = PQsetSingleRowMode(pg);
#endif
	if (!ok)
		elog(ERROR, "could not ask libpq for rows as they arrive");
}

static void
task_flush(ProxyTask *task)
{
	int			rest = PQflush(task->conn->pg);

	task->conn->unsent = rest > 0;
	if (rest < 0)
		task_fail(task, FAIL_LOST, PQerrorMessage(task->conn->pg));
}

/* Something has happened on the task's socket. */
static void
task_event(ProxyTask *task, uint32 events)
{
	ProxyConn  *conn = task->conn;
	bool		broken = false;
	pgsocket	socket;

	switch (conn->state)
	{
		case CONN_CONNECTING:
			socket = PQsocket(conn->pg);
			conn->poll = PQconnectPoll(conn->pg);
			/* a new socket may even have got the same number */
			if (PQsocket(conn->pg) != socket || PQstatus(conn->pg) == CONNECTION_STARTED)
				task->call->wait_stale = true;
			if (conn->poll == PGRES_POLLING_FAILED)
				task_fail(task, FAIL_CONNECT, PQerrorMessage(conn->pg));
			else if (conn->poll == PGRES_POLLING_OK)
			{
				plproxy_connect_check(task);
				/* or large parameters would block us in send() */
				PQsetnonblocking(conn->pg, 1);
				conn->state = CONN_IDLE;
				task_ask(task);
			}
			break;
		case CONN_RUNNING:
			if (events & WL_SOCKET_READABLE)
				broken = !PQconsumeInput(conn->pg);
			/* on the way to a result libpq will add that there is no socket */
			task->broken = broken ? MemoryContextStrdup(task->call->cxt, PQerrorMessage(conn->pg)) : NULL;
			if (conn->unsent && !broken)
				task_flush(task);
			task_read(task, broken);
			break;
		default:
			/* done already, so whatever this is concerns the next call */
			task->call->wait_stale = true;
			break;
	}
}

/*
 * Take the results that have arrived. A broken connection has an error to give,
 * although it looks busy.
 */
static void
task_read(ProxyTask *task, bool broken)
{
	ProxyConn  *conn = task->conn;

	while (task->conn == conn && conn->state == CONN_RUNNING &&
		   (broken || !PQisBusy(conn->pg)))
	{
		PGresult   *result = PQgetResult(conn->pg);

		/* whatever throws from here on, the abort clears it */
		task->result = result;
		if (conn->notices)
			plproxy_notice_report(conn, true);
		if (result)
			task_take(task);
		if (task_step(task, result))
			task_finish(task);
		else if (result == NULL)
			task_await(task);
		else if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
			plproxy_transfer_encoding(task);
		PQclear(task->result);
		task->result = NULL;
	}
	if (task->conn == conn && conn->notices)
		plproxy_notice_report(conn, true);
}

/* Look at task->result, which answers task->step. */
static void
task_take(ProxyTask *task)
{
	ExecStatusType status = PQresultStatus(task->result);
	ProxyStepKind kind = task->steps[task->step].kind;

	switch (status)
	{
		case PGRES_SINGLE_TUPLE:
#ifdef LIBPQ_HAS_CHUNK_MODE
		case PGRES_TUPLES_CHUNK:
#endif
			/* libpq lets row mode slip into the first step of a pipeline */
			if (kind == STEP_QUERY)
				plproxy_result_rows(task);
			return;
		case PGRES_TUPLES_OK:
			if (kind == STEP_QUERY)
				plproxy_result_rows(task);
			else if (kind == STEP_CHECK)
				plproxy_transfer_check(task);
			break;
		case PGRES_COMMAND_OK:
			if (kind == STEP_QUERY)
				task_fail(task, FAIL_ANSWER, PQcmdStatus(task->result));
			else if (kind == STEP_PREPARE)
				plproxy_prepared_done(task);
			break;
		case PGRES_PIPELINE_SYNC:
		case PGRES_PIPELINE_ABORTED:
			return;
		case PGRES_FATAL_ERROR:
			task->answered = true;
			/* when a connection breaks, libpq makes a result without fields */
			if (!task->skipped && plproxy_prepared_heal(task))
				task->again = true;
			else if (PQresultErrorField(task->result, PG_DIAG_SQLSTATE) == NULL &&
					 PQresultErrorField(task->result, PG_DIAG_MESSAGE_PRIMARY) == NULL)
				task_fail(task, FAIL_LOST, task->broken ? task->broken : PQerrorMessage(task->conn->pg));
			else if (plproxy_execute_farewell(task->result))
				task_fail(task, FAIL_LOST, PQresultErrorField(task->result, PG_DIAG_MESSAGE_PRIMARY));
			else
				task_fail(task, FAIL_REMOTE, NULL);
			return;
		default:
			/* COPY and the like: there is no way back but to hang up */
			task->conn->state = CONN_BROKEN;
			task_fail(task, FAIL_ANSWER, PQresStatus(status));
			return;
	}

	/* was this the last statement? */
	if (task->step + 1 + (task->pipeline ? 1 : 0) == task->nsteps)
		task->answered = true;
}

/*
 * Does the partition's server hang up, because somebody told it to or because it
 * goes down? Its SQLSTATE would tell our caller that his own session ends.
 */
bool
plproxy_execute_farewell(const PGresult *result)
{
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return severity && strcmp(severity, "FATAL") == 0 &&
		sqlstate && strncmp(sqlstate, "57P", 3) == 0;
}

/*
 * Has the conversation ended with this result? A step ends with NULL, or is
 * STEP_SYNC and has but one result.
 */
static bool
task_step(ProxyTask *task, const PGresult *result)
{
	if (result && PQresultStatus(result) != PGRES_PIPELINE_SYNC)
		return false;
	task->step++;
	return !task->pipeline || task->step >= task->nsteps;
}

/* The conversation has come to its end. */
static void
task_finish(ProxyTask *task)
{
	if (task->pipeline && !PQexitPipelineMode(task->conn->pg))
		elog(ERROR, "could not exit pipeline mode: %s", PQerrorMessage(task->conn->pg));
	task->conn->state = CONN_IDLE;
	if (task->again)
	{
		task->again = false;
		task_ask(task);
		return;
	}
	plproxy_transfer_encoding(task);
	if (task->call->func->returns_set)
		plproxy_transfer_done(task);
	task->done = true;
	task->call->pending--;
	plproxy_stat_task(task, OUTCOME_DONE);
	plproxy_result_done(task);
}

/*
 * Every failure of a task comes here, once. "message" says more about it, but for
 * FAIL_REMOTE task->result does. Callers may not rely on an error being thrown.
 */
static void
task_fail(ProxyTask *task, ProxyFailure failure, const char *message)
{
	/* a part of the local transaction cannot be done elsewhere, or left out */
	if (task->call->tied && failure != FAIL_CONNECT)
		plproxy_error_task(task, failure, message, false);
	else if (failure == FAIL_CONNECT && plproxy_failover_host(task, message))
		task_connecting(task);
	else if (plproxy_failover_partition(task, failure, message))
		task_begin(task);
	else if (!task_skip(task, failure, message))
		plproxy_error_task(task, failure, message, false);
}

/*
 * Go on without the task, if that is wanted and another is left to answer. After
 * an error of its own the partition has something more to say, and its
 * connection stays good.
 */
static bool
task_skip(ProxyTask *task, ProxyFailure failure, const char *message)
{
	ProxyCall  *call = task->call;

	if (!call->skipping || failure == FAIL_ANSWER)
		return false;
	if (!task->skipped)
	{
		if (call->nskipped + 1 == call->ntasks)
			return false;
		plproxy_error_task(task, failure, message, true);
		task->skipped = true;
		call->nskipped++;
		plproxy_stat_task(task, OUTCOME_FAILED);
		plproxy_result_restart(task);
	}

	if (failure == FAIL_REMOTE)
		return true;
	if (failure != FAIL_TIMEOUT || task->conn->state == CONN_CONNECTING)
		task->conn->state = CONN_BROKEN;
	task->done = true;
	call->pending--;
	call->wait_stale = true;
	plproxy_result_done(task);
	return true;
}

static bool
task_is_pending(const ProxyTask *task)
{
	return task->conn && !task->done && (task->conn->state == CONN_CONNECTING ||
										 task->conn->state == CONN_RUNNING);
}

/*
 * Is the task at a step that takes no time and must not fail? The cancel request
 * can wait until the partition has got over it.
 */
static bool
task_is_guarded(const ProxyTask *task)
{
	return task->guarded && task->step < task->nsteps && task->steps[task->step].kind == STEP_BEGIN;
}

/* What the task's socket should be waited for. */
static uint32
task_wanted(const ProxyTask *task)
{
	const ProxyConn *conn = task->conn;

	if (conn->state == CONN_CONNECTING)
		return conn->poll == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE;
	return WL_SOCKET_READABLE | (conn->unsent ? WL_SOCKET_WRITEABLE : 0);
}

/* Wait until something happens, and deal with it. */
static void
call_turn(ProxyCall *call)
{
	WaitEvent	events[WAIT_EVENTS];
	TimestampTz deadline = call_deadline(call);
	long		timeout = -1;
	int			n;

	if (deadline)
		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	n = call_wait(call, timeout, call_wait_kind(call), events);
	for (int i = 0; i < n; i++)
	{
		ProxyConn  *conn = events[i].user_data;

		if (conn)
			task_event(conn->task, events[i].events);
		else
			ResetLatch(MyLatch);
	}
	CHECK_FOR_INTERRUPTS();
	if (deadline)
		call_check_deadlines(call);
}

static int
call_wait(ProxyCall *call, long timeout, ProxyWait wait, WaitEvent *events)
{
	return WaitEventSetWait(call_wait_set(call), timeout, events, WAIT_EVENTS,
							plproxy_wait_event(wait));
}

/* What does the call wait for? To connect only if nothing runs yet. */
static ProxyWait
call_wait_kind(const ProxyCall *call)
{
	for (int i = 0; i < call->ntasks; i++)
	{
		const ProxyTask *task = &call->tasks[i];

		if (task_is_pending(task) && task->conn->state != CONN_CONNECTING)
			return WAIT_QUERY;
	}
	return WAIT_CONNECT;
}

/*
 * The set to wait on. Members cannot leave a set, so it is built anew when one
 * must: when libpq takes another socket while connecting, or when one that is
 * done makes itself heard. A call that runs on one connection uses the set that
 * the connection keeps, if it has one; a call on several, the one that was kept of
 * the last, if it fits.
 */
static WaitEventSet *
call_wait_set(ProxyCall *call)
{
	if (call->ntasks == 1 && call->tasks[0].conn->state != CONN_CONNECTING &&
		(call->tasks[0].conn->wait_set || plproxy_kept_wait_sets < MAX_KEPT_WAIT_SETS))
		return conn_wait_set(&call->tasks[0]);

	if (call->wait_set && call->wait_stale)
	{
		FreeWaitEventSet(call->wait_set);
		call->wait_set = NULL;
	}
	if (call->wait_set == NULL && !group_take(call))
	{
		call->wait_set = plproxy_wait_set(call->ntasks);
		call->wait_stale = false;
		call->nwaiting = 0;
		for (int i = 0; i < call->ntasks; i++)
		{
			ProxyTask  *task = &call->tasks[i];

			if (!task_is_pending(task))
				continue;
			task->wait_events = task_wanted(task);
			task->wait_pos = AddWaitEventToSet(call->wait_set, task->wait_events,
											   PQsocket(task->conn->pg), NULL, task->conn);
			call->nwaiting++;
		}
		return call->wait_set;
	}

	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyTask  *task = &call->tasks[i];

		if (!task_is_pending(task) || task->wait_events == task_wanted(task))
			continue;
		task->wait_events = task_wanted(task);
		ModifyWaitEvent(call->wait_set, task->wait_pos, task->wait_events, NULL);
	}
	return call->wait_set;
}

static WaitEventSet *
conn_wait_set(ProxyTask *task)
{
	ProxyConn  *conn = task->conn;
	uint32		wanted = task_wanted(task);

	if (conn->wait_set == NULL)
	{
		conn->wait_set = plproxy_wait_set(1);
		plproxy_kept_wait_sets++;
		conn->wait_pos = AddWaitEventToSet(conn->wait_set, wanted, PQsocket(conn->pg), NULL, conn);
	}
	else if (conn->wait_events != wanted)
		ModifyWaitEvent(conn->wait_set, conn->wait_pos, wanted, NULL);
	conn->wait_events = wanted;
	return conn->wait_set;
}

/* Begin with the kept set if the call waits for its members and no others. */
static bool
group_take(ProxyCall *call)
{
	if (group_set == NULL || group_size != call->ntasks)
		return false;
	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyTask  *task = &call->tasks[i];

		if (!task_is_pending(task) || task->conn->group_id != group_id)
			return false;
		task->wait_pos = task->conn->group_pos;
		task->wait_events = task->conn->group_events;
	}
	call->wait_set = group_set;
	call->wait_stale = false;
	call->nwaiting = group_size;
	group_set = NULL;
	return true;
}

/* The call is over: keep its set for the next if that waits for all its connections. */
static void
group_keep(ProxyCall *call)
{
	bool		whole = !call->wait_stale && call->ntasks > 1 && call->nwaiting == call->ntasks;

	for (int i = 0; i < call->ntasks && whole; i++)
		whole = call->tasks[i].conn != NULL;
	if (!whole)
	{
		FreeWaitEventSet(call->wait_set);
		return;
	}

	if (group_set)
		FreeWaitEventSet(group_set);
	group_set = call->wait_set;
	group_size = call->ntasks;
	group_id++;
	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyTask  *task = &call->tasks[i];

		task->conn->group_id = group_id;
		task->conn->group_pos = task->wait_pos;
		task->conn->group_events = task->wait_events;
	}
}

/* The connection will be closed, so no set may wait for it any more. */
void
plproxy_execute_forget(ProxyConn *conn)
{
	if (group_set && conn->group_id == group_id)
	{
		FreeWaitEventSet(group_set);
		group_set = NULL;
	}
}

/*
 * A set with the latch and the postmaster, and room for some sockets. The server
 * grants a third of its file descriptors to those who ask for them. Connections
 * may be refused one, a set may not, or what was sent would run unheard. So it
 * asks when some of the connections' are given back for a moment.
 */
WaitEventSet *
plproxy_wait_set(int nsockets)
{
	WaitEventSet *volatile set;
	volatile int lent = 0;

	while (!AcquireExternalFD())
	{
		ReleaseExternalFD();
		lent++;
	}
	ReleaseExternalFD();
	PG_TRY();
	{
		set = CreateWaitEventSet(NULL, nsockets + 2);
	}
	PG_FINALLY();
	{
		for (; lent > 0; lent--)
			ReserveExternalFD();
	}
	PG_END_TRY();

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	/* when the postmaster's death is why we end, it is no news */
	if (IsUnderPostmaster && !proc_exit_inprogress)
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	return set;
}

/* The next point in time at which to look at the clock, or 0. */
static TimestampTz
call_deadline(const ProxyCall *call)
{
	TimestampTz deadline = call->query_by;

	for (int i = 0; i < call->ntasks; i++)
	{
		const ProxyTask *task = &call->tasks[i];

		if (task_is_pending(task) && task->conn->state == CONN_CONNECTING && task->connect_by &&
			(deadline == 0 || task->connect_by < deadline))
			deadline = task->connect_by;
	}
	return deadline;
}

static void
call_check_deadlines(ProxyCall *call)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyTask  *task = &call->tasks[i];

		if (!task_is_pending(task))
			continue;
		if (task->conn->state == CONN_CONNECTING && task->connect_by && task->connect_by <= now)
			task_fail(task, FAIL_CONNECT, plproxy_failover_silent(task));
		else if (call->query_by && call->query_by <= now)
			task_fail(task, FAIL_TIMEOUT, NULL);
	}
}

/* Give back what the call holds but its results. */
static void
call_finish(ProxyCall *call)
{
	if (call->wait_set)
		group_keep(call);
	call->wait_set = NULL;
	for (int i = 0; i < call->ntasks; i++)
	{
		if (call->tasks[i].conn)
			plproxy_connection_release(call->tasks[i].conn);
	}
}

/* Give up the connections on which the whole conversation was never sent. */
static void
abort_hangup(ProxyCall *call)
{
	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyConn  *conn = call->tasks[i].conn;

		if (task_is_pending(&call->tasks[i]) &&
			(conn->state == CONN_CONNECTING || conn->unsent || PQstatus(conn->pg) == CONNECTION_BAD))
			conn->state = CONN_BROKEN;
	}
}

/* Give up the connections on which something still runs. */
static void
abort_giveup(ProxyCall *call)
{
	call->wait_stale = true;
	for (int i = 0; i < call->ntasks; i++)
	{
		if (task_is_pending(&call->tasks[i]))
			call->tasks[i].conn->state = CONN_BROKEN;
	}
}

/*
 * Cancel what runs. A request that reaches a server before the query does is lost
 * on it, so this is done again for those that go on regardless.
 */
static void
abort_cancel(ProxyCall *call)
{
	ProxyConn **conns = palloc(sizeof(ProxyConn *) * Max(call->ntasks, 1));
	int			n = 0;

	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyTask  *task = &call->tasks[i];

		if (task_is_pending(task) && !task->answered && !task_is_guarded(task))
			conns[n++] = task->conn;
	}
	if (n > 0)
		plproxy_cancel(conns, n, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CANCEL_MS));
	for (int i = 0; i < n; i++)
	{
		/* it will not be used again, so its answer does not matter */
		if (conns[i]->doomed)
			conns[i]->state = CONN_BROKEN;
	}
	pfree(conns);
}

/* Read answers away until all are done, or the deadline or a cancel request comes. */
static void
abort_wait(ProxyCall *call, TimestampTz deadline)
{
	while (call->pending > 0 && !QueryCancelPending && !ProcDiePending)
	{
		WaitEvent	events[WAIT_EVENTS];
		TimestampTz now = GetCurrentTimestamp();
		int			n;

		if (now >= deadline)
			return;
		n = call_wait(call, TimestampDifferenceMilliseconds(now, deadline), WAIT_CANCEL, events);
		for (int i = 0; i < n; i++)
		{
			ProxyConn  *conn = events[i].user_data;

			if (conn == NULL)
				ResetLatch(MyLatch);
			else if (!task_is_pending(conn->task))
				call->wait_stale = true;
			else if (abort_drain(conn->task, !PQconsumeInput(conn->pg)))
				call->pending--;
		}
	}
}

/* How many connections must still be drained? */
static int
abort_pending(ProxyCall *call)
{
	int			pending = 0;

	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyTask  *task = &call->tasks[i];

		/* while others were being told, much may have come */
		if (task_is_pending(task) && !abort_drain(task, !PQconsumeInput(task->conn->pg)))
			pending++;
	}
	return pending;
}

/* Read away what has come; true when that was all, or the connection broke. */
static bool
abort_drain(ProxyTask *task, bool broken)
{
	ProxyConn  *conn = task->conn;

	if (broken)
	{
		conn->state = CONN_BROKEN;
		return true;
	}
	while (!PQisBusy(conn->pg))
	{
		PGresult   *result = PQgetResult(conn->pg);
		ExecStatusType status = PQresultStatus(result);
		bool		ended;

		if (status == PGRES_COMMAND_OK && task->steps[task->step].kind == STEP_PREPARE)
			plproxy_prepared_done(task);
		/* libpq calls the end of a step a fatal error too */
		if (result && status == PGRES_FATAL_ERROR)
			task->answered = true;
		ended = task_step(task, result);
		PQclear(result);
		if (ended)
		{
			if (PQstatus(conn->pg) == CONNECTION_OK &&
				(!task->pipeline || PQexitPipelineMode(conn->pg)))
				conn->state = CONN_IDLE;
			else
				conn->state = CONN_BROKEN;
			return true;
		}
		if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
		{
			conn->state = CONN_BROKEN;
			return true;
		}
	}
	return false;
}
