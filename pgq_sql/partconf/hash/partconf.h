/*
 * partconf.h
 *	  The map of library partconf: what SQL calls, and what its files share.
 *
 * A call of check_hash goes through three stages: the fence (fence.c), the row of
 * partconf.conf (conf.c) and the hash of the key (hash.c), each kept between
 * calls until somebody changes it.
 */
#ifndef PARTCONF_H
#define PARTCONF_H

#include "pg_compat.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

/* SQLSTATEs of schema partconf, listed in extensions/README.md */
#define ERRCODE_PARTCONF_WRONG_PARTITION MAKE_SQLSTATE('P', 'X', '0', '0', '1')
#define ERRCODE_PARTCONF_FENCED MAKE_SQLSTATE('P', 'X', '0', '0', '2')
#define ERRCODE_PARTCONF_HASH_CHANGED MAKE_SQLSTATE('P', 'X', '0', '0', '3')
#define ERRCODE_PARTCONF_NOT_CONFIGURED MAKE_SQLSTATE('P', 'X', '0', '0', '4')
#define ERRCODE_PARTCONF_BAD_CONFIGURATION MAKE_SQLSTATE('P', 'X', '0', '0', '5')

/*
 * What this backend knows of partconf.conf. There is one, which lives as long as
 * the backend; what it points to is replaced when the row is read anew.
 */
typedef struct PartconfConf
{
	bool		known;			/* false: read the row anew */
	Oid			table_oid;		/* partconf.conf */
	Oid			seq_oid;		/* partconf.global_id_seq */

	bool		configured;		/* there is a row; what follows is of it */
	int32		part_nr;
	int32		max_part;
	int32		db_code;
	char	   *hash_function;	/* schema.name(text), NULL: the default */
	int			n_probes;
	int32	   *probes;			/* what the hash gave when it was set */
	bool		fenced;
	TimestampTz fenced_at;
	char	   *fenced_by;
} PartconfConf;

/* in conf.c */
extern Datum partconf_conf_changed(PG_FUNCTION_ARGS);
extern PartconfConf *partconf_conf_get(void);
extern PartconfConf *partconf_conf_configured(void);
extern Oid	partconf_conf_table(void);

/* in hash.c */
extern Datum partconf_get_hash(PG_FUNCTION_ARGS);
extern Datum partconf_probes(PG_FUNCTION_ARGS);
extern Datum partconf_hash_problem(PG_FUNCTION_ARGS);
extern bool partconf_hash(const PartconfConf *conf, text *key, int32 *hash);
extern void partconf_hash_forget(void);

/* in fence.c */
extern PartconfConf *partconf_enter(void);

/* in check.c */
extern Datum partconf_check_hash(PG_FUNCTION_ARGS);
extern Datum partconf_valid_hash(PG_FUNCTION_ARGS);
pg_noreturn extern void partconf_no_hash(const PartconfConf *conf);
pg_noreturn extern void partconf_wrong_partition(const PartconfConf *conf, text *key,
												 int32 hash, const char *place);

/* in triggers.c */
extern Datum partconf_validate_hash(PG_FUNCTION_ARGS);
extern Datum partconf_deny_fenced(PG_FUNCTION_ARGS);

/* in global_id.c */
extern Datum partconf_global_id(PG_FUNCTION_ARGS);

#endif							/* PARTCONF_H */
