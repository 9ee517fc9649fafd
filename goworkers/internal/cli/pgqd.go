package cli

// pgqd and ticker: the jobs that keep queues alive.

import (
	"context"

	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/ticker"
)

func newPgqd() *cli.Command {
	return workerCommand("pgqd", "tick and maintain the queues of all databases of a server",
		`Reads the section [pgqd]: base_connstr leads to the server, database_list names
databases when not all shall be ticked. Example:

   pgqd -d /etc/pgqd.ini`,
		func(c *cli.Context, opt batch.Options) error {
			return runTicker(c.Context, "pgqd", opt, func() tickerConfig { return &ticker.DaemonConfig{} })
		})
}

func newTicker() *cli.Command {
	return workerCommand("ticker", "tick and maintain the queues of one database",
		`Reads the section [pgqadm] and does what "pgqadm CONFIG.ini ticker" does. Example:

   skytools ticker -d ticker.ini`,
		func(c *cli.Context, opt batch.Options) error { return runPgqadmTicker(c.Context, opt) })
}

func runPgqadmTicker(ctx context.Context, opt batch.Options) error {
	return runTicker(ctx, pgqadmSection, opt, func() tickerConfig { return &ticker.Config{} })
}

// tickerConfig is either of the ticker's configurations.
type tickerConfig interface {
	batch.Config
	Settings() ticker.Settings
}

func runTicker(ctx context.Context, section string, opt batch.Options, empty func() tickerConfig) error {
	cfg := empty()
	return batch.Launch(ctx, section, cfg, opt, func(ctx context.Context, job *batch.Job) error {
		return ticker.Run(ctx, job, cfg.Settings(), func() (ticker.Settings, error) {
			fresh := empty()
			if _, err := batch.LoadConfig(section, fresh, opt); err != nil {
				return ticker.Settings{}, err
			}
			return fresh.Settings(), nil
		})
	})
}
