/*
 * login.c
 *	  As whom to connect to the partitions of a cluster.
 *
 * A ProxyLogin says it for one user of one cluster. It is made of the catalogs
 * (the user mapping, who may use the server, who owns what) and never changed
 * afterwards; when they may have changed, the cluster's logins are forgotten, and
 * use_count keeps one alive for the calls that run with it. Each has a context of
 * its own beside its cluster's, for it may outlive that.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "plproxy.h"

/* So many users of a cluster are remembered. */
#define MAX_KEPT_LOGINS 16

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

static ProxyLogin *login_build(ProxyCluster *cluster, Oid role);
static const char *login_distrust(ProxyCluster *cluster);
static void login_error_context(void *name);
static void mapping_changed(Datum arg, int cacheid, uint32 hash);
static void login_changed(Datum arg, int cacheid, uint32 hash);

static int	password_required = PASSWORD_ON;

/* As servers_generation in cluster.c, for what logins are made from. */
static uint64 logins_generation = 1;

void
plproxy_login_init(void)
{
	CacheRegisterSyscacheCallback(USERMAPPINGOID, mapping_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, login_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, login_changed, (Datum) 0);
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
 * As whom does the current user connect to the cluster? For a server this asks
 * for USAGE and the user mapping, anew whenever something has changed that the
 * answer depends on. The login is pinned; plproxy_login_release ends that.
 */
ProxyLogin *
plproxy_login_get(ProxyCluster *cluster)
{
	Oid			user = GetUserId();
	Oid			role = cluster->config.session_user ? GetSessionUserId() : user;
	ProxyLogin *login = cluster->logins;

	if (login && (login->generation != logins_generation || login->level != password_required))
		plproxy_login_forget(cluster);
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
			plproxy_login_forget(cluster);
		login->next = cluster->logins;
		cluster->logins = login;
		cluster->nlogins++;
	}
	login->use_count++;
	return login;
}

void
plproxy_login_release(ProxyLogin *login)
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
		plproxy_login_check_usage(cluster, role);
		mapping = GetUserMapping(role, cluster->server);
		login->mapping_hash = GetSysCacheHashValue1(USERMAPPINGOID, ObjectIdGetDatum(mapping->umid));
		foreach(lc, mapping->options)
		{
			DefElem    *option = lfirst(lc);

			if (pg_strcasecmp(option->defname, "user") == 0)
			{
				const char *user = defGetString(option);

				if (*user == '\0')
					continue;	/* libpq would take the operating system's */
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
	MemoryContextSetParent(cxt, MemoryContextGetParent(cluster->cxt));
	return login;
}

/* Forget the cluster's logins; calls may still use them. */
void
plproxy_login_forget(ProxyCluster *cluster)
{
	while (cluster->logins)
	{
		ProxyLogin *login = cluster->logins;

		cluster->logins = login->next;
		plproxy_login_release(login);
	}
	cluster->nlogins = 0;
}

/* A cluster that is a server may only be used by those it was granted to. */
void
plproxy_login_check_usage(const ProxyCluster *cluster, Oid role)
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
		owner = plproxy_login_owner(cluster->partitions_function);
		if (!OidIsValid(owner))
		{
			cluster->partitions_function = plproxy_load_function();
			owner = plproxy_login_owner(cluster->partitions_function);
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

/* Who owns a function? InvalidOid if it does not exist (any more). */
Oid
plproxy_login_owner(Oid function)
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

/* errcontext callback. CONNECT has no name to tell. */
static void
login_error_context(void *name)
{
	if (name)
		errcontext("login to cluster \"%s\"", (char *) name);
}

/* Syscache callback for user mappings. */
static void
mapping_changed(Datum arg, int cacheid, uint32 hash)
{
	logins_generation++;
	plproxy_connection_mapping_changed(hash);
}

/* Syscache callback for servers, wrappers, roles, members, databases and functions. */
static void
login_changed(Datum arg, int cacheid, uint32 hash)
{
	logins_generation++;
}
