/*
 * hash.c
 *	  The hash of a key: the default, hashtext(lower(key)), or the function that
 *	  partconf.conf names; and whether it still is what it was when it was set.
 *
 * A hash may change under the data: by a new major version, another collation
 * library, a replaced function. So partconf.conf keeps what it gave for the
 * probes below, and before its first use in a session, and after every change
 * of the row or of the function, it is asked again.
 *
 * The default takes lower() in the database's collation, whatever that of the
 * argument is, and calls no function through the manager. Keys of ASCII alone,
 * which most are, do not even go through the locale.
 *
 * Memory: the function of the user lives in "partconf hash function" until it is
 * looked up anew, which does not happen while it runs: it must not use itself.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "partconf.h"

#define SIGNATURE "(text)"

/* What is known of the hash that conf names */
typedef struct ConfHash
{
	bool		known;			/* false: look it up and check it anew */
	MemoryContext context;		/* holds what function points to */
	bool		has_function;	/* not the default */
	uint32		proc_hash;		/* of its entry in pg_proc */
	Oid			owner;
	FmgrInfo	function;
} ConfHash;

/*
 * Keys whose hashes tell one hash from another: letters of both cases, those that
 * languages disagree about, and some without case.
 */
static const char *const ascii_probes[] = {
	"", "a", "Z", "TITLE", "user_1", "John.Smith@Example.COM", "+372 5555 1234",
	"The quick brown fox jumps over the lazy dog 0123456789"
};

/* in UTF-8; a database of another encoding may not have them */
static const char *const utf8_probes[] = {
	"\xC3\xB5\xC3\x95",			/* o with tilde, small and capital */
	"\xC3\x9F\xE1\xBA\x9E",		/* sharp s, small and capital */
	"\xC4\xB0\xC4\xB1",			/* dotted capital I, dotless small i */
	"\xCE\x9F\xCE\x94\xCE\x9F\xCE\xA3", /* a Greek word that ends in sigma */
	"\xD0\x96\xD0\xB6",			/* Cyrillic zhe, capital and small */
	"\xE6\xBC\xA2\xE5\xAD\x97", /* two Han characters */
	"\xF0\x90\x90\x80"			/* Deseret long I, beyond 16 bits */
};

static ConfHash state;

/* How often we were told of changes, to notice one while we are looking */
static uint64 n_news = 0;

static bool callback_registered = false;
static bool running = false;	/* the user's function is being called */
static bool ascii_simple = false;	/* of letters A to Z, lower() is as in C */

static void hash_get(const PartconfConf *conf);
static bool hash_find(const char *signature, StringInfo problem);
static bool hash_problem(const PartconfConf *conf, StringInfo problem);
static bool hash_compute(text *key, int32 *hash);
static int32 hash_default(const char *data, int length);
static bool hash_call(text *key, int32 *hash);
static void refuse_recursion(void);
static void check_ascii(void);
static int	n_probes(void);
static const char *probe(int i);
static void proc_callback(Datum arg, int cacheid, uint32 hashvalue);

PG_FUNCTION_INFO_V1(partconf_get_hash);
PG_FUNCTION_INFO_V1(partconf_probes);
PG_FUNCTION_INFO_V1(partconf_hash_problem);

/*
 * partconf.get_hash(key): of NULL it is NULL.
 */
Datum
partconf_get_hash(PG_FUNCTION_ARGS)
{
	int32		hash;

	if (!partconf_hash(partconf_conf_get(), PG_GETARG_TEXT_PP(0), &hash))
		PG_RETURN_NULL();
	PG_RETURN_INT32(hash);
}

/*
 * partconf._probes(hash_function): what this hash gives for the probes now.
 */
Datum
partconf_probes(PG_FUNCTION_ARGS)
{
	int			n = n_probes();
	Datum	   *values = palloc(sizeof(Datum) * n);
	StringInfoData problem;

	initStringInfo(&problem);
	partconf_hash_forget();
	if (!hash_find(PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)), &problem))
		ereport(ERROR,
				(errcode(ERRCODE_PARTCONF_BAD_CONFIGURATION),
				 errmsg("no such hash function"),
				 errdetail_internal("%s", problem.data)));
	for (int i = 0; i < n; i++)
	{
		int32		hash;

		if (!hash_compute(cstring_to_text(probe(i)), &hash))
			ereport(ERROR,
					(errcode(ERRCODE_PARTCONF_BAD_CONFIGURATION),
					 errmsg("hash function gives NULL"),
					 errdetail("It does so for the key \"%s\".", probe(i)),
					 errhint("It must give an integer for every key that is not NULL.")));
		values[i] = Int32GetDatum(hash);
	}
	/* it is not the one that the row names, or not yet */
	partconf_hash_forget();
	PG_RETURN_ARRAYTYPE_P(construct_array(values, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/*
 * partconf._hash_problem(): in what the hash is not the one that was set; NULL if
 * it is, or if nothing is configured.
 */
Datum
partconf_hash_problem(PG_FUNCTION_ARGS)
{
	PartconfConf *conf = partconf_conf_get();
	StringInfoData problem;
	bool		found;

	initStringInfo(&problem);
	partconf_hash_forget();
	found = hash_problem(conf, &problem);
	partconf_hash_forget();
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(problem.data, problem.len));
}

/*
 * Computes the hash of a key; false if it is NULL, which only a function of the
 * user can do.
 */
bool
partconf_hash(const PartconfConf *conf, text *key, int32 *hash)
{
	if (!state.known)
		hash_get(conf);
	return hash_compute(key, hash);
}

void
partconf_hash_forget(void)
{
	n_news++;
	state.known = false;
}

/*
 * Looks up the hash that the row names, and raises an error unless it is what it
 * was when it was set.
 */
static void
hash_get(const PartconfConf *conf)
{
	StringInfoData problem;
	uint64		news = n_news;

	initStringInfo(&problem);
	if (hash_problem(conf, &problem))
		ereport(ERROR,
				(errcode(ERRCODE_PARTCONF_HASH_CHANGED),
				 errmsg("hash of keys has changed since it was configured in database \"%s\"",
						get_database_name(MyDatabaseId)),
				 errdetail_internal("%s", problem.data),
				 errhint("Bring back what made the old hash: server version, collation or function. "
						 "If the data here and the proxies follow the new one, call partconf.accept_hash().")));
	pfree(problem.data);
	/* unless there are newer news */
	state.known = news == n_news;
}

/*
 * Is the hash another than it was when it was set? Tells in what.
 */
static bool
hash_problem(const PartconfConf *conf, StringInfo problem)
{
	int			n = n_probes();
	int32	   *probes;

	if (!hash_find(conf->configured ? conf->hash_function : NULL, problem))
		return true;
	if (!conf->configured)
		return false;
	if (conf->n_probes != n)
	{
		appendStringInfo(problem, "It was recorded for %d probes, a database of encoding %s has %d.",
						 conf->n_probes, GetDatabaseEncodingName(), n);
		return true;
	}
	/* a function of the user may make conf read its row anew */
	probes = palloc(sizeof(int32) * n);
	memcpy(probes, conf->probes, sizeof(int32) * n);
	for (int i = 0; i < n; i++)
	{
		int32		was = probes[i];
		int32		hash;

		if (!hash_compute(cstring_to_text(probe(i)), &hash))
			appendStringInfo(problem, "Key \"%s\" had the hash %d, it has none now.", probe(i), was);
		else if (hash != was)
			appendStringInfo(problem, "Key \"%s\" had the hash %d, it has %d now.", probe(i), was, hash);
		else
			continue;
		return true;
	}
	return false;
}

/*
 * Makes the hash of that name the one to compute with; NULL is the default. If
 * there is no such function, tells so and returns false.
 *
 * No rights are checked, in the schema or on the function: whoever set it wants
 * everybody to use it.
 */
static bool
hash_find(const char *signature, StringInfo problem)
{
	char	   *name;
	List	   *names;
	Oid			schema_oid = InvalidOid;
	Oid			text_oid = TEXTOID;
	HeapTuple	tuple = NULL;

	/* before anything that it still uses is freed */
	refuse_recursion();
	if (!callback_registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, proc_callback, (Datum) 0);
		check_ascii();
		callback_registered = true;
	}
	state.has_function = false;
	if (signature == NULL)
		return true;

	/* the arguments are always the same: see the constraint of partconf.conf */
	name = pstrdup(signature);
	if (strlen(name) > strlen(SIGNATURE))
		name[strlen(name) - strlen(SIGNATURE)] = '\0';
	names = textToQualifiedNameList(cstring_to_text(name));
	if (list_length(names) == 2)
		schema_oid = get_namespace_oid(strVal(linitial(names)), true);
	if (OidIsValid(schema_oid))
		tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(strVal(lsecond(names))),
								PointerGetDatum(buildoidvector(&text_oid, 1)),
								ObjectIdGetDatum(schema_oid));
	if (!HeapTupleIsValid(tuple))
	{
		appendStringInfo(problem, "Function %s does not exist.", signature);
		return false;
	}
	else
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
		Oid			proc_oid = proc->oid;
		Oid			owner = proc->proowner;
		bool		fits = proc->prokind == PROKIND_FUNCTION && !proc->proretset &&
		proc->prorettype == INT4OID;

		ReleaseSysCache(tuple);
		if (!fits)
		{
			appendStringInfo(problem, "Function %s does not return integer.", signature);
			return false;
		}
		if (state.context == NULL)
			state.context = AllocSetContextCreate(TopMemoryContext, "partconf hash function",
												  ALLOCSET_SMALL_SIZES);
		MemoryContextReset(state.context);
		state.owner = owner;
		state.proc_hash = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(proc_oid));
		fmgr_info_cxt(proc_oid, &state.function, state.context);
		state.has_function = true;
	}
	return true;
}

static bool
hash_compute(text *key, int32 *hash)
{
	if (state.has_function)
		return hash_call(key, hash);
	*hash = hash_default(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
	return true;
}

/*
 * hashtext(lower(key)).
 */
static int32
hash_default(const char *data, int length)
{
	char		buffer[256];
	bool		ascii = true;
	bool		upper = false;
	char	   *lower;
	int32		hash;

	for (int i = 0; i < length; i++)
	{
		if (IS_HIGHBIT_SET(data[i]))
		{
			ascii = false;
			break;
		}
		upper |= data[i] >= 'A' && data[i] <= 'Z';
	}
	if (ascii && !upper)
		return DatumGetInt32(hash_any((const unsigned char *) data, length));
	if (ascii && ascii_simple && length <= sizeof(buffer))
	{
		for (int i = 0; i < length; i++)
			buffer[i] = data[i] >= 'A' && data[i] <= 'Z' ? data[i] + 'a' - 'A' : data[i];
		return DatumGetInt32(hash_any((const unsigned char *) buffer, length));
	}
	lower = str_tolower(data, length, DEFAULT_COLLATION_OID);
	hash = DatumGetInt32(hash_any((const unsigned char *) lower, strlen(lower)));
	pfree(lower);
	return hash;
}

/*
 * Calls the user's function, as its owner: so it gives the same for everybody, and
 * nobody runs it with rights that its owner has not got. Nor does the caller's
 * search_path choose what it calls, and no setting that it changes stays.
 */
static bool
hash_call(text *key, int32 *hash)
{
	LOCAL_FCINFO(fcinfo, 1);
	Oid			user;
	int			context;
	int			nest_level;

	refuse_recursion();
	InitFunctionCallInfoData(*fcinfo, &state.function, 1, DEFAULT_COLLATION_OID, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(key);
	fcinfo->args[0].isnull = false;
	GetUserIdAndSecContext(&user, &context);
	nest_level = NewGUCNestLevel();
	running = true;
	SetUserIdAndSecContext(state.owner,
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	PG_TRY();
	{
		(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
		*hash = DatumGetInt32(FunctionCallInvoke(fcinfo));
	}
	PG_CATCH();
	{
		/* what the function keeps between calls may be half made */
		state.known = false;
		SetUserIdAndSecContext(user, context);
		running = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	SetUserIdAndSecContext(user, context);
	running = false;
	AtEOXact_GUC(false, nest_level);
	return !fcinfo->isnull;
}

static void
refuse_recursion(void)
{
	if (running)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("hash function calls partconf for a hash"),
				 errdetail("The function that partconf.set_hash() was given asks partconf, which would ask it."),
				 errhint("Let the function compute the hash on its own.")));
}

/*
 * Turkish makes a dotless i of an I; all others treat A to Z alike, and none looks
 * at what stands beside such a letter as long as that is ASCII too.
 */
static void
check_ascii(void)
{
	ascii_simple = true;
	for (char c = 'A'; c <= 'Z'; c++)
	{
		char	   *lower = str_tolower(&c, 1, DEFAULT_COLLATION_OID);

		ascii_simple &= lower[0] == c + 'a' - 'A' && lower[1] == '\0';
		pfree(lower);
	}
}

static int
n_probes(void)
{
	return lengthof(ascii_probes) + (GetDatabaseEncoding() == PG_UTF8 ? lengthof(utf8_probes) : 0);
}

static const char *
probe(int i)
{
	return i < lengthof(ascii_probes) ? ascii_probes[i] : utf8_probes[i - lengthof(ascii_probes)];
}

/*
 * A function changed. 0 means all.
 */
static void
proc_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	n_news++;
	if (state.has_function && (hashvalue == 0 || hashvalue == state.proc_hash))
		state.known = false;
}
