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
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

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
static void parse_positions(TrigaSetup *setup, Trigger *trigger);
static bool parse_expression(TrigaSetup *setup, const char *arg);
static void find_pkey(TrigaSetup *setup, Relation rel);
static void check_pkey(TrigaSetup *setup, Trigger *trigger);
static void build_columns(TrigaSetup *setup, Relation rel);
static void build_texts(TrigaSetup *setup);
static EventField magic_field(const TrigaSetup *setup, const char *name);
static List *split_names(const char *list, Relation rel);
static bool has_column(Relation rel, const char *name);
static bool has_name(List *names, const char *name);
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
	if (setup->pkey_given)
	{
		setup->pkey_names = split_names(setup->pkey_list, rel);
		if (setup->pkey_names == NIL)
			setup->pkey_list = NULL;
	}
	else if (!format->by_position)
		find_pkey(setup, rel);
	build_columns(setup, rel);
	check_pkey(setup, tg->tg_trigger);
	build_texts(setup);

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
	if (setup->format->by_position)
	{
		parse_positions(setup, trigger);
		return;
	}

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

/* The arguments of logtriga; the third one has no meaning any more. */
static void
parse_positions(TrigaSetup *setup, Trigger *trigger)
{
	if (trigger->tgnargs < 2 || trigger->tgnargs > 3)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("pgq.%s must be used with 2 or 3 args", setup->format->name),
				 errhint("Create trigger \"%s\" with the queue's name and a letter for each column: k key, v value, i ignored.",
						 trigger->tgname)));
	setup->column_kinds = pstrdup(trigger->tgargs[1]);
	if (strchr(setup->column_kinds, 'k') == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("need at least one key column"),
				 errdetail("Trigger \"%s\" has the argument \"%s\".",
						   trigger->tgname, setup->column_kinds),
				 errhint("It has a letter for each column: k key, v value, i ignored.")));
}

static bool
parse_expression(TrigaSetup *setup, const char *arg)
{
	for (int i = 0; i < NUM_EXPRESSIONS; i++)
	{
		size_t		len = strlen(option_names[i]);

		if (strncmp(arg, option_names[i], len) == 0 && arg[len] == '=')
		{
			/* of an option given twice the first one counts */
			if (setup->expressions[i].source)
				return true;
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
	List	   *ignored = setup->ignore_list ? split_names(setup->ignore_list, rel) : NIL;
	const char *kind = setup->column_kinds;

	setup->natts = desc->natts;
	setup->columns = palloc0(sizeof(TrigaColumn) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		TrigaColumn *col = &setup->columns[setup->ncolumns];

		if (att->attisdropped)
			continue;
		col->index = i;
		col->name = pstrdup(NameStr(att->attname));
		if (kind == NULL)
		{
			col->ignored = has_name(ignored, col->name);
			col->in_pkey = has_name(setup->pkey_names, col->name);
		}
		else
		{
			/* columns that came after the trigger have no letter */
			col->ignored = *kind == 'i' || *kind == '\0';
			col->in_pkey = *kind == 'k';
			if (*kind != '\0')
				kind++;
			if (col->in_pkey)
			{
				setup->pkey_names = lappend(setup->pkey_names, pstrdup(col->name));
				setup->pkey_list = setup->pkey_list == NULL ? col->name :
					psprintf("%s,%s", setup->pkey_list, col->name);
			}
		}

		/* A virtual column, unlike a stored one, has no value in a row. */
		if (att->attgenerated != '\0' && att->attgenerated != ATTRIBUTE_GENERATED_STORED)
		{
			memset(col, 0, sizeof(TrigaColumn));
			continue;
		}
		setup->ncolumns++;
		col->label = setup->format->label(col->name);
		col->ident = pstrdup(quote_identifier(col->name));
		col->typid = att->atttypid;
		col->typlen = att->attlen;
		col->typbyval = att->attbyval;
		col->collation = att->attcollation;
		col->magic = magic_field(setup, col->name);
		col->generated = att->attgenerated != '\0';
		triga_output_init(col, setup->context);
		setup->has_ignored |= col->ignored;
		setup->has_magic |= col->magic != EV_NONE;
	}
}

/* The fields that no row changes. */
static void
build_texts(TrigaSetup *setup)
{
	setup->queue_text = cstring_to_text(setup->queue_name);
	setup->table_text = cstring_to_text(psprintf("%s.%s", setup->schema_name, setup->table_name));
	for (int op = 0; op < NUM_OPS; op++)
	{
		StringInfoData type;

		initStringInfo(&type);
		setup->format->type(&type, setup, op);
		setup->type_text[op] = cstring_to_text_with_len(type.data, type.len);
		pfree(type.data);
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

/*
 * The columns that ignore= or pkey= names, separated by commas or blanks. A name
 * with blanks in it is one name if the table has such a column.
 */
static List *
split_names(const char *list, Relation rel)
{
	static const char blanks[] = " \t\n";
	List	   *names = NIL;
	char	   *item;
	char	   *item_rest;

	for (item = strtok_r(pstrdup(list), ",", &item_rest); item;
		 item = strtok_r(NULL, ",", &item_rest))
	{
		char	   *end;
		char	   *word;
		char	   *word_rest;

		item += strspn(item, blanks);
		for (end = item + strlen(item); end > item && strchr(blanks, end[-1]); end--)
			;
		*end = '\0';
		if (has_column(rel, item))
		{
			names = lappend(names, item);
			continue;
		}
		for (word = strtok_r(item, blanks, &word_rest); word;
			 word = strtok_r(NULL, blanks, &word_rest))
			names = lappend(names, word);
	}
	return names;
}

static bool
has_column(Relation rel, const char *name)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
			return true;
	}
	return false;
}

static bool
has_name(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	}
	return false;
}
