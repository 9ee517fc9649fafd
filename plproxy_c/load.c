/*
 * load.c
 *	  What a cluster is, read from its foreign server or from the functions
 *	  plproxy.get_cluster_*, and checked for servers when they are defined.
 *
 * A cluster is built in a context of its own below the caller's and belongs to
 * whoever asked for it. When an error is thrown it goes away with the caller's.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "plproxy.h"

#define WRAPPER_NAME "plproxy"
#define VALIDATOR_NAME "plproxy_fdw_validator"

/* One of the functions that describe clusters. */
typedef struct ClusterFunction
{
	const char *name;
	const char *sql;
	SPIPlanPtr	plan;			/* NULL before the first run */
} ClusterFunction;

static ClusterFunction config_function = {
	"get_cluster_config", "select * from plproxy.get_cluster_config($1)"
};
static ClusterFunction partitions_function = {
	"get_cluster_partitions", "select * from plproxy.get_cluster_partitions($1)"
};

static bool wrapper_is_ours(const ForeignDataWrapper *wrapper);
static void version_error_context(void *name);
static void cluster_function_check(const char *function, const char *cluster);
static void options_check_names(List *options);
static const char *option_hint(const char *name, Oid catalog);
static int	partition_compare(const void *a, const void *b, void *partitions);
static void cluster_function_run(ClusterFunction *function, const char *cluster);

PG_FUNCTION_INFO_V1(plproxy_fdw_validator);

/* Is the server that the cluster was read from still there, and where it was? */
bool
plproxy_load_still_there(const ProxyCluster *cluster)
{
	List	   *options;
	ListCell   *lc;
	int			n = 0;

	if (plproxy_load_server_oid(cluster->name) != cluster->server)
		return false;
	options = GetForeignServer(cluster->server)->options;
	foreach(lc, options)
	{
		DefElem    *option = lfirst(lc);
		int			number = plproxy_setting_partition(option->defname);

		if (number < 0)
			continue;
		n++;
		if (number >= cluster->npartitions ||
			strcmp(cluster->partitions[number].connstr, defGetString(option)) != 0)
			return false;
	}
	return n == cluster->npartitions;
}

/* Find the foreign server that is the cluster, or InvalidOid. */
Oid
plproxy_load_server_oid(const char *name)
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

/* Read a cluster from its foreign server. */
ProxyCluster *
plproxy_load_server(const char *name, Oid serverid)
{
	ProxyCluster *cluster = plproxy_load_begin(name);
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
	plproxy_load_finish(cluster, plproxy_setting_partitions(server->options));
	return cluster;
}

/* Read a cluster from the functions that describe it. */
ProxyCluster *
plproxy_load_functions(const char *name, int32 version)
{
	ProxyCluster *cluster = plproxy_load_begin(name);
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
		/* no value means the default, as does the empty one */
		plproxy_setting_apply(cluster, key, value ? value : "");
	}
	SPI_finish();

	SPI_connect();
	cluster_function_run(&partitions_function, name);
	cluster->by_functions = true;
	cluster->partitions_function = plproxy_load_function();
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

	plproxy_load_finish(cluster, connstrs);
	return cluster;
}

/* The version of a cluster; that there is none means no such cluster. */
int32
plproxy_load_version(const char *name)
{
	static int	params[] = {0};
	static Oid	types[] = {TEXTOID};
	static ProxyQuery query = {
		.sql = "plproxy.get_cluster_version($1)",.nparams = 1,
		.params = params,.types = types,.fresh = true
	};
	Datum		args[] = {CStringGetTextDatum(name)};
	bool		nulls[] = {false};
	ErrorContextCallback callback;
	ProxyLocal	local;
	uint64		nrows;
	Datum		version;
	Oid			type;
	bool		isnull;

	if (query.plan == NULL || !SPI_plan_is_valid(query.plan))
		cluster_function_check("get_cluster_version", name);

	callback.callback = version_error_context;
	callback.arg = unconstify(char *, name);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
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
	error_context_stack = callback.previous;
	return DatumGetInt32(version);
}

/* errcontext callback: whose version is asked for? */
static void
version_error_context(void *name)
{
	errcontext("version of cluster \"%s\"", (char *) name);
}

/*
 * The function that says where the partitions are, or InvalidOid: whose it is
 * decides how far connect strings are trusted.
 */
Oid
plproxy_load_function(void)
{
	Oid			types[1] = {TEXTOID};

	return LookupFuncName(list_make2(makeString("plproxy"),
									 makeString(unconstify(char *, partitions_function.name))),
						  1, types, true);
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
	ProxyCluster *cluster = plproxy_load_begin("(new)");
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
			plproxy_connect_validate(name, defGetString(option));
		else if (catalog == ForeignServerRelationId || catalog == ForeignDataWrapperRelationId)
		{
			if (!plproxy_setting_exists(name))
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						 errmsg("invalid option \"%s\"", name),
						 errhint("%s", option_hint(name, catalog))));
			plproxy_setting_apply(cluster, name, defGetString(option));
		}
		else
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", name),
					 errhint("The wrapper \"%s\" has no foreign tables.", WRAPPER_NAME)));
	}

	options_check_names(options);
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
		plproxy_load_finish(cluster, connstrs);
	}
	else if (cluster->hash_ranges)
	{
		/* so may the server, which also says how many partitions there are */
		cluster->config.modular_mapping = true;
		plproxy_setting_slots(cluster, 0);
	}

	MemoryContextDelete(cluster->cxt);
	PG_RETURN_BOOL(true);
}

/*
 * Names are those of the same option in any case, but for the server they are two,
 * and one of them would silently be the one that counts.
 */
static void
options_check_names(List *options)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, options)
	{
		const char *name = ((DefElem *) lfirst(lc))->defname;
		ListCell   *lc2;

		/* of those there are many, and they are looked at by number */
		if (plproxy_setting_partition(name) >= 0)
			continue;
		foreach(lc2, names)
		{
			if (pg_strcasecmp(lfirst(lc2), name) == 0)
				ereport(ERROR,
						((errcode) (ERRCODE_SYNTAX_ERROR),
						 errmsg("option \"%s\" is given twice", name)));
		}
		names = lappend(names, unconstify(char *, name));
	}
}

/* What to do about an option that a server or wrapper cannot have. */
static const char *
option_hint(const char *name, Oid catalog)
{
	if (pg_strcasecmp(name, "user") == 0 || pg_strcasecmp(name, "password") == 0)
		return "Give it in a user mapping or in the connect strings.";
	if (plproxy_connect_knows(name))
		return "Give it in the connect strings of the partitions.";
	if (plproxy_setting_partition(name) >= 0)
		return "Connect strings are options of the foreign server.";
	return psprintf("Options are: %s%s.",
					catalog == ForeignServerRelationId ? "p0, p1, ..., " : "",
					plproxy_setting_list());
}

/* Begin a cluster in a context of its own below the current one. */
ProxyCluster *
plproxy_load_begin(const char *name)
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
void
plproxy_load_finish(ProxyCluster *cluster, List *connstrs)
{
	int			n = list_length(connstrs);
	int		   *order;
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
		cluster->partitions[cluster->npartitions++].connstr =
		MemoryContextStrdup(cluster->cxt, lfirst(lc));

	/* equal connect strings stand together in this order, the lowest first */
	order = palloc(sizeof(int) * n);
	for (int i = 0; i < n; i++)
		order[i] = i;
	qsort_arg(order, n, sizeof(int), partition_compare, cluster->partitions);
	for (int i = 0; i < n; i++)
	{
		ProxyPartition *partition = &cluster->partitions[order[i]];
		ProxyPartition *before = i ? &cluster->partitions[order[i - 1]] : NULL;

		partition->first = before && strcmp(before->connstr, partition->connstr) == 0
			? before->first : order[i];
	}
	pfree(order);
}

/* qsort_arg callback: partitions by connect string and number. */
static int
partition_compare(const void *a, const void *b, void *partitions)
{
	int			i = *(const int *) a;
	int			k = *(const int *) b;
	int			order = strcmp(((ProxyPartition *) partitions)[i].connstr,
							   ((ProxyPartition *) partitions)[k].connstr);

	return order ? order : i < k ? -1 : i > k;
}
