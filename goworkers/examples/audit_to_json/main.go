// Command audit_to_json writes the changes that queue triggers log to files: a folder a day (UTC), a file a batch, a
// JSON object a line. A batch that comes again replaces its file, so that each change is there once.
//
//	[audit_to_json]
//	src_db = dbname=shop
//	queue_name = audit
//	audit_dir = ~/audit
//	pgq_batch_collect_interval = 60
//	on_bad_event = deadletter
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

type config struct {
	batch.ConsumerConfig
	batch.BadEvents
	Dir string `ini:"audit_dir" path:"true" required:"true" help:"folder of the folders"`
}

// entry is a line of a file.
type entry struct {
	Event     int64
	Time      time.Time
	Op, Table string
	Row, Old  pgq.Row
}

func main() {
	var cfg config
	batch.Main("audit_to_json", &cfg, func(job *batch.Job) (batch.Worker, error) {
		return batch.NewConsumer(job, cfg.ConsumerConfig, func(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
			day := filepath.Join(cfg.Dir, b.TickTime.UTC().Format(time.DateOnly))
			if err := os.MkdirAll(day, 0o750); err != nil {
				return err
			}
			return batch.ReplaceFile(filepath.Join(day, fmt.Sprintf("%s-%d.json", b.Consumer, b.Tick)), func(file io.Writer) error {
				lines := json.NewEncoder(file)
				return batch.Handle(job, cfg.BadEvents, func(_ context.Context, _ pgx.Tx, ev *pgq.Event, c *pgq.Change) error {
					return lines.Encode(entry{ev.ID, ev.Time.UTC(), string(c.Op), c.Table, c.Row, c.Old})
				})(ctx, tx, b)
			})
		})
	})
}
