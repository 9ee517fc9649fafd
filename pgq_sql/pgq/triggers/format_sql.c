/*
 * format_sql.c
 *	  Events of pgq.sqltriga: the change as the tail of an SQL statement.
 *
 * ev_type I, U, D, R. ev_data follows "insert into TABLE ", "update TABLE set " and
 * "delete from TABLE where "; all values are quoted literals that the receiving
 * server converts. Generated columns are left out, as it computes them itself.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "triggers.h"

/* function prototypes */
static void sql_type(StringInfo out, const TrigaCall *call);
static void sql_data(StringInfo out, const TrigaCall *call);
static void sql_backup(StringInfo out, const TrigaCall *call);
static void sql_insert(StringInfo out, const TrigaCall *call);
static void sql_update(StringInfo out, const TrigaCall *call);
static void sql_where(StringInfo out, const TrigaCall *call);
static void sql_literal(StringInfo out, TrigaColumn *col, const TrigaRow *row, const char *null);
static bool settable(const TrigaColumn *col, const TrigaRow *row);

const TrigaFormat triga_format_sql = {
	.label = triga_url_label,	/* for the backup */
	.type = sql_type,
	.data = sql_data,
	.backup = sql_backup
};

static void
sql_type(StringInfo out, const TrigaCall *call)
{
	appendStringInfoChar(out, call->op);
}

static void
sql_data(StringInfo out, const TrigaCall *call)
{
	switch (call->op)
	{
		case 'I':
			sql_insert(out, call);
			break;
		case 'U':
			sql_update(out, call);
			break;
		case 'D':
			sql_where(out, call);
			break;
	}
}

static void
sql_backup(StringInfo out, const TrigaCall *call)
{
	triga_url_row(out, call->setup, call->old_row);
}

static bool
settable(const TrigaColumn *col, const TrigaRow *row)
{
	return triga_in_data(col, row) && !col->generated;
}

static void
sql_insert(StringInfo out, const TrigaCall *call)
{
	const TrigaSetup *setup = call->setup;
	StringInfoData values;
	const char *separator = "";

	initStringInfo(&values);
	appendStringInfoChar(out, '(');
	for (int i = 0; i < setup->ncolumns; i++)
	{
		TrigaColumn *col = &setup->columns[i];

		if (!settable(col, call->row))
			continue;
		appendStringInfo(out, "%s%s", separator, quote_identifier(col->name));
		appendStringInfoString(&values, separator);
		sql_literal(&values, col, call->row, "null");
		separator = ",";
	}
	if (*separator)
		appendStringInfo(out, ") values (%s)", values.data);
	else
	{
		resetStringInfo(out);
		appendStringInfoString(out, "default values");
	}
}

static void
sql_update(StringInfo out, const TrigaCall *call)
{
	const TrigaSetup *setup = call->setup;
	const char *separator = "";

	for (int i = 0; i < setup->ncolumns; i++)
	{
		TrigaColumn *col = &setup->columns[i];

		if (!settable(col, call->row) || !triga_changed(call, col))
			continue;
		appendStringInfo(out, "%s%s=", separator, quote_identifier(col->name));
		sql_literal(out, col, call->row, "NULL");
		separator = ",";
	}
	/* Something must be set: a key column to what it is. */
	for (int i = 0; i < setup->ncolumns && !*separator; i++)
	{
		TrigaColumn *col = &setup->columns[i];

		if (!col->in_pkey)
			continue;
		appendStringInfo(out, "%s=", quote_identifier(col->name));
		sql_literal(out, col, call->old_row, "NULL");
		separator = ",";
	}
	appendStringInfoString(out, " where ");
	sql_where(out, call);
}

/* The row by its old key. */
static void
sql_where(StringInfo out, const TrigaCall *call)
{
	const TrigaSetup *setup = call->setup;
	const char *separator = "";

	for (int i = 0; i < setup->ncolumns; i++)
	{
		TrigaColumn *col = &setup->columns[i];

		if (!col->in_pkey)
			continue;
		if (call->old_row->nulls[col->index])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("logtriga: Unexpected NULL key value"),
					 errdetail("Column \"%s\" of table \"%s.%s\" is NULL.",
							   col->name, setup->schema_name, setup->table_name),
					 errhint("Name columns that are never NULL in the trigger argument pkey=.")));
		appendStringInfo(out, "%s%s=", separator, quote_identifier(col->name));
		sql_literal(out, col, call->old_row, "null");
		separator = " and ";
	}
}

static void
sql_literal(StringInfo out, TrigaColumn *col, const TrigaRow *row, const char *null)
{
	char	   *value = triga_output(col, row);

	appendStringInfoString(out, value ? quote_literal_cstr(value) : null);
}
