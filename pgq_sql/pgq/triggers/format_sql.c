/*
 * format_sql.c
 *	  Events of pgq.sqltriga and logtriga: the change as the tail of an SQL
 *	  statement.
 *
 * ev_type I, U, D, R. ev_data follows "insert into TABLE ", "update TABLE set " and
 * "delete from TABLE where "; all values are quoted literals that the receiving
 * server converts. Generated columns are left out, as it computes them itself.
 */
#include "postgres.h"

#include "triggers.h"

/* function prototypes */
static void sql_type(StringInfo out, const TrigaSetup *setup, TrigaOp op);
static void sql_data(StringInfo out, const TrigaCall *call);
static void sql_backup(StringInfo out, const TrigaCall *call);
static void sql_insert(StringInfo out, const TrigaCall *call);
static void sql_update(StringInfo out, const TrigaCall *call);
static void sql_where(StringInfo out, const TrigaCall *call);
static void sql_literal(StringInfo out, TrigaColumn *col, const TrigaRow *row, const char *null);
static bool settable(const TrigaColumn *col, const TrigaRow *row);

const TrigaFormat triga_format_sql = {
	.name = "sqltriga",
	.label = triga_url_label,	/* for the backup */
	.type = sql_type,
	.data = sql_data,
	.backup = sql_backup
};

const TrigaFormat triga_format_log = {
	.name = "logtriga",
	.by_position = true,
	.label = triga_url_label,
	.type = sql_type,
	.data = sql_data,
	.backup = sql_backup
};

static void
sql_type(StringInfo out, const TrigaSetup *setup, TrigaOp op)
{
	appendStringInfoChar(out, triga_op_letter[op]);
}

static void
sql_data(StringInfo out, const TrigaCall *call)
{
	switch (call->op)
	{
		case OP_INSERT:
			sql_insert(out, call);
			break;
		case OP_UPDATE:
			sql_update(out, call);
			break;
		case OP_DELETE:
			sql_where(out, call);
			break;
		default:
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
	char		separator = '(';

	for (int i = 0; i < setup->ncolumns; i++)
	{
		TrigaColumn *col = &setup->columns[i];

		if (!settable(col, call->row))
			continue;
		appendStringInfoCharMacro(out, separator);
		appendStringInfoString(out, col->ident);
		separator = ',';
	}
	if (separator == '(')
	{
		appendStringInfoString(out, "default values");
		return;
	}
	appendStringInfoString(out, ") values ");
	separator = '(';
	for (int i = 0; i < setup->ncolumns; i++)
	{
		TrigaColumn *col = &setup->columns[i];

		if (!settable(col, call->row))
			continue;
		appendStringInfoCharMacro(out, separator);
		sql_literal(out, col, call->row, "null");
		separator = ',';
	}
	appendStringInfoCharMacro(out, ')');
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
		appendStringInfoString(out, separator);
		appendStringInfoString(out, col->ident);
		appendStringInfoCharMacro(out, '=');
		sql_literal(out, col, call->row, "NULL");
		separator = ",";
	}
	/* Something must be set: a key column to what it is. */
	for (int i = 0; i < setup->ncolumns && !*separator; i++)
	{
		TrigaColumn *col = &setup->columns[i];

		if (!col->in_pkey)
			continue;
		appendStringInfo(out, "%s=", col->ident);
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
		appendStringInfoString(out, separator);
		appendStringInfoString(out, col->ident);
		appendStringInfoCharMacro(out, '=');
		sql_literal(out, col, call->old_row, "null");
		separator = " and ";
	}
}

/*
 * A value in quotes, doubled inside; one with backslashes as E'', whatever
 * standard_conforming_strings of the receiver is.
 */
static void
sql_literal(StringInfo out, TrigaColumn *col, const TrigaRow *row, const char *null)
{
	TrigaText	value;
	const char *from;
	const char *s;
	const char *end;

	triga_output(col, row, &value);
	if (value.data == NULL)
	{
		appendStringInfoString(out, null);
		return;
	}
	from = value.data;
	end = from + value.len;
	if (memchr(from, '\\', value.len) != NULL)
		appendStringInfoCharMacro(out, 'E');
	appendStringInfoCharMacro(out, '\'');
	for (s = from; s < end; s++)
	{
		if (*s != '\'' && *s != '\\')
			continue;
		/* up to and with this one; the next piece begins with it again */
		appendBinaryStringInfo(out, from, s - from + 1);
		from = s;
	}
	appendBinaryStringInfo(out, from, end - from);
	appendStringInfoCharMacro(out, '\'');
}
