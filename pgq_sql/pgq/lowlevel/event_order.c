/*
 * event_order.c
 *	  Brings the events of a batch into the order of their ids.
 *
 * They nearly come in it: tables are read as they were written. So no sort of
 * everything: events wait in a window, go from there to the result in order,
 * and are stored once. One that comes too late for the window (it was written
 * long after its id was given: retried, or by a long transaction that was read
 * last) goes into a sort of its own, which is merged in at the end.
 *
 * Memory: result and sort keep to work_mem and go to disk beyond it; the window
 * takes a quarter of it more.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/tuplesort.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "pg_compat.h"
#include "pgq_lowlevel.h"

#define WINDOW_EVENTS 8192

/* An event in the window */
typedef struct WaitingEvent
{
	int64		ev_id;
	MinimalTuple tuple;
} WaitingEvent;

struct EventOrder
{
	ReturnSetInfo *rsinfo;		/* its result grows in order */
	int64		result_id;		/* the last id there */
	bool		random_access;	/* the result must be readable backwards */
	MemoryContext context;		/* of window and sort */
	TupleTableSlot *slot;
	WaitingEvent *waiting;
	int			n_waiting;
	int			max_waiting;
	Size		waiting_bytes;
	Size		max_bytes;
	bool		in_order;		/* the window is */
	Tuplesortstate *late;		/* NULL: nobody came too late */
};

static void window_move(EventOrder *order, int n_stay);
static int	waiting_event_compare(const void *a, const void *b);
static void late_put(EventOrder *order, TupleTableSlot *slot);
static void late_merge(EventOrder *order);

/*
 * Begins with the empty result of a set-returning function, which the events
 * will be in when all is done. Lives in the current memory context.
 */
EventOrder *
pgq_event_order_begin(ReturnSetInfo *rsinfo)
{
	EventOrder *order = palloc0(sizeof(EventOrder));

	order->rsinfo = rsinfo;
	order->result_id = PG_INT64_MIN;
	order->random_access = (rsinfo->allowedModes & SFRM_Materialize_Random) != 0;
	order->context = AllocSetContextCreate(CurrentMemoryContext,
										   "PgQ event order",
										   ALLOCSET_DEFAULT_SIZES);
	order->slot = MakeSingleTupleTableSlot(rsinfo->setDesc, &TTSOpsMinimalTuple);
	order->max_waiting = 64;
	order->waiting = palloc(order->max_waiting * sizeof(WaitingEvent));
	order->max_bytes = (Size) work_mem * 1024 / 4;
	order->in_order = true;
	return order;
}

/*
 * Takes the event in a slot. The slot is the caller's.
 */
void
pgq_event_order_put(EventOrder *order, int64 ev_id, TupleTableSlot *slot)
{
	MemoryContext old;
	WaitingEvent *event;

	if (order->n_waiting == WINDOW_EVENTS || order->waiting_bytes > order->max_bytes)
		window_move(order, order->n_waiting / 2);
	if (ev_id < order->result_id)
	{
		late_put(order, slot);
		return;
	}
	if (order->n_waiting == order->max_waiting)
	{
		order->max_waiting *= 2;
		order->waiting = repalloc(order->waiting,
								  order->max_waiting * sizeof(WaitingEvent));
	}

	event = &order->waiting[order->n_waiting];
	event->ev_id = ev_id;
	old = MemoryContextSwitchTo(order->context);
	event->tuple = ExecCopySlotMinimalTuple(slot);
	MemoryContextSwitchTo(old);
	order->waiting_bytes += event->tuple->t_len;
	if (order->n_waiting > 0 && ev_id < event[-1].ev_id)
		order->in_order = false;
	order->n_waiting++;
}

/*
 * All events have come: completes the result, frees the rest.
 */
void
pgq_event_order_end(EventOrder *order)
{
	window_move(order, 0);
	if (order->late != NULL)
		late_merge(order);
	ExecDropSingleTupleTableSlot(order->slot);
	MemoryContextDelete(order->context);
	pfree(order->waiting);
	pfree(order);
}

/*
 * Moves the first events of the window to the result; n_stay stay.
 */
static void
window_move(EventOrder *order, int n_stay)
{
	int			n_move = order->n_waiting - n_stay;

	if (!order->in_order)
		qsort(order->waiting, order->n_waiting, sizeof(WaitingEvent),
			  waiting_event_compare);
	order->in_order = true;
	for (int i = 0; i < n_move; i++)
	{
		WaitingEvent *event = &order->waiting[i];

		order->result_id = event->ev_id;
		order->waiting_bytes -= event->tuple->t_len;
		ExecStoreMinimalTuple(event->tuple, order->slot, false);
		tuplestore_puttupleslot(order->rsinfo->setResult, order->slot);
		pfree(event->tuple);
	}
	ExecClearTuple(order->slot);
	memmove(order->waiting, order->waiting + n_move, n_stay * sizeof(WaitingEvent));
	order->n_waiting = n_stay;
}

/*
 * Orders the window.
 */
static int
waiting_event_compare(const void *a, const void *b)
{
	int64		left = ((const WaitingEvent *) a)->ev_id;
	int64		right = ((const WaitingEvent *) b)->ev_id;

	return left < right ? -1 : left > right;
}

/*
 * Takes an event that should stand in the result already.
 */
static void
late_put(EventOrder *order, TupleTableSlot *slot)
{
	if (order->late == NULL)
	{
		/* the caller's context may be that of one query; the sort outlives it */
		MemoryContext old = MemoryContextSwitchTo(order->context);
		AttrNumber	attnum = 1;
		Oid			less = lookup_type_cache(INT8OID, TYPECACHE_LT_OPR)->lt_opr;
		Oid			collation = InvalidOid;
		bool		nulls_first = false;

		order->late = tuplesort_begin_heap(order->rsinfo->setDesc, 1, &attnum,
										   &less, &collation, &nulls_first,
										   work_mem, NULL, 0);
		MemoryContextSwitchTo(old);
	}
	tuplesort_puttupleslot(order->late, slot);
}

/*
 * Makes one result of the ordered events and the late ones.
 */
static void
late_merge(EventOrder *order)
{
	ReturnSetInfo *rsinfo = order->rsinfo;
	Tuplestorestate *ordered = rsinfo->setResult;
	TupleTableSlot *late_slot = MakeSingleTupleTableSlot(rsinfo->setDesc,
														 &TTSOpsMinimalTuple);
	MemoryContext old;
	bool		more;
	bool		late_more;
	bool		isnull;

	old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	rsinfo->setResult = tuplestore_begin_heap(order->random_access, false, work_mem);
	MemoryContextSwitchTo(old);

	tuplesort_performsort(order->late);
	more = tuplestore_gettupleslot(ordered, true, false, order->slot);
	late_more = tuplesort_gettupleslot(order->late, true, false, late_slot, NULL);
	while (more || late_more)
	{
		CHECK_FOR_INTERRUPTS();
		if (!late_more ||
			(more && DatumGetInt64(slot_getattr(order->slot, 1, &isnull)) <=
			 DatumGetInt64(slot_getattr(late_slot, 1, &isnull))))
		{
			tuplestore_puttupleslot(rsinfo->setResult, order->slot);
			more = tuplestore_gettupleslot(ordered, true, false, order->slot);
		}
		else
		{
			tuplestore_puttupleslot(rsinfo->setResult, late_slot);
			late_more = tuplesort_gettupleslot(order->late, true, false, late_slot, NULL);
		}
	}
	ExecDropSingleTupleTableSlot(late_slot);
	tuplesort_end(order->late);
	tuplestore_end(ordered);
}
