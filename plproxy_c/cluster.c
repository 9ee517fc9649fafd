/*
 * cluster.c
 *	  The clusters that this backend knows.
 *
 * A cluster is a foreign server of the wrapper "plproxy", or else what the three
 * functions plproxy.get_cluster_* say; load.c reads it. A loaded ProxyCluster never changes; what
 * replaces it is another one, and use_count keeps the old one for the calls that
 * run on it. Each lives in a context of its own, below the caller's while it is
 * being loaded, below "PL/Proxy clusters" afterwards.
 *
 * Invalidation callbacks only mark. The next use loads anew, and connections are
 * dropped only when something has really changed.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "plproxy.h"

/* So many connect strings of CONNECT are kept as clusters. */
#define MAX_KEPT_STRINGS 16

typedef struct ClusterEntry
{
	const char *name;			/* hash key, must be first */
	ProxyCluster *cluster;		/* NULL while it could not be loaded */
	Oid			server;			/* server of that name, or InvalidOid */
	uint64		server_known;	/* servers_generation when it was looked up */
} ClusterEntry;

static void clusters_forget(void);
static void cluster_error_context(void *name);
static void cluster_replace(ClusterEntry *entry, ProxyCluster *cluster);
static void cluster_drop(ProxyCluster *cluster);
static bool cluster_equal(const ProxyCluster *a, const ProxyCluster *b);
static void partition_show(const ProxyCluster *cluster, int partition, int nslots, ReturnSetInfo *rsinfo);
static void server_changed(Datum arg, int cacheid, uint32 hash);
static uint32 name_hash(const void *key, Size keysize);
static int	name_match(const void *a, const void *b, Size keysize);

PG_FUNCTION_INFO_V1(plproxy_partition_of);
PG_FUNCTION_INFO_V1(plproxy_partitions);

static MemoryContext clusters_cxt;
static HTAB *clusters;
static bool servers_changed = false;	/* some entry may be of no use */

/* what CONNECT named last, latest first, and how many of them there are */
static ProxyCluster *connects[MAX_KEPT_STRINGS];
static int	nconnects = 0;

/*
 * Counted up by the invalidation callbacks. What was made from the catalogs is
 * right while the count is still what it was before they were looked at, so a
 * change that becomes known in between is not lost.
 */
static uint64 servers_generation = 1;

void
plproxy_cluster_init(void)
{
	HASHCTL		ctl = {.keysize = sizeof(char *),.entrysize = sizeof(ClusterEntry)};

	clusters_cxt = AllocSetContextCreate(TopMemoryContext, "PL/Proxy clusters",
										 ALLOCSET_SMALL_SIZES);
	ctl.hcxt = clusters_cxt;
	ctl.hash = name_hash;
	ctl.match = name_match;
	clusters = hash_create("PL/Proxy cluster cache", 16, &ctl,
						   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, server_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, server_changed, (Datum) 0);
}

/*
 * Get a cluster as it is now, pinned for one call; plproxy_cluster_release ends
 * that.
 */
ProxyCluster *
plproxy_cluster_get(const char *name)
{
	uint64		generation = servers_generation;
	ClusterEntry *entry;
	ProxyCluster *cluster;
	Oid			server;
	int32		version = 0;

	if (servers_changed)
		clusters_forget();
	entry = hash_search(clusters, &name, HASH_FIND, NULL);
	server = entry && entry->server_known == generation ? entry->server : plproxy_load_server_oid(name);

	if (!OidIsValid(server))
	{
		version = plproxy_load_version(name);
		entry = hash_search(clusters, &name, HASH_FIND, NULL);
	}
	cluster = entry ? entry->cluster : NULL;

	if (cluster == NULL || cluster->stale || cluster->server != server ||
		cluster->version != version)
	{
		ErrorContextCallback callback;
		bool		found;

		callback.callback = cluster_error_context;
		callback.arg = unconstify(char *, name);
		callback.previous = error_context_stack;
		error_context_stack = &callback;
		cluster = OidIsValid(server)
			? plproxy_load_server(name, server)
			: plproxy_load_functions(name, version);
		error_context_stack = callback.previous;

		/* loading runs functions, which may have loaded it meanwhile */
		entry = hash_search(clusters, &cluster->name, HASH_ENTER, &found);
		if (!found)
		{
			entry->name = MemoryContextStrdup(clusters_cxt, name);
			entry->cluster = NULL;
		}
		cluster_replace(entry, cluster);
		cluster = entry->cluster;
		if (OidIsValid(server) && generation != servers_generation)
			cluster->stale = true;
	}
	entry->server = server;
	entry->server_known = generation;

	cluster->use_count++;
	return cluster;
}

/*
 * The "cluster" behind CONNECT: one partition. It depends on nothing but what it
 * is made of; the latest are kept.
 */
ProxyCluster *
plproxy_cluster_connect(const char *connstr, ProxyFunction *func)
{
	Oid			owner = plproxy_login_owner(func->oid);
	bool		by_caller = func->map_name == NULL;
	ProxyCluster *cluster = NULL;
	int			i;

	if (servers_changed)
		clusters_forget();
	for (i = 0; i < nconnects; i++)
	{
		cluster = connects[i];
		if (cluster->owner == owner && cluster->by_caller == by_caller &&
			strcmp(cluster->partitions[0].connstr, connstr) == 0)
			break;
	}
	if (i == nconnects)
	{
		cluster = plproxy_load_begin(NULL);
		cluster->owner = owner;
		cluster->by_caller = by_caller;
		plproxy_load_finish(cluster, list_make1(unconstify(char *, connstr)));
		MemoryContextSetParent(cluster->cxt, clusters_cxt);
		cluster->use_count = 1;
		if (nconnects < MAX_KEPT_STRINGS)
			nconnects++;
		else
			plproxy_cluster_release(connects[--i]);
	}
	memmove(&connects[1], &connects[0], sizeof(ProxyCluster *) * i);
	connects[0] = cluster;

	cluster->use_count++;
	return cluster;
}

void
plproxy_cluster_release(ProxyCluster *cluster)
{
	if (--cluster->use_count > 0)
		return;
	plproxy_login_forget(cluster);
	MemoryContextDelete(cluster->cxt);
}

/* Which partition does a hash value choose? */
int
plproxy_cluster_partition(ProxyCluster *cluster, int64 hash)
{
	int64		n = cluster->npartitions;

	int64		slot;

	if (cluster->nslots)
		n = cluster->nslots;
	if (cluster->config.modular_mapping)
	{
		slot = hash % n;
		if (slot < 0)
			slot = -slot;
	}
	else
		slot = hash & (n - 1);
	return cluster->nslots ? cluster->slots[slot] : slot;
}

/*
 * Drop the clusters whose servers were dropped or renamed or have other partitions
 * now, and their connections, which nobody would close before the next call of
 * the same cluster, if there ever is one.
 */
static void
clusters_forget(void)
{
	HASH_SEQ_STATUS seq;
	ClusterEntry *entry;

	servers_changed = false;
	hash_seq_init(&seq, clusters);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		ProxyCluster *cluster = entry->cluster;

		if (cluster && cluster->stale && OidIsValid(cluster->server) &&
			!plproxy_load_still_there(cluster))
		{
			entry->cluster = NULL;
			cluster_drop(cluster);
		}
	}
}

/* errcontext callback: which cluster's description is at fault? */
static void
cluster_error_context(void *name)
{
	errcontext("loading of cluster \"%s\"", (char *) name);
}

/*
 * Put a loaded cluster into the cache. Connections of the one before are dropped
 * if it was another: a new version means that the partitions may have moved
 * behind the same connect strings.
 */
static void
cluster_replace(ClusterEntry *entry, ProxyCluster *cluster)
{
	ProxyCluster *old = entry->cluster;

	if (old && cluster_equal(old, cluster))
	{
		old->stale = false;
		MemoryContextDelete(cluster->cxt);
		return;
	}

	MemoryContextSetParent(cluster->cxt, clusters_cxt);
	cluster->use_count = 1;
	entry->cluster = cluster;
	if (old)
		cluster_drop(old);
}

/* The cache does not need the cluster any more. */
static void
cluster_drop(ProxyCluster *cluster)
{
	for (int i = 0; i < cluster->npartitions; i++)
		plproxy_connection_discard(cluster->partitions[i].connstr);
	cluster->replaced = true;
	plproxy_cluster_release(cluster);
}

static bool
cluster_equal(const ProxyCluster *a, const ProxyCluster *b)
{
	if (a->server != b->server || a->version != b->version || a->owner != b->owner ||
		a->npartitions != b->npartitions ||
		memcmp(&a->config, &b->config, sizeof(ProxyConfig)) != 0 ||
		strcmp(a->hash_ranges ? a->hash_ranges : "", b->hash_ranges ? b->hash_ranges : "") != 0)
		return false;
	for (int i = 0; i < a->npartitions; i++)
	{
		if (strcmp(a->partitions[i].connstr, b->partitions[i].connstr) != 0)
			return false;
	}
	return true;
}

/* plproxy_partition_of(cluster, hash): as RUN ON would choose. Connects nowhere. */
Datum
plproxy_partition_of(PG_FUNCTION_ARGS)
{
	ProxyCluster *cluster = plproxy_cluster_get(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	int			partition = 0;

	PG_TRY();
	{
		plproxy_login_check_usage(cluster, GetUserId());
		partition = plproxy_cluster_partition(cluster, PG_GETARG_INT64(1));
	}
	PG_FINALLY();
	{
		plproxy_cluster_release(cluster);
	}
	PG_END_TRY();
	PG_RETURN_INT32(partition);
}

/*
 * plproxy_partitions(cluster): where the partitions are, as far as it is no
 * secret, and how much of the hash is theirs.
 */
Datum
plproxy_partitions(PG_FUNCTION_ARGS)
{
	ProxyCluster *cluster;

	InitMaterializedSRF(fcinfo, 0);
	cluster = plproxy_cluster_get(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_TRY();
	{
		int		   *nslots = palloc0(sizeof(int) * cluster->npartitions);

		plproxy_login_check_usage(cluster, GetUserId());
		for (int slot = 0; slot < cluster->nslots; slot++)
			nslots[cluster->slots[slot]]++;
		for (int i = 0; i < cluster->npartitions; i++)
			partition_show(cluster, i, nslots[i], (ReturnSetInfo *) fcinfo->resultinfo);
	}
	PG_FINALLY();
	{
		plproxy_cluster_release(cluster);
	}
	PG_END_TRY();
	return (Datum) 0;
}

static void
partition_show(const ProxyCluster *cluster, int partition, int nslots, ReturnSetInfo *rsinfo)
{
	static const char *const shown[] = {"host", "hostaddr", "port", "dbname"};
	char	   *known[lengthof(shown)] = {NULL};
	Datum		values[5] = {0};
	bool		nulls[5] = {0};
	PQconninfoOption *options = PQconninfoParse(cluster->partitions[partition].connstr, NULL);

	/* a string that cannot be read says nothing, until a call needs it */
	for (PQconninfoOption *option = options; option && option->keyword; option++)
	{
		for (int i = 0; i < lengthof(shown); i++)
		{
			if (option->val && strcmp(option->keyword, shown[i]) == 0)
				known[i] = pstrdup(option->val);
		}
	}
	PQconninfoFree(options);
	if (known[0] == NULL)
		known[0] = known[1];

	values[0] = Int32GetDatum(partition);
	for (int i = 1; i <= 3; i++)
	{
		const char *value = known[i == 1 ? 0 : i];

		nulls[i] = value == NULL;
		if (value)
			values[i] = CStringGetTextDatum(value);
	}
	nulls[4] = cluster->nslots == 0;
	values[4] = Int32GetDatum(nslots);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Syscache callback for foreign servers and wrappers. */
static void
server_changed(Datum arg, int cacheid, uint32 hash)
{
	HASH_SEQ_STATUS seq;
	ClusterEntry *entry;

	servers_generation++;
	hash_seq_init(&seq, clusters);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		if (entry->cluster && OidIsValid(entry->cluster->server))
		{
			entry->cluster->stale = true;
			servers_changed = true;
		}
	}
}

static uint32
name_hash(const void *key, Size keysize)
{
	const char *name = *(const char *const *) key;

	return hash_bytes((const unsigned char *) name, strlen(name));
}

static int
name_match(const void *a, const void *b, Size keysize)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}
