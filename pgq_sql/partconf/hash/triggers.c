/*
 * triggers.c
 *	  Triggers that guard tables: validate_hash looks at the key of each row,
 *	  deny_fenced at the fence alone.
 *
 * What validate_hash knows of its column is kept for the statement, in the
 * trigger's FmgrInfo: a table does not change while a statement writes to it, and
 * each partition of a partitioned one has a FmgrInfo of its own.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "partconf.h"

/* How a key becomes text */
typedef enum KeyKind
{
	KEY_TEXT,
	KEY_BPCHAR,					/* without its blanks, as a cast has it */
	KEY_OUTPUT
} KeyKind;

typedef struct ValidateSetup
{
	bool		skip;			/* foreign rows are left out */
	AttrNumber	attnum;
	KeyKind		kind;
	FmgrInfo	output;
} ValidateSetup;

static ValidateSetup *setup_build(FunctionCallInfo fcinfo, TriggerData *tg);
static bool has_one_text(Oid type_oid);
static text *key_of(ValidateSetup *setup, Datum value);

PG_FUNCTION_INFO_V1(partconf_validate_hash);
PG_FUNCTION_INFO_V1(partconf_deny_fenced);

/*
 * Trigger partconf.validate_hash('column' [, 'error' | 'skip']).
 *
 * Gives the row to go on with. NULL leaves it out, which is done to a foreign row
 * that is inserted in mode skip, never to one that is updated: the row that it
 * was would stay.
 */
Datum
partconf_validate_hash(PG_FUNCTION_ARGS)
{
	TriggerData *tg = (TriggerData *) fcinfo->context;
	ValidateSetup *setup;
	PartconfConf *conf;
	HeapTuple	row;
	Datum		value;
	bool		isnull;
	text	   *key;
	int32		hash;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("partconf.validate_hash() can only be called as trigger")));
	setup = fcinfo->flinfo->fn_extra;
	if (setup == NULL)
		setup = setup_build(fcinfo, tg);
	row = TRIGGER_FIRED_BY_UPDATE(tg->tg_event) ? tg->tg_newtuple : tg->tg_trigtuple;

	conf = partconf_enter();
	value = SPI_getbinval(row, RelationGetDescr(tg->tg_relation), setup->attnum, &isnull);
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("key column \"%s\" of table \"%s\" is NULL: the row belongs to no partition",
						tg->tg_trigger->tgargs[0], RelationGetRelationName(tg->tg_relation)),
				 errdetail("Trigger \"%s\" chooses the partition by it.", tg->tg_trigger->tgname),
				 errtablecol(tg->tg_relation, setup->attnum)));
	key = key_of(setup, value);
	if (!partconf_hash(conf, key, &hash))
		partconf_no_hash(conf);
	if ((hash & conf->max_part) == conf->part_nr)
		return PointerGetDatum(row);
	if (setup->skip && TRIGGER_FIRED_BY_INSERT(tg->tg_event))
		return PointerGetDatum(NULL);
	partconf_wrong_partition(conf, key, hash,
							 psprintf("It stands in column \"%s\" of table \"%s\".",
									  tg->tg_trigger->tgargs[0],
									  RelationGetRelationName(tg->tg_relation)));
}

/*
 * Trigger partconf.deny_fenced().
 */
Datum
partconf_deny_fenced(PG_FUNCTION_ARGS)
{
	TriggerData *tg = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("partconf.deny_fenced() can only be called as trigger")));
	if (!TRIGGER_FIRED_BEFORE(tg->tg_event) || TRIGGER_FIRED_FOR_ROW(tg->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("partconf.deny_fenced() must be fired BEFORE, FOR EACH STATEMENT"),
				 errhint("Create trigger \"%s\" so.", tg->tg_trigger->tgname)));
	(void) partconf_enter();
	return PointerGetDatum(NULL);
}

/*
 * Refuses triggers that cannot work, and finds the column.
 */
static ValidateSetup *
setup_build(FunctionCallInfo fcinfo, TriggerData *tg)
{
	Trigger    *trigger = tg->tg_trigger;
	TupleDesc	desc = RelationGetDescr(tg->tg_relation);
	ValidateSetup *setup;
	Form_pg_attribute att;

	if (!TRIGGER_FIRED_BEFORE(tg->tg_event) || !TRIGGER_FIRED_FOR_ROW(tg->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(tg->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("partconf.validate_hash() must be fired BEFORE INSERT OR UPDATE, FOR EACH ROW"),
				 errhint("Create trigger \"%s\" so.", trigger->tgname)));
	if (trigger->tgnargs < 1 || trigger->tgnargs > 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partconf.validate_hash() takes one or two arguments"),
				 errdetail("Trigger \"%s\" has %d.", trigger->tgname, trigger->tgnargs),
				 errhint("They are the key's column, and 'error' or 'skip'.")));

	setup = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(ValidateSetup));
	if (trigger->tgnargs == 2)
	{
		setup->skip = strcmp(trigger->tgargs[1], "skip") == 0;
		if (!setup->skip && strcmp(trigger->tgargs[1], "error") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("partconf.validate_hash() knows no mode \"%s\"", trigger->tgargs[1]),
					 errdetail("It is the second argument of trigger \"%s\".", trigger->tgname),
					 errhint("The modes are 'error' (the default) and 'skip'.")));
	}

	setup->attnum = SPI_fnumber(desc, trigger->tgargs[0]);
	if (setup->attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table \"%s\" has no column \"%s\"",
						RelationGetRelationName(tg->tg_relation), trigger->tgargs[0]),
				 errdetail("It is the first argument of trigger \"%s\".", trigger->tgname)));
	att = TupleDescAttr(desc, setup->attnum - 1);
	if (att->attgenerated != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("key column \"%s\" of table \"%s\" is generated",
						trigger->tgargs[0], RelationGetRelationName(tg->tg_relation)),
				 errdetail("It has no value yet when trigger \"%s\" is fired.", trigger->tgname),
				 errhint("Name the column that it is generated from.")));
	switch (getBaseType(att->atttypid))
	{
		case TEXTOID:
		case VARCHAROID:
			setup->kind = KEY_TEXT;
			break;
		case BPCHAROID:
			setup->kind = KEY_BPCHAR;
			break;
		default:
			{
				Oid			function;
				bool		varlena;

				if (!has_one_text(getBaseType(att->atttypid)))
					ereport(ERROR,
							(errcode(ERRCODE_DATATYPE_MISMATCH),
							 errmsg("key column \"%s\" of table \"%s\" is of type %s",
									trigger->tgargs[0], RelationGetRelationName(tg->tg_relation),
									format_type_be(att->atttypid)),
							 errdetail("Its text is not known to be the same in every session, and the partition goes by it."),
							 errhint("Keep the key in a column of type text, a number or uuid.")));
				setup->kind = KEY_OUTPUT;
				getTypeOutputInfo(att->atttypid, &function, &varlena);
				fmgr_info_cxt(function, &setup->output, fcinfo->flinfo->fn_mcxt);
			}
	}
	fcinfo->flinfo->fn_extra = setup;
	return setup;
}

/*
 * Is a value's text the same whatever DateStyle, bytea_output and the like are?
 */
static bool
has_one_text(Oid type_oid)
{
	char		category;
	bool		preferred;

	switch (type_oid)
	{
		case BOOLOID:
		case CHAROID:
		case CIDROID:
		case INETOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case MACADDROID:
		case NUMERICOID:
		case OIDOID:
		case UUIDOID:
			return true;
	}
	get_type_category_preferred(type_oid, &category, &preferred);
	return category == TYPCATEGORY_STRING || category == TYPCATEGORY_ENUM;
}

static text *
key_of(ValidateSetup *setup, Datum value)
{
	text	   *key;

	switch (setup->kind)
	{
		case KEY_TEXT:
			return DatumGetTextPP(value);
		case KEY_BPCHAR:
			key = DatumGetTextPP(value);
			return cstring_to_text_with_len(VARDATA_ANY(key),
											bpchartruelen(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)));
		case KEY_OUTPUT:
			return cstring_to_text(OutputFunctionCall(&setup->output, value));
	}
	elog(ERROR, "unexpected kind of key %d", setup->kind);
}
