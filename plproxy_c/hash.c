/*
 * hash.c
 *	  plproxy_hash(): a hash for choosing partitions that is the same everywhere
 *	  and for ever.
 *
 * hashtext() may change with the server's major version, and follows the byte
 * order of the machine and the database's encoding. This one is XXH64 with seed
 * 0, which programs in any language can compute: of a text in UTF-8, of a bytea's
 * or uuid's bytes, of a bigint's eight bytes, lowest first. Data lies where it
 * says, so nothing here may ever change a result; the known answers in the
 * regression tests hold it to that.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "plproxy.h"

#define PRIME1 UINT64CONST(0x9E3779B185EBCA87)
#define PRIME2 UINT64CONST(0xC2B2AE3D27D4EB4F)
#define PRIME3 UINT64CONST(0x165667B19E3779F9)
#define PRIME4 UINT64CONST(0x85EBCA77C2B2AE63)
#define PRIME5 UINT64CONST(0x27D4EB2F165667C5)

/* Bytes that the four lanes take in one turn. */
#define STRIPE 32

static uint64 hash_compute(const uint8 * data, size_t length);
static uint64 hash_tail(uint64 hash, const uint8 * data, size_t length);
static uint64 lane_add(uint64 lane, uint64 input);
static uint64 lane_merge(uint64 hash, uint64 lane);
static uint64 read_bytes(const uint8 * data, int n);
static uint64 rotate(uint64 value, int bits);

PG_FUNCTION_INFO_V1(plproxy_hash_text);
PG_FUNCTION_INFO_V1(plproxy_hash_bytea);
PG_FUNCTION_INFO_V1(plproxy_hash_int8);
PG_FUNCTION_INFO_V1(plproxy_hash_uuid);

Datum
plproxy_hash_text(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(0);
	char	   *data = VARDATA_ANY(value);
	int			length = VARSIZE_ANY_EXHDR(value);
	char	   *utf8 = pg_server_to_any(data, length, PG_UTF8);

	if (utf8 != data)
		length = strlen(utf8);
	PG_RETURN_INT64((int64) hash_compute((uint8 *) utf8, length));
}

Datum
plproxy_hash_bytea(PG_FUNCTION_ARGS)
{
	bytea	   *value = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_INT64((int64) hash_compute((uint8 *) VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)));
}

Datum
plproxy_hash_int8(PG_FUNCTION_ARGS)
{
	uint64		value = (uint64) PG_GETARG_INT64(0);
	uint8		data[8];

	for (int i = 0; i < 8; i++)
		data[i] = (uint8) (value >> (8 * i));
	PG_RETURN_INT64((int64) hash_compute(data, sizeof(data)));
}

Datum
plproxy_hash_uuid(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) hash_compute(PG_GETARG_UUID_P(0)->data, UUID_LEN));
}

static uint64
hash_compute(const uint8 * data, size_t length)
{
	size_t		rest = length;
	uint64		hash = PRIME5;

	if (rest >= STRIPE)
	{
		uint64		lanes[4] = {PRIME1 + PRIME2, PRIME2, 0, UINT64CONST(0) - PRIME1};

		for (; rest >= STRIPE; rest -= STRIPE)
		{
			for (int i = 0; i < 4; i++, data += 8)
				lanes[i] = lane_add(lanes[i], read_bytes(data, 8));
		}
		hash = rotate(lanes[0], 1) + rotate(lanes[1], 7) + rotate(lanes[2], 12) + rotate(lanes[3], 18);
		for (int i = 0; i < 4; i++)
			hash = lane_merge(hash, lanes[i]);
	}
	return hash_tail(hash + length, data, rest);
}

/* Add the bytes that do not fill a stripe, and spread all over all bits. */
static uint64
hash_tail(uint64 hash, const uint8 * data, size_t length)
{
	for (; length >= 8; length -= 8, data += 8)
		hash = rotate(hash ^ lane_add(0, read_bytes(data, 8)), 27) * PRIME1 + PRIME4;
	if (length >= 4)
	{
		hash = rotate(hash ^ read_bytes(data, 4) * PRIME1, 23) * PRIME2 + PRIME3;
		length -= 4;
		data += 4;
	}
	for (; length > 0; length--, data++)
		hash = rotate(hash ^ *data * PRIME5, 11) * PRIME1;

	hash = (hash ^ hash >> 33) * PRIME2;
	hash = (hash ^ hash >> 29) * PRIME3;
	return hash ^ hash >> 32;
}

static uint64
lane_add(uint64 lane, uint64 input)
{
	return rotate(lane + input * PRIME2, 31) * PRIME1;
}

static uint64
lane_merge(uint64 hash, uint64 lane)
{
	return (hash ^ lane_add(0, lane)) * PRIME1 + PRIME4;
}

/* The lowest byte comes first, whatever the machine prefers. */
static uint64
read_bytes(const uint8 * data, int n)
{
	uint64		value = 0;

	for (int i = 0; i < n; i++)
		value |= (uint64) data[i] << (8 * i);
	return value;
}

static uint64
rotate(uint64 value, int bits)
{
	return value << bits | value >> (64 - bits);
}
