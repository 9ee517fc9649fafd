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
static void json_type(StringInfo out, const TrigaSetup *setup, TrigaOp op);
static void json_data(StringInfo out, const TrigaCall *call);
static void json_backup(StringInfo out, const TrigaCall *call);
static void json_row(StringInfo out, const TrigaSetup *setup, const TrigaRow *row);
static void json_value(StringInfo out, TrigaColumn *col, const TrigaRow *row);
static void json_string(StringInfo out, const char *s, int len);

const TrigaFormat triga_format_json = {
	.name = "jsontriga",
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
	json_string(&buf, name, strlen(name));
	appendStringInfoChar(&buf, ':');
	return buf.data;
}

static void
json_type(StringInfo out, const TrigaSetup *setup, TrigaOp op)
{
	const char *separator = "";
	ListCell   *lc;

	appendStringInfo(out, "{\"op\":\"%s\",\"table\":[", triga_op_name[op]);
	json_string(out, setup->schema_name, strlen(setup->schema_name));
	appendStringInfoChar(out, ',');
	json_string(out, setup->table_name, strlen(setup->table_name));
	appendStringInfoString(out, "],\"pkey\":[");
	foreach(lc, setup->pkey_names)
	{
		const char *name = lfirst(lc);

		appendStringInfoString(out, separator);
		separator = ",";
		json_string(out, name, strlen(name));
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
			appendStringInfoCharMacro(out, ',');
		first = false;
		appendStringInfoString(out, col->label);
		json_value(out, col, row);
	}
	appendStringInfoChar(out, '}');
}

static void
json_value(StringInfo out, TrigaColumn *col, const TrigaRow *row)
{
	char		iso[MAXDATELEN + 1];
	TrigaText	value;

	if (row->nulls[col->index])
	{
		appendStringInfoString(out, "null");
		return;
	}
	switch (col->typid)
	{
		case BOOLOID:
			appendStringInfoString(out, DatumGetBool(row->values[col->index]) ? "true" : "false");
			break;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			JsonEncodeDateTime(iso, row->values[col->index], col->typid, NULL);
			json_string(out, iso, strlen(iso));
			break;
		case INT2OID:
		case INT4OID:
		case INT8OID:
			triga_output(col, row, &value);
			appendBinaryStringInfo(out, value.data, value.len);
			break;
		default:
			triga_output(col, row, &value);
			json_string(out, value.data, value.len);
			break;
	}
}

/* Appends s in quotes; what needs no escape, that is most of it, in long pieces. */
static void
json_string(StringInfo out, const char *s, int len)
{
	const char *end = s + len;
	const char *from = s;

	appendStringInfoCharMacro(out, '"');
	for (; s < end; s++)
	{
		unsigned char c = (unsigned char) *s;

		if (c >= ' ' && c != '"' && c != '\\')
			continue;
		appendBinaryStringInfo(out, from, s - from);
		from = s + 1;
		switch (c)
		{
			case '"':
				appendStringInfoString(out, "\\\"");
				break;
			case '\\':
				appendStringInfoString(out, "\\\\");
				break;
			case '\b':
				appendStringInfoString(out, "\\b");
				break;
			case '\f':
				appendStringInfoString(out, "\\f");
				break;
			case '\n':
				appendStringInfoString(out, "\\n");
				break;
			case '\r':
				appendStringInfoString(out, "\\r");
				break;
			case '\t':
				appendStringInfoString(out, "\\t");
				break;
			default:
				appendStringInfo(out, "\\u%04x", c);
				break;
		}
	}
	appendBinaryStringInfo(out, from, s - from);
	appendStringInfoCharMacro(out, '"');
}
