/*
 * transfer.c
 *	  How values of results cross the wire: in text, or where that is safe and
 *	  faster, in binary.
 *
 * Binary is for built-in types whose wire format is fixed, and only where the
 * query's own casts see to it that they are what arrives. libpq knows one format
 * for all columns of a result, so one column of another type means text for all.
 * Domains are such, since one of the same name may be over another type there.
 *
 * The bytes of strings are the same in both, and already in our encoding; they
 * go through input functions always, since receive functions would convert them
 * from the encoding of this session's client. So arrays are taken apart here, and
 * their elements treated as single values are.
 *
 * The partition's session writes as we have asked for (connection.c), unless what
 * runs there changes that. Then the values are not taken for what they are not,
 * but refused. Where dates, intervals or floats are in text, the session is asked
 * behind the query, in its transaction: a change that ends with that is never
 * reported. Of the encoding, reports must do, and that text is valid in ours.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "plproxy.h"

/* The first byte of a jsonb in binary. */
#define JSONB_VERSION 1

#define SETTING_HINT "Functions there must leave %s as they found it; if they have a SET clause for it, they do. Poolers must keep it apart for each client."

static void type_wire(ProxyType *type);
static ProxyWire wire_of(Oid oid);
static int	type_shows(Oid oid);
static bool type_is_date(Oid base);
static bool setting_is_ours(ProxyShows setting, const char *value);
pg_noreturn static void setting_error(ProxyTask *task, const char *name, const char *value);
static Datum array_decode(ProxyTask *task, ProxyType *type, char *value, int len);
static int	array_number(const ProxyType *type, StringInfo buf);
pg_noreturn static void array_error(const ProxyType *type);
static void text_check(ProxyTask *task, const char *value, int len);
static bool text_is_ascii(const char *value, int len);
static void interval_check(const char *value, int len);
static char *wire_check(const ProxyType *type, char *value, int len, int expected);

/* Decide how results of this shape come, when its columns are known. */
void
plproxy_transfer_init(ProxyShape *shape, bool cast)
{
	bool		all = true;
	bool		some = false;

	for (int i = 0; i < shape->desc->natts; i++)
	{
		ProxyType  *type = &shape->columns[i];

		if (!OidIsValid(type->oid))
			continue;
		type_wire(type);
		all = all && type->wire != WIRE_TEXT_ONLY;
		some = some || type->wire < WIRE_STRING;
		type->date = type_is_date(getBaseType(type->oid));
		shape->nested = shape->nested || type->nested;
		shape->shows |= type_shows(type->oid);
	}
	shape->binary = cast && all && some;
}

/* Add the step that asks how the query's values were written. */
void
plproxy_transfer_steps(ProxyTask *task)
{
	task->beyond_ascii = false;
	task->recoded = NULL;
	if (task->call->shape->shows && !task->call->binary)
		plproxy_execute_step(task, STEP_CHECK,
							 "select pg_catalog.current_setting('datestyle'),"
							 " pg_catalog.current_setting('intervalstyle'),"
							 " pg_catalog.current_setting('extra_float_digits')");
}

/* The answer to that step is task->result. */
void
plproxy_transfer_check(ProxyTask *task)
{
	static const struct
	{
		ProxyShows	setting;
		const char *name;
	}			settings[] = {
		{SHOWS_DATES, "DateStyle"},
		{SHOWS_INTERVALS, "IntervalStyle"},
		{SHOWS_FLOATS, "extra_float_digits"},
	};

	if (task->rows == 0)
		return;
	for (int i = 0; i < lengthof(settings); i++)
	{
		const char *value;

		if ((task->call->shape->shows & settings[i].setting) == 0)
			continue;
		value = PQntuples(task->result) == 1 ? PQgetvalue(task->result, 0, i) : NULL;
		if (value == NULL || !setting_is_ours(settings[i].setting, value))
			setting_error(task, settings[i].name, value ? value : "");
	}
}

/*
 * The partition has told whatever it has to tell about its session: is the
 * encoding still ours? It may become so again when a transaction ends.
 */
void
plproxy_transfer_encoding(ProxyTask *task)
{
	int			encoding = PQclientEncoding(task->conn->pg);

	/* libpq keeps it as a number, which is the server's */
	if (encoding != GetDatabaseEncoding())
		task->recoded = pg_encoding_to_char(encoding);
}

/* All values of the task were converted. Did their encoding matter? */
void
plproxy_transfer_done(ProxyTask *task)
{
	if (task->beyond_ascii && task->recoded)
		setting_error(task, "client_encoding", task->recoded);
}

/*
 * A date or timestamp came in text. If the field is of such a type too, and not
 * just text that is one here: is it in the style that was asked for? A query
 * that changes it back is not found out behind it.
 */
void
plproxy_transfer_date(ProxyTask *task, Oid remote, const char *value)
{
	int			digits = strspn(value, "0123456789");

	if ((digits >= 4 && value[digits] == '-') || !type_is_date(remote) ||
		strcmp(value, "infinity") == 0 || strcmp(value, "-infinity") == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the partition has sent a date that is not in ISO style: \"%s\"", value),
			 errdetail("What its values mean is not certain."),
			 errhint(SETTING_HINT, "DateStyle"),
			 plproxy_error_partition(task)));
}

/* The value of a field that came in text; NULL means null. */
Datum
plproxy_transfer_text(ProxyTask *task, ProxyType *type, char *value, int len)
{
	if (value)
		text_check(task, value, len);
	if (value && type->oid == TEXTOID)
		return PointerGetDatum(cstring_to_text(value));
	return InputFunctionCall(&type->input, value, type->ioparam, type->typmod);
}

/* The value of a field that came in binary; NULL means null. */
Datum
plproxy_transfer_binary(ProxyTask *task, ProxyType *type, char *value, int len)
{
	uint16		n16;
	uint32		n32;
	uint64		n64;

	switch (type->wire)
	{
		case WIRE_BOOL:
			if (value == NULL)
				break;
			return BoolGetDatum(*wire_check(type, value, len, 1) != 0);
		case WIRE_2:
			if (value == NULL)
				break;
			memcpy(&n16, wire_check(type, value, len, 2), 2);
			return Int16GetDatum((int16) pg_ntoh16(n16));
		case WIRE_4:
			if (value == NULL)
				break;
			memcpy(&n32, wire_check(type, value, len, 4), 4);
			return Int32GetDatum((int32) pg_ntoh32(n32));
		case WIRE_8:
			if (value == NULL)
				break;
			memcpy(&n64, wire_check(type, value, len, 8), 8);
			return Int64GetDatum((int64) pg_ntoh64(n64));
		case WIRE_TIMESTAMP:
			if (value == NULL)
				break;
			memcpy(&n64, wire_check(type, value, len, 8), 8);
			n64 = pg_ntoh64(n64);
			if (!TIMESTAMP_NOT_FINITE((Timestamp) n64) && !IS_VALID_TIMESTAMP((Timestamp) n64))
				ereport(ERROR,
						(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						 errmsg("timestamp out of range")));
			return TimestampGetDatum((Timestamp) n64);
		case WIRE_FLOAT4:
			if (value == NULL)
				break;
			memcpy(&n32, wire_check(type, value, len, 4), 4);
			n32 = pg_ntoh32(n32);
			{
				float4		f;

				memcpy(&f, &n32, 4);
				return Float4GetDatum(f);
			}
		case WIRE_FLOAT8:
			if (value == NULL)
				break;
			memcpy(&n64, wire_check(type, value, len, 8), 8);
			n64 = pg_ntoh64(n64);
			{
				float8		f;

				memcpy(&f, &n64, 8);
				return Float8GetDatum(f);
			}
		case WIRE_RECEIVE:
			{
				StringInfoData buf = {.data = value,.len = len,.maxlen = len};
				Datum		result;

				if (!SKYTOOLS_INFINITE_INTERVALS && value && type->oid == INTERVALOID)
					interval_check(value, len);
				result = ReceiveFunctionCall(&type->receive, value ? &buf : NULL,
											 type->receive_ioparam, type->typmod);
				if (value)
					wire_check(type, value, len, buf.cursor);
				return result;
			}
		case WIRE_ARRAY:
			if (value == NULL)
				break;
			return array_decode(task, type, value, len);
		case WIRE_STRING:
			return plproxy_transfer_text(task, type, value, len);
		case WIRE_JSONB:
			if (value == NULL)
				break;
			if (len < 1 || value[0] != JSONB_VERSION)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						 errmsg("a value of type jsonb from the partition has an unknown version")));
			return plproxy_transfer_text(task, type, value + 1, len - 1);
		case WIRE_TEXT_ONLY:
			elog(ERROR, "type %u cannot come in binary", type->oid);
	}
	return (Datum) 0;
}

/*
 * An array, as array_send writes it. Bounds that no array can have are refused
 * before anything is allocated by them.
 */
static Datum
array_decode(ProxyTask *task, ProxyType *type, char *value, int len)
{
	ProxyType  *element = type->element;
	StringInfoData buf = {.data = value,.len = len,.maxlen = len};
	int			ndim = array_number(type, &buf);
	int			flags = array_number(type, &buf);
	Oid			oid = (Oid) array_number(type, &buf);
	int			dims[MAXDIM];
	int			lower[MAXDIM];
	int			nitems;
	Datum	   *values;
	bool	   *nulls;
	ArrayType  *array;

	if (ndim < 0 || ndim > MAXDIM || (flags != 0 && flags != 1))
		array_error(type);
	if (oid != element->oid)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("a value of type %s from the partition has elements of type %u",
						format_type_be(type->oid), oid)));
	for (int i = 0; i < ndim; i++)
	{
		int			upper;

		dims[i] = array_number(type, &buf);
		lower[i] = array_number(type, &buf);
		if (dims[i] < 0 || pg_add_s32_overflow(lower[i], dims[i], &upper))
			array_error(type);
	}
	nitems = ArrayGetNItems(ndim, dims);
	if (nitems > (buf.len - buf.cursor) / (int) sizeof(int32))
		array_error(type);

	values = palloc(sizeof(Datum) * nitems);
	nulls = palloc(sizeof(bool) * nitems);
	for (int i = 0; i < nitems; i++)
	{
		int			size = array_number(type, &buf);
		char	   *item = buf.data + buf.cursor;
		char		behind;

		nulls[i] = size == -1;
		values[i] = (Datum) 0;
		if (nulls[i])
			continue;
		if (size < 0 || size > buf.len - buf.cursor)
			array_error(type);

		/* like a field of its own; libpq has room behind the last one */
		behind = item[size];
		item[size] = '\0';
		values[i] = plproxy_transfer_binary(task, element, item, size);
		item[size] = behind;
		buf.cursor += size;
	}
	wire_check(type, value, len, buf.cursor);

	array = construct_md_array(values, nulls, ndim, dims, lower, element->oid,
							   element->typlen, element->byval, element->align);
	for (int i = 0; i < nitems && !element->byval; i++)
	{
		if (!nulls[i])
			pfree(DatumGetPointer(values[i]));
	}
	pfree(values);
	pfree(nulls);
	return PointerGetDatum(array);
}

static int
array_number(const ProxyType *type, StringInfo buf)
{
	if (buf->len - buf->cursor < (int) sizeof(int32))
		array_error(type);
	return (int) pq_getmsgint(buf, sizeof(int32));
}

static void
array_error(const ProxyType *type)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("a value of type %s from the partition is no array",
					format_type_be(type->oid))));
}

/*
 * Text of another encoding than ours mostly shows. What is ASCII only is the same
 * in all encodings that a client can have.
 */
static void
text_check(ProxyTask *task, const char *value, int len)
{
	if (text_is_ascii(value, len))
		return;
	task->beyond_ascii = true;
	if (!pg_verify_mbstr(GetDatabaseEncoding(), value, len, true))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the partition has sent text that is not in encoding \"%s\"",
						GetDatabaseEncodingName()),
				 errhint(SETTING_HINT, "client_encoding")));
}

/* A word at a time, since some text is long. */
static bool
text_is_ascii(const char *value, int len)
{
	uint64		all = 0;
	int			i;

	for (i = 0; i + (int) sizeof(uint64) <= len; i += sizeof(uint64))
	{
		uint64		word;

		memcpy(&word, value + i, sizeof(uint64));
		all |= word;
	}
	for (; i < len; i++)
		all |= (unsigned char) value[i];
	return (all & UINT64CONST(0x8080808080808080)) == 0;
}

/* Does the session write values by this setting as we read them? */
static bool
setting_is_ours(ProxyShows setting, const char *value)
{
	switch (setting)
	{
		case SHOWS_DATES:
			return strncmp(value, "ISO", 3) == 0;
		case SHOWS_INTERVALS:
			return strcmp(value, "postgres") == 0;
		case SHOWS_FLOATS:
			return atoi(value) > 0;
	}
	return false;
}

static void
setting_error(ProxyTask *task, const char *name, const char *value)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the partition has answered with %s set to \"%s\"", name, value),
			 errdetail("What its values mean is not certain."),
			 errhint(SETTING_HINT, name),
			 plproxy_error_partition(task)));
}

/* How do values of the type come when all come in binary? */
static void
type_wire(ProxyType *type)
{
	Oid			element = get_element_type(type->oid);
	Oid			function;

	type->wire = wire_of(type->oid);
	if (type->wire == WIRE_TIMESTAMP && type->typmod >= 0)
		type->wire = WIRE_RECEIVE;	/* which rounds it */
	if (type->wire == WIRE_RECEIVE)
	{
		getTypeBinaryInputInfo(type->oid, &function, &type->receive_ioparam);
		fmgr_info_cxt(function, &type->receive, CurrentMemoryContext);
	}

	/* int2vector and the like have elements too, but are no arrays of them */
	if (OidIsValid(element) && wire_of(element) != WIRE_TEXT_ONLY &&
		get_array_type(element) == type->oid)
	{
		type->wire = WIRE_ARRAY;
		type->element = palloc0(sizeof(ProxyType));
		plproxy_type_init(type->element, element, type->typmod, true, CurrentMemoryContext);
		get_typlenbyvalalign(element, &type->element->typlen, &type->element->byval,
							 &type->element->align);
		type_wire(type->element);
	}
}

/* The same of a type that is no array. */
static ProxyWire
wire_of(Oid oid)
{
	switch (oid)
	{
		case BOOLOID:
			return WIRE_BOOL;
		case INT2OID:
			return WIRE_2;
		case INT4OID:
			return WIRE_4;
		case INT8OID:
		case MONEYOID:
			return WIRE_8;
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return WIRE_TIMESTAMP;
		case FLOAT4OID:
			return WIRE_FLOAT4;
		case FLOAT8OID:
			return WIRE_FLOAT8;
		case OIDOID:
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case INTERVALOID:
		case NUMERICOID:
		case UUIDOID:
		case BYTEAOID:
		case BITOID:
		case VARBITOID:
		case INETOID:
		case CIDROID:
		case MACADDROID:
		case MACADDR8OID:
		case POINTOID:
		case LINEOID:
		case LSEGOID:
		case BOXOID:
		case PATHOID:
		case POLYGONOID:
		case CIRCLEOID:
		case INT4RANGEOID:
		case INT8RANGEOID:
		case NUMRANGEOID:
		case DATERANGEOID:
		case TSRANGEOID:
		case TSTZRANGEOID:
		case INT4MULTIRANGEOID:
		case INT8MULTIRANGEOID:
		case NUMMULTIRANGEOID:
		case DATEMULTIRANGEOID:
		case TSMULTIRANGEOID:
		case TSTZMULTIRANGEOID:
			return WIRE_RECEIVE;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case JSONOID:
		case VOIDOID:
			return WIRE_STRING;
		case JSONBOID:
			return WIRE_JSONB;
		default:
			return WIRE_TEXT_ONLY;
	}
}

/* Which settings may the text of a value depend on? Of what is not known, on all. */
static int
type_shows(Oid oid)
{
	Oid			base = getBaseType(oid);
	Oid			inner = get_element_type(base);

	if (!OidIsValid(inner))
		inner = get_range_subtype(base);
	if (!OidIsValid(inner))
		inner = get_multirange_range(base);
	if (OidIsValid(inner))
		return type_shows(inner);

	switch (base)
	{
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return SHOWS_DATES;
		case INTERVALOID:
			return SHOWS_INTERVALS;
		case FLOAT4OID:
		case FLOAT8OID:
		case POINTOID:
		case LINEOID:
		case LSEGOID:
		case BOXOID:
		case PATHOID:
		case POLYGONOID:
		case CIRCLEOID:
			return SHOWS_FLOATS;
	}
	if (base == VOIDOID || get_typtype(base) == TYPTYPE_ENUM ||
		(base < FirstGenbkiObjectId && get_typtype(base) == TYPTYPE_BASE))
		return 0;
	return SHOWS_DATES | SHOWS_INTERVALS | SHOWS_FLOATS;
}

static bool
type_is_date(Oid base)
{
	return base == DATEOID || base == TIMESTAMPOID || base == TIMESTAMPTZOID;
}

/*
 * Is the interval finite? Where none can be infinite, the receive function takes
 * what a newer server sends for it as a number of months, days and microseconds.
 */
static void
interval_check(const char *value, int len)
{
	static const unsigned char infinity[16] = {
		0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff
	};
	static const unsigned char minus_infinity[16] = {[0] = 0x80,[8] = 0x80,[12] = 0x80};

	if (len == sizeof(infinity) &&
		(memcmp(value, infinity, len) == 0 || memcmp(value, minus_infinity, len) == 0))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("the partition has sent an infinite interval, which this server does not have")));
}

/* A value of another length is none of the type. */
static char *
wire_check(const ProxyType *type, char *value, int len, int expected)
{
	if (len != expected)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("a value of type %s from the partition has %d bytes instead of %d",
						format_type_be(type->oid), len, expected)));
	return value;
}
