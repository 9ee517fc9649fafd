// Command cache_invalidator takes changed rows out of HTTP caches: each event of pgq.logutriga or jsontriga becomes
// PURGE /TABLE/KEY on every cache, a TRUNCATE PURGE /TABLE. What a cache does not do is tried again after ten seconds.
//
//	[cache_invalidator]
//	src_db = dbname=shop
//	queue_name = shop_changes
//	caches = http://cache1:6081, http://cache2:6081
//	on_bad_event = deadletter
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

type config struct {
	batch.ConsumerConfig
	batch.BadEvents
	Caches []string `ini:"caches" required:"true" help:"URLs of the caches, comma separated"`
}

func (cfg *config) purge(ctx context.Context, _ pgx.Tx, _ *pgq.Event, c *pgq.Change) error {
	path := "/" + url.PathEscape(c.Table)
	for _, key := range c.Keys {
		path += "/" + url.PathEscape(c.Row[key].String)
	}
	var failed error
	for _, cache := range cfg.Caches {
		request, err := http.NewRequestWithContext(ctx, "PURGE", cache+path, nil)
		if err != nil {
			return err
		}
		answer, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
		if err == nil && answer.Body.Close() == nil && answer.StatusCode >= 300 && answer.StatusCode != http.StatusNotFound {
			err = fmt.Errorf("PURGE %s: %s", request.URL, answer.Status)
		}
		failed = errors.Join(failed, err)
	}
	if failed == nil {
		return nil
	}
	return batch.RetryFor(10*time.Second, failed.Error())
}

func main() {
	var cfg config
	batch.Main("cache_invalidator", &cfg, func(job *batch.Job) (batch.Worker, error) {
		return batch.NewConsumer(job, cfg.ConsumerConfig, batch.Handle(job, cfg.BadEvents, cfg.purge))
	})
}
