/*
 * split.c
 *	  SPLIT: takes the arrays of a call apart and makes those that its partitions
 *	  get.
 *
 * Elements stay where they are in the argument; a ProxySplit only points to them,
 * and a task knows by their numbers which ones it gets. Arrays of simple types go
 * out in binary, which spares both sides the quoting and parsing; all other arrays
 * are put together again and written as their type writes them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "plproxy.h"

static bool split_is_binary(const ProxyArg *arg);
static StringInfo split_binary(const ProxyArg *arg, const ProxySplit *array, const ProxyTask *task);
static Datum split_array(const ProxyArg *arg, const ProxySplit *array, const ProxyTask *task);

/*
 * Take the arrays apart, which must have the same length. The result has one
 * entry an argument, empty for those that are not split.
 */
ProxySplit *
plproxy_split_begin(ProxyCall *call, int *length)
{
	ProxyFunction *func = call->func;
	ProxySplit *arrays = palloc0(sizeof(ProxySplit) * func->nargs);
	int			first = -1;

	for (int i = 0; i < func->nargs; i++)
	{
		ProxySplit *split = &arrays[i];
		Oid			element = func->args[i].element.oid;
		int			n = 0;

		if (!func->args[i].split)
			continue;
		get_typlenbyvalalign(element, &split->typlen, &split->byval, &split->align);
		if (!call->nulls[i])
		{
			ArrayType  *array = DatumGetArrayTypeP(call->args[i]);

			if (ARR_NDIM(array) > 1)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("split multi-dimensional arrays are not supported"),
						 errdetail("Argument %d has %d dimensions.", i + 1, ARR_NDIM(array))));
			deconstruct_array(array, element, split->typlen, split->byval, split->align,
							  &split->values, &split->nulls, &n);
		}
		if (first < 0)
		{
			first = i;
			*length = n;
		}
		else if (n != *length)
			ereport(ERROR,
					(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
					 errmsg("split arrays must be of identical lengths"),
					 errdetail("Argument %d has %d elements, argument %d has %d.",
							   first + 1, *length, i + 1, n)));
	}
	return arrays;
}

/* Make the task's value of a parameter: its elements of the argument's array. */
void
plproxy_split_value(const ProxyArg *arg, const ProxySplit *array, ProxyTask *task, int param)
{
	StringInfo	binary;

	if (task->call->cluster->config.disable_binary || !split_is_binary(arg))
	{
		task->values[param] = OutputFunctionCall((FmgrInfo *) &arg->type.output,
												 split_array(arg, array, task));
		if (plproxy_type_shows_null(&arg->type, task->values[param]))
			task->call->sends_null = true;
		return;
	}

	if (task->formats == NULL)
	{
		int			nparams = task->call->shape->query->nparams;

		task->formats = palloc0(sizeof(int) * nparams);
		task->lengths = palloc0(sizeof(int) * nparams);
	}
	binary = split_binary(arg, array, task);
	task->values[param] = binary->data;
	task->lengths[param] = binary->len;
	task->formats[param] = 1;
}

/*
 * Is it an array whose binary form is the same on every server, and made of what
 * its elements hold? What "array_out" does not write, like int2vector, is none.
 */
static bool
split_is_binary(const ProxyArg *arg)
{
	if (arg->type.output.fn_oid != F_ARRAY_OUT)
		return false;
	switch (arg->element.oid)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case FLOAT4OID:
		case FLOAT8OID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case BYTEAOID:
			return true;
		default:
			return false;
	}
}

/* The task's elements as array_recv reads them. */
static StringInfo
split_binary(const ProxyArg *arg, const ProxySplit *array, const ProxyTask *task)
{
	StringInfo	buf = makeStringInfo();
	bool		has_null = false;

	enlargeStringInfo(buf, 32);
	pq_sendint32(buf, task->nelements > 0 ? 1 : 0);
	pq_sendint32(buf, 0);		/* told below */
	pq_sendint32(buf, arg->element.oid);
	if (task->nelements == 0)
		return buf;
	pq_sendint32(buf, task->nelements);
	pq_sendint32(buf, 1);

	for (int i = 0; i < task->nelements; i++)
	{
		Datum		value = array->values[task->elements[i]];

		if (array->nulls[task->elements[i]])
		{
			has_null = true;
			pq_sendint32(buf, (uint32) -1);
			continue;
		}
		if (array->typlen > 0)
			pq_sendint32(buf, array->typlen);
		switch (array->typlen)
		{
			case 1:
				pq_sendint8(buf, DatumGetChar(value));
				break;
			case 2:
				pq_sendint16(buf, DatumGetInt16(value));
				break;
			case 4:
				pq_sendint32(buf, DatumGetInt32(value));
				break;
			case 8:
				pq_sendint64(buf, DatumGetInt64(value));
				break;
			case -1:
				{
					struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

					pq_sendint32(buf, VARSIZE_ANY_EXHDR(bytes));
					appendBinaryStringInfo(buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
					if ((Pointer) bytes != DatumGetPointer(value))
						pfree(bytes);
				}
				break;
			default:
				elog(ERROR, "unexpected length of type %u: %d", arg->element.oid, array->typlen);
		}
	}

	/* the server counts the nulls itself, but wants to be told right */
	if (has_null)
		buf->data[7] = 1;
	return buf;
}

/* The task's elements as an array. */
static Datum
split_array(const ProxyArg *arg, const ProxySplit *array, const ProxyTask *task)
{
	Datum	   *values = palloc(sizeof(Datum) * task->nelements);
	bool	   *nulls = palloc(sizeof(bool) * task->nelements);
	int			lower = 1;
	int			length = task->nelements;

	for (int i = 0; i < length; i++)
	{
		values[i] = array->values[task->elements[i]];
		nulls[i] = array->nulls[task->elements[i]];
	}
	return PointerGetDatum(construct_md_array(values, nulls, 1, &length, &lower, arg->element.oid,
											  array->typlen, array->byval, array->align));
}
