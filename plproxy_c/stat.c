/*
 * stat.c
 *	  What calls cost: counts per function, cluster and partition.
 *
 * With the library in shared_preload_libraries one table in shared memory serves
 * all backends; else each backend counts for itself in the same structs, and
 * needs no lock. Both hold at most plproxy.stat_calls_max rows. When a new one
 * finds no room, the rows that were not counted in for the longest time go, and
 * what they had counted goes to "evicted", so totals stay right.
 *
 * In shared memory "lock" guards which rows there are, a row's "mutex" its
 * counts, so that calls only share the lock. Counting throws no error: it also
 * happens while an error is on its way.
 *
 * A backend remembers the rows that it counted in last. They are where they were
 * while none was taken out, which the head counts.
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_authid.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "plproxy.h"

#define STAT_MAX_DEFAULT 5000
#define STAT_MAX_MIN 100
#define STAT_MAX_MAX (INT_MAX / 1024)

/* How much of the table is emptied when it is full. */
#define STAT_EVICT_PERCENT 5

#define STAT_NAME "plproxy_stat_calls"
#define STAT_COLUMNS 13

/* So many rows are remembered; a power of two. */
#define STAT_RECENT 64

/* No padding in it, since it is hashed as bytes. */
typedef struct StatKey
{
	Oid			database;
	Oid			role;			/* the current user of the call */
	Oid			function;
	int32		partition;		/* -1 for CONNECT */
	char		cluster[NAMEDATALEN];	/* truncated; empty for CONNECT */
} StatKey;

typedef struct StatCounts
{
	int64		calls;
	int64		errors;
	int64		canceled;
	int64		rows;
	int64		bytes;
	double		total_time;		/* ms */
	double		max_time;		/* ms */
} StatCounts;

typedef struct StatEntry
{
	StatKey		key;			/* hash key, must be first */
	slock_t		mutex;
	StatCounts	counts;
	uint64		used_at;		/* on the clock of instr_time */
	TimestampTz since;
} StatEntry;

typedef struct StatHead
{
	LWLock	   *lock;			/* NULL when the table is the backend's own */
	uint64		removals;		/* guarded by "lock" */
	StatCounts	evicted;		/* guarded by "lock" */
	TimestampTz since;			/* of "evicted" */
} StatHead;

static void shmem_request(void);
static void shmem_startup(void);
static Size shmem_size(void);
static bool stat_attach(void);
static void stat_lock(LWLockMode mode);
static void stat_unlock(void);
static StatEntry *stat_lookup(const StatKey *key);
static void stat_remove(StatEntry *entry);
static StatEntry *stat_enter(const StatKey *key);
static void stat_evict(void);
static int	stat_older(const void *a, const void *b);
static void counts_add(StatCounts *to, const StatCounts *from);
static void stat_put(ReturnSetInfo *rsinfo, const StatKey *key, const StatCounts *counts,
					 TimestampTz since);

PG_FUNCTION_INFO_V1(plproxy_stat_calls);
PG_FUNCTION_INFO_V1(plproxy_stat_reset);

bool		plproxy_show_function = true;

static bool track_calls = true;
static int	stat_max = STAT_MAX_DEFAULT;

/* NULL until attached */
static StatHead *head = NULL;
static HTAB *entries = NULL;

/* valid while "removals" of the head is still the same; NULL: not known */
static StatEntry *recent[STAT_RECENT];
static uint64 recent_removals = 0;

static shmem_request_hook_type next_shmem_request = NULL;
static shmem_startup_hook_type next_shmem_startup = NULL;

void
plproxy_stat_init(void)
{
	DefineCustomBoolVariable("plproxy.track_calls",
							 "Counts calls for plproxy_stat_calls.",
							 NULL, &track_calls, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("plproxy.stat_calls_max",
							"How many rows plproxy_stat_calls holds at most.",
							NULL, &stat_max, STAT_MAX_DEFAULT, STAT_MAX_MIN, STAT_MAX_MAX,
							process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP,
							0, NULL, NULL, NULL);

	DefineCustomBoolVariable("plproxy.show_function",
							 "Shows partitions in application_name which function calls.",
							 NULL, &plproxy_show_function, true, PGC_USERSET, 0, NULL, NULL, NULL);

	if (!process_shared_preload_libraries_in_progress)
		return;
	SKYTOOLS_SHMEM_REQUEST(next_shmem_request, shmem_request);
	next_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

/* A call's partitions are about to be asked. */
void
plproxy_stat_begin(ProxyCall *call)
{
	call->tracked = track_calls;
	if (call->tracked)
		INSTR_TIME_SET_CURRENT(call->started);
}

/*
 * The task is over, once: count it. When it turns out later that its answer was no
 * good, it has failed after all.
 */
void
plproxy_stat_task(ProxyTask *task, ProxyOutcome outcome)
{
	ProxyCall  *call = task->call;
	const char *cluster = call->cluster->name;
	StatKey		key;
	StatEntry  *entry;
	StatCounts	counts;
	instr_time	now;
	instr_time	spent;

	if (!call->tracked || !stat_attach() ||
		(task->counted && (task->counted_failed || outcome != OUTCOME_FAILED)))
		return;

	memset(&key, 0, sizeof(key));
	key.database = MyDatabaseId;
	key.role = GetUserId();
	key.function = call->func->oid;
	key.partition = cluster ? task->partition : -1;
	if (cluster)
	{
		int			len = strlen(cluster);

		if (len >= NAMEDATALEN)
			len = pg_mbcliplen(cluster, len, NAMEDATALEN - 1);
		memcpy(key.cluster, cluster, len);
	}

	INSTR_TIME_SET_CURRENT(now);
	spent = now;
	INSTR_TIME_SUBTRACT(spent, call->started);

	memset(&counts, 0, sizeof(counts));
	counts.errors = outcome == OUTCOME_FAILED;
	if (!task->counted)
	{
		counts.calls = 1;
		counts.canceled = outcome == OUTCOME_CANCELED;
		counts.rows = task->rows;
		counts.bytes = task->bytes;
		counts.total_time = counts.max_time = INSTR_TIME_GET_MILLISEC(spent);
	}
	task->counted = true;
	task->counted_failed = outcome == OUTCOME_FAILED;

	stat_lock(LW_SHARED);
	entry = stat_lookup(&key);
	if (entry == NULL)
	{
		stat_unlock();
		stat_lock(LW_EXCLUSIVE);
		entry = stat_enter(&key);
	}
	if (entry)
	{
		SpinLockAcquire(&entry->mutex);
		counts_add(&entry->counts, &counts);
		entry->used_at = INSTR_TIME_GET_MICROSEC(now);
		SpinLockRelease(&entry->mutex);
	}
	else
		counts_add(&head->evicted, &counts);
	stat_unlock();
}

/* plproxy_stat_calls(): the rows that the current user may see. */
Datum
plproxy_stat_calls(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	HASH_SEQ_STATUS seq;
	StatEntry  *entry;
	StatEntry  *rows;
	StatCounts	evicted;
	TimestampTz since;
	long		n = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (!stat_attach())
		return (Datum) 0;

	/* who may see what is looked up without the lock, for that reads catalogs */
	stat_lock(LW_SHARED);
	rows = palloc_extended(sizeof(StatEntry) * Max(hash_get_num_entries(entries), 1),
						   MCXT_ALLOC_HUGE);
	hash_seq_init(&seq, entries);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		SpinLockAcquire(&entry->mutex);
		rows[n++] = *entry;
		SpinLockRelease(&entry->mutex);
	}
	evicted = head->evicted;
	since = head->since;
	stat_unlock();

	for (long i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (all || has_privs_of_role(GetUserId(), rows[i].key.role))
			stat_put(rsinfo, &rows[i].key, &rows[i].counts, rows[i].since);
	}
	if (all && evicted.calls > 0)
		stat_put(rsinfo, NULL, &evicted, since);
	pfree(rows);
	return (Datum) 0;
}

/* plproxy_stat_reset(): forget all counts, of all databases. */
Datum
plproxy_stat_reset(PG_FUNCTION_ARGS)
{
	HASH_SEQ_STATUS seq;
	StatEntry  *entry;

	if (!stat_attach())
		PG_RETURN_VOID();

	stat_lock(LW_EXCLUSIVE);
	hash_seq_init(&seq, entries);
	while ((entry = hash_seq_search(&seq)) != NULL)
		stat_remove(entry);
	memset(&head->evicted, 0, sizeof(head->evicted));
	head->since = GetCurrentTimestamp();
	stat_unlock();
	PG_RETURN_VOID();
}

static void
shmem_request(void)
{
	if (next_shmem_request)
		next_shmem_request();
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche(STAT_NAME, 1);
}

static void
shmem_startup(void)
{
	HASHCTL		ctl = {.keysize = sizeof(StatKey),.entrysize = sizeof(StatEntry)};
	bool		found;

	if (next_shmem_startup)
		next_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	head = ShmemInitStruct(STAT_NAME, sizeof(StatHead), &found);
	if (!found)
	{
		memset(head, 0, sizeof(StatHead));
		head->lock = &GetNamedLWLockTranche(STAT_NAME)->lock;
		head->since = GetCurrentTimestamp();
	}
	entries = ShmemInitHash(STAT_NAME " rows", stat_max, stat_max, &ctl, HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
}

static Size
shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(StatHead)), hash_estimate_size(stat_max, sizeof(StatEntry)));
}

/* Make the backend's own table unless there is one; false if memory is short. */
static bool
stat_attach(void)
{
	HASHCTL		ctl = {.keysize = sizeof(StatKey),.entrysize = sizeof(StatEntry)};

	if (head)
		return true;
	head = MemoryContextAllocExtended(TopMemoryContext, sizeof(StatHead),
									  MCXT_ALLOC_ZERO | MCXT_ALLOC_NO_OOM);
	if (head == NULL)
		return false;
	head->since = GetCurrentTimestamp();
	entries = hash_create("PL/Proxy call counts", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	return true;
}

static void
stat_lock(LWLockMode mode)
{
	if (head->lock)
		LWLockAcquire(head->lock, mode);
}

static void
stat_unlock(void)
{
	if (head->lock)
		LWLockRelease(head->lock);
}

/* Find the row of the key, or NULL, with the lock held. */
static StatEntry *
stat_lookup(const StatKey *key)
{
	StatEntry **place = &recent[(key->function + key->partition) % STAT_RECENT];

	if (recent_removals != head->removals)
	{
		memset(recent, 0, sizeof(recent));
		recent_removals = head->removals;
	}
	if (*place == NULL || memcmp(&(*place)->key, key, sizeof(StatKey)) != 0)
		*place = hash_search(entries, key, HASH_FIND, NULL);
	return *place;
}

/* Take a row out, with the lock held exclusively. */
static void
stat_remove(StatEntry *entry)
{
	head->removals++;
	hash_search(entries, &entry->key, HASH_REMOVE, NULL);
}

/*
 * Get the row of the key, with the lock held exclusively; a new one if need be.
 * NULL if there is no room.
 */
static StatEntry *
stat_enter(const StatKey *key)
{
	StatEntry  *entry = hash_search(entries, key, HASH_FIND, NULL);
	bool		found;

	if (entry)
		return entry;
	if (hash_get_num_entries(entries) >= stat_max)
		stat_evict();
	entry = hash_search(entries, key, head->lock ? HASH_ENTER_NULL : HASH_ENTER, &found);
	if (entry == NULL)
		return NULL;
	SpinLockInit(&entry->mutex);
	memset(&entry->counts, 0, sizeof(entry->counts));
	entry->used_at = 0;
	entry->since = GetCurrentTimestamp();
	return entry;
}

/* Take out the rows that were not counted in for the longest time. */
static void
stat_evict(void)
{
	HASH_SEQ_STATUS seq;
	StatEntry  *entry;
	StatEntry **sorted;
	long		n = 0;
	long		leave;

	sorted = palloc_extended(sizeof(StatEntry *) * hash_get_num_entries(entries),
							 MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (sorted == NULL)
		return;
	hash_seq_init(&seq, entries);
	while ((entry = hash_seq_search(&seq)) != NULL)
		sorted[n++] = entry;
	qsort(sorted, n, sizeof(StatEntry *), stat_older);

	/* a backend's own limit may have been lowered meanwhile */
	leave = stat_max - Max(stat_max * STAT_EVICT_PERCENT / 100, 1);
	for (long i = 0; i < n - leave; i++)
	{
		counts_add(&head->evicted, &sorted[i]->counts);
		stat_remove(sorted[i]);
	}
	pfree(sorted);
}

static int
stat_older(const void *a, const void *b)
{
	uint64		one = (*(StatEntry *const *) a)->used_at;
	uint64		other = (*(StatEntry *const *) b)->used_at;

	return one < other ? -1 : one > other ? 1 : 0;
}

static void
counts_add(StatCounts *to, const StatCounts *from)
{
	to->calls += from->calls;
	to->errors += from->errors;
	to->canceled += from->canceled;
	to->rows += from->rows;
	to->bytes += from->bytes;
	to->total_time += from->total_time;
	if (from->max_time > to->max_time)
		to->max_time = from->max_time;
}

/* Add a row to the result; "key" is NULL for the sum of evicted rows. */
static void
stat_put(ReturnSetInfo *rsinfo, const StatKey *key, const StatCounts *counts, TimestampTz since)
{
	Datum		values[STAT_COLUMNS] = {0};
	bool		nulls[STAT_COLUMNS] = {0};
	int			i = 0;

	if (key)
	{
		values[0] = ObjectIdGetDatum(key->database);
		values[1] = ObjectIdGetDatum(key->role);
		values[2] = ObjectIdGetDatum(key->function);
		if (key->partition >= 0)
		{
			values[3] = CStringGetTextDatum(key->cluster);
			values[4] = Int32GetDatum(key->partition);
		}
		else
			nulls[3] = nulls[4] = true;
	}
	else
		memset(nulls, true, 5);

	i = 5;
	values[i++] = Int64GetDatum(counts->calls);
	values[i++] = Int64GetDatum(counts->errors);
	values[i++] = Int64GetDatum(counts->canceled);
	values[i++] = Int64GetDatum(counts->rows);
	values[i++] = Int64GetDatum(counts->bytes);
	values[i++] = Float8GetDatum(counts->total_time);
	values[i++] = Float8GetDatum(counts->max_time);
	values[i++] = TimestampTzGetDatum(since);
	Assert(i == STAT_COLUMNS);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}
