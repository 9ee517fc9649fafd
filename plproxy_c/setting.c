/*
 * setting.c
 *	  The settings of a cluster and the options of its server, as text.
 *
 * A setting is the same in plproxy.get_cluster_config, in the options of a server
 * and in those of the wrapper. Each is checked where it is read; what is wrong is
 * an error that names it and says what it may be.
 */
#include "postgres.h"

#include <ctype.h>

#include "commands/defrem.h"
#include "common/int.h"
#include "common/string.h"
#include "utils/builtins.h"

#include "plproxy.h"

/* More than the kernel takes is an error of each connection attempt: Linux's limits. */
#define MAX_KEEPALIVE_SECONDS 32767
#define MAX_KEEPALIVE_COUNT 127

/* Slots that hash_ranges may have. */
#define MAX_SLOTS (1 << 20)

typedef enum
{
	SETTING_NUMBER,				/* 0 and up */
	SETTING_TIME,				/* plain seconds or with a unit; kept in ms */
	SETTING_SECONDS,			/* the same, kept in seconds */
	SETTING_BOOL,
	SETTING_PREPARE,			/* auto, on or off */
	SETTING_ON_ERROR,			/* error or skip */
	SETTING_USER,				/* current_user or session_user */
	SETTING_RANGES				/* the text of hash_ranges */
} SettingKind;

typedef struct Setting
{
	const char *name;
	SettingKind kind;
	size_t		offset;			/* in ProxyConfig */
	int			max;			/* more is as much as that; 0: no limit */
} Setting;

static const Setting settings[] = {
	{"connect_timeout", SETTING_TIME, offsetof(ProxyConfig, connect_timeout)},
	{"connection_lifetime", SETTING_TIME, offsetof(ProxyConfig, connection_lifetime)},
	{"default_user", SETTING_USER, offsetof(ProxyConfig, session_user)},
	{"disable_binary", SETTING_BOOL, offsetof(ProxyConfig, disable_binary)},
	{"failover", SETTING_BOOL, offsetof(ProxyConfig, failover)},
	{"hash_ranges", SETTING_RANGES, 0},
	{"keepalive_count", SETTING_NUMBER, offsetof(ProxyConfig, keepalive_count), MAX_KEEPALIVE_COUNT},
	{"keepalive_idle", SETTING_SECONDS, offsetof(ProxyConfig, keepalive_idle), MAX_KEEPALIVE_SECONDS},
	{"keepalive_interval", SETTING_SECONDS, offsetof(ProxyConfig, keepalive_interval), MAX_KEEPALIVE_SECONDS},
	{"modular_mapping", SETTING_BOOL, offsetof(ProxyConfig, modular_mapping)},
	{"on_partition_error", SETTING_ON_ERROR, offsetof(ProxyConfig, skip_failed)},
	{"prepared_statements", SETTING_PREPARE, offsetof(ProxyConfig, prepared_statements)},
	{"query_timeout", SETTING_TIME, offsetof(ProxyConfig, query_timeout)},
	{"read_only", SETTING_BOOL, offsetof(ProxyConfig, read_only)},
	{"statement_timeout", SETTING_TIME, offsetof(ProxyConfig, statement_timeout)},
};

/* Units of time, and how many milliseconds each is. */
static const struct
{
	const char *name;
	int64		ms;
}			time_units[] = {
	{"", 1000}, {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000},
};

static const Setting *setting_lookup(const char *name);
static bool setting_number(const char *value, int *number);
static bool setting_time(const char *value, int64 *ms);
static bool setting_bool(const char *value, bool *on);
pg_noreturn static void setting_error(const char *name, const char *value, const char *hint);
static const char *slots_skip_space(const char *pos);
static const char *slots_number(const char *pos, int *slot);
pg_noreturn static void slots_error(const char *detail);

bool
plproxy_setting_exists(const char *name)
{
	return setting_lookup(name) != NULL;
}

/* The names of all settings, for hints. */
char *
plproxy_setting_list(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < lengthof(settings); i++)
		appendStringInfo(&buf, "%s%s", i ? ", " : "", settings[i].name);
	return buf.data;
}

/*
 * Set a setting, or say what is wrong with it. The empty string is the default.
 */
void
plproxy_setting_apply(ProxyCluster *cluster, const char *name, const char *value)
{
	const Setting *setting = setting_lookup(name);
	void	   *field;
	int64		ms;

	if (setting == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("unknown cluster setting \"%s\"", name),
				 errhint("Known settings are: %s.", plproxy_setting_list())));

	field = (char *) &cluster->config + setting->offset;
	switch (setting->kind)
	{
		case SETTING_NUMBER:
			if (!setting_number(value, field))
				setting_error(name, value, "It is a whole number, 0 or more.");
			if (setting->max)
				*(int *) field = Min(*(int *) field, setting->max);
			break;
		case SETTING_TIME:
		case SETTING_SECONDS:
			if (!setting_time(value, &ms))
				setting_error(name, value,
							  "It is a whole number of seconds, or one with a unit: ms, s, min, h or d.");
			/* more than that, some 24 days, is as good as none */
			ms = Min(ms, INT_MAX);
			*(int *) field = setting->kind == SETTING_TIME ? ms : (ms + 999) / 1000;
			if (setting->max)
				*(int *) field = Min(*(int *) field, setting->max);
			break;
		case SETTING_BOOL:
			if (!setting_bool(value, field))
				setting_error(name, value, "It is \"on\" or \"off\".");
			break;
		case SETTING_PREPARE:
			if (*value == '\0' || pg_strcasecmp(value, "auto") == 0)
				*(ProxyPrepare *) field = PREPARE_AUTO;
			else
			{
				bool		on;

				if (!setting_bool(value, &on))
					setting_error(name, value, "It is \"auto\", \"on\" or \"off\".");
				*(ProxyPrepare *) field = on ? PREPARE_ON : PREPARE_OFF;
			}
			break;
		case SETTING_ON_ERROR:
			if (*value == '\0' || pg_strcasecmp(value, "error") == 0)
				*(bool *) field = false;
			else if (pg_strcasecmp(value, "skip") == 0)
				*(bool *) field = true;
			else
				setting_error(name, value, "It is \"error\" or \"skip\".");
			break;
		case SETTING_USER:
			if (*value == '\0' || pg_strcasecmp(value, "current_user") == 0)
				*(bool *) field = false;
			else if (pg_strcasecmp(value, "session_user") == 0)
				*(bool *) field = true;
			else
				setting_error(name, value, "It is \"current_user\" or \"session_user\".");
			break;
		case SETTING_RANGES:
			cluster->hash_ranges = *value ? MemoryContextStrdup(cluster->cxt, value) : NULL;
			break;
	}
}

/*
 * The N of an option "pN" or "partition_N", or -1 if the option is another.
 */
int
plproxy_setting_partition(const char *name)
{
	const char *digits;
	char	   *end;
	int			number;

	if (pg_strncasecmp(name, "partition_", 10) == 0)
		digits = name + 10;
	else if (pg_strncasecmp(name, "p", 1) == 0)
		digits = name + 1;
	else
		return -1;
	if (!isdigit((unsigned char) *digits))
		return -1;
	errno = 0;
	number = strtoint(digits, &end, 10);
	return errno == 0 && *end == '\0' ? number : -1;
}

/*
 * The connect strings of a server's options in the order of their numbers. What is
 * wrong with them had its SQLSTATE in PL/Proxy 2.x already.
 */
List *
plproxy_setting_partitions(List *options)
{
	char	  **connstrs = palloc0(sizeof(char *) * (list_length(options) + 1));
	List	   *result = NIL;
	ListCell   *lc;
	int			n = 0;

	foreach(lc, options)
	{
		DefElem    *option = lfirst(lc);
		int			number = plproxy_setting_partition(option->defname);

		if (number < 0)
			continue;
		n++;
		if (number >= list_length(options))
			ereport(ERROR,
					((errcode) (ERRCODE_SYNTAX_ERROR),
					 errmsg("partition numbers are not contiguous: \"%s\" is too high", option->defname),
					 errhint("Number the partitions from p0 up without gaps.")));
		if (connstrs[number])
			ereport(ERROR,
					((errcode) (ERRCODE_SYNTAX_ERROR),
					 errmsg("partition %d is given twice", number)));
		connstrs[number] = defGetString(option);
	}
	for (int i = 0; i < n; i++)
	{
		if (connstrs[i] == NULL)
			ereport(ERROR,
					((errcode) (ERRCODE_SYNTAX_ERROR),
					 errmsg("partition numbers are not contiguous: p%d is missing", i),
					 errhint("Number the partitions from p0 up without gaps.")));
		result = lappend(result, connstrs[i]);
	}
	return result;
}

/*
 * Read hash_ranges: for each partition the slots that belong to it, as in
 * "0-511, 512-767+960-1023, 768-959". Every slot up to the highest must belong
 * to exactly one partition. Their number is 0 where it is not known yet.
 */
void
plproxy_setting_slots(ProxyCluster *cluster, int npartitions)
{
	const char *pos = cluster->hash_ranges;
	int			allocated = 256;
	int			partition = 0;
	int			missing;

	cluster->nslots = 0;
	cluster->slots = MemoryContextAlloc(cluster->cxt, sizeof(int) * allocated);
	for (;;)
	{
		pos = slots_skip_space(pos);
		if (pg_strncasecmp(pos, "none", 4) == 0)
			pos += 4;
		else
		{
			for (;;)
			{
				int			first;
				int			last;

				pos = slots_number(pos, &first);
				last = first;
				if (*pos == '-')
					pos = slots_number(pos + 1, &last);
				if (last < first)
					slots_error(psprintf("The range %d-%d goes backwards.", first, last));
				while (last >= allocated)
				{
					allocated *= 2;
					cluster->slots = repalloc(cluster->slots, sizeof(int) * allocated);
				}
				while (cluster->nslots <= last)
					cluster->slots[cluster->nslots++] = -1;
				for (int slot = first; slot <= last; slot++)
				{
					if (cluster->slots[slot] >= 0)
						slots_error(psprintf("Slot %d is given to partition %d and again to partition %d.",
											 slot, cluster->slots[slot], partition));
					cluster->slots[slot] = partition;
				}
				if (*pos != '+')
					break;
				pos++;
			}
		}
		pos = slots_skip_space(pos);
		partition++;
		if (*pos == '\0')
			break;
		if (*pos != ',')
			slots_error(psprintf("It cannot be read from \"%s\" on.", pos));
		pos++;
	}

	if (npartitions > 0 && partition != npartitions)
		slots_error(psprintf("It describes %d partitions, but the cluster has %d.",
							 partition, npartitions));
	for (missing = 0; missing < cluster->nslots && cluster->slots[missing] >= 0; missing++)
		;
	if (missing < cluster->nslots)
	{
		int			end = missing;

		while (end + 1 < cluster->nslots && cluster->slots[end + 1] < 0)
			end++;
		slots_error(end == missing
					? psprintf("Slot %d belongs to no partition.", missing)
					: psprintf("Slots %d to %d belong to no partition.", missing, end));
	}
	if (cluster->nslots == 0)
		slots_error("It gives no partition a slot.");
	if (!cluster->config.modular_mapping && (cluster->nslots & (cluster->nslots - 1)) != 0)
		slots_error(psprintf("The highest slot is %d, so there are %d slots, which is not a power of 2.",
							 cluster->nslots - 1, cluster->nslots));
}

static const Setting *
setting_lookup(const char *name)
{
	for (int i = 0; i < lengthof(settings); i++)
	{
		if (pg_strcasecmp(settings[i].name, name) == 0)
			return &settings[i];
	}
	return NULL;
}

/* A whole number that is not negative. */
static bool
setting_number(const char *value, int *number)
{
	char	   *end;

	errno = 0;
	*number = *value ? strtoint(value, &end, 10) : 0;
	return errno == 0 && (*value == '\0' || (isdigit((unsigned char) *value) && *end == '\0'));
}

/* A time in milliseconds, written as seconds or with a unit. */
static bool
setting_time(const char *value, int64 *ms)
{
	char	   *end;
	int64		number;

	*ms = 0;
	if (*value == '\0')
		return true;
	if (!isdigit((unsigned char) *value))
		return false;
	errno = 0;
	number = strtoll(value, &end, 10);
	if (errno != 0 && errno != ERANGE)
		return false;
	while (*end == ' ')
		end++;
	for (int i = 0; i < lengthof(time_units); i++)
	{
		if (pg_strcasecmp(end, time_units[i].name) != 0)
			continue;
		if (pg_mul_s64_overflow(number, time_units[i].ms, ms))
			*ms = PG_INT64_MAX;
		return true;
	}
	return false;
}

/* As the server reads truth values; any number but 0 is true. */
static bool
setting_bool(const char *value, bool *on)
{
	int			number;

	if (parse_bool(value, on))
		return true;
	if (!setting_number(value, &number))
		return false;
	*on = number != 0;
	return true;
}

static void
setting_error(const char *name, const char *value, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for cluster setting \"%s\": \"%s\"", name, value),
			 errhint("%s", hint)));
}

static const char *
slots_skip_space(const char *pos)
{
	while (isspace((unsigned char) *pos))
		pos++;
	return pos;
}

/* Read the number of a slot and the space around it. */
static const char *
slots_number(const char *pos, int *slot)
{
	char	   *end;

	pos = slots_skip_space(pos);
	errno = 0;
	*slot = isdigit((unsigned char) *pos) ? strtoint(pos, &end, 10) : -1;
	if (*slot < 0)
		slots_error(psprintf("It cannot be read from \"%s\" on.", pos));
	if (errno != 0 || *slot >= MAX_SLOTS)
		slots_error(psprintf("There can be at most %d slots.", MAX_SLOTS));
	return slots_skip_space(end);
}

static void
slots_error(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for cluster setting \"hash_ranges\""),
			 errdetail("%s", detail),
			 errhint("Write the slots of each partition, as in \"0-511, 512-767+960-1023, 768-959\", "
					 "or \"none\" for a partition that has none.")));
}
