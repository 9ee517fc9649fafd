package shell

// Commands for connections, queues and relations.

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"goworkers/pgq"
)

func connect(ctx context.Context, s *Session, a *arguments) error {
	set, queue, moved := s.override, s.queue, false
	for _, p := range a.set {
		target := map[string]*string{"dbname": &set.dbname, "host": &set.host, "port": &set.port, "user": &set.user,
			"password": &set.password, "queue": &queue}[p.name]
		*target = p.value
		if p.name != "queue" {
			moved = true
		}
	}
	if moved || len(a.set) == 0 {
		db, err := s.open(ctx, set)
		if err != nil {
			return err
		}
		s.Close()
		s.db, s.override = db, set
	}
	s.queue = queue
	return s.say("CONNECT")
}

const installSQL = `create extension `

func install(ctx context.Context, s *Session, a *arguments) error {
	if !slices.Contains(extensions, a.arg) {
		return fmt.Errorf("%q is none of %s", a.arg, strings.Join(extensions, ", "))
	}
	if _, err := s.db.Exec(ctx, installSQL+pgx.Identifier{a.arg}.Sanitize()); err != nil {
		return err
	}
	return s.say("INSTALL")
}

var extensions = []string{"pgq", "pgq_ext", "pgq_coop"}

// which is the queue that a command means: the one it names, or that of the prompt.
func (s *Session) which(named string) (string, error) {
	switch {
	case named != "":
		return named, nil
	case s.queue != "":
		return s.queue, nil
	}
	return "", fmt.Errorf("no queue: name one with on QUEUE, or choose one with connect queue=QUEUE")
}

const (
	showQueuesSQL = `
		select i.queue_name as queue,
		       (select count(*) from pgq.get_consumer_info(i.queue_name)) as consumers,
		       i.queue_ntables || '/' || i.queue_rotation_period as rotation,
		       i.queue_ticker_max_count as max_count, i.queue_ticker_max_lag as max_lag,
		       i.queue_ticker_idle_period as idle_period, i.queue_ticker_paused as paused,
		       date_trunc('milliseconds', i.ticker_lag) as ticker_lag,
		       round(i.ev_per_sec::numeric, 1) as ev_per_sec, i.ev_new, i.last_tick_id as last_tick
		  from pgq.get_queue_info() i
		 where ($1::text is null or i.queue_name = $1)
		 order by 1`
	showConsumersSQL = `
		select i.queue_name as queue, i.consumer_name as consumer,
		       date_trunc('milliseconds', i.lag) as lag, date_trunc('milliseconds', i.last_seen) as last_seen,
		       i.last_tick, i.current_batch as batch, i.next_tick, i.pending_events as pending
		  from pgq.get_consumer_info() i
		 where ($1::text is null or i.queue_name = $1)
		   and ($2::text is null or i.consumer_name = $2)
		 order by 1, 2`
)

// orNull is an argument that is NULL for "" and for *, which mean all.
func orNull(name string) *string {
	if name == "" || name == "*" {
		return nil
	}
	return &name
}

func showQueue(ctx context.Context, s *Session, a *arguments) error {
	name := a.arg
	if name == "" {
		name = s.queue
	}
	t, err := s.table(ctx, showQueuesSQL, orNull(name))
	switch {
	case err != nil:
		return err
	case len(t.rows) == 0 && orNull(name) != nil:
		return fmt.Errorf("queue %q does not exist", name)
	}
	if err := t.print(s.cfg.Out); err != nil || orNull(name) == nil {
		return err
	}
	return s.query(ctx, showConsumersSQL, name, nil)
}

func createQueue(ctx context.Context, s *Session, a *arguments) error {
	created, err := pgq.CreateQueue(ctx, s.db, a.arg)
	switch {
	case err != nil:
		return err
	case !created:
		return fmt.Errorf("queue %q exists already", a.arg)
	}
	return s.say("CREATE")
}

func dropQueue(ctx context.Context, s *Session, a *arguments) error {
	if err := pgq.DropQueue(ctx, s.db, a.arg, a.flags["force"]); err != nil {
		return err
	}
	if s.queue == a.arg {
		s.queue = ""
	}
	return s.say("DROP")
}

// queueSettings are names of parameters; the first few are short forms.
var queueSettings = []string{"max_count", "max_lag", "idle_period", "min_lag", "paused",
	"ticker_max_count", "ticker_max_lag", "ticker_idle_period", "ticker_min_lag", "ticker_paused", "external_ticker",
	"rotation_period", "notify", "retention", "consumer_expiry", "disable_insert", "per_tx_limit", "extra_maint"}

const shortSettings = 5

// unset is the value that stands for none.
const unset = "none"

func alterQueue(ctx context.Context, s *Session, a *arguments) error {
	names := []string{a.arg}
	if a.arg == "*" {
		queues, err := pgq.QueueInfo(ctx, s.db)
		if err != nil {
			return err
		}
		names = nil
		for _, q := range queues {
			names = append(names, q.Name)
		}
	}
	// All or nothing, also within a transaction of the user's.
	return s.atomically(ctx, "ALTER", func() error {
		for _, name := range names {
			for _, p := range a.set {
				param := p.name
				if slices.Contains(queueSettings[:shortSettings], param) {
					param = "ticker_" + param
				}
				var err error
				if p.value == unset {
					err = pgq.UnsetQueueConfig(ctx, s.db, name, param)
				} else {
					err = pgq.SetQueueConfig(ctx, s.db, name, param, p.value)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// atomically runs f in a transaction, or in a savepoint of the one that is open, and
// says what was done, if ack has a word for it.
func (s *Session) atomically(ctx context.Context, ack string, f func() error) error {
	begin, commit, rollback := "begin", "commit", "rollback"
	if s.db.PgConn().TxStatus() != 'I' {
		begin, commit, rollback = "savepoint shell", "release savepoint shell", "rollback to savepoint shell"
	}
	if _, err := s.db.Exec(ctx, begin); err != nil {
		return err
	}
	if err := f(); err != nil {
		// The error at hand tells more than one of the rollback.
		_, _ = s.db.Exec(context.WithoutCancel(ctx), rollback)
		return err
	}
	if _, err := s.db.Exec(ctx, commit); err != nil {
		return err
	}
	if ack == "" {
		return nil
	}
	return s.say("%s", ack)
}

const (
	showTableSQL = `
		select a.attname as column, pg_catalog.format_type(a.atttypid, a.atttypmod) as type,
		       case when a.attnotnull then 'not null' end as nullable, pg_catalog.pg_get_expr(d.adbin, d.adrelid) as default
		  from pg_catalog.pg_attribute a
		  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
		 where a.attrelid = pg_catalog.to_regclass($1) and a.attnum > 0 and not a.attisdropped
		 order by a.attnum`
	showTriggersSQL = `
		select t.tgname as trigger, pg_catalog.pg_get_triggerdef(t.oid, true) as definition
		  from pg_catalog.pg_trigger t
		 where t.tgrelid = pg_catalog.to_regclass($1) and not t.tgisinternal
		 order by 1`
	showSequenceSQL = `
		select schemaname as schema, sequencename as sequence, last_value, start_value as start, increment_by as increment,
		       cache_size as cache, cycle
		  from pg_catalog.pg_sequences
		 where pg_catalog.to_regclass(pg_catalog.format('%I.%I', schemaname, sequencename)) = pg_catalog.to_regclass($1)`
)

func showTable(ctx context.Context, s *Session, a *arguments) error {
	t, err := s.table(ctx, showTableSQL, a.arg)
	switch {
	case err != nil:
		return err
	case len(t.rows) == 0:
		return fmt.Errorf("table %q does not exist", a.arg)
	}
	if err := t.print(s.cfg.Out); err != nil {
		return err
	}
	triggers, err := s.table(ctx, showTriggersSQL, a.arg)
	if err != nil || len(triggers.rows) == 0 {
		return err
	}
	return triggers.print(s.cfg.Out)
}

func showSequence(ctx context.Context, s *Session, a *arguments) error {
	t, err := s.table(ctx, showSequenceSQL, a.arg)
	switch {
	case err != nil:
		return err
	case len(t.rows) == 0:
		return fmt.Errorf("sequence %q does not exist", a.arg)
	}
	return t.print(s.cfg.Out)
}

const (
	versionSQL = `
	select $1 as name, $2 as version
	union all
	select 'PostgreSQL', pg_catalog.current_setting('server_version')
	union all
	(select e.extname::text, e.extversion
	   from pg_catalog.pg_extension e
	  where e.extname in ('pgq', 'pgq_ext', 'pgq_coop', 'pgq_node', 'londiste', 'plproxy')
	  order by 1)`
	// A script makes pgq without an extension.
	scriptedSQL = `
	select pg_catalog.to_regprocedure('pgq.version()') is not null
	   and not exists (select from pg_catalog.pg_extension e where e.extname = 'pgq')`
	scriptedVersionSQL = versionSQL + `
	union all
	select 'pgq, by a script', pgq.version()`
)

func showVersion(ctx context.Context, s *Session, _ *arguments) error {
	var scripted bool
	if err := s.db.QueryRow(ctx, scriptedSQL).Scan(&scripted); err != nil {
		return err
	}
	sql := versionSQL
	if scripted {
		sql = scriptedVersionSQL
	}
	return s.query(ctx, sql, s.cfg.Program, s.cfg.Version)
}

const blockersSQL = `
	select queue_name as queue, rotation_due_since as due_since, blocker_kind as kind, blocker, since, detail
	  from pgq.rotation_blockers
	 order by 1, 5`

func showBlockers(ctx context.Context, s *Session, _ *arguments) error {
	return s.query(ctx, blockersSQL)
}
