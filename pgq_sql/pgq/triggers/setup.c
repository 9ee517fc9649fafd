/*
 * setup.c
 *	  What is known of a trigger before it fires: arguments, table, columns.
 *
 * A setup is built at the trigger's first firing in the session and kept in a
 * hash table under the trigger's oid. Each lives in a context of its own below
 * "pgq trigger setups". Invalidations only mark: of a table its triggers, of a
 * schema (renamed) all. The next use builds anew; a marked setup that a firing
 * further up the stack still uses is taken out of the cache and freed by its
 * last user. Building one sweeps the other marked ones, as their triggers may be
 * gone for good.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_index.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "triggers.h"

#define MAGIC_PREFIX "_pgq_ev_"

typedef struct SetupEntry
{
	Oid			trigger_id;		/* hash key: must be first */
	TrigaSetup *setup;
} SetupEntry;

static const char *const option_names[NUM_EXPRESSIONS] = {
	"ev_type", "ev_data", "ev_extra1", "ev_extra2", "ev_extra3", "ev_extra4", "when"
};

static HTAB *setups = NULL;
static MemoryContext setups_context = NULL;

/* function prototypes */
static void setups_init(void);
static void setups_sweep(void);
static void setup_free(TrigaSetup *setup);
static TrigaSetup *setup_build(TriggerData *tg, const TrigaFormat *format);
static void parse_arguments(TrigaSetup *setup, Trigger *trigger);
static bool parse_expression(TrigaSetup *setup, const char *arg);
static void find_pkey(TrigaSetup *setup, Relation rel);
static void check_pkey(TrigaSetup *setup, Trigger *trigger);
static void build_columns(TrigaSetup *setup, Relation rel);
static EventField magic_field(const TrigaSetup *setup, const char *name);
static List *split_words(const char *list);
static bool has_word(List *words, const char *name);
static void relation_changed(Datum arg, Oid relid);
static void schema_changed(Datum arg, int cacheid, uint32 hashvalue);

/* Never NULL. The caller releases it, on error too. */
TrigaSetup *
triga_setup_acquire(TriggerData *tg, const TrigaFormat *format)
{
	Oid			trigger_id = tg->tg_trigger->tgoid;
	SetupEntry *entry;
	TrigaSetup *setup;
	bool		found;

	if (setups == NULL)
		setups_init();

	entry = hash_search(setups, &trigger_id, HASH_FIND, NULL);
	if (entry && entry->setup->valid && entry->setup->format == format)
	{
		entry->setup->use_count++;
		return entry->setup;
	}

	setups_sweep();
	setup = setup_build(tg, format);
	entry = hash_search(setups, &trigger_id, HASH_ENTER, &found);
	if (found)
	{
		/* in use up the stack, or changed while we were building */
		if (entry->setup->use_count == 0)
			setup_free(entry->setup);
		else
			entry->setup->replaced = true;
	}
	entry->setup = setup;
	setup->use_count++;
	return setup;
}

void
triga_setup_release(TrigaSetup *setup)
{
	if (--setup->use_count == 0 && setup->replaced)
		setup_free(setup);
}

static void
setups_init(void)
{
	HASHCTL		ctl = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(SetupEntry)
	};

	setups_context = AllocSetContextCreate(TopMemoryContext, "pgq trigger setups",
										   ALLOCSET_SMALL_SIZES);
	ctl.hcxt = setups_context;
	setups = hash_create("pgq trigger setups", 32, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
}

static void
setups_sweep(void)
{
	HASH_SEQ_STATUS status;
	SetupEntry *entry;

	hash_seq_init(&status, setups);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (!entry->setup->valid && entry->setup->use_count == 0)
		{
			setup_free(entry->setup);
			hash_search(setups, &entry->trigger_id, HASH_REMOVE, NULL);
		}
	}
}

static void
setup_free(TrigaSetup *setup)
{
	for (int i = 0; i < NUM_EXPRESSIONS; i++)
	{
		if (setup->expressions[i].plan)
			SPI_freeplan(setup->expressions[i].plan);
	}
	MemoryContextDelete(setup->context);
}

static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	SetupEntry *entry;

	hash_seq_init(&status, setups);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (relid == InvalidOid || entry->setup->relid == relid)
			entry->setup->valid = false;
	}
}

static void
schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	relation_changed(arg, InvalidOid);
}

static TrigaSetup *
setup_build(TriggerData *tg, const TrigaFormat *format)
{
	Relation	rel = tg->tg_relation;
	MemoryContext context;
	MemoryContext old;
	TrigaSetup *setup;

	/* Below the caller's until it is whole, so that an error frees it. */
	context = AllocSetContextCreate(CurrentMemoryContext, "pgq trigger setup",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);

	setup = palloc0(sizeof(TrigaSetup));
	setup->context = context;
	setup->trigger_id = tg->tg_trigger->tgoid;
	setup->relid = RelationGetRelid(rel);
	setup->format = format;
	setup->valid = true;
	setup->schema_name = get_namespace_name(RelationGetNamespace(rel));
	setup->table_name = pstrdup(RelationGetRelationName(rel));
	parse_arguments(setup, tg->tg_trigger);
	if (!setup->pkey_given)
		find_pkey(setup, rel);
	build_columns(setup, rel);
	check_pkey(setup, tg->tg_trigger);

	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, setups_context);
	return setup;
}

static void
parse_arguments(TrigaSetup *setup, Trigger *trigger)
{
	if (trigger->tgnargs < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("pgq trigger must have destination queue as argument"),
				 errhint("Create trigger \"%s\" with the queue's name as first argument.",
						 trigger->tgname)));
	setup->queue_name = pstrdup(trigger->tgargs[0]);

	for (int i = 1; i < trigger->tgnargs; i++)
	{
		const char *arg = trigger->tgargs[i];

		if (strcmp(arg, "SKIP") == 0 || strcmp(arg, "skip") == 0)
			setup->skip = true;
		else if (strcmp(arg, "backup") == 0)
			setup->backup = true;
		else if (strcmp(arg, "deny") == 0)
			setup->deny = true;
		else if (strncmp(arg, "ignore=", 7) == 0)
			setup->ignore_list = pstrdup(arg + 7);
		else if (strncmp(arg, "pkey=", 5) == 0)
		{
			setup->pkey_given = true;
			setup->pkey_names = split_words(arg + 5);
			if (setup->pkey_names != NIL)
				setup->pkey_list = pstrdup(arg + 5);
		}
		else if (!parse_expression(setup, arg))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("bad param to pgq trigger"),
					 errdetail("Trigger \"%s\" has the argument \"%s\".", trigger->tgname, arg),
					 errhint("After the queue it takes SKIP, backup, deny, ignore=, pkey=, ev_type=, ev_data=, ev_extra1= to ev_extra4= and when=.")));
	}
}

static bool
parse_expression(TrigaSetup *setup, const char *arg)
{
	for (int i = 0; i < NUM_EXPRESSIONS; i++)
	{
		size_t		len = strlen(option_names[i]);

		if (strncmp(arg, option_names[i], len) == 0 && arg[len] == '=')
		{
			setup->expressions[i].setup = setup;
			setup->expressions[i].option = option_names[i];
			setup->expressions[i].source = pstrdup(arg + len + 1);
			setup->has_expressions = true;
			return true;
		}
	}
	return false;
}

/* The primary key in the order of its index. */
static void
find_pkey(TrigaSetup *setup, Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	StringInfoData names;
	ListCell   *lc;

	initStringInfo(&names);
	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for index %u", lfirst_oid(lc));
		index = (Form_pg_index) GETSTRUCT(tuple);
		for (int i = 0; index->indisprimary && i < index->indnkeyatts; i++)
		{
			AttrNumber	attnum = index->indkey.values[i];
			Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);

			appendStringInfo(&names, "%s%s", i > 0 ? "," : "", NameStr(att->attname));
			setup->pkey_names = lappend(setup->pkey_names, pstrdup(NameStr(att->attname)));
		}
		ReleaseSysCache(tuple);
	}
	list_free(indexes);
	if (setup->pkey_names != NIL)
		setup->pkey_list = names.data;
}

/* A key of columns that are not there would name no row. */
static void
check_pkey(TrigaSetup *setup, Trigger *trigger)
{
	ListCell   *lc;

	foreach(lc, setup->pkey_names)
	{
		const char *name = lfirst(lc);
		bool		found = false;

		for (int i = 0; i < setup->ncolumns && !found; i++)
			found = strcmp(setup->columns[i].name, name) == 0;
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("table \"%s.%s\" has no column \"%s\"",
							setup->schema_name, setup->table_name, name),
					 errdetail("The argument pkey= of trigger \"%s\" names it.", trigger->tgname)));
	}
}

static void
build_columns(TrigaSetup *setup, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *ignored = setup->ignore_list ? split_words(setup->ignore_list) : NIL;

	setup->natts = desc->natts;
	setup->columns = palloc0(sizeof(TrigaColumn) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		TrigaColumn *col = &setup->columns[setup->ncolumns];
		Oid			output;
		bool		is_varlena;

		/* A virtual column, unlike a stored one, has no value in a row. */
		if (att->attisdropped ||
			(att->attgenerated != '\0' && att->attgenerated != ATTRIBUTE_GENERATED_STORED))
			continue;
		setup->ncolumns++;
		col->index = i;
		col->name = pstrdup(NameStr(att->attname));
		col->label = setup->format->label(col->name);
		col->typid = att->atttypid;
		col->typlen = att->attlen;
		col->typbyval = att->attbyval;
		col->collation = att->attcollation;
		col->magic = magic_field(setup, col->name);
		col->ignored = has_word(ignored, col->name);
		col->in_pkey = has_word(setup->pkey_names, col->name);
		col->generated = att->attgenerated != '\0';
		getTypeOutputInfo(att->atttypid, &output, &is_varlena);
		fmgr_info_cxt(output, &col->output, setup->context);
	}
}

static EventField
magic_field(const TrigaSetup *setup, const char *name)
{
	if (strncmp(name, MAGIC_PREFIX, strlen(MAGIC_PREFIX)) != 0)
		return EV_NONE;
	for (int i = 0; i < NUM_EV_FIELDS; i++)
	{
		/* _pgq_ev_type gives ev_type */
		if (strcmp(name + strlen("_pgq_"), option_names[i]) == 0)
			return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_COLUMN_DEFINITION),
			 errmsg("Unknown magic column: %s", name),
			 errdetail("Table \"%s.%s\" has it.", setup->schema_name, setup->table_name),
			 errhint("Names that begin with _pgq_ev_ are kept for _pgq_ev_type, _pgq_ev_data and _pgq_ev_extra1 to _pgq_ev_extra4.")));
}

/* The words of a list that is separated by commas or blanks. */
static List *
split_words(const char *list)
{
	List	   *words = NIL;

	for (;;)
	{
		size_t		len;

		list += strspn(list, ", \t\n");
		len = strcspn(list, ", \t\n");
		if (len == 0)
			return words;
		words = lappend(words, pnstrdup(list, len));
		list += len;
	}
}

static bool
has_word(List *words, const char *name)
{
	ListCell   *lc;

	foreach(lc, words)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	}
	return false;
}

/* Does the column stand in the row's image? */
bool
triga_in_data(const TrigaColumn *col, const TrigaRow *row)
{
	return col->magic == EV_NONE && !col->ignored && (row->computed || !col->generated);
}

/* The value as text, NULL for NULL. */
char *
triga_output(TrigaColumn *col, const TrigaRow *row)
{
	if (row->nulls[col->index])
		return NULL;
	return OutputFunctionCall(&col->output, row->values[col->index]);
}

/*
 * Did the UPDATE change the column? By its bytes, since 1.0 and 1.00 are two
 * values for whoever gets the row.
 */
bool
triga_changed(const TrigaCall *call, const TrigaColumn *col)
{
	bool		old_null = call->old_row->nulls[col->index];
	bool		new_null = call->new_row->nulls[col->index];

	if (old_null || new_null)
		return old_null != new_null;
	return !datum_image_eq(call->old_row->values[col->index],
						   call->new_row->values[col->index],
						   col->typbyval, col->typlen);
}

/*
 * Did the UPDATE change the key? By the type's own equality, as the key's index
 * does it.
 */
bool
triga_key_changed(const TrigaCall *call)
{
	const TrigaSetup *setup = call->setup;

	for (int i = 0; i < setup->ncolumns; i++)
	{
		const TrigaColumn *col = &setup->columns[i];
		TypeCacheEntry *type;

		if (!col->in_pkey || !triga_changed(call, col))
			continue;
		if (call->old_row->nulls[col->index] || call->new_row->nulls[col->index])
			return true;
		type = lookup_type_cache(col->typid, TYPECACHE_EQ_OPR_FINFO);
		if (!OidIsValid(type->eq_opr) ||
			!DatumGetBool(FunctionCall2Coll(&type->eq_opr_finfo, col->collation,
											call->old_row->values[col->index],
											call->new_row->values[col->index])))
			return true;
	}
	return false;
}
