package cli

// pgqd and ticker: the jobs that keep queues alive.

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/ticker"
)

func newPgqd() *cli.Command {
	command := workerCommand("pgqd", "tick and maintain the queues of all databases of a server",
		`Reads the section [pgqd]: base_connstr leads to the server, database_list names
databases when not all shall be ticked. Several pgqd may look after one server: each
database is ticked by one of them, and the others wait to take over. Writers to
queues with queue_notify wake it. -q keeps the log off stderr. Example:

   pgqd -d /etc/pgqd.ini`,
		runPgqd)
	action := command.Action
	command.Action = func(c *cli.Context) error {
		if !c.Args().Present() && !c.Bool("ini") && !c.Bool("version") {
			return errors.New("pgqd requires config file; usage: pgqd [options] CONFIG.ini (--ini prints a sample)")
		}
		return action(c)
	}
	return command
}

// runPgqd keeps what scripts know of pgqd: -q, and what -s, -k and -r say and
// return.
func runPgqd(c *cli.Context, opt batch.Options) error {
	opt.Silent, opt.Quiet = opt.Quiet, false
	for _, s := range []struct {
		wanted bool
		sig    syscall.Signal
		name   string
	}{{opt.Stop, syscall.SIGINT, "SIGINT"}, {opt.Kill, syscall.SIGTERM, "SIGTERM"}, {opt.Reload, syscall.SIGHUP, "SIGHUP"}} {
		if !s.wanted || opt.Sample {
			continue
		}
		var cfg ticker.DaemonConfig
		if _, err := batch.LoadConfig("pgqd", &cfg, opt); err != nil {
			return err
		}
		if cfg.PidFile == "" {
			break // the common way says what is missing
		}
		_, err := batch.SignalRunning(cfg.PidFile, s.sig)
		switch {
		case errors.Is(err, batch.ErrNotRunning):
			_, err = fmt.Fprintln(opt.Stderr, "Old process is not running")
		case err == nil:
			_, err = fmt.Fprintln(opt.Stderr, s.name+" sent")
		}
		return err
	}
	return runTicker(c.Context, "pgqd", opt, func() tickerConfig { return &ticker.DaemonConfig{} })
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
			job.Configure(*fresh.Common())
			return fresh.Settings(), nil
		})
	})
}
