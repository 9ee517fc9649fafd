/*
 * triggers.c
 *	  SQL entry points of the queue triggers, and the course of one firing.
 *
 * Everything allocated while a trigger fires belongs to the SPI procedure's
 * context and goes with SPI_finish(); only the setup (setup.c) and the plans
 * outlive the call. The row that a BEFORE trigger returns is the server's.
 *
 * pgq.insert_event is called by name, so that whoever replaces that function
 * gets the events.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "triggers.h"

SKYTOOLS_MODULE("pgq_triggers");

PG_FUNCTION_INFO_V1(pgq_jsontriga);
PG_FUNCTION_INFO_V1(pgq_logutriga);
PG_FUNCTION_INFO_V1(pgq_sqltriga);

/* function prototypes */
static Datum fire(FunctionCallInfo fcinfo, const TrigaFormat *format);
static char operation(TriggerData *tg);
static void run(TrigaSetup *setup, TriggerData *tg);
static void check_arguments(const TrigaSetup *setup, TriggerData *tg, char op);
static TrigaRow *deform(TrigaSetup *setup, TriggerData *tg, HeapTuple tuple, bool computed);
static bool only_ignored_changed(const TrigaCall *call);
static void build_fields(TrigaCall *call, char **fields);
static void insert_event(const char *queue_name, char **fields);

Datum
pgq_jsontriga(PG_FUNCTION_ARGS)
{
	return fire(fcinfo, &triga_format_json);
}

Datum
pgq_logutriga(PG_FUNCTION_ARGS)
{
	return fire(fcinfo, &triga_format_url);
}

Datum
pgq_sqltriga(PG_FUNCTION_ARGS)
{
	return fire(fcinfo, &triga_format_sql);
}

/*
 * A trigger's result is a pointer to the row to go on with; NULL stops the
 * row's operation in a BEFORE trigger and means nothing in others.
 */
static Datum
fire(FunctionCallInfo fcinfo, const TrigaFormat *format)
{
	TriggerData *tg = (TriggerData *) fcinfo->context;
	bool		skip = false;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("a queue trigger function can only be called as trigger")));

	/* "local" is how an operator changes data behind the queues' back. */
	if (SessionReplicationRole != SESSION_REPLICATION_ROLE_LOCAL)
	{
		TrigaSetup *setup = triga_setup_acquire(tg, format);

		skip = setup->skip;
		PG_TRY();
		{
			run(setup, tg);
		}
		PG_FINALLY();
		{
			triga_setup_release(setup);
		}
		PG_END_TRY();
	}

	if (skip || !TRIGGER_FIRED_FOR_ROW(tg->tg_event) || !TRIGGER_FIRED_BEFORE(tg->tg_event))
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(tg->tg_event) ?
						   tg->tg_newtuple : tg->tg_trigtuple);
}

static void
run(TrigaSetup *setup, TriggerData *tg)
{
	TrigaCall	call = {
		.setup = setup,
		.op = operation(tg)
	};
	char	   *fields[NUM_EV_FIELDS] = {NULL};

	check_arguments(setup, tg, call.op);
	if (setup->deny)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("Table '%s.%s' to queue '%s': change not allowed (%s)",
						setup->schema_name, setup->table_name, setup->queue_name,
						triga_op_name(call.op)),
				 errhint("Change it where its events come from, or drop the trigger \"%s\".",
						 tg->tg_trigger->tgname)));

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	switch (call.op)
	{
		case 'I':
			call.row = call.new_row =
				deform(setup, tg, tg->tg_trigtuple, !TRIGGER_FIRED_BEFORE(tg->tg_event));
			break;
		case 'U':
			call.row = call.new_row =
				deform(setup, tg, tg->tg_newtuple, !TRIGGER_FIRED_BEFORE(tg->tg_event));
			call.old_row = deform(setup, tg, tg->tg_trigtuple, true);
			break;
		case 'D':
			call.row = call.old_row = deform(setup, tg, tg->tg_trigtuple, true);
			break;
	}

	if (triga_when(&call))
	{
		if ((call.op == 'U' || call.op == 'D') && setup->pkey_list == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("Update/Delete on table without pkey"),
					 errdetail("Table \"%s.%s\" has no primary key, and trigger \"%s\" names none.",
							   setup->schema_name, setup->table_name, tg->tg_trigger->tgname),
					 errhint("Add a primary key, or name the columns that stand for it in the trigger argument pkey=.")));
		if (call.op == 'U' && triga_key_changed(&call))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("primary key update not allowed"),
					 errdetail("Events of table \"%s.%s\" name their row by its key: %s.",
							   setup->schema_name, setup->table_name, setup->pkey_list),
					 errhint("Delete the row and insert it anew.")));

		if (!only_ignored_changed(&call))
		{
			build_fields(&call, fields);
			insert_event(setup->queue_name, fields);
		}
	}

	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

static char
operation(TriggerData *tg)
{
	if (TRIGGER_FIRED_BY_INSERT(tg->tg_event))
		return 'I';
	if (TRIGGER_FIRED_BY_UPDATE(tg->tg_event))
		return 'U';
	if (TRIGGER_FIRED_BY_DELETE(tg->tg_event))
		return 'D';
	if (TRIGGER_FIRED_BY_TRUNCATE(tg->tg_event))
		return 'R';
	elog(ERROR, "unexpected trigger event %u", tg->tg_event);
}

const char *
triga_op_name(char op)
{
	switch (op)
	{
		case 'I':
			return "INSERT";
		case 'U':
			return "UPDATE";
		case 'D':
			return "DELETE";
		default:
			return "TRUNCATE";
	}
}

/*
 * Refuses arguments that this kind of trigger cannot follow. The messages, here and
 * in setup.c and expression.c, are those that users of the queue have met before;
 * which table and trigger, and what to do, stands in detail and hint.
 */
static void
check_arguments(const TrigaSetup *setup, TriggerData *tg, char op)
{
	const char *useless = NULL;

	if (TRIGGER_FIRED_INSTEAD(tg->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must be fired BEFORE or AFTER, not INSTEAD OF",
						tg->tg_trigger->tgname)));
	if (op != 'R' && !TRIGGER_FIRED_FOR_ROW(tg->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("pgq Ins/Upd/Del trigger must be fired FOR EACH ROW"),
				 errdetail("Trigger \"%s\" fires for a whole %s statement.",
						   tg->tg_trigger->tgname, triga_op_name(op))));
	if (setup->skip && TRIGGER_FIRED_AFTER(tg->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("SKIP does not work in AFTER trigger."),
				 errhint("Create trigger \"%s\" BEFORE the operation.",
						 tg->tg_trigger->tgname)));
	if (op != 'R')
		return;

	if (setup->ignore_list)
		useless = "Column ignore does";
	else if (setup->pkey_given)
		useless = "Custom pkey_list does";
	else if (setup->backup)
		useless = "Backup does";
	else if (setup->has_expressions)
		useless = "Custom expressions do";
	else if (setup->skip)
		useless = "SKIP does";
	if (useless)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s not make sense for truncate trigger", useless),
				 errhint("Create a trigger of its own for TRUNCATE beside \"%s\", without that argument.",
						 tg->tg_trigger->tgname)));
}

static TrigaRow *
deform(TrigaSetup *setup, TriggerData *tg, HeapTuple tuple, bool computed)
{
	TrigaRow   *row = palloc(sizeof(TrigaRow));

	row->values = palloc(sizeof(Datum) * setup->natts);
	row->nulls = palloc(sizeof(bool) * setup->natts);
	row->computed = computed;
	heap_deform_tuple(tuple, RelationGetDescr(tg->tg_relation), row->values, row->nulls);
	return row;
}

/*
 * An UPDATE that changes nothing but ignored columns makes no event. One that
 * changes nothing at all does: somebody wanted it, to send the row again.
 */
static bool
only_ignored_changed(const TrigaCall *call)
{
	bool		ignored_changed = false;

	if (call->op != 'U' || call->setup->ignore_list == NULL)
		return false;
	for (int i = 0; i < call->setup->ncolumns; i++)
	{
		const TrigaColumn *col = &call->setup->columns[i];

		if (col->magic != EV_NONE || !triga_changed(call, col))
			continue;
		if (!col->ignored)
			return false;
		ignored_changed = true;
	}
	return ignored_changed;
}

/*
 * The fields of the event; NULL is NULL. An expression wins over a magic column,
 * and that over what the format writes.
 */
static void
build_fields(TrigaCall *call, char **fields)
{
	TrigaSetup *setup = call->setup;
	bool		given[NUM_EV_FIELDS] = {false};
	StringInfoData buf;

	for (int i = 0; i < setup->ncolumns && call->row; i++)
	{
		TrigaColumn *col = &setup->columns[i];

		if (col->magic != EV_NONE)
		{
			fields[col->magic] = triga_output(col, call->row);
			given[col->magic] = true;
		}
	}
	for (int i = 0; i < NUM_EV_FIELDS && setup->has_expressions; i++)
	{
		if (setup->expressions[i].source)
		{
			fields[i] = triga_expression(call, i);
			given[i] = true;
		}
	}

	if (!given[EV_TYPE])
	{
		initStringInfo(&buf);
		setup->format->type(&buf, call);
		fields[EV_TYPE] = buf.data;
	}
	if (!given[EV_DATA])
	{
		initStringInfo(&buf);
		setup->format->data(&buf, call);
		fields[EV_DATA] = buf.data;
	}
	if (!given[EV_EXTRA1])
		fields[EV_EXTRA1] = psprintf("%s.%s", setup->schema_name, setup->table_name);
	if (!given[EV_EXTRA2] && setup->backup && call->op == 'U')
	{
		initStringInfo(&buf);
		setup->format->backup(&buf, call);
		fields[EV_EXTRA2] = buf.data;
	}
}

static void
insert_event(const char *queue_name, char **fields)
{
	static SPIPlanPtr plan = NULL;
	Datum		values[1 + NUM_EV_FIELDS];
	char		nulls[1 + NUM_EV_FIELDS];
	int			rc;

	if (plan == NULL)
	{
		Oid			types[1 + NUM_EV_FIELDS];
		SPIPlanPtr	fresh;

		for (int i = 0; i < lengthof(types); i++)
			types[i] = TEXTOID;
		fresh = SPI_prepare("select pgq.insert_event($1, $2, $3, $4, $5, $6, $7)",
							lengthof(types), types);
		if (fresh == NULL || SPI_keepplan(fresh) != 0)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		plan = fresh;
	}

	values[0] = CStringGetTextDatum(queue_name);
	nulls[0] = ' ';
	for (int i = 0; i < NUM_EV_FIELDS; i++)
	{
		values[i + 1] = fields[i] ? CStringGetTextDatum(fields[i]) : (Datum) 0;
		nulls[i + 1] = fields[i] ? ' ' : 'n';
	}
	rc = SPI_execute_plan(plan, values, nulls, false, 0);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "pgq.insert_event failed: %s", SPI_result_code_string(rc));
}
