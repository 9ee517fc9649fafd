/*
 * triggers.c
 *	  SQL entry points of the queue triggers, and the course of one firing.
 *
 * Everything allocated while a trigger fires belongs to the context of the firing,
 * which the server empties after each row, or, for expressions, to the SPI
 * procedure's; only the setup (setup.c), plans and the function to call (insert.c)
 * outlive the call. The row that a BEFORE trigger returns is the server's.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "triggers.h"

SKYTOOLS_MODULE("pgq_triggers");

PG_FUNCTION_INFO_V1(pgq_jsontriga);
PG_FUNCTION_INFO_V1(pgq_logutriga);
PG_FUNCTION_INFO_V1(pgq_sqltriga);
PG_FUNCTION_INFO_V1(pgq_logtriga);

/* function prototypes */
static Datum fire(FunctionCallInfo fcinfo, const TrigaFormat *format);
static TrigaOp operation(TriggerData *tg);
static void run(TrigaSetup *setup, TriggerData *tg);
static void check_arguments(const TrigaSetup *setup, TriggerData *tg, TrigaOp op);
static void check_key(const TrigaCall *call, TriggerData *tg);
static void check_constraints(TriggerData *tg, HeapTuple tuple);
static TrigaRow *deform(TrigaSetup *setup, TriggerData *tg, HeapTuple tuple, bool computed);
static bool only_ignored_changed(const TrigaCall *call);
static void build_fields(TrigaCall *call, NullableDatum *fields);
static NullableDatum written(const TrigaCall *call, void (*write) (StringInfo, const TrigaCall *));
static NullableDatum constant(text *value);

const char	triga_op_letter[NUM_OPS] = {'I', 'U', 'D', 'R'};
const char *const triga_op_name[NUM_OPS] = {"INSERT", "UPDATE", "DELETE", "TRUNCATE"};

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
 * The oldest of them. No SQL function of ours calls it; databases that come from
 * long ago have one: CREATE FUNCTION ... AS '$libdir/pgq_triggers', 'pgq_logtriga'.
 */
Datum
pgq_logtriga(PG_FUNCTION_ARGS)
{
	return fire(fcinfo, &triga_format_log);
}

/*
 * A trigger's result is a pointer to the row to go on with; NULL stops the
 * row's operation in a BEFORE trigger, tells of an INSTEAD OF trigger that it did
 * nothing, and means nothing in others.
 */
static Datum
fire(FunctionCallInfo fcinfo, const TrigaFormat *format)
{
	TriggerData *tg = (TriggerData *) fcinfo->context;
	bool		skip = false;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("pgq.%s not called as trigger", format->name)));

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

	if (skip || !TRIGGER_FIRED_FOR_ROW(tg->tg_event) || TRIGGER_FIRED_AFTER(tg->tg_event))
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(tg->tg_event) ?
						   tg->tg_newtuple : tg->tg_trigtuple);
}

static void
run(TrigaSetup *setup, TriggerData *tg)
{
	bool		computed = !TRIGGER_FIRED_BEFORE(tg->tg_event);
	TrigaCall	call = {
		.setup = setup,
		.op = operation(tg)
	};
	NullableDatum fields[NUM_EV_FIELDS];

	check_arguments(setup, tg, call.op);
	if (setup->deny)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("Table '%s.%s' to queue '%s': change not allowed (%s)",
						setup->schema_name, setup->table_name, setup->queue_name,
						triga_op_name[call.op]),
				 errhint("Change it where its events come from, or drop the trigger \"%s\".",
						 tg->tg_trigger->tgname)));

	if (setup->has_expressions && SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	switch (call.op)
	{
		case OP_INSERT:
			call.row = call.new_row = deform(setup, tg, tg->tg_trigtuple, computed);
			break;
		case OP_UPDATE:
			call.row = call.new_row = deform(setup, tg, tg->tg_newtuple, computed);
			call.old_row = deform(setup, tg, tg->tg_trigtuple, true);
			break;
		case OP_DELETE:
			call.row = call.old_row = deform(setup, tg, tg->tg_trigtuple, true);
			break;
		default:
			break;
	}

	check_key(&call, tg);
	if (setup->skip && call.new_row)
		check_constraints(tg, call.op == OP_INSERT ? tg->tg_trigtuple : tg->tg_newtuple);
	if (triga_when(&call) && !only_ignored_changed(&call))
	{
		build_fields(&call, fields);
		triga_insert_event(setup->queue_text, fields);
	}

	if (setup->has_expressions && SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

static TrigaOp
operation(TriggerData *tg)
{
	if (TRIGGER_FIRED_BY_INSERT(tg->tg_event))
		return OP_INSERT;
	if (TRIGGER_FIRED_BY_UPDATE(tg->tg_event))
		return OP_UPDATE;
	if (TRIGGER_FIRED_BY_DELETE(tg->tg_event))
		return OP_DELETE;
	if (TRIGGER_FIRED_BY_TRUNCATE(tg->tg_event))
		return OP_TRUNCATE;
	elog(ERROR, "unexpected trigger event %u", tg->tg_event);
}

/*
 * Refuses arguments that this kind of trigger cannot follow. The messages, here and
 * in setup.c and expression.c, are those that users of the queue have met before;
 * which table and trigger, and what to do, stands in detail and hint.
 */
static void
check_arguments(const TrigaSetup *setup, TriggerData *tg, TrigaOp op)
{
	const char *useless = NULL;

	if (op != OP_TRUNCATE && !TRIGGER_FIRED_FOR_ROW(tg->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("pgq Ins/Upd/Del trigger must be fired FOR EACH ROW"),
				 errdetail("Trigger \"%s\" fires for a whole %s statement.",
						   tg->tg_trigger->tgname, triga_op_name[op])));
	if (setup->format->by_position && !TRIGGER_FIRED_AFTER(tg->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("pgq.%s must be fired AFTER", setup->format->name),
				 errhint("Create trigger \"%s\" AFTER the operation.",
						 tg->tg_trigger->tgname)));
	if (setup->skip && TRIGGER_FIRED_AFTER(tg->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("SKIP does not work in AFTER trigger."),
				 errhint("Create trigger \"%s\" BEFORE the operation.",
						 tg->tg_trigger->tgname)));
	if (op != OP_TRUNCATE)
		return;

	if (setup->ignore_list)
		useless = "Column ignore does not make sense for truncate trigger";
	else if (setup->pkey_given)
		useless = "Custom pkey_list does not make sense for truncate trigger";
	else if (setup->backup)
		useless = "Backup does not make sense for truncate trigger";
	else if (setup->has_expressions)
		useless = "Custom expressions do not make sense for truncater trigger";
	if (useless)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", useless),
				 errhint("Create a trigger of its own for TRUNCATE beside \"%s\", without that argument.",
						 tg->tg_trigger->tgname)));
}

/* Who gets the event must be able to find the row. */
static void
check_key(const TrigaCall *call, TriggerData *tg)
{
	const TrigaSetup *setup = call->setup;

	if (call->old_row == NULL)
		return;
	if (setup->pkey_list == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("Update/Delete on table without pkey"),
				 errdetail("Table \"%s.%s\" has no primary key, and trigger \"%s\" names none.",
						   setup->schema_name, setup->table_name, tg->tg_trigger->tgname),
				 errhint("Add a primary key, or name the columns that stand for it in the trigger argument pkey=.")));
	if (call->op == OP_UPDATE && triga_key_changed(call))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("primary key update not allowed"),
				 errdetail("Events of table \"%s.%s\" name their row by its key: %s.",
						   setup->schema_name, setup->table_name, setup->pkey_list),
				 errhint("Delete the row and insert it anew.")));
}

/*
 * The server looks at NOT NULL and CHECK constraints when it stores a row, behind
 * BEFORE triggers. A row that SKIP keeps from being stored would never be checked,
 * but who makes events by a table counts on its constraints. The row of a view has
 * none.
 */
static void
check_constraints(TriggerData *tg, HeapTuple tuple)
{
	TupleConstr *constr = RelationGetDescr(tg->tg_relation)->constr;
	EState	   *estate;
	ResultRelInfo *rel;
	TupleTableSlot *slot;

	if (constr == NULL || (!constr->has_not_null && constr->num_check == 0))
		return;
	estate = CreateExecutorState();
	rel = makeNode(ResultRelInfo);
	/* Index 0: in no range table, so errors show what the user may select. */
	InitResultRelInfo(rel, tg->tg_relation, 0, NULL, 0);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(tg->tg_relation), &TTSOpsHeapTuple);
	ExecStoreHeapTuple(tuple, slot, false);
	slot->tts_tableOid = RelationGetRelid(tg->tg_relation); /* a new row has none yet */
	if (constr->has_generated_stored)
		ExecComputeStoredGenerated(rel, estate, slot, CMD_INSERT);
	ExecConstraints(rel, slot, estate);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
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

	if (call->op != OP_UPDATE || !call->setup->has_ignored)
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
 * The fields of the event. An expression wins over a magic column, and that over
 * what the format writes.
 */
static void
build_fields(TrigaCall *call, NullableDatum *fields)
{
	TrigaSetup *setup = call->setup;
	bool		given[NUM_EV_FIELDS] = {false};

	for (int i = 0; i < NUM_EV_FIELDS; i++)
		fields[i] = constant(NULL);

	for (int i = 0; i < setup->ncolumns && setup->has_magic && call->row; i++)
	{
		TrigaColumn *col = &setup->columns[i];
		TrigaText	value;

		if (col->magic == EV_NONE)
			continue;
		triga_output(col, call->row, &value);
		if (value.data)
			fields[col->magic] = constant(cstring_to_text_with_len(value.data, value.len));
		given[col->magic] = true;
	}
	for (int i = 0; i < NUM_EV_FIELDS && setup->has_expressions; i++)
	{
		if (setup->expressions[i].source)
		{
			char	   *value = triga_expression(call, i);

			fields[i] = constant(value ? cstring_to_text(value) : NULL);
			given[i] = true;
		}
	}

	if (!given[EV_TYPE])
		fields[EV_TYPE] = constant(setup->type_text[call->op]);
	if (!given[EV_DATA])
		fields[EV_DATA] = written(call, setup->format->data);
	if (!given[EV_EXTRA1])
		fields[EV_EXTRA1] = constant(setup->table_text);
	if (!given[EV_EXTRA2] && setup->backup && call->op == OP_UPDATE)
		fields[EV_EXTRA2] = written(call, setup->format->backup);
}

/* What the format writes, as a text that has never been anything else. */
static NullableDatum
written(const TrigaCall *call, void (*write) (StringInfo, const TrigaCall *))
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoSpaces(&buf, VARHDRSZ);
	write(&buf, call);
	SET_VARSIZE(buf.data, buf.len);
	return constant((text *) buf.data);
}

static NullableDatum
constant(text *value)
{
	return (NullableDatum)
	{
		.value = PointerGetDatum(value),
			.isnull = value == NULL
	};
}
