package cli

// The pooler, with PgBouncer's command line.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/pooler"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/systemd"
)

const poolerName = "pooler"

func newPooler() *cli.Command {
	return &cli.Command{
		Name:      poolerName,
		Usage:     "keep few server connections for many clients (takes PgBouncer's configuration)",
		UsageText: "pooler [options] CONFIG",
		Description: "Example: pooler -d pgbouncer.ini\n" +
			"Online restart, without a client noticing: pooler -d -R pgbouncer.ini\n\n" +
			"Signals: HUP reads the configuration again, INT ends when servers are released, TERM ends when all\n" +
			"clients have left, QUIT ends at once, USR1 pauses, USR2 resumes.",
		OnUsageError:           usageError,
		HideHelpCommand:        true,
		UseShortOptionHandling: true,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "daemon", Aliases: []string{"d"}, Usage: "go into the background (needs pidfile, and logfile or syslog)"},
			&cli.BoolFlag{Name: "reboot", Aliases: []string{"R"}, Usage: "take over the connections of the running process, which ends then"},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "become this system user `NAME`"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log more; may be repeated", Count: new(int)},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "write no log to stderr"},
			&cli.BoolFlag{Name: "ini", Usage: "print a commented sample configuration and end"},
			versionFlag(),
		},
		Action: runPooler,
	}
}

func runPooler(c *cli.Context) error {
	switch {
	case c.Bool("version"):
		_, err := io.WriteString(c.App.Writer, pooler.Version+"\n")
		return err
	case c.Bool("ini"):
		return ini.WriteSample(c.App.Writer)
	case c.Bool("reboot") && os.Getenv("LISTEN_FDS") != "":
		return batch.Usagef("-R does not go with sockets from systemd: restart the service, or use so_reuseport")
	case c.Args().Len() != 1:
		return batch.Usagef("give exactly one configuration file; usage: pooler [options] CONFIG (--ini prints a sample)")
	}
	cfg, warnings, err := ini.Load(c.Args().First())
	if err != nil {
		return batch.Usagef("%v", err)
	}
	if name := c.String("user"); name != "" {
		cfg.User = name
	}
	daemon := c.Bool("daemon")
	if daemon && (cfg.PidFile == "" || cfg.LogFile == "" && !cfg.Syslog) {
		return batch.Usagef("%s: -d needs pidfile, and logfile or syslog, in [pgbouncer]; set them", cfg.Path)
	}
	var child *batch.Daemon
	if daemon {
		if child, err = batch.Daemonize(); err != nil || child == nil {
			return err
		}
	}
	opt := pooler.Options{Verbose: c.Count("verbose"), Warnings: warnings}
	if !c.Bool("quiet") && !daemon {
		opt.Log = c.App.ErrWriter
	}
	return servePooler(cfg, opt, child, c.Bool("reboot"))
}

// predecessorLimit is how long the process that was taken over may take to end.
const predecessorLimit = 20 * time.Second

// servePooler runs the pooler until a signal or its console ends it.
func servePooler(cfg *ini.Config, opt pooler.Options, child *batch.Daemon, takeOver bool) error {
	// Before the pooler listens, so that none is lost.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)

	tell, err := joinService(&opt)
	if err != nil {
		return err
	}
	defer tell.end()
	if err := pooler.BecomeUser(cfg); err != nil {
		return batch.Usagef("%v", err)
	}
	var p *pooler.Pooler
	err = pooler.ErrNoPredecessor
	if takeOver {
		p, err = pooler.TakeOver(cfg, opt)
	}
	taken := err == nil
	var pid *batch.PidFile
	defer func() {
		if pid != nil {
			pid.Remove()
		}
	}()
	takePidFile := func() (err error) {
		if cfg.PidFile == "" {
			return nil
		}
		if pid, err = batch.WritePidFile(cfg.PidFile); err != nil {
			return fmt.Errorf("%s: [pgbouncer] pidfile = %s: %w", cfg.Path, cfg.PidFile, err)
		}
		return nil
	}
	if errors.Is(err, pooler.ErrNoPredecessor) {
		// Before anything is listened on: a second start must not come that far.
		if err := takePidFile(); err != nil {
			return err
		}
		p, err = pooler.New(cfg, opt)
	}
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	run := func() { done <- p.Run() }
	if taken {
		// Clients wait: files come after them, and nothing is a reason to end.
		go run()
		if !p.AwaitPredecessor(predecessorLimit) {
			p.Warn("the process that was taken over has not ended yet")
		}
		if err := takePidFile(); err != nil {
			p.Warn(err.Error())
		}
	}
	if child != nil {
		if err := child.Ready(); err != nil && taken {
			p.Warn(err.Error())
		} else if err != nil {
			return errors.Join(err, p.Close())
		}
	}
	if !taken {
		go run()
	}
	tell.say(systemd.Ready)
	for {
		select {
		case sig := <-signals:
			p.Signal(sig)
		case err := <-done:
			tell.silent = p.HandedOver()
			return err
		}
	}
}

// service tells the service manager how things stand, from a goroutine of its own: it
// may take its time to listen.
type service struct {
	lines  chan string
	done   chan struct{}
	silent bool // another process is the service
}

// joinService takes what the service manager has passed to the process.
func joinService(opt *pooler.Options) (*service, error) {
	var err error
	if opt.Sockets, err = systemd.Listeners(); err != nil {
		return nil, err
	}
	if opt.Watchdog, err = systemd.WatchdogInterval(); err != nil {
		return nil, err
	}
	s := &service{lines: make(chan string, 16), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for line := range s.lines {
			// A manager that does not listen is no reason to stop serving.
			systemd.Notify(line)
		}
	}()
	opt.Notify = s.say
	return s, nil
}

// say sends lines; when the manager is far behind, they are lost.
func (s *service) say(lines ...string) {
	select {
	case s.lines <- strings.Join(lines, "\n"):
	default:
	}
}

func (s *service) end() {
	if !s.silent {
		s.say(systemd.Stopping)
	}
	close(s.lines)
	<-s.done
}
