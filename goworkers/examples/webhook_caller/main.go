// Command webhook_caller posts rows as JSON to a URL until it takes or refuses (4xx) them, perhaps twice; see webhook.sql.
//
//	[webhook_caller]
//	job_name = webhook_caller
//	src_db = dbname=shop
//	queue_name = orders
//	url = https://partner.example.com/orders
//	on_bad_event = deadletter
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

type config struct {
	batch.ConsumerConfig
	batch.BadEvents
	URL string `ini:"url" required:"true" help:"where rows are posted to"`
}

var client = http.Client{Timeout: 30 * time.Second}

func (cfg *config) call(ctx context.Context, _ pgx.Tx, ev *pgq.Event, row *pgq.Row) error {
	body, _ := json.Marshal(row) // texts and nulls cannot fail
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, cfg.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", strconv.FormatInt(ev.ID, 10))
	answer, err := client.Do(request)
	if err != nil {
		return batch.RetryFor(0, err.Error())
	}
	_ = answer.Body.Close() // only the status is of interest
	if answer.StatusCode < 300 {
		return nil
	} else if answer.StatusCode < 500 && answer.StatusCode != http.StatusTooManyRequests {
		return batch.DeadLetter(answer.Status)
	}
	return batch.RetryFor(0, answer.Status)
}

func main() {
	var cfg config
	batch.Main("webhook_caller", &cfg, func(job *batch.Job) (batch.Worker, error) {
		return batch.NewConsumer(job, cfg.ConsumerConfig, batch.Handle(job, cfg.BadEvents, cfg.call))
	})
}
