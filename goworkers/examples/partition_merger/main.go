// Command partition_merger keeps one table of the users of all partitions, from events of
// pgq.logutriga, each counted once. Run it for each partition, with a job_name of its own, by
// which the target knows how far it is. A user that moves is where the later change was.
//
//	[partition_merger]
//	job_name = merger_p0
//	src_db = dbname=part0
//	dst_db = dbname=reports
//	queue_name = users
//	partition = p0
package main

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

type config struct {
	batch.RemoteConfig
	batch.BadEvents
	Partition string `ini:"partition" required:"true" help:"name of the partition in the target's table"`
}

type user struct {
	Username string
	Email    *string
	Score    int64
	Changed  time.Time
}

const (
	setSQL = `
		insert into merged.users as u values ($1, $2, $3, $4, $5)
		on conflict (username) do update set (email, score, changed, partition) = (excluded.email, excluded.score, excluded.changed, excluded.partition)
		where u.changed <= excluded.changed`
	dropSQL = `delete from merged.users where username = $1 and partition = $2`
)

func (cfg *config) merge(ctx context.Context, tx pgx.Tx, ev *pgq.Event, u *user) (err error) {
	if strings.HasPrefix(ev.Type.String, "D:") {
		_, err = tx.Exec(ctx, dropSQL, u.Username, cfg.Partition)
	} else {
		_, err = tx.Exec(ctx, setSQL, u.Username, u.Email, u.Score, u.Changed, cfg.Partition)
	}
	return err
}

func main() {
	var cfg config
	batch.Main("partition_merger", &cfg, func(job *batch.Job) (batch.Worker, error) {
		return batch.NewSerialConsumer(job, cfg.RemoteConfig, batch.Handle(job, cfg.BadEvents, cfg.merge, batch.NoSavepoints))
	})
}
