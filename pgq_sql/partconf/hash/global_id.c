/*
 * global_id.c
 *	  Ids that are unique over all databases that have a db_code of their own.
 */
#include "postgres.h"

#include "commands/sequence.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "partconf.h"

#define DB_CODE_BITS 14
#define MAX_IDS ((INT64CONST(1) << (63 - DB_CODE_BITS)) - 1)

PG_FUNCTION_INFO_V1(partconf_global_id);

/*
 * partconf.global_id()
 */
Datum
partconf_global_id(PG_FUNCTION_ARGS)
{
	PartconfConf *conf;
	int32		db_code;
	int64		id;

	/* a db_code that was given up must not come after set_conf() has returned */
	AcceptInvalidationMessages();
	conf = partconf_conf_configured();
	db_code = conf->db_code;
	id = nextval_internal(conf->seq_oid, false);

	if (id < 0 || id > MAX_IDS)
		ereport(ERROR,
				(errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
				 errmsg("global ids of database code %d are used up", db_code),
				 errdetail("Sequence partconf.global_id_seq stands at " INT64_FORMAT ", the last one is " INT64_FORMAT ".",
						   id, MAX_IDS),
				 errhint("Give this database another db_code with partconf.set_conf(), and begin the sequence anew.")));
	PG_RETURN_INT64((id << DB_CODE_BITS) | db_code);
}
