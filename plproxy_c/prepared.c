/*
 * prepared.c
 *	  Statements prepared on partitions.
 *
 * A statement's name is made from its text, so whoever finds the name on a
 * server finds that text behind it, be it through a pooler that hands out
 * another server each time. A connection remembers the names that it has
 * prepared, latest used first, and closes the oldest when there are too many.
 *
 * What a connection remembers is a belief. A server that does not agree (its
 * session was reset, or a pooler has switched it, or what the statement was made
 * for has changed) says so before it runs anything, and the query is sent again.
 */
#include "postgres.h"

#include <inttypes.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "plproxy.h"

/* So many statements are kept on a connection; each takes memory there. */
#define MAX_PREPARED 200

/*
 * With prepared_statements = auto, a connection on which statements were lost so
 * often is one through a pooler that does not care for them.
 */
#define MAX_LOST 2

/* Instead of a name: the query is not to be prepared. */
#define NAME_NEVER "-"

/* A statement that the connection believes to be prepared. */
typedef struct ProxyPrepared
{
	dlist_node	node;			/* in ProxyConn.prepared, latest used first */
	char		name[PREPARED_NAME_LEN];
} ProxyPrepared;

static bool error_is_of_plan(const PGresult *result);
static bool error_is_of_parameter(const PGresult *result);
static void query_name(ProxyQuery *query);
static ProxyPrepared *prepared_lookup(ProxyConn *conn, const char *name);
static void prepared_forget(ProxyConn *conn, ProxyPrepared *prepared);
static const char *close_sql(const char *name);

/*
 * Decide whether the query runs as a prepared statement, and add the steps that
 * prepare it if need be. It does not where it could not be repaired: in a
 * transaction that was begun before, which a failure would end.
 */
void
plproxy_prepared_steps(ProxyTask *task)
{
	ProxyConn  *conn = task->conn;
	ProxyQuery *query = task->call->shape->query;
	ProxyPrepare setting = task->call->cluster->config.prepared_statements;
	ProxyPrepared *prepared;

	task->prepared = false;
	if (setting == PREPARE_OFF || (setting == PREPARE_AUTO && conn->nlost >= MAX_LOST) ||
		task->nhealed >= 2 || task->in_transaction ||
		PQtransactionStatus(conn->pg) != PQTRANS_IDLE)
		return;

	if (query->name[0] == '\0')
		query_name(query);
	if (strcmp(query->name, NAME_NEVER) == 0)
		return;
	task->prepared = true;
	prepared = prepared_lookup(conn, query->name);
	if (prepared && !task->outdated)
	{
		dlist_move_head(&conn->prepared, &prepared->node);
		return;
	}

	if (prepared)
	{
		plproxy_execute_step(task, STEP_CLOSE, close_sql(query->name));
		prepared_forget(conn, prepared);
	}
	else if (conn->nprepared >= MAX_PREPARED)
	{
		prepared = dlist_tail_element(ProxyPrepared, node, &conn->prepared);
		plproxy_execute_step(task, STEP_CLOSE, close_sql(prepared->name));
		prepared_forget(conn, prepared);
	}
	plproxy_execute_step(task, STEP_PREPARE, NULL);
}

/* The partition has prepared the query of the task. */
void
plproxy_prepared_done(ProxyTask *task)
{
	ProxyConn  *conn = task->conn;
	ProxyQuery *query = task->call->shape->query;
	ProxyPrepared *prepared;

	/* lists live as long as their connection; to forget is no harm */
	prepared = MemoryContextAllocExtended(GetMemoryChunkContext(conn), sizeof(ProxyPrepared),
										  MCXT_ALLOC_NO_OOM);
	if (prepared == NULL)
		return;
	strlcpy(prepared->name, query->name, PREPARED_NAME_LEN);
	dlist_push_head(&conn->prepared, &prepared->node);
	conn->nprepared++;
}

/*
 * The task has failed with task->result. Was that for want of the statement, or
 * because it is outdated, and will it be mended by sending the query again? Such
 * errors come from the statement itself: what runs in a function has a context.
 */
bool
plproxy_prepared_heal(ProxyTask *task)
{
	ProxyConn  *conn = task->conn;
	const PGresult *result = task->result;
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	ProxyStep  *step = &task->steps[task->step];
	bool		outdated = false;

	if (!task->prepared || sqlstate == NULL || message == NULL ||
		(PQresultErrorField(result, PG_DIAG_CONTEXT) && !error_is_of_parameter(result)))
		return false;

	switch (step->kind)
	{
		case STEP_CLOSE:
			if (strcmp(sqlstate, "26000") != 0)
				return false;
			break;
		case STEP_PREPARE:
			if (strcmp(sqlstate, "42P05") != 0 || strstr(message, task->call->shape->query->name) == NULL)
				return false;
			break;
		case STEP_QUERY:
			if (strcmp(sqlstate, "26000") == 0)
			{
				if (strstr(message, task->call->shape->query->name) == NULL)
					return false;
			}
			else if (task->step > 0 && step[-1].kind == STEP_PREPARE)
				return false;	/* it cannot be outdated */
			else if (error_is_of_plan(result))
				outdated = true;
			else
				return false;
			break;
		default:
			return false;
	}

	task->nhealed++;
	task->outdated = outdated;
	if (outdated)
		return true;

	conn->nlost++;
	if (step->kind == STEP_PREPARE)
		plproxy_prepared_done(task);
	else
		plproxy_prepared_forget(conn);
	return true;
}

/*
 * Does the error come from a plan that no longer fits what it was made for?
 * Mostly the server sees that when it plans anew, and then points at a place in
 * the text; what a function returns it looks at when the plan begins to run.
 */
static bool
error_is_of_plan(const PGresult *result)
{
	static const char *const functions[] = {
		"RevalidateCachedQuery",	/* the result of the statement has changed */
		"CheckVarSlotCompatibility",	/* a column of a function's result */
		"tupledesc_match"		/* the number of them */
	};
	const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);

	for (int i = 0; function && i < lengthof(functions); i++)
	{
		if (strcmp(function, functions[i]) == 0)
			return true;
	}
	return error_is_of_parameter(result) ||
		PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION) != NULL ||
		strncmp(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY),
				"cache lookup failed for type", 28) == 0;
}

/*
 * Is the type gone that a parameter had when the statement was prepared? The
 * context is the parameter's number then.
 */
static bool
error_is_of_parameter(const PGresult *result)
{
	const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);

	return function && (strcmp(function, "getTypeInputInfo") == 0 ||
						strcmp(function, "getTypeBinaryInputInfo") == 0);
}

/* The connection remembers nothing any more. */
void
plproxy_prepared_forget(ProxyConn *conn)
{
	while (conn->nprepared > 0)
		prepared_forget(conn, dlist_head_element(ProxyPrepared, node, &conn->prepared));
}

/*
 * Name the query after its text. The text means something else in another
 * encoding.
 *
 * A server does not plan anew when the row type changes that a function in FROM
 * returns, so columns behind a "*" would stay what they were: a query that may
 * have one is not prepared.
 */
static void
query_name(ProxyQuery *query)
{
	const unsigned char *sql = (const unsigned char *) query->sql;
	int			len = strlen(query->sql);
	uint64		seed = GetDatabaseEncoding();

	/* with backslashes in it the same text may mean two things */
	if (query->strings && strcmp(query->strings, "off") == 0)
		seed += 1000;
	for (int i = 0; i < len; i++)
	{
		if (sql[i] == '*' && (i == 0 || sql[i - 1] != '('))
		{
			strlcpy(query->name, NAME_NEVER, PREPARED_NAME_LEN);
			return;
		}
	}
	snprintf(query->name, PREPARED_NAME_LEN, "plproxy_%016" PRIx64 "%016" PRIx64,
			 hash_bytes_extended(sql, len, seed),
			 hash_bytes_extended(sql, len, ~seed));
}

static ProxyPrepared *
prepared_lookup(ProxyConn *conn, const char *name)
{
	dlist_iter	iter;

	if (conn->nprepared == 0)
		return NULL;
	dlist_foreach(iter, &conn->prepared)
	{
		ProxyPrepared *prepared = dlist_container(ProxyPrepared, node, iter.cur);

		if (memcmp(prepared->name, name, PREPARED_NAME_LEN) == 0)
			return prepared;
	}
	return NULL;
}

static void
prepared_forget(ProxyConn *conn, ProxyPrepared *prepared)
{
	dlist_delete(&prepared->node);
	conn->nprepared--;
	pfree(prepared);
}

/* What STEP_CLOSE has instead of SQL where libpq can close by name. */
static const char *
close_sql(const char *name)
{
#ifdef LIBPQ_HAS_CLOSE_PREPARED
	return pstrdup(name);
#else
	return psprintf("deallocate %s", name);
#endif
}
