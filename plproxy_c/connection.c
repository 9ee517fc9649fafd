/*
 * connection.c
 *	  libpq connections and the pools they rest in between calls.
 *
 * A pool holds the connections of one connect string and one login. A call
 * acquires a connection, idle or just being opened, and nobody else sees it
 * until the call releases it; so a call inside a call takes another one.
 *
 * ProxyConn and ProxyPool live in "PL/Proxy connections" as long as the backend
 * does; what libpq mallocs is freed when the connection is closed.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "plproxy.h"

/* Connections past their lifetime are looked for this often. */
#define SWEEP_SECONDS 120

/*
 * Connections end earlier than connection_lifetime by up to so many thousandths
 * of it, each by another part, or those that were opened together would all be
 * opened anew together.
 */
#define MAX_LIFETIME_JITTER 100

/*
 * CONNECT may name any number of databases; so many connections that no cluster
 * uses are kept.
 */
#define MAX_KEPT_CONNECTS 64

/* How long the end of the backend waits for cancel requests to get through. */
#define EXIT_CANCEL_MS 1000

#define CONNECTIONS_COLUMNS 11

typedef struct ProxyPool
{
	const char *key;			/* hash key, must be first */
	const char *connstr;		/* part of "key" */
	uint32		mapping_hash;	/* of the login, also part of "key" */
	bool		stale;			/* its user mapping was changed */
	dlist_head	conns;			/* latest used first */
} ProxyPool;

static ProxyPool *pool_lookup(ProxyTask *task);
static ProxyConn *pool_take(ProxyPool *pool);
static ProxyPool *pool_get(const ProxyLogin *login, const char *connstr);
static void pool_remove(ProxyPool *pool);
static void connects_trim(const ProxyPool *wanted);
static ProxyConn *connection_oldest(bool connects, int *n);
static ProxyConn *connection_open(ProxyTask *task, ProxyPool *pool);
static void connection_name(ProxyConn *conn, const char *cluster, int partition);
static bool connection_is_alive(ProxyConn *conn);
static const char *connection_state(const ProxyConn *conn);
static void connection_close(ProxyConn *conn);
static void connection_close_all(int code, Datum arg);
static void notifications_drop(PGconn *pg);
static uint32 key_hash(const void *key, Size keysize);
static int	key_match(const void *a, const void *b, Size keysize);

int			plproxy_kept_wait_sets = 0;

static MemoryContext connections_cxt = NULL;
static HTAB *pools;
static uint64 pools_removed = 0;	/* how many, see pool_lookup */
static TimestampTz last_sweep = 0;
static bool mappings_changed = false;	/* some pool is stale */
static uint64 uses = 0;

PG_FUNCTION_INFO_V1(plproxy_connections);

/*
 * Get a connection for the task: an idle one, or a new one that is connecting, or
 * that has failed to already.
 */
ProxyConn *
plproxy_connection_acquire(ProxyTask *task)
{
	ProxyCall  *call = task->call;
	int			lifetime = call->cluster->config.connection_lifetime;
	ProxyPool  *pool;
	ProxyConn  *conn = NULL;

	pool = pool_lookup(task);
	if (call->tied)
		conn = plproxy_transaction_conn(task, pool->key);
	if (conn == NULL)
		conn = pool_take(pool);
	if (conn == NULL)
	{
		if (call->cluster->name == NULL)
			connects_trim(pool);
		conn = connection_open(task, pool);
	}

	conn->task = task;
	conn->by_connect = call->cluster->name == NULL;
	conn->used_at = ++uses;
	connection_name(conn, call->cluster->name, task->partition);
	conn->since = GetCurrentTimestamp();
	task->conn = conn;
	task->use = conn->used_at;
	conn->expires_at = lifetime
		? TimestampTzPlusMilliseconds(conn->connected_at,
									  (int64) lifetime * conn->lifetime_share / 1000)
		: 0;
	return conn;
}

/*
 * Give a connection back. One that is not idle, or should go, is closed.
 */
void
plproxy_connection_release(ProxyConn *conn)
{
	plproxy_notice_report(conn, false);
	notifications_drop(conn->pg);
	/* the partitions of a cluster that was replaced may be anywhere */
	conn->doomed |= conn->task->call->cluster->replaced;
	conn->task->conn = NULL;
	conn->task = NULL;
	conn->since = GetCurrentTimestamp();
	if (conn->remote && plproxy_transaction_keep(conn))
		return;
	if (conn->state != CONN_IDLE || conn->doomed || PQstatus(conn->pg) != CONNECTION_OK ||
		PQtransactionStatus(conn->pg) != PQTRANS_IDLE ||
		(conn->expires_at && conn->expires_at <= conn->since))
		connection_close(conn);
}

/*
 * Is the server of an idle connection still there, as far as it has told? What it
 * says when it goes, or the end of the stream, lies in the socket then.
 */
bool
plproxy_connection_is_there(ProxyConn *conn)
{
	bool		doomed = conn->doomed;
	bool		there;

	conn->doomed = false;
	there = PQconsumeInput(conn->pg);
	/* parses what has come, which hands farewells to plproxy_notice_receive */
	(void) PQisBusy(conn->pg);
	there = there && !conn->doomed && PQstatus(conn->pg) == CONNECTION_OK;
	conn->doomed = doomed || !there;
	return there;
}

/* The connection of this use, if nobody has used or closed it since; or NULL. */
ProxyConn *
plproxy_connection_used(uint64 use)
{
	HASH_SEQ_STATUS seq;
	ProxyPool  *pool;
	ProxyConn  *found = NULL;

	if (use == 0)
		return NULL;
	hash_seq_init(&seq, pools);
	while ((pool = hash_seq_search(&seq)) != NULL)
	{
		dlist_iter	iter;

		dlist_foreach(iter, &pool->conns)
		{
			ProxyConn  *conn = dlist_container(ProxyConn, node, iter.cur);

			if (conn->used_at == use)
				found = conn;
		}
	}
	return found;
}

/* What tells the connection's pool from others. */
const char *
plproxy_connection_key(const ProxyConn *conn)
{
	return conn->pool->key;
}

/* Let no connection made with this connect string be used again. */
void
plproxy_connection_discard(const char *connstr)
{
	HASH_SEQ_STATUS seq;
	ProxyPool  *pool;

	if (connections_cxt == NULL)
		return;
	hash_seq_init(&seq, pools);
	while ((pool = hash_seq_search(&seq)) != NULL)
	{
		dlist_mutable_iter iter;

		if (strcmp(pool->connstr, connstr) != 0)
			continue;
		dlist_foreach_modify(iter, &pool->conns)
		{
			ProxyConn  *conn = dlist_container(ProxyConn, node, iter.cur);

			if (conn->task || conn->remote)
				conn->doomed = true;
			else
				connection_close(conn);
		}
		if (dlist_is_empty(&pool->conns))
			pool_remove(pool);
	}
}

/*
 * From time to time, close idle connections that are past their lifetime and
 * forget pools that are empty; at once, close those of changed user mappings.
 */
void
plproxy_connection_sweep(void)
{
	HASH_SEQ_STATUS seq;
	ProxyPool  *pool;
	TimestampTz now = GetCurrentStatementStartTimestamp();

	if (connections_cxt == NULL ||
		(!mappings_changed && !TimestampDifferenceExceeds(last_sweep, now, SWEEP_SECONDS * 1000)))
		return;
	last_sweep = now;
	mappings_changed = false;

	hash_seq_init(&seq, pools);
	while ((pool = hash_seq_search(&seq)) != NULL)
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &pool->conns)
		{
			ProxyConn  *conn = dlist_container(ProxyConn, node, iter.cur);

			if (conn->task || conn->remote)
				conn->doomed |= pool->stale;
			else if (pool->stale || (conn->expires_at && conn->expires_at <= now))
				connection_close(conn);
		}
		pool->stale = false;
		if (dlist_is_empty(&pool->conns))
			pool_remove(pool);
	}
}

/*
 * A user mapping was changed or dropped: the next sweep closes what was opened
 * with it. Only marks, since this may be called at any time. With "hash" 0 nobody
 * knows what was changed, mostly nothing of ours, so what is open stays; a login
 * that has become another one has another pool.
 */
void
plproxy_connection_mapping_changed(uint32 hash)
{
	HASH_SEQ_STATUS seq;
	ProxyPool  *pool;

	if (connections_cxt == NULL || hash == 0)
		return;
	hash_seq_init(&seq, pools);
	while ((pool = hash_seq_search(&seq)) != NULL)
	{
		if (pool->mapping_hash != hash)
			continue;
		pool->stale = true;
		mappings_changed = true;
	}
}

/*
 * Add the steps that make the session read and write values as we do. The
 * encoding was asked for when connecting, servers mostly have the styles by
 * default, and tell when one changes, so mostly there is nothing to add. But for
 * the encoding and the name, which poolers track, what is set counts for this
 * transaction only: behind a pooler the server's session is not ours, and what we
 * left in it would meet somebody else's statements.
 */
void
plproxy_connection_settings(ProxyTask *task)
{
	ProxyConn  *conn = task->conn;
	ProxyFunction *func = task->call->func;
	const ProxyQuery *query = task->call->shape->query;
	PGconn	   *pg = conn->pg;
	int			timeout = task->call->cluster->config.statement_timeout;
	const char *datestyle = PQparameterStatus(pg, "DateStyle");
	const char *intervalstyle = PQparameterStatus(pg, "IntervalStyle");
	const char *strings = query->strings
	? PQparameterStatus(pg, "standard_conforming_strings") : NULL;

	/* libpq keeps it as a number, which is the server's */
	if (PQclientEncoding(pg) != GetDatabaseEncoding())
		plproxy_execute_step(task, STEP_SETTING,
							 psprintf("set client_encoding = '%s'", GetDatabaseEncodingName()));
	if (datestyle == NULL || strncmp(datestyle, "ISO", 3) != 0)
		plproxy_execute_step(task, STEP_SETTING, "select pg_catalog.set_config('datestyle', 'ISO', true)");
	if (intervalstyle == NULL || strcmp(intervalstyle, "postgres") != 0)
		plproxy_execute_step(task, STEP_SETTING, "select pg_catalog.set_config('intervalstyle', 'postgres', true)");
	if ((task->call->shape->shows & SHOWS_FLOATS) && !task->call->binary)
		plproxy_execute_step(task, STEP_SETTING,
							 "select pg_catalog.set_config('extra_float_digits', '1', true)");
	if (query->strings && (strings == NULL || strcmp(strings, query->strings) != 0))
		plproxy_execute_step(task, STEP_SETTING,
							 psprintf("select pg_catalog.set_config('standard_conforming_strings', '%s', true)",
									  query->strings));
	if (task->call->sends_null)
		plproxy_execute_step(task, STEP_SETTING,
							 "select pg_catalog.set_config('array_nulls', 'on', true)");

	if (conn->shows_function && plproxy_show_function)
	{
		const char *name = PQparameterStatus(pg, "application_name");

		if (name == NULL || strcmp(name, func->application_name) != 0)
			plproxy_execute_step(task, STEP_SETTING, func->application_set);
	}
	if (timeout)
		plproxy_execute_step(task, STEP_SETTING,
							 psprintf("select pg_catalog.set_config('statement_timeout', '%d', true)",
									  timeout));
}

/*
 * plproxy_connections(): those of this backend. What libpq knows of one that is
 * not connected yet is left out. Never shows a password or a connect string.
 */
Datum
plproxy_connections(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	HASH_SEQ_STATUS seq;
	ProxyPool  *pool;

	InitMaterializedSRF(fcinfo, 0);
	if (connections_cxt == NULL)
		return (Datum) 0;

	hash_seq_init(&seq, pools);
	while ((pool = hash_seq_search(&seq)) != NULL)
	{
		dlist_iter	iter;

		dlist_foreach(iter, &pool->conns)
		{
			ProxyConn  *conn = dlist_container(ProxyConn, node, iter.cur);
			Datum		values[CONNECTIONS_COLUMNS] = {0};
			bool		nulls[CONNECTIONS_COLUMNS] = {0};
			const char *texts[] = {PQhost(conn->pg), PQdb(conn->pg), PQuser(conn->pg)};
			int			port = PQport(conn->pg) ? atoi(PQport(conn->pg)) : 0;
			int			pid = PQbackendPID(conn->pg);

			nulls[0] = nulls[1] = conn->cluster == NULL;
			if (conn->cluster)
				values[0] = CStringGetTextDatum(conn->cluster);
			values[1] = Int32GetDatum(conn->partition);
			for (int i = 0; i < lengthof(texts); i++)
			{
				nulls[2 + i] = texts[i] == NULL || texts[i][0] == '\0';
				if (!nulls[2 + i])
					values[2 + i] = CStringGetTextDatum(texts[i]);
			}
			nulls[5] = port == 0;
			values[5] = Int32GetDatum(port);
			nulls[6] = pid == 0;
			values[6] = Int32GetDatum(pid);
			values[7] = CStringGetTextDatum(connection_state(conn));
			values[8] = TimestampTzGetDatum(conn->since);
			values[9] = TimestampTzGetDatum(conn->connected_at);
			values[10] = Int32GetDatum(conn->nprepared);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}

static const char *
connection_state(const ProxyConn *conn)
{
	switch (conn->state)
	{
		case CONN_CONNECTING:
			return "connecting";
		case CONN_RUNNING:
			return "active";
		case CONN_BROKEN:
			return "broken";
		case CONN_IDLE:
			break;
	}
	return PQstatus(conn->pg) != CONNECTION_OK ? "broken"
		: PQtransactionStatus(conn->pg) == PQTRANS_INTRANS ? "idle in transaction"
		: PQtransactionStatus(conn->pg) == PQTRANS_INERROR ? "idle in transaction (aborted)"
		: "idle";
}

/* Get the pool of a task, which its login mostly remembers. */
static ProxyPool *
pool_lookup(ProxyTask *task)
{
	ProxyCluster *cluster = task->call->cluster;
	ProxyLogin *login = task->call->login;

	if (login->pools_known != pools_removed)
	{
		memset(login->pools, 0, sizeof(ProxyPool *) * cluster->npartitions);
		login->pools_known = pools_removed;
	}
	if (login->pools[task->partition] == NULL)
		login->pools[task->partition] = pool_get(login, cluster->partitions[task->partition].connstr);
	return login->pools[task->partition];
}

/* Take an idle connection from the pool, or NULL. */
static ProxyConn *
pool_take(ProxyPool *pool)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &pool->conns)
	{
		ProxyConn  *conn = dlist_container(ProxyConn, node, iter.cur);

		if (conn->task || conn->remote)
			continue;
		if (connection_is_alive(conn))
		{
			dlist_move_head(&pool->conns, &conn->node);
			return conn;
		}
		connection_close(conn);
	}
	return NULL;
}

/* Get the pool of a login and connect string. */
static ProxyPool *
pool_get(const ProxyLogin *login, const char *connstr)
{
	const char *password = login->password ? login->password : "";
	ProxyPool  *pool;
	char	   *key;
	bool		found;

	if (connections_cxt == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(char *),.entrysize = sizeof(ProxyPool)};

		connections_cxt = AllocSetContextCreate(TopMemoryContext, "PL/Proxy connections",
												ALLOCSET_SMALL_SIZES);
		ctl.hcxt = connections_cxt;
		ctl.hash = key_hash;
		ctl.match = key_match;
		pools = hash_create("PL/Proxy connection pools", 32, &ctl,
							HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
		before_shmem_exit(connection_close_all, (Datum) 0);
	}

	/* lengths keep one name from running into the next */
	key = psprintf("%u %u %d%d %zu %zu %s %s %s", login->role, login->mapping_hash,
				   login->distrust != NULL, login->distrust_user != NULL,
				   strlen(login->user), strlen(password), login->user, password, connstr);
	pool = hash_search(pools, &key, HASH_FIND, NULL);
	if (pool == NULL)
	{
		char	   *kept = MemoryContextStrdup(connections_cxt, key);

		pool = hash_search(pools, &kept, HASH_ENTER, &found);
		pool->connstr = kept + strlen(kept) - strlen(connstr);
		pool->mapping_hash = login->mapping_hash;
		pool->stale = false;
		dlist_init(&pool->conns);
	}
	pfree(key);
	return pool;
}

static void
pool_remove(ProxyPool *pool)
{
	char	   *key = unconstify(char *, pool->key);

	hash_search(pools, &pool->key, HASH_REMOVE, NULL);
	pools_removed++;
	pfree(key);
}

/*
 * Before another connection for CONNECT is opened: close those that were not
 * used for the longest time if there are enough, and forget pools that are empty
 * but for the wanted one.
 */
static void
connects_trim(const ProxyPool *wanted)
{
	HASH_SEQ_STATUS seq;
	ProxyPool  *pool;
	ProxyConn  *oldest;
	int			n;

	hash_seq_init(&seq, pools);
	while ((pool = hash_seq_search(&seq)) != NULL)
	{
		if (pool != wanted && dlist_is_empty(&pool->conns))
			pool_remove(pool);
	}
	/* a tied transaction may have held more of them than are kept */
	while ((oldest = connection_oldest(true, &n)) != NULL && n >= MAX_KEPT_CONNECTS)
		connection_close(oldest);
}

/*
 * Find the idle connection that was not used for the longest time, or NULL; with
 * "connects", of those for CONNECT, and how many of these are idle.
 */
static ProxyConn *
connection_oldest(bool connects, int *n)
{
	HASH_SEQ_STATUS seq;
	ProxyPool  *pool;
	ProxyConn  *oldest = NULL;

	if (n)
		*n = 0;
	hash_seq_init(&seq, pools);
	while ((pool = hash_seq_search(&seq)) != NULL)
	{
		dlist_iter	iter;

		dlist_foreach(iter, &pool->conns)
		{
			ProxyConn  *conn = dlist_container(ProxyConn, node, iter.cur);

			if (conn->task || conn->remote || (connects && !conn->by_connect))
				continue;
			if (n)
				(*n)++;
			if (oldest == NULL || conn->used_at < oldest->used_at)
				oldest = conn;
		}
	}
	return oldest;
}

/* Begin to open a connection. */
static ProxyConn *
connection_open(ProxyTask *task, ProxyPool *pool)
{
	ProxyConn  *conn = MemoryContextAllocZero(connections_cxt, sizeof(ProxyConn));

	while (!AcquireExternalFD())
	{
		ProxyConn  *oldest = connection_oldest(false, NULL);

		if (oldest)
		{
			connection_close(oldest);
			continue;
		}
		pfree(conn);
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("too many open files to connect to another partition"),
				 errhint("Raise the server's max_files_per_process and/or \"ulimit -n\" limits."),
				 plproxy_error_partition(task)));
	}
	PG_TRY();
	{
		conn->pg = plproxy_connect_start(task, conn);
	}
	PG_CATCH();
	{
		ReleaseExternalFD();
		pfree(conn);
		PG_RE_THROW();
	}
	PG_END_TRY();

	dlist_init(&conn->prepared);
	conn->pool = pool;
	conn->state = CONN_CONNECTING;
	conn->poll = PGRES_POLLING_WRITING;
	conn->connected_at = GetCurrentTimestamp();
	conn->lifetime_share = 1000 -
		(int) pg_prng_uint64_range(&pg_global_prng_state, 0, MAX_LIFETIME_JITTER);
	dlist_push_head(&pool->conns, &conn->node);
	PQsetNoticeReceiver(conn->pg, plproxy_notice_receive, conn);

	if (PQstatus(conn->pg) == CONNECTION_BAD)
		conn->poll = PGRES_POLLING_FAILED;
	return conn;
}

/* Begin again to open the task's connection, now to the next of its hosts. */
void
plproxy_connection_restart(ProxyTask *task)
{
	ProxyConn  *conn = task->conn;

	PQfinish(conn->pg);
	conn->pg = NULL;
	conn->pg = plproxy_connect_start(task, conn);
	PQsetNoticeReceiver(conn->pg, plproxy_notice_receive, conn);
	conn->connected_at = GetCurrentTimestamp();
	conn->poll = PQstatus(conn->pg) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
}

/* Remember who uses the connection, which outlives the cluster. */
static void
connection_name(ProxyConn *conn, const char *cluster, int partition)
{
	conn->partition = partition;
	if (cluster && conn->cluster && strcmp(cluster, conn->cluster) == 0)
		return;
	if (conn->cluster)
		pfree(conn->cluster);
	conn->cluster = NULL;
	if (cluster)
		conn->cluster = MemoryContextStrdup(connections_cxt, cluster);
}

/*
 * Is an idle connection still good? A server that went away while we did not
 * look has left its farewell or the end of the stream in the socket.
 */
static bool
connection_is_alive(ProxyConn *conn)
{
	if (conn->doomed || (conn->expires_at && conn->expires_at <= GetCurrentTimestamp()))
		return false;
	return plproxy_connection_is_there(conn);
}

static void
connection_close(ProxyConn *conn)
{
	plproxy_notice_report(conn, false);
	if (conn->wait_set)
	{
		FreeWaitEventSet(conn->wait_set);
		plproxy_kept_wait_sets--;
	}
	plproxy_prepared_forget(conn);
	plproxy_execute_forget(conn);
	PQfinish(conn->pg);
	ReleaseExternalFD();
	dlist_delete(&conn->node);
	if (conn->cluster)
		pfree(conn->cluster);
	pfree(conn);
}

/*
 * The backend ends: what still runs on partitions is of no use to anybody, and
 * idle servers want to hear that we go.
 */
static void
connection_close_all(int code, Datum arg)
{
	HASH_SEQ_STATUS seq;
	ProxyPool  *pool;
	ProxyConn **running;
	int			n = 0;

	plproxy_transaction_exit();
	hash_seq_init(&seq, pools);
	while ((pool = hash_seq_search(&seq)) != NULL)
	{
		dlist_iter	iter;

		dlist_foreach(iter, &pool->conns)
			n++;
	}
	running = palloc(sizeof(ProxyConn *) * Max(n, 1));
	n = 0;
	hash_seq_init(&seq, pools);
	while ((pool = hash_seq_search(&seq)) != NULL)
	{
		dlist_iter	iter;

		dlist_foreach(iter, &pool->conns)
		{
			ProxyConn  *conn = dlist_container(ProxyConn, node, iter.cur);

			if (conn->state == CONN_RUNNING)
				running[n++] = conn;
		}
	}
	plproxy_cancel(running, n, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), EXIT_CANCEL_MS));

	hash_seq_init(&seq, pools);
	while ((pool = hash_seq_search(&seq)) != NULL)
	{
		dlist_iter	iter;

		dlist_foreach(iter, &pool->conns)
			PQfinish(dlist_container(ProxyConn, node, iter.cur)->pg);
	}
}

/*
 * Nobody here listens. But what runs on a partition may have, and libpq would keep
 * what its session is notified of.
 */
static void
notifications_drop(PGconn *pg)
{
	PGnotify   *notification;

	while ((notification = PQnotifies(pg)) != NULL)
		PQfreemem(notification);
}

static uint32
key_hash(const void *key, Size keysize)
{
	const char *name = *(const char *const *) key;

	return hash_bytes((const unsigned char *) name, strlen(name));
}

static int
key_match(const void *a, const void *b, Size keysize)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}
