/*
 * check.c
 *	  Does a key belong to this partition? check_hash() insists on it, valid_hash()
 *	  tells.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "partconf.h"

/* How much of a key an error shows, in bytes */
#define SHOWN_KEY_LENGTH 64

PG_FUNCTION_INFO_V1(partconf_check_hash);
PG_FUNCTION_INFO_V1(partconf_valid_hash);

/*
 * partconf.check_hash(key): true, or an error.
 */
Datum
partconf_check_hash(PG_FUNCTION_ARGS)
{
	PartconfConf *conf;
	text	   *key;
	int32		hash;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key is NULL: it belongs to no partition")));
	conf = partconf_enter();
	key = PG_GETARG_TEXT_PP(0);
	if (!partconf_hash(conf, key, &hash))
		partconf_no_hash(conf);
	if ((hash & conf->max_part) != conf->part_nr)
		partconf_wrong_partition(conf, key, hash, NULL);
	PG_RETURN_BOOL(true);
}

/*
 * partconf.valid_hash(key): is it one of ours? Knows of no fence.
 */
Datum
partconf_valid_hash(PG_FUNCTION_ARGS)
{
	PartconfConf *conf;
	int32		hash;

	/* it takes no lock, which would bring the news */
	AcceptInvalidationMessages();
	conf = partconf_conf_configured();
	PG_RETURN_BOOL(!PG_ARGISNULL(0) &&
				   partconf_hash(conf, PG_GETARG_TEXT_PP(0), &hash) &&
				   (hash & conf->max_part) == conf->part_nr);
}

/*
 * Raises the error for a key whose hash is NULL.
 */
void
partconf_no_hash(const PartconfConf *conf)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("hash of the key is NULL: it belongs to no partition"),
			 conf->hash_function ? errdetail("Function %s gives none.", conf->hash_function) : 0));
}

/*
 * Raises the error for a key of another partition. place tells where the key
 * was found, a sentence, or is NULL.
 */
void
partconf_wrong_partition(const PartconfConf *conf, text *key, int32 hash, const char *place)
{
	int			length = pg_mbcliplen(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), SHOWN_KEY_LENGTH);
	bool		whole = length == VARSIZE_ANY_EXHDR(key);

	ereport(ERROR,
			(errcode(ERRCODE_PARTCONF_WRONG_PARTITION),
			 errmsg("wrong partition: the key belongs to partition %d, this is partition %d",
					hash & conf->max_part, conf->part_nr),
			 errdetail("Key \"%s%s\" has the hash %d; database \"%s\" has the hashes whose last bits, by mask %d, are %d.%s%s",
					   pnstrdup(VARDATA_ANY(key), length), whole ? "" : "...", hash,
					   get_database_name(MyDatabaseId), conf->max_part, conf->part_nr,
					   place ? " " : "", place ? place : ""),
			 errhint("Compare the proxy's list of partitions with what partconf.get_info() says on each of them; partconf.check_list() does.")));
}
