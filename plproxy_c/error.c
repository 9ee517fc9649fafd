/*
 * error.c
 *	  What a user reads when something fails.
 *
 * A partition's error keeps its SQLSTATE, message, detail, hint, context and the
 * names of the table, column and constraint; context lines say which partition
 * it came from and which function asked. Connect strings are never shown, since
 * they may hold passwords: a partition is its number, host, port and database.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/guc.h"

#include "plproxy.h"

static char *partition_address(const ProxyTask *task);
static char *failure_detail(const ProxyTask *task, const char *message);
static int	result_sqlstate(const PGresult *result);
static int	error_field(const PGresult *result, int field);

static bool compat_sqlstates = false;

void
plproxy_error_init(void)
{
	DefineCustomBoolVariable("plproxy.compat_sqlstates",
							 "Gives the errors of PL/Proxy itself the SQLSTATE XX000, as PL/Proxy 2 did.",
							 "Errors of partitions keep theirs, and so do P0002 and P0003.",
							 &compat_sqlstates, false, PGC_USERSET, 0, NULL, NULL, NULL);
}

/* The SQLSTATE for an error of our own. */
int
plproxy_error_sqlstate(int sqlstate)
{
	if (!compat_sqlstates || sqlstate == ERRCODE_NO_DATA_FOUND || sqlstate == ERRCODE_TOO_MANY_ROWS)
		return sqlstate;
	return ERRCODE_INTERNAL_ERROR;
}

/* errcontext callback: in which function are we? */
void
plproxy_error_function(void *arg)
{
	ProxyFunction *func = arg;

	errcontext("PL/Proxy function %s", func->signature);
}

/*
 * errcontext callback while a call runs on partitions: which of them are we
 * waiting for? Silent about errors that say themselves which one they are about.
 */
void
plproxy_error_waiting(void *arg)
{
	ProxyCall  *call = arg;
	ProxyTask  *first = NULL;
	int			more = -1;

	if (call->named)
	{
		call->named = false;
		return;
	}
	for (int i = 0; i < call->ntasks; i++)
	{
		ProxyTask  *task = &call->tasks[i];

		if (task->conn == NULL || task->conn->state == CONN_IDLE)
			continue;
		if (first == NULL)
			first = task;
		more++;
	}
	if (first == NULL)
		return;
	if (more > 0)
		errcontext("waiting for %s and %d more", partition_address(first), more);
	else
		errcontext("waiting for %s", partition_address(first));
}

/* errcontext callback while a row is converted: which value of whose answer? */
void
plproxy_error_value(void *arg)
{
	ProxyTask  *task = arg;
	ProxyCall  *call = task->call;
	char	   *where = partition_address(task);

	call->named = true;
	if (!call->shape->composite)
		errcontext("value from %s", where);
	else if (call->column < 0)
		errcontext("row from %s", where);
	else
		errcontext("column \"%s\" from %s",
				   NameStr(TupleDescAttr(call->shape->desc, call->column)->attname), where);
}

/*
 * Throw that the task has failed, or with "skip" warn that the call goes on
 * without it. "message" says more about it, but for FAIL_REMOTE task->result does.
 */
void
plproxy_error_task(ProxyTask *task, ProxyFailure failure, const char *message, bool skip)
{
	ProxyCall  *call = task->call;
	PGresult   *result = failure == FAIL_REMOTE ? task->result : NULL;
	int			sqlstate = ERRCODE_CONNECTION_FAILURE;
	const char *name = skip ? "it" : plproxy_error_partition_name(task);
	const char *said = NULL;
	const char *detail = NULL;
	const char *hint = NULL;
	const char *context = NULL;

	switch (failure)
	{
		case FAIL_CONNECT:
			sqlstate = ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION;
			if (call->tried)
				name = psprintf("any partition of cluster \"%s\"", call->cluster->name);
			said = psprintf("could not connect to %s", name);
			detail = failure_detail(task, message);
			break;
		case FAIL_LOST:
			said = psprintf("lost the connection to %s", name);
			detail = failure_detail(task, message);
			break;
		case FAIL_REMOTE:
			sqlstate = result_sqlstate(result);
			said = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
			if (said == NULL)
				said = psprintf("%s answered with an error without a message", name);
			detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
			hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
			context = PQresultErrorField(result, PG_DIAG_CONTEXT);
			break;
		case FAIL_ANSWER:
			sqlstate = ERRCODE_PROTOCOL_VIOLATION;
			said = psprintf("%s answered with \"%s\" instead of rows", name, message);
			break;
		case FAIL_TIMEOUT:
			sqlstate = ERRCODE_QUERY_CANCELED;
			said = "canceling remote query due to query_timeout";
			detail = psprintf("Partition %d has not answered within %d ms.",
							  task->partition, call->cluster->config.query_timeout);
			break;
	}
	said = plproxy_error_text(said);
	detail = plproxy_error_text(detail);
	hint = plproxy_error_text(hint);
	context = plproxy_error_text(context);
	if (skip)
		said = psprintf("%s is left out: %s", plproxy_error_partition_name(task), said);

	ereport(skip ? WARNING : ERROR,
			((errcode) (result ? sqlstate : plproxy_error_sqlstate(sqlstate)),
			 errmsg_internal("%s", said),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0,
			 context ? errcontext("%s", context) : 0,
			 skip ? plproxy_error_context(task) : plproxy_error_partition(task),
			 error_field(result, PG_DIAG_SCHEMA_NAME),
			 error_field(result, PG_DIAG_TABLE_NAME),
			 error_field(result, PG_DIAG_COLUMN_NAME),
			 error_field(result, PG_DIAG_DATATYPE_NAME),
			 error_field(result, PG_DIAG_CONSTRAINT_NAME)));
}

/* Among the fields of an error: which partition it is about, and so has failed. */
int
plproxy_error_partition(ProxyTask *task)
{
	task->failed = true;
	return plproxy_error_context(task);
}

/* Among the fields of an error: the answers to the call are not what it needs. */
int
plproxy_error_answers(ProxyCall *call)
{
	for (int i = 0; i < call->ntasks; i++)
		call->tasks[i].failed = true;
	if (call->ntasks == 1)
		errcontext("answer of %s", partition_address(&call->tasks[0]));
	else if (call->ntasks > 1)
		errcontext("answers of %s and %d more", partition_address(&call->tasks[0]),
				   call->ntasks - 1);
	return 0;
}

/* Among the fields of a notice or an error: which partition it comes from. */
int
plproxy_error_context(ProxyTask *task)
{
	task->call->named = true;
	errcontext("%s", partition_address(task));
	return 0;
}

/*
 * The partition, and where it is. When only its answer is looked at any more, the
 * connection is free for others already, but mostly nobody has used it yet.
 */
static char *
partition_address(const ProxyTask *task)
{
	ProxyConn  *conn = task->conn ? task->conn : plproxy_connection_used(task->use);
	PGconn	   *pg = conn ? conn->pg : NULL;
	StringInfoData where;

	initStringInfo(&where);
	appendStringInfoString(&where, plproxy_error_partition_name(task));
	if (pg && PQdb(pg))
		appendStringInfo(&where, ", database \"%s\"", PQdb(pg));
	if (pg && PQhost(pg))
		appendStringInfo(&where, ", host \"%s\", port %s", PQhost(pg),
						 PQport(pg) ? PQport(pg) : "?");
	return where.data;
}

/*
 * A text from elsewhere, or NULL, as one that is valid in our encoding: it may be
 * in another, for a function there may change its client_encoding, and a server
 * that refuses a connection does not know ours yet. "?" stands for each byte that
 * does not fit.
 */
const char *
plproxy_error_text(const char *text)
{
	int			encoding = GetDatabaseEncoding();
	int			len = text ? strlen(text) : 0;
	int			valid = text ? pg_encoding_verifymbstr(encoding, text, len) : 0;
	char	   *copy;

	if (valid == len)
		return text;

	copy = pnstrdup(text, len);
	for (; valid < len; valid += pg_encoding_verifymbstr(encoding, copy + valid, len - valid))
		copy[valid++] = '?';
	return copy;
}

/* What messages call the partition. */
char *
plproxy_error_partition_name(const ProxyTask *task)
{
	const char *cluster = task->call->cluster->name;

	return cluster
		? psprintf("partition %d of cluster \"%s\"", task->partition, cluster)
		: pstrdup("the database of CONNECT");
}

static int
result_sqlstate(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (state == NULL || strlen(state) != 5)
		return ERRCODE_INTERNAL_ERROR;
	return MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
}

/* What was said about this failure, and before it by other hosts and partitions. */
static char *
failure_detail(const ProxyTask *task, const char *message)
{
	char	   *said = message && *message ? pchomp(message) : NULL;

	/* the last one of several partitions is among the earlier ones */
	if (task->earlier == NULL || task->call->tried)
		return task->earlier ? task->earlier : said;
	return said ? psprintf("%s\n%s", task->earlier, said) : task->earlier;
}

static int
error_field(const PGresult *result, int field)
{
	const char *value = plproxy_error_text(PQresultErrorField(result, field));

	return value ? err_generic_string(field, value) : 0;
}
