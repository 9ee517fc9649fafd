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
 * from the encoding of this session's client.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "plproxy.h"

static ProxyWire wire_of(Oid oid);
static bool type_shows_floats(Oid oid);
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
		type->wire = wire_of(type->oid);
		if (type->wire == WIRE_TIMESTAMP && type->typmod >= 0)
			type->wire = WIRE_RECEIVE;	/* which rounds it */
		if (type->wire == WIRE_RECEIVE)
		{
			Oid			function;

			getTypeBinaryInputInfo(type->oid, &function, &type->receive_ioparam);
			fmgr_info_cxt(function, &type->receive, CurrentMemoryContext);
		}
		all = all && type->wire != WIRE_TEXT_ONLY;
		some = some || type->wire <= WIRE_RECEIVE;
		shape->floats = shape->floats || type_shows_floats(type->oid);
	}
	shape->binary = cast && all && some;
}

/* The value of a field that came in text; NULL means null. */
Datum
plproxy_transfer_text(ProxyType *type, char *value)
{
	if (value && type->oid == TEXTOID)
		return PointerGetDatum(cstring_to_text(value));
	return InputFunctionCall(&type->input, value, type->ioparam, type->typmod);
}

/* The value of a field that came in binary; NULL means null. */
Datum
plproxy_transfer_binary(ProxyType *type, char *value, int len)
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

				result = ReceiveFunctionCall(&type->receive, value ? &buf : NULL,
											 type->receive_ioparam, type->typmod);
				if (value)
					wire_check(type, value, len, buf.cursor);
				return result;
			}
		case WIRE_STRING:
			return plproxy_transfer_text(type, value);
		case WIRE_TEXT_ONLY:
			elog(ERROR, "type %u cannot come in binary", type->oid);
	}
	return (Datum) 0;
}

/* How does a type come when all come in binary? */
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
			return WIRE_RECEIVE;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case JSONOID:
		case VOIDOID:
			return WIRE_STRING;
		default:
			return WIRE_TEXT_ONLY;
	}
}

/*
 * May the text of a value have been rounded as extra_float_digits says? Of what
 * is not known to be free of it, yes.
 */
static bool
type_shows_floats(Oid oid)
{
	Oid			base = getBaseType(oid);
	Oid			element = get_element_type(base);

	if (OidIsValid(element))
		return type_shows_floats(element);
	if (base == FLOAT4OID || base == FLOAT8OID)
		return true;
	return wire_of(base) == WIRE_TEXT_ONLY && base != JSONBOID && get_typtype(base) != TYPTYPE_ENUM;
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
