// Steering: where consumers stand, whether they run, and what holds up a queue.

package pgq

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const seekConsumerSQL = `select pgq.seek_consumer($1, $2, $3)`

// SeekConsumer moves a consumer to the last tick not later than at, so that what
// came after that time comes (again); its open batch is dropped. It returns the
// tick. IsTickNotFound tells that the queue keeps nothing so old.
func SeekConsumer(ctx context.Context, db DB, queue, consumer string, at time.Time) (tick int64, err error) {
	err = db.QueryRow(ctx, seekConsumerSQL, queue, consumer, at).Scan(&tick)
	return tick, wrap(err, "move consumer %q on queue %q to %s", consumer, queue, at.Format(time.RFC3339))
}

const (
	pauseConsumerSQL  = `select pgq.pause_consumer($1, $2) = 1`
	resumeConsumerSQL = `select pgq.resume_consumer($1, $2) = 1`
)

// PauseConsumer makes NextBatch give a consumer nothing until ResumeConsumer; an
// open batch may be finished. It says false when the consumer was paused before.
func PauseConsumer(ctx context.Context, db DB, queue, consumer string) (changed bool, err error) {
	err = db.QueryRow(ctx, pauseConsumerSQL, queue, consumer).Scan(&changed)
	return changed, wrap(err, "pause consumer %q on queue %q", consumer, queue)
}

// ResumeConsumer undoes PauseConsumer. It says false when the consumer was not
// paused.
func ResumeConsumer(ctx context.Context, db DB, queue, consumer string) (changed bool, err error) {
	err = db.QueryRow(ctx, resumeConsumerSQL, queue, consumer).Scan(&changed)
	return changed, wrap(err, "resume consumer %q on queue %q", consumer, queue)
}

const setConsumerConfigSQL = `select pgq.set_consumer_config($1, $2, $3, $4)`

// SetConsumerConfig sets one parameter of a subscription: max_retries, retry_delay,
// retry_max_delay or paused. A nil value is NULL: not set.
func SetConsumerConfig(ctx context.Context, db DB, queue, consumer, param string, value *string) error {
	_, err := db.Exec(ctx, setConsumerConfigSQL, queue, consumer, param, value)
	return wrap(err, "set %s of consumer %q on queue %q to %s", param, consumer, queue, quoted(value))
}

// Param is a parameter of a queue or a subscription, its value as SetQueueConfig
// and SetConsumerConfig take it; nil where it is not set.
type Param struct {
	Name  string
	Value *string
}

// Params are the parameters of a queue, or of a consumer on a queue.
type Params struct {
	Queue    string
	Consumer string // "" for those of a queue
	Params   []Param
}

// The columns are looked at by name, so that a schema that is older than some of
// them can be asked, too; then it has fewer parameters.
const (
	queueParamsSQL = `
		select q.queue_name, '', p.name,
		       case p.name when 'extra_maint' then q.queue_extra_maint::text else j.row ->> ('queue_' || p.name) end,
		       case when p.span then (j.row ->> ('queue_' || p.name))::interval end
		  from pgq.queue q
		 cross join lateral (select pg_catalog.to_jsonb(q)) j (row)
		 cross join (values (1, 'ticker_max_count', false), (2, 'ticker_max_lag', true), (3, 'ticker_idle_period', true),
		                    (4, 'ticker_min_lag', true), (5, 'ticker_paused', false), (6, 'external_ticker', false),
		                    (7, 'notify', false), (8, 'rotation_period', true), (9, 'retention', true),
		                    (10, 'consumer_expiry', true), (11, 'disable_insert', false), (12, 'per_tx_limit', false),
		                    (13, 'extra_maint', false))
		       p (ord, name, span)
		 where j.row ? ('queue_' || p.name)
		   and ($1::text[] is null or q.queue_name = any ($1))
		 order by q.queue_name, p.ord`
	consumerParamsSQL = `
		select q.queue_name, c.co_name, p.name, j.row ->> ('sub_' || p.name),
		       case when p.span then (j.row ->> ('sub_' || p.name))::interval end
		  from pgq.subscription s
		  join pgq.queue q on q.queue_id = s.sub_queue
		  join pgq.consumer c on c.co_id = s.sub_consumer
		 cross join lateral (select pg_catalog.to_jsonb(s)) j (row)
		 cross join (values (1, 'paused', false), (2, 'max_retries', false), (3, 'retry_delay', true), (4, 'retry_max_delay', true))
		       p (ord, name, span)
		 where j.row ? ('sub_' || p.name)
		   and ($1::text is null or q.queue_name = $1)
		   and ($2::text is null or c.co_name = $2)
		 order by q.queue_name, c.co_name, p.ord`
)

// QueueParams tells the parameters of all queues, by name, or of the named ones.
func QueueParams(ctx context.Context, db DB, queue ...string) ([]Params, error) {
	rows, err := db.Query(ctx, queueParamsSQL, queue)
	if err != nil {
		return nil, wrap(err, "look at the parameters of queues")
	}
	list, err := collectParams(rows)
	return list, wrap(err, "look at the parameters of queues")
}

// ConsumerParams tells the parameters of subscriptions by queue and name: of all,
// or when the names are not empty of those of one queue, or of one consumer.
func ConsumerParams(ctx context.Context, db DB, queue, consumer string) ([]Params, error) {
	rows, err := db.Query(ctx, consumerParamsSQL, nonempty(queue), nonempty(consumer))
	if err != nil {
		return nil, wrap(err, "look at the parameters of consumers")
	}
	list, err := collectParams(rows)
	return list, wrap(err, "look at the parameters of consumers")
}

func collectParams(rows pgx.Rows) (list []Params, err error) {
	defer rows.Close()
	for rows.Next() {
		var of Params
		var p Param
		var span *time.Duration
		if err := rows.Scan(&of.Queue, &of.Consumer, &p.Name, &p.Value, optional(&span)); err != nil {
			return nil, err
		}
		if span != nil {
			text := seconds(*span)
			p.Value = &text
		}
		if n := len(list); n == 0 || list[n-1].Queue != of.Queue || list[n-1].Consumer != of.Consumer {
			list = append(list, of)
		}
		last := &list[len(list)-1]
		last.Params = append(last.Params, p)
	}
	return list, rows.Err()
}

// Blocker is something that keeps a queue from rotating its tables, which grow
// until it is gone.
type Blocker struct {
	Queue    string
	DueSince *time.Time // since when the rotation is due
	Kind     string     // consumer, transaction, prepared transaction, lock, ticker, retention or maintenance
	Name     string     // which one
	Since    *time.Time // since when it stands in the way
	Detail   string
}

const rotationBlockersSQL = `
	select queue_name, rotation_due_since, blocker_kind, coalesce(blocker, ''), since, coalesce(detail, '')
	  from pgq.rotation_blockers
	 order by 1, 5, 3, 4`

// RotationBlockers tells what keeps queues from rotating, the oldest of a queue
// first.
func RotationBlockers(ctx context.Context, db DB) ([]Blocker, error) {
	rows, err := db.Query(ctx, rotationBlockersSQL)
	if err != nil {
		return nil, wrap(err, "ask what blocks rotation")
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Blocker, err error) {
		err = row.Scan(&b.Queue, &nullMoment{&b.DueSince}, &b.Kind, &b.Name, &nullMoment{&b.Since}, &b.Detail)
		return b, err
	})
	return list, wrap(err, "ask what blocks rotation")
}

const rebaseQueueSQL = `select pgq.rebase_queue($1) = 1`

// RebaseQueue repairs a queue that was restored into a server whose transaction ids
// are lower than those that the queue has noted; until then its ticks fail
// (IsQueueBroken). No event is lost. It says false when there was no need.
func RebaseQueue(ctx context.Context, db DB, queue string) (rebased bool, err error) {
	err = db.QueryRow(ctx, rebaseQueueSQL, queue).Scan(&rebased)
	return rebased, wrap(err, "rebase queue %q", queue)
}
