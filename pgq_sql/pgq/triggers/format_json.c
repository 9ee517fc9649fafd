/*
 * format_json.c
 *	  Events of pgq.jsontriga: the row as a JSON object.
 *
 * ev_type {"op":"UPDATE","table":["schema","name"],"pkey":["key1","key2"]}; ev_data
 * {"col":value,...}. Bare are NULL, booleans and the integer types; dates and
 * timestamps are ISO 8601 whatever DateStyle says; everything else, domains and
 * numeric included, is its text output as a string.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/datetime.h"
#include "utils/json.h"

#include "triggers.h"

/* function prototypes */
static char *json_label(const char *name);
static void json_type(StringInfo out, const TrigaCall *call);
static void json_data(StringInfo out, const TrigaCall *call);
static void json_backup(StringInfo out, const TrigaCall *call);
static void json_row(StringInfo out, const TrigaSetup *setup, const TrigaRow *row);
static void json_value(StringInfo out, TrigaColumn *col, const TrigaRow *row);

const TrigaFormat triga_format_json = {
	.label = json_label,
	.type = json_type,
	.data = json_data,
	.backup = json_backup
};

static char *
json_label(const char *name)
{
	StringInfoData buf;

	initStringInfo(&buf);
	escape_json(&buf, name);
	return buf.data;
}

static void
json_type(StringInfo out, const TrigaCall *call)
{
	const TrigaSetup *setup = call->setup;
	const char *separator = "";
	ListCell   *lc;

	appendStringInfo(out, "{\"op\":\"%s\",\"table\":[", triga_op_name(call->op));
	escape_json(out, setup->schema_name);
	appendStringInfoChar(out, ',');
	escape_json(out, setup->table_name);
	appendStringInfoString(out, "],\"pkey\":[");
	foreach(lc, setup->pkey_names)
	{
		appendStringInfoString(out, separator);
		separator = ",";
		escape_json(out, (char *) lfirst(lc));
	}
	appendStringInfoString(out, "]}");
}

static void
json_data(StringInfo out, const TrigaCall *call)
{
	if (call->row)
		json_row(out, call->setup, call->row);
	else
		appendStringInfoString(out, "{}");
}

static void
json_backup(StringInfo out, const TrigaCall *call)
{
	json_row(out, call->setup, call->old_row);
}

static void
json_row(StringInfo out, const TrigaSetup *setup, const TrigaRow *row)
{
	bool		first = true;

	appendStringInfoChar(out, '{');
	for (int i = 0; i < setup->ncolumns; i++)
	{
		TrigaColumn *col = &setup->columns[i];

		if (!triga_in_data(col, row))
			continue;
		if (!first)
			appendStringInfoChar(out, ',');
		first = false;
		appendStringInfoString(out, col->label);
		appendStringInfoChar(out, ':');
		json_value(out, col, row);
	}
	appendStringInfoChar(out, '}');
}

static void
json_value(StringInfo out, TrigaColumn *col, const TrigaRow *row)
{
	Datum		value = row->values[col->index];
	char		iso[MAXDATELEN + 1];
	char	   *text;

	if (row->nulls[col->index])
	{
		appendStringInfoString(out, "null");
		return;
	}
	switch (col->typid)
	{
		case BOOLOID:
			appendStringInfoString(out, DatumGetBool(value) ? "true" : "false");
			break;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			JsonEncodeDateTime(iso, value, col->typid, NULL);
			escape_json(out, iso);
			break;
		case INT2OID:
		case INT4OID:
		case INT8OID:
			text = triga_output(col, row);

			appendStringInfoString(out, text);
			pfree(text);
			break;
		default:
			text = triga_output(col, row);

			escape_json(out, text);
			pfree(text);
			break;
	}
}
