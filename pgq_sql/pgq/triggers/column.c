/*
 * column.c
 *	  One column of a row: its text, and whether an UPDATE changed it.
 *
 * The text of a value points into the value itself where it can, else to what
 * an output function has allocated in the current context; it is good as long as
 * the row.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "triggers.h"

/* Does the column stand in the row's image? */
bool
triga_in_data(const TrigaColumn *col, const TrigaRow *row)
{
	return col->magic == EV_NONE && !col->ignored && (row->computed || !col->generated);
}

void
triga_output_init(TrigaColumn *col, MemoryContext context)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(col->typid, &output, &is_varlena);
	fmgr_info_cxt(output, &col->output, context);
	switch (output)
	{
		case F_TEXTOUT:
		case F_VARCHAROUT:
		case F_BPCHAROUT:
		case F_JSON_OUT:
			col->kind = OUTPUT_TEXT;
			break;
		case F_BOOLOUT:
			col->kind = OUTPUT_BOOL;
			break;
		case F_INT2OUT:
			col->kind = OUTPUT_INT2;
			break;
		case F_INT4OUT:
			col->kind = OUTPUT_INT4;
			break;
		case F_INT8OUT:
			col->kind = OUTPUT_INT8;
			break;
		default:
			col->kind = OUTPUT_FUNCTION;
	}
}

/* The value as text, as the type's output function writes it. */
void
triga_output(TrigaColumn *col, const TrigaRow *row, TrigaText *out)
{
	Datum		value = row->values[col->index];
	struct varlena *bytes;
	char	   *text;

	out->data = NULL;
	out->len = 0;
	if (row->nulls[col->index])
		return;
	switch (col->kind)
	{
		case OUTPUT_TEXT:
			bytes = PG_DETOAST_DATUM_PACKED(value);
			out->data = VARDATA_ANY(bytes);
			out->len = VARSIZE_ANY_EXHDR(bytes);
			break;
		case OUTPUT_BOOL:
			out->data = DatumGetBool(value) ? "t" : "f";
			out->len = 1;
			break;
		case OUTPUT_INT2:
			out->data = out->number;
			out->len = pg_ltoa(DatumGetInt16(value), out->number);
			break;
		case OUTPUT_INT4:
			out->data = out->number;
			out->len = pg_ltoa(DatumGetInt32(value), out->number);
			break;
		case OUTPUT_INT8:
			out->data = out->number;
			out->len = pg_lltoa(DatumGetInt64(value), out->number);
			break;
		case OUTPUT_FUNCTION:
			text = OutputFunctionCall(&col->output, value);
			out->data = text;

			out->len = strlen(text);
			break;
	}
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

	/* nobody knows yet, so the columns that it is computed from must tell */
	if (col->generated && !call->new_row->computed)
		return false;
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
