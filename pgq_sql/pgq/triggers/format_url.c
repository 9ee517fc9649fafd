/*
 * format_url.c
 *	  Events of pgq.logutriga: the row in url encoding.
 *
 * ev_type I:key1,key2 (U, D; R for truncate); ev_data col=value&col2=value2, where
 * a NULL is the name alone. Bytes outside [0-9A-Za-z_.-] become %xx in lower-case
 * hex, a space becomes +. The server's encoding is kept.
 */
#include "postgres.h"

#include "triggers.h"

/* function prototypes */
static void url_encode(StringInfo out, const char *s, int len);
static void url_type(StringInfo out, const TrigaSetup *setup, TrigaOp op);
static void url_data(StringInfo out, const TrigaCall *call);
static void url_backup(StringInfo out, const TrigaCall *call);

const TrigaFormat triga_format_url = {
	.name = "logutriga",
	.label = triga_url_label,
	.type = url_type,
	.data = url_data,
	.backup = url_backup
};

static void
url_encode(StringInfo out, const char *s, int len)
{
	static const char hex[] = "0123456789abcdef";
	const char *end = s + len;
	char	   *dst;

	/* the longest it can get, so that the loop has no checks */
	if (len > MaxAllocSize / 3)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("value of %d bytes is too long for an event", len)));
	enlargeStringInfo(out, 3 * len);
	dst = out->data + out->len;
	for (; s < end; s++)
	{
		unsigned char c = (unsigned char) *s;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-')
			*dst++ = c;
		else if (c == ' ')
			*dst++ = '+';
		else
		{
			*dst++ = '%';
			*dst++ = hex[c >> 4];
			*dst++ = hex[c & 15];
		}
	}
	*dst = '\0';
	out->len = dst - out->data;
}

char *
triga_url_label(const char *name)
{
	StringInfoData buf;

	initStringInfo(&buf);
	url_encode(&buf, name, strlen(name));
	return buf.data;
}

void
triga_url_row(StringInfo out, const TrigaSetup *setup, const TrigaRow *row)
{
	bool		first = true;

	for (int i = 0; i < setup->ncolumns; i++)
	{
		TrigaColumn *col = &setup->columns[i];
		TrigaText	value;

		if (!triga_in_data(col, row))
			continue;
		if (!first)
			appendStringInfoCharMacro(out, '&');
		first = false;
		appendStringInfoString(out, col->label);
		triga_output(col, row, &value);
		if (value.data)
		{
			appendStringInfoCharMacro(out, '=');
			url_encode(out, value.data, value.len);
		}
	}
}

static void
url_type(StringInfo out, const TrigaSetup *setup, TrigaOp op)
{
	appendStringInfoChar(out, triga_op_letter[op]);
	if (op != OP_TRUNCATE)
	{
		appendStringInfoChar(out, ':');
		if (setup->pkey_list)
			appendStringInfoString(out, setup->pkey_list);
	}
}

static void
url_data(StringInfo out, const TrigaCall *call)
{
	if (call->row)
		triga_url_row(out, call->setup, call->row);
}

static void
url_backup(StringInfo out, const TrigaCall *call)
{
	triga_url_row(out, call->setup, call->old_row);
}
