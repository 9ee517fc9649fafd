/*
 * failover.c
 *	  Where a call goes on when a host or a partition is down.
 *
 * libpq goes through the hosts of a connect string by itself, but when it may not
 * block it never gives up on a silent one. So each host is a connection attempt of
 * our own here, with a connect_timeout of its own.
 *
 * With the setting "failover", a call that may run on any partition takes another
 * when the chosen one is down. That is so if nothing was sent yet, or if the
 * cluster is read only, for then it does no harm to ask twice.
 *
 * A host that was silent and a partition that was down are remembered for a few
 * seconds, in which others are tried first. It is only a matter of order, so the
 * memory may be small and forget.
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "plproxy.h"

/* How long the others are tried first. */
#define DOWN_MS 10000

/* How many that are down are remembered. */
#define MAX_DOWN 64

/* Somebody that was down, by the hash of the name. */
typedef struct ProxyDown
{
	uint64		name;
	TimestampTz until;
} ProxyDown;

static ProxyDown down[MAX_DOWN];
static TimestampTz last_until = 0;	/* of all in "down" */

static ProxyHosts *hosts_alloc(int n, const char *attrs);
static int	hosts_fill(ProxyHosts *hosts, int n, const char *values, size_t field);
static void hosts_order(ProxyHost *list, int n, bool random);
static char *host_name(const ProxyHost *host);
static int	partition_choose(ProxyCall *call);
static bool partition_is_down(const ProxyTask *task, ProxyFailure failure);
static void task_note(ProxyTask *task, const char *where, const char *message);
static uint64 down_hash(const char *name);
static bool down_lookup(const char *name);
static void down_note(const char *name);

/*
 * The hosts of a connect string in the order in which they are to be tried, or
 * NULL if libpq is to see to them: when there is but one, or when their lists do
 * not fit together and it knows best what to say. Lives as long as the call.
 */
ProxyHosts *
plproxy_failover_hosts(ProxyTask *task, const char *host, const char *hostaddr, const char *port,
					   const char *attrs, bool random)
{
	MemoryContext old;
	ProxyHosts *hosts;
	const char *names = hostaddr && *hostaddr ? hostaddr : host;
	bool		prefer = attrs && strcmp(attrs, "prefer-standby") == 0;
	int			n = 1;
	bool		fits;

	for (const char *pos = names; pos && *pos; pos++)
	{
		if (*pos == ',')
			n++;
	}
	if (n == 1)
		return NULL;

	old = MemoryContextSwitchTo(task->call->cxt);
	hosts = hosts_alloc(n, prefer ? "standby" : attrs);
	fits = hosts_fill(hosts, n, host, offsetof(ProxyHost, host)) == n;
	fits = hosts_fill(hosts, n, hostaddr, offsetof(ProxyHost, hostaddr)) == n && fits;
	fits = hosts_fill(hosts, n, port, offsetof(ProxyHost, port)) == n && fits;
	hosts_order(hosts->list, n, random);
	if (prefer)
	{
		/* when none of them is a standby, any will do */
		memcpy(hosts->list + n, hosts->list, sizeof(ProxyHost) * n);
		for (int i = n; i < 2 * n; i++)
			hosts->list[i].attrs = "any";
		hosts->n = 2 * n;
	}
	MemoryContextSwitchTo(old);
	return fits ? hosts : NULL;
}

/*
 * The task could not connect. If there is another host, begin to connect to that
 * one.
 */
bool
plproxy_failover_host(ProxyTask *task, const char *message)
{
	ProxyHosts *hosts = task->hosts;

	if (hosts == NULL || hosts->current + 1 >= hosts->n)
		return false;
	task_note(task, NULL, message);
	hosts->current++;
	plproxy_connection_restart(task);
	task->call->wait_stale = true;
	return true;
}

/*
 * The task's connect_timeout has passed. Returns what to say about it.
 */
const char *
plproxy_failover_silent(ProxyTask *task)
{
	char	   *name;

	if (task->hosts == NULL)
		return "connect_timeout has passed";
	name = host_name(&task->hosts->list[task->hosts->current]);
	down_note(name);
	return psprintf("connection to %s failed: connect_timeout has passed", name);
}

/*
 * Choose any partition of the cluster, rather not one that was down just now.
 */
int
plproxy_failover_any(ProxyCall *call)
{
	ProxyCluster *cluster = call->cluster;
	int			chosen = pg_prng_uint64_range(&pg_global_prng_state, 0, cluster->npartitions - 1);

	if (cluster->config.failover && down_lookup(cluster->partitions[chosen].connstr))
		chosen = partition_choose(call);
	return chosen;
}

/*
 * The task has failed. If it may go on with another partition, let go of this one;
 * the task is as if it had not begun then.
 */
bool
plproxy_failover_partition(ProxyTask *task, ProxyFailure failure, const char *message)
{
	ProxyCall  *call = task->call;
	ProxyCluster *cluster = call->cluster;
	int			next;

	if (!cluster->config.failover || call->func->run != RUN_ANY || call->func->split ||
		!partition_is_down(task, failure))
		return false;

	down_note(cluster->partitions[task->partition].connstr);
	if (call->tried == NULL)
		call->tried = MemoryContextAllocZero(call->cxt, sizeof(bool) * cluster->npartitions);
	call->tried[task->partition] = true;
	if (failure == FAIL_REMOTE)
		message = PQresultErrorField(task->result, PG_DIAG_MESSAGE_PRIMARY);
	task_note(task, psprintf("partition %d: ", task->partition), message);
	next = partition_choose(call);
	if (next < 0)
		return false;

	plproxy_stat_task(task, OUTCOME_FAILED);
	task->counted = false;
	if (task->conn)
	{
		task->conn->state = CONN_BROKEN;
		plproxy_connection_release(task->conn);
	}
	plproxy_result_restart(task);
	task->hosts = NULL;
	task->connect_by = 0;
	task->again = false;
	task->outdated = false;
	call->task_of[task->partition] = -1;
	task->partition = next;
	call->task_of[next] = 0;
	call->wait_stale = true;
	return true;
}

static ProxyHosts *
hosts_alloc(int n, const char *attrs)
{
	/* room for going through them twice */
	ProxyHosts *hosts = palloc0(offsetof(ProxyHosts, list) + sizeof(ProxyHost) * 2 * n);

	hosts->n = n;
	for (int i = 0; i < n; i++)
		hosts->list[i].attrs = attrs ? pstrdup(attrs) : NULL;
	return hosts;
}

/*
 * Spread one list over the hosts; a single value is that of all. Returns how many
 * there would be by this list.
 */
static int
hosts_fill(ProxyHosts *hosts, int n, const char *values, size_t field)
{
	char	   *copy = values ? pstrdup(values) : NULL;
	char	   *pos = copy;
	int			found = 0;

	if (copy == NULL || *copy == '\0')
		return n;
	for (;;)
	{
		char	   *end = strchr(pos, ',');

		if (end)
			*end = '\0';
		if (found < n)
			*(char **) ((char *) &hosts->list[found] + field) = pos;
		found++;
		if (end == NULL)
			break;
		pos = end + 1;
	}
	if (found == 1 && field == offsetof(ProxyHost, port))
	{
		for (int i = 1; i < n; i++)
			hosts->list[i].port = copy;
		return n;
	}
	return found;
}

/* As they come, or by chance; those that were silent just now come last. */
static void
hosts_order(ProxyHost *list, int n, bool random)
{
	ProxyHost  *ordered = palloc(sizeof(ProxyHost) * n);
	int			k = 0;

	for (int i = n - 1; random && i > 0; i--)
	{
		int			other = pg_prng_uint64_range(&pg_global_prng_state, 0, i);
		ProxyHost	swap = list[i];

		list[i] = list[other];
		list[other] = swap;
	}
	for (int silent = 0; silent <= 1; silent++)
	{
		for (int i = 0; i < n; i++)
		{
			/* whoever was taken in the first round is marked by its list */
			if (list[i].taken || (!silent && down_lookup(host_name(&list[i]))))
				continue;
			ordered[k++] = list[i];
			list[i].taken = true;
		}
	}
	memcpy(list, ordered, sizeof(ProxyHost) * n);
}

static char *
host_name(const ProxyHost *host)
{
	return psprintf("server at \"%s\", port %s",
					host->hostaddr ? host->hostaddr : host->host ? host->host : "",
					host->port ? host->port : DEF_PGPORT_STR);
}

/*
 * Choose a partition by chance that was not tried yet, and rather one that was
 * not down just now. Returns -1 if there is none left.
 */
static int
partition_choose(ProxyCall *call)
{
	ProxyCluster *cluster = call->cluster;
	int			chosen = -1;
	int			nup = 0;
	int			ndown = 0;

	for (int i = 0; i < cluster->npartitions; i++)
	{
		ProxyPartition *partition = &cluster->partitions[i];
		int		   *n = down_lookup(partition->connstr) ? &ndown : &nup;

		if (partition->first != i || (call->tried && call->tried[i]))
			continue;
		++*n;
		if (n == &ndown && nup > 0)
			continue;
		/* the first that is up takes the place of any that is down */
		if ((n == &nup && nup == 1) ||
			pg_prng_uint64_range(&pg_global_prng_state, 0, *n - 1) == 0)
			chosen = i;
	}
	return chosen;
}

/* Is it the partition's end, and may the call be made again elsewhere? */
static bool
partition_is_down(const ProxyTask *task, ProxyFailure failure)
{
	const char *state;

	if (failure == FAIL_CONNECT)
		return true;
	if (!task->call->cluster->config.read_only)
		return false;
	if (failure == FAIL_LOST)
		return true;
	if (failure != FAIL_REMOTE)
		return false;
	/* admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped */
	state = PQresultErrorField(task->result, PG_DIAG_SQLSTATE);
	return state && strncmp(state, "57P0", 4) == 0;
}

/* Keep what went wrong, for the case that nothing else works either. */
static void
task_note(ProxyTask *task, const char *where, const char *message)
{
	MemoryContext old = MemoryContextSwitchTo(task->call->cxt);
	char	   *said = message && *message ? pchomp(message) : pstrdup("no reason given");

	task->earlier = psprintf("%s%s%s%s", task->earlier ? task->earlier : "",
							 task->earlier ? "\n" : "", where ? where : "", said);
	MemoryContextSwitchTo(old);
}

static uint64
down_hash(const char *name)
{
	return hash_bytes_extended((const unsigned char *) name, strlen(name), 0);
}

static bool
down_lookup(const char *name)
{
	uint64		hash;
	TimestampTz now;

	/* mostly nobody is down */
	if (last_until == 0)
		return false;
	now = GetCurrentTimestamp();
	if (last_until <= now)
		return false;
	hash = down_hash(name);
	for (int i = 0; i < MAX_DOWN; i++)
	{
		if (down[i].name == hash && down[i].until > now)
			return true;
	}
	return false;
}

static void
down_note(const char *name)
{
	uint64		hash = down_hash(name);
	ProxyDown  *place = &down[0];

	for (int i = 0; i < MAX_DOWN; i++)
	{
		if (down[i].name == hash)
		{
			place = &down[i];
			break;
		}
		if (down[i].until < place->until)
			place = &down[i];
	}
	place->name = hash;
	place->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DOWN_MS);
	last_until = place->until;
}
