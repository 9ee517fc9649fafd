/*
 * cluster.c
 *	  Clusters: where their partitions are, and as whom to connect to them.
 *
 * A cluster is a foreign server of the wrapper "plproxy", or else what the three
 * functions plproxy.get_cluster_* say. A loaded ProxyCluster never changes; what
 * replaces it is another one, and use_count keeps the old one for the calls that
 * run on it. Each lives in a context of its own, below the caller's while it is
 * being loaded, below "PL/Proxy clusters" afterwards.
 *
 * Invalidation callbacks only mark. The next use loads anew, and connections are
 * dropped only when something has really changed.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "common/hashfn.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "plproxy.h"

#define WRAPPER_NAME "plproxy"
#define VALIDATOR_NAME "plproxy_fdw_validator"

/* So many connect strings of CONNECT are kept as clusters. */
#define MAX_KEPT_STRINGS 16

/* So many users of a cluster are remembered. */
#define MAX_KEPT_LOGINS 16

typedef struct ClusterEntry
{
	const char *name;			/* hash key, must be first */
	ProxyCluster *cluster;		/* NULL while it could not be loaded */
	Oid			server;			/* server of that name, or InvalidOid */
	uint64		server_known;	/* servers_generation when it was looked up */
} ClusterEntry;

/* One of the functions that describe clusters. */
typedef struct ClusterFunction
{
	const char *name;
	const char *sql;
	SPIPlanPtr	plan;			/* NULL before the first run */
} ClusterFunction;

/* Values of plproxy.password_required. */
typedef enum
{
	PASSWORD_OFF,
	PASSWORD_ON,
	PASSWORD_STRICT
}			PasswordLevel;

static const struct config_enum_entry password_levels[] = {
	{"off", PASSWORD_OFF, false},
	{"on", PASSWORD_ON, false},
	{"strict", PASSWORD_STRICT, false},
	{"false", PASSWORD_OFF, true},
	{"true", PASSWORD_ON, true},
	{"no", PASSWORD_OFF, true},
	{"yes", PASSWORD_ON, true},
	{"0", PASSWORD_OFF, true},
	{"1", PASSWORD_ON, true},
	{NULL, 0, false}
};

static ClusterFunction config_function = {
	"get_cluster_config", "select * from plproxy.get_cluster_config($1)"
};
static ClusterFunction partitions_function = {
	"get_cluster_partitions", "select * from plproxy.get_cluster_partitions($1)"
};

static void clusters_forget(void);
static ProxyLogin *login_build(ProxyCluster *cluster, Oid role);
static void logins_forget(ProxyCluster *cluster);
static void login_changed(Datum arg, int cacheid, uint32 hash);
static void usage_check(const ProxyCluster *cluster, Oid role);
static const char *login_distrust(ProxyCluster *cluster);
static Oid	function_owner(Oid function);
static void cluster_error_context(void *name);
static void login_error_context(void *name);
static Oid	server_lookup(const char *name);
static bool wrapper_is_ours(const ForeignDataWrapper *wrapper);
static ProxyCluster *cluster_begin(const char *name);
static void cluster_finish(ProxyCluster *cluster, List *connstrs);
static void cluster_replace(ClusterEntry *entry, ProxyCluster *cluster);
static void cluster_drop(ProxyCluster *cluster);
static bool cluster_equal(const ProxyCluster *a, const ProxyCluster *b);
static ProxyCluster *cluster_load_server(const char *name, Oid serverid);
static ProxyCluster *cluster_load_functions(const char *name, int32 version);
static int32 cluster_version(const char *name);
static void cluster_function_check(const char *function, const char *cluster);
static Oid	cluster_function_lookup(const ClusterFunction *function);
static void cluster_function_run(ClusterFunction *function, const char *cluster);
static void partition_show(const ProxyCluster *cluster, int partition, ReturnSetInfo *rsinfo);
static void server_changed(Datum arg, int cacheid, uint32 hash);
static void mapping_changed(Datum arg, int cacheid, uint32 hash);
static uint32 name_hash(const void *key, Size keysize);
static int	name_match(const void *a, const void *b, Size keysize);

PG_FUNCTION_INFO_V1(plproxy_fdw_validator);
PG_FUNCTION_INFO_V1(plproxy_partition_of);
PG_FUNCTION_INFO_V1(plproxy_partitions);

static MemoryContext clusters_cxt;
static HTAB *clusters;
static bool servers_changed = false;	/* some entry may be of no use */
static int	password_required = PASSWORD_ON;

/* what CONNECT named last, latest first, and how many of them there are */
static ProxyCluster *connects[MAX_KEPT_STRINGS];
static int	nconnects = 0;

/*
 * Counted up by the invalidation callbacks. What was made from the catalogs is
 * right while the count is still what it was before they were looked at, so a
 * change that becomes known in between is not lost.
 */
static uint64 servers_generation = 1;
static uint64 logins_generation = 1;

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
	CacheRegisterSyscacheCallback(USERMAPPINGOID, mapping_changed, (Datum) 0);
	/* who may use a server, who is a superuser, who owns what */
	CacheRegisterSyscacheCallback(AUTHOID, login_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, login_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, login_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, login_changed, (Datum) 0);
	DefineCustomEnumVariable("plproxy.password_required",
							 "Whose connections to partitions must use a password that stands in the connect string or the user mapping.",
							 "\"on\" means those that a role without superuser rights defines by owning the server or "
							 "function, \"strict\" also those whose user or connect string such a role may have chosen.",
							 &password_required, PASSWORD_ON, password_levels,
							 PGC_SUSET, 0, NULL, NULL, NULL);
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
	server = entry && entry->server_known == generation ? entry->server : server_lookup(name);

	if (!OidIsValid(server))
	{
		version = cluster_version(name);
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
			? cluster_load_server(name, server)
			: cluster_load_functions(name, version);
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
	Oid			owner = function_owner(func->oid);
	bool		by_caller = func->map_name == NULL;
	ProxyCluster *cluster = NULL;
	int			i;

	for (i = 0; i < nconnects; i++)
	{
		cluster = connects[i];
		if (cluster->owner == owner && cluster->by_caller == by_caller &&
			strcmp(cluster->partitions[0].connstr, connstr) == 0)
			break;
	}
	if (i == nconnects)
	{
		cluster = cluster_begin(NULL);
		cluster->owner = owner;
		cluster->by_caller = by_caller;
		cluster_finish(cluster, list_make1(unconstify(char *, connstr)));
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
	logins_forget(cluster);
	MemoryContextDelete(cluster->cxt);
}

/*
 * As whom does the current user connect to the cluster? For a server this asks
 * for USAGE and the user mapping, anew whenever something has changed that the
 * answer depends on. The login is pinned; plproxy_cluster_logout ends that.
 */
ProxyLogin *
plproxy_cluster_login(ProxyCluster *cluster)
{
	Oid			user = GetUserId();
	Oid			role = cluster->config.session_user ? GetSessionUserId() : user;
	ProxyLogin *login = cluster->logins;

	if (login && (login->generation != logins_generation || login->level != password_required))
		logins_forget(cluster);
	for (login = cluster->logins; login; login = login->next)
	{
		if (login->for_user == user && login->role == role)
			break;
	}
	if (login == NULL)
	{
		ErrorContextCallback callback;

		callback.callback = login_error_context;
		callback.arg = cluster->name;
		callback.previous = error_context_stack;
		error_context_stack = &callback;
		login = login_build(cluster, role);
		error_context_stack = callback.previous;

		if (cluster->nlogins == MAX_KEPT_LOGINS)
			logins_forget(cluster);
		login->next = cluster->logins;
		cluster->logins = login;
		cluster->nlogins++;
	}
	login->use_count++;
	return login;
}

void
plproxy_cluster_logout(ProxyLogin *login)
{
	if (--login->use_count == 0)
		MemoryContextDelete(login->cxt);
}

/* Make a login of the current user, in a context of its own. */
static ProxyLogin *
login_build(ProxyCluster *cluster, Oid role)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "PL/Proxy login",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	ProxyLogin *login = palloc0(sizeof(ProxyLogin));
	UserMapping *mapping;
	ListCell   *lc;

	login->cxt = cxt;
	login->use_count = 1;
	login->generation = logins_generation;
	login->level = password_required;
	login->for_user = GetUserId();
	login->role = role;
	login->user = GetUserNameFromId(role, false);
	login->pools = palloc0(sizeof(struct ProxyPool *) * cluster->npartitions);
	if (password_required != PASSWORD_OFF)
		login->distrust = login_distrust(cluster);
	if (OidIsValid(cluster->server))
	{
		usage_check(cluster, role);
		mapping = GetUserMapping(role, cluster->server);
		login->mapping_hash = GetSysCacheHashValue1(USERMAPPINGOID, ObjectIdGetDatum(mapping->umid));
		foreach(lc, mapping->options)
		{
			DefElem    *option = lfirst(lc);

			if (pg_strcasecmp(option->defname, "user") == 0)
			{
				const char *user = defGetString(option);

				login->mapped = true;
				if (password_required == PASSWORD_STRICT && OidIsValid(mapping->userid) &&
					strcmp(user, login->user) != 0 && !superuser_arg(mapping->userid))
					login->distrust_user = psprintf("Role \"%s\", who is not a superuser, may have chosen the user of its user mapping.",
													login->user);
				login->user = user;
			}
			else if (pg_strcasecmp(option->defname, "password") == 0)
				login->password = defGetString(option);
		}
	}
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(cxt, clusters_cxt);
	return login;
}

/* Forget the cluster's logins; calls may still use them. */
static void
logins_forget(ProxyCluster *cluster)
{
	while (cluster->logins)
	{
		ProxyLogin *login = cluster->logins;

		cluster->logins = login->next;
		plproxy_cluster_logout(login);
	}
	cluster->nlogins = 0;
}

/* A cluster that is a server may only be used by those it was granted to. */
static void
usage_check(const ProxyCluster *cluster, Oid role)
{
	if (OidIsValid(cluster->server) &&
		object_aclcheck(ForeignServerRelationId, cluster->server, role, ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, cluster->name);
}

/*
 * Why may the cluster's connect strings not be trusted with the rights that the
 * server's operating system user has on partitions? NULL if they may: a
 * superuser is behind them.
 */
static const char *
login_distrust(ProxyCluster *cluster)
{
	Oid			owner = cluster->owner;

	if (cluster->by_functions)
	{
		/* it may have been dropped and made anew without a new version */
		owner = function_owner(cluster->partitions_function);
		if (!OidIsValid(owner))
		{
			cluster->partitions_function = cluster_function_lookup(&partitions_function);
			owner = function_owner(cluster->partitions_function);
		}
	}
	if (!OidIsValid(owner))
		return "The function that said where to connect does not exist any more.";
	if (!superuser_arg(owner))
		return psprintf("Role \"%s\", who is not a superuser, owns %s.",
						GetUserNameFromId(owner, false),
						OidIsValid(cluster->server) ? "the foreign server" :
						cluster->by_functions ? "the function plproxy.get_cluster_partitions" :
						"the function with CONNECT");
	if (password_required == PASSWORD_STRICT && cluster->by_caller && !superuser())
		return psprintf("Role \"%s\", who is not a superuser, may have chosen the connect string.",
						GetUserNameFromId(GetUserId(), false));
	return NULL;
}

static Oid
function_owner(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
		ReleaseSysCache(tuple);
	}
	return owner;
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
 * Drop the clusters whose servers were dropped or renamed, and their connections,
 * which nobody else would close.
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
			get_foreign_server_oid(cluster->name, true) != cluster->server)
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

/* errcontext callback. CONNECT has no name to tell. */
static void
login_error_context(void *name)
{
	if (name)
		errcontext("login to cluster \"%s\"", (char *) name);
}

/* Find the foreign server that is the cluster, or InvalidOid. */
static Oid
server_lookup(const char *name)
{
	Oid			serverid = get_foreign_server_oid(name, true);
	ForeignServer *server;

	if (!OidIsValid(serverid))
		return InvalidOid;
	server = GetForeignServer(serverid);
	return wrapper_is_ours(GetForeignDataWrapper(server->fdwid)) ? serverid : InvalidOid;
}

/*
 * Is it the extension's wrapper, or one that somebody made with its validator, say
 * for other defaults?
 */
static bool
wrapper_is_ours(const ForeignDataWrapper *wrapper)
{
	const char *validator;

	if (strcmp(wrapper->fdwname, WRAPPER_NAME) == 0)
		return true;
	validator = get_func_name(wrapper->fdwvalidator);
	return validator && strcmp(validator, VALIDATOR_NAME) == 0;
}

/* Begin a cluster in a context of its own below the current one. */
static ProxyCluster *
cluster_begin(const char *name)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "PL/Proxy cluster",
											  ALLOCSET_SMALL_SIZES);
	ProxyCluster *cluster = MemoryContextAllocZero(cxt, sizeof(ProxyCluster));

	cluster->cxt = cxt;
	if (name)
	{
		cluster->name = MemoryContextStrdup(cxt, name);
		MemoryContextSetIdentifier(cxt, cluster->name);
	}
	return cluster;
}

/* Give the cluster its partitions, when its config is known. */
static void
cluster_finish(ProxyCluster *cluster, List *connstrs)
{
	int			n = list_length(connstrs);
	ListCell   *lc;

	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cluster \"%s\" has no partitions", cluster->name)));
	if (cluster->hash_ranges)
		plproxy_setting_slots(cluster, n);
	else if (!cluster->config.modular_mapping && (n & (n - 1)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cluster \"%s\" has %d partitions, which is not a power of 2",
						cluster->name, n),
				 errhint("Set modular_mapping to 1 to choose partitions by the remainder of the hash.")));

	cluster->partitions = MemoryContextAllocZero(cluster->cxt, sizeof(ProxyPartition) * n);
	foreach(lc, connstrs)
	{
		int			i = cluster->npartitions++;

		cluster->partitions[i].connstr = MemoryContextStrdup(cluster->cxt, lfirst(lc));
		cluster->partitions[i].first = i;
		for (int k = 0; k < i; k++)
		{
			if (strcmp(cluster->partitions[k].connstr, cluster->partitions[i].connstr) == 0)
			{
				cluster->partitions[i].first = k;
				break;
			}
		}
	}
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

static ProxyCluster *
cluster_load_server(const char *name, Oid serverid)
{
	ProxyCluster *cluster = cluster_begin(name);
	ForeignServer *server = GetForeignServer(serverid);
	ForeignDataWrapper *wrapper = GetForeignDataWrapper(server->fdwid);
	ListCell   *lc;

	cluster->server = serverid;
	cluster->owner = server->owner;
	foreach(lc, wrapper->options)
	{
		DefElem    *option = lfirst(lc);

		plproxy_setting_apply(cluster, option->defname, defGetString(option));
	}
	foreach(lc, server->options)
	{
		DefElem    *option = lfirst(lc);

		if (plproxy_setting_partition(option->defname) < 0)
			plproxy_setting_apply(cluster, option->defname, defGetString(option));
	}
	cluster_finish(cluster, plproxy_setting_partitions(server->options));
	return cluster;
}

static ProxyCluster *
cluster_load_functions(const char *name, int32 version)
{
	ProxyCluster *cluster = cluster_begin(name);
	MemoryContext caller = CurrentMemoryContext;
	List	   *connstrs = NIL;
	TupleDesc	desc;

	cluster->version = version;

	SPI_connect();
	cluster_function_run(&config_function, name);
	desc = SPI_tuptable->tupdesc;
	if (desc->natts != 2 || !plproxy_type_is_string(SPI_gettypeid(desc, 1)) ||
		!plproxy_type_is_string(SPI_gettypeid(desc, 2)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("plproxy.get_cluster_config must return two columns of type text: key and value")));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *key = SPI_getvalue(SPI_tuptable->vals[i], desc, 1);
		char	   *value = SPI_getvalue(SPI_tuptable->vals[i], desc, 2);

		if (key == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("plproxy.get_cluster_config returned a null key for cluster \"%s\"", name)));
		/* no value: the default stays */
		if (value)
			plproxy_setting_apply(cluster, key, value);
	}
	SPI_finish();

	SPI_connect();
	cluster_function_run(&partitions_function, name);
	cluster->by_functions = true;
	cluster->partitions_function = cluster_function_lookup(&partitions_function);
	desc = SPI_tuptable->tupdesc;
	if (desc->natts < 1 || !plproxy_type_is_string(SPI_gettypeid(desc, 1)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("plproxy.get_cluster_partitions must return connect strings of type text")));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *connstr = SPI_getvalue(SPI_tuptable->vals[i], desc, 1);
		MemoryContext old;

		if (connstr == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("plproxy.get_cluster_partitions returned a null connect string for partition %d of cluster \"%s\"",
							(int) i, name)));
		old = MemoryContextSwitchTo(caller);
		connstrs = lappend(connstrs, pstrdup(connstr));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();

	cluster_finish(cluster, connstrs);
	return cluster;
}

/* The version of a cluster; that there is none means no such cluster. */
static int32
cluster_version(const char *name)
{
	static int	params[] = {0};
	static Oid	types[] = {TEXTOID};
	static ProxyQuery query = {
		.sql = "plproxy.get_cluster_version($1)",.nparams = 1,
		.params = params,.types = types,.fresh = true
	};
	Datum		args[] = {CStringGetTextDatum(name)};
	bool		nulls[] = {false};
	ProxyLocal	local;
	uint64		nrows;
	Datum		version;
	Oid			type;
	bool		isnull;

	if (query.plan == NULL || !SPI_plan_is_valid(query.plan))
		cluster_function_check("get_cluster_version", name);

	plproxy_local_begin(&local, &query, NULL);
	nrows = plproxy_local_run(&local, args, nulls);
	if (nrows != 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("plproxy.get_cluster_version must return one row, but returned " UINT64_FORMAT " for cluster \"%s\"",
						nrows, name)));
	version = plproxy_local_value(&local, 0, &type, &isnull);
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("plproxy.get_cluster_version returned null for cluster \"%s\"", name)));
	if (type != INT4OID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("plproxy.get_cluster_version must return type integer")));
	plproxy_local_end(&local);
	return DatumGetInt32(version);
}

/* That one of the cluster functions is missing means no such cluster. */
static void
cluster_function_check(const char *function, const char *cluster)
{
	Oid			types[1] = {TEXTOID};
	List	   *names = list_make2(makeString("plproxy"), makeString(unconstify(char *, function)));

	if (OidIsValid(LookupFuncName(names, 1, types, true)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("cluster \"%s\" does not exist", cluster),
			 errdetail("There is no foreign server of that name, and no function plproxy.%s(text).",
					   function),
			 errhint("Create it with CREATE SERVER ... FOREIGN DATA WRAPPER plproxy, "
					 "or describe it by the plproxy.get_cluster_ functions.")));
}

static Oid
cluster_function_lookup(const ClusterFunction *function)
{
	Oid			types[1] = {TEXTOID};

	return LookupFuncName(list_make2(makeString("plproxy"),
									 makeString(unconstify(char *, function->name))),
						  1, types, true);
}

/* Run one of the cluster functions in the open SPI connection. */
static void
cluster_function_run(ClusterFunction *function, const char *cluster)
{
	Datum		values[1] = {CStringGetTextDatum(cluster)};
	Oid			types[1] = {TEXTOID};
	int			code;

	cluster_function_check(function->name, cluster);
	if (function->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(function->sql, 1, types);

		if (plan == NULL)
			elog(ERROR, "SPI_prepare of \"%s\" failed: %s", function->sql,
				 SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "SPI_keepplan failed");
		function->plan = plan;
	}

	code = SPI_execute_plan(function->plan, values, NULL, false, 0);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan of \"%s\" failed: %s", function->sql,
			 SPI_result_code_string(code));
}

/*
 * The validator of the foreign data wrapper: refuses what plproxy_cluster_get
 * would trip over.
 */
Datum
plproxy_fdw_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ProxyCluster *cluster = cluster_begin("(new)");
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst(lc);
		const char *name = option->defname;

		if (option->arg == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("option \"%s\" needs a value", name)));

		if (catalog == UserMappingRelationId)
		{
			if (pg_strcasecmp(name, "user") != 0 && pg_strcasecmp(name, "password") != 0)
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						 errmsg("invalid option \"%s\"", name),
						 errhint("Options of a user mapping are: user, password.")));
		}
		else if (catalog == ForeignServerRelationId && plproxy_setting_partition(name) >= 0)
			continue;
		else if (catalog == ForeignServerRelationId || catalog == ForeignDataWrapperRelationId)
		{
			if (!plproxy_setting_exists(name))
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						 errmsg("invalid option \"%s\"", name),
						 errhint("Options are: %s%s.",
								 catalog == ForeignServerRelationId ? "p0, p1, ..., " : "",
								 plproxy_setting_list())));
			plproxy_setting_apply(cluster, name, defGetString(option));
		}
		else
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", name),
					 errhint("The wrapper \"%s\" has no foreign tables.", WRAPPER_NAME)));
	}

	if (catalog == ForeignServerRelationId)
	{
		List	   *connstrs = plproxy_setting_partitions(options);

		if (connstrs == NIL)
			ereport(ERROR,
					((errcode) (ERRCODE_SYNTAX_ERROR),
					 errmsg("a cluster needs at least one partition"),
					 errhint("Give the connect string of the first one as option p0.")));

		/* modular_mapping may be set by the wrapper: looked at when loading */
		cluster->config.modular_mapping = true;
		cluster_finish(cluster, connstrs);
	}

	MemoryContextDelete(cluster->cxt);
	PG_RETURN_BOOL(true);
}

/* plproxy_partition_of(cluster, hash): as RUN ON would choose. Connects nowhere. */
Datum
plproxy_partition_of(PG_FUNCTION_ARGS)
{
	ProxyCluster *cluster = plproxy_cluster_get(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	int			partition = 0;

	PG_TRY();
	{
		usage_check(cluster, GetUserId());
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
		usage_check(cluster, GetUserId());
		for (int i = 0; i < cluster->npartitions; i++)
			partition_show(cluster, i, (ReturnSetInfo *) fcinfo->resultinfo);
	}
	PG_FINALLY();
	{
		plproxy_cluster_release(cluster);
	}
	PG_END_TRY();
	return (Datum) 0;
}

static void
partition_show(const ProxyCluster *cluster, int partition, ReturnSetInfo *rsinfo)
{
	static const char *const shown[] = {"host", "hostaddr", "port", "dbname"};
	char	   *known[lengthof(shown)] = {NULL};
	Datum		values[5] = {0};
	bool		nulls[5] = {0};
	PQconninfoOption *options = PQconninfoParse(cluster->partitions[partition].connstr, NULL);
	int			nslots = 0;

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
	for (int slot = 0; slot < cluster->nslots; slot++)
		nslots += cluster->slots[slot] == partition;
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
	logins_generation++;
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

/* Syscache callback for user mappings. */
static void
mapping_changed(Datum arg, int cacheid, uint32 hash)
{
	logins_generation++;
	plproxy_connection_mapping_changed(hash);
}

/* Syscache callback for roles, their members, databases and functions. */
static void
login_changed(Datum arg, int cacheid, uint32 hash)
{
	logins_generation++;
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
