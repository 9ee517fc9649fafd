/*
 * notify.c
 *	  Sends word to the ticker when a transaction commits that wrote into a queue
 *	  with queue_notify set.
 *
 * A notification takes a lock of the whole cluster until the commit is done, so
 * not every transaction may send one. A ticker that has been woken watches the
 * queue for WATCH_MS after the last event that it saw, of whomever: word is
 * needed only for an event that comes after a pause. Hence none is sent by a commit
 *	 - less than QUIET_MS after this backend's last one into that queue, or
 *	 - less than QUIET_BUSY_MS after it when the ids since then show that others
 *	   wrote faster than BUSY_PER_MS: the more write, the rarer each sends.
 * Should the ticker have missed something, or be another one by now, it hears
 * again after RENEW_MS; and it polls besides, which is what covers PREPARE
 * TRANSACTION (notifications are impossible there) and queues with names that
 * are too long to send.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "utils/timestamp.h"

#include "pg_compat.h"
#include "pgq_lowlevel.h"

#define CHANNEL "pgq_insert"
#define MAX_PAYLOAD 7999

/* The ticker's side of it is pgq.ticker_wake(), which watches longer */
#define QUIET_MS 20
#define QUIET_BUSY_MS 1000
#define BUSY_EVENTS 32
#define BUSY_PER_MS 0.5
#define RENEW_MS 1000

static void xact_callback(XactEvent event, void *arg);
static bool word_needed(const PgqQueue *queue, TimestampTz now);

/* The queues that this transaction has written to */
static PgqQueue *pending = NULL;

/*
 * The transaction writes into the queue.
 */
void
pgq_notify_ticker(PgqQueue *queue)
{
	static bool callback_registered = false;

	if (!queue->notify || queue->pending)
		return;
	if (!callback_registered)
	{
		RegisterXactCallback(xact_callback, NULL);
		callback_registered = true;
	}
	queue->sending = false;
	queue->pending = true;
	queue->next_pending = pending;
	pending = queue;
}

static void
xact_callback(XactEvent event, void *arg)
{
	TimestampTz now;

	if (pending == NULL)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			now = GetCurrentTimestamp();
			for (PgqQueue *queue = pending; queue != NULL; queue = queue->next_pending)
			{
				if (queue->key.len <= MAX_PAYLOAD && word_needed(queue, now))
				{
					Async_Notify(CHANNEL, queue->key.name);
					queue->sending = true;
				}
			}
			break;

		case XACT_EVENT_COMMIT:
			now = GetCurrentTimestamp();
			for (PgqQueue *queue = pending; queue != NULL; queue = queue->next_pending)
			{
				if (queue->sending)
					queue->sent_time = now;
				queue->commit_time = now;
				queue->commit_id = queue->last_id;
				queue->n_drawn = 0;
				queue->pending = false;
			}
			pending = NULL;
			break;

		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* what they drew shows as ids of others, and makes no difference */
			for (PgqQueue *queue = pending; queue != NULL; queue = queue->next_pending)
				queue->pending = false;
			pending = NULL;
			break;

		default:
			break;
	}
}

/*
 * May the ticker sleep, as far as we can know?
 */
static bool
word_needed(const PgqQueue *queue, TimestampTz now)
{
	double		quiet = (now - queue->commit_time) / 1000.0;
	double		unsent = (now - queue->sent_time) / 1000.0;
	int64		others = queue->last_id - queue->commit_id - queue->n_drawn;

	/* a clock that was set back tells nothing */
	if (quiet < 0 || unsent < 0 || unsent >= RENEW_MS)
		return true;
	if (quiet < QUIET_MS)
		return false;
	return quiet >= QUIET_BUSY_MS || others < BUSY_EVENTS + BUSY_PER_MS * quiet;
}
