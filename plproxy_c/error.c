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

#include "plproxy.h"

static char *partition_address(const ProxyTask *task);
static char *partition_name(const ProxyTask *task);
static int	result_sqlstate(const PGresult *result);
static int	error_field(const PGresult *result, int field);

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

/* Throw the error that a partition returned. The result is cleared later. */
void
plproxy_error_remote(ProxyTask *task, PGresult *result)
{
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);

	/* when a connection breaks, libpq makes a result without fields */
	if (message == NULL)
		plproxy_error_connection(task, ERRCODE_CONNECTION_FAILURE, PQerrorMessage(task->conn->pg));

	ereport(ERROR,
			(errcode(result_sqlstate(result)),
			 errmsg_internal("%s", message),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0,
			 context ? errcontext("%s", context) : 0,
			 plproxy_error_partition(task),
			 error_field(result, PG_DIAG_SCHEMA_NAME),
			 error_field(result, PG_DIAG_TABLE_NAME),
			 error_field(result, PG_DIAG_COLUMN_NAME),
			 error_field(result, PG_DIAG_DATATYPE_NAME),
			 error_field(result, PG_DIAG_CONSTRAINT_NAME)));
}

/* Throw that a connection could not be made, or broke. */
void
plproxy_error_connection(ProxyTask *task, int sqlstate, const char *message)
{
	char	   *detail = message && *message ? pchomp(message) : NULL;

	ereport(ERROR,
			(errcode(sqlstate),
			 sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION
			 ? errmsg("could not connect to %s", partition_name(task))
			 : errmsg("lost the connection to %s", partition_name(task)),
			 detail ? errdetail_internal("%s", detail) : 0,
			 plproxy_error_partition(task)));
}

/* Among the fields of an error: which partition it is about, and so has failed. */
int
plproxy_error_partition(ProxyTask *task)
{
	task->failed = true;
	return plproxy_error_context(task);
}

/* Among the fields of a notice or an error: which partition it comes from. */
int
plproxy_error_context(ProxyTask *task)
{
	task->call->named = true;
	errcontext("%s", partition_address(task));
	return 0;
}

static char *
partition_address(const ProxyTask *task)
{
	PGconn	   *pg = task->conn ? task->conn->pg : NULL;
	StringInfoData where;

	initStringInfo(&where);
	appendStringInfoString(&where, partition_name(task));
	if (pg && PQdb(pg))
		appendStringInfo(&where, ", database \"%s\"", PQdb(pg));
	if (pg && PQhost(pg))
		appendStringInfo(&where, ", host \"%s\", port %s", PQhost(pg),
						 PQport(pg) ? PQport(pg) : "?");
	return where.data;
}

static char *
partition_name(const ProxyTask *task)
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
		return ERRCODE_CONNECTION_FAILURE;
	return MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
}

static int
error_field(const PGresult *result, int field)
{
	const char *value = PQresultErrorField(result, field);

	return value ? err_generic_string(field, value) : 0;
}
