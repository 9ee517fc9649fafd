package cli

// What all commands have in common that run as jobs: the switches of the
// SkyTools scripts.

import (
	"github.com/urfave/cli/v2"

	"goworkers/batch"
)

// jobCommand makes a command with the common switches. run gets them, with
// the ini file in Options.Path, and the arguments behind the ini file.
func jobCommand(name, usage, argsUsage, description string, run func(c *cli.Context, opt batch.Options, args []string) error) *cli.Command {
	return &cli.Command{
		Name:                   name,
		Usage:                  usage,
		UsageText:              name + " [options] " + argsUsage,
		Description:            description,
		OnUsageError:           usageError,
		HideHelpCommand:        true,
		UseShortOptionHandling: true,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "daemon", Aliases: []string{"d"}, Usage: "go into the background (needs pidfile and logfile)"},
			&cli.BoolFlag{Name: "reload", Aliases: []string{"r"}, Usage: "tell the running process to read its ini file again"},
			&cli.BoolFlag{Name: "stop", Aliases: []string{"s"}, Usage: "tell the running process to end after the current work"},
			&cli.BoolFlag{Name: "kill", Aliases: []string{"k"}, Usage: "tell the running process to end at once"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "log only what needs a person"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log the steps"},
			&cli.BoolFlag{Name: "ini", Usage: "print a commented sample ini file and end"},
			&cli.StringSliceFlag{Name: "set", Usage: "set `KEY=VALUE` over the ini file; may be repeated"},
			versionFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				return printVersion(c, name)
			}
			opt := batch.Options{
				Path:    c.Args().First(),
				Set:     map[string]string{},
				Daemon:  c.Bool("daemon"),
				Reload:  c.Bool("reload"),
				Stop:    c.Bool("stop"),
				Kill:    c.Bool("kill"),
				Quiet:   c.Bool("quiet"),
				Verbose: c.Bool("verbose"),
				Sample:  c.Bool("ini"),
				Stdout:  c.App.Writer,
				Stderr:  c.App.ErrWriter,
			}
			for _, arg := range c.StringSlice("set") {
				if err := batch.ParseSet(opt.Set, arg); err != nil {
					return err
				}
			}
			if opt.Path == "" && !opt.Sample {
				return batch.Usagef("no ini file given; usage: %s [options] %s (--ini prints a sample)", name, argsUsage)
			}
			return run(c, opt, c.Args().Tail())
		},
	}
}

// workerCommand makes the command of a job that takes nothing but its ini
// file.
func workerCommand(name, usage, description string, run func(c *cli.Context, opt batch.Options) error) *cli.Command {
	return jobCommand(name, usage, "CONFIG.ini", description, func(c *cli.Context, opt batch.Options, args []string) error {
		if len(args) > 0 {
			return batch.Usagef("too many arguments: %q; want one, the ini file", append([]string{opt.Path}, args...))
		}
		return run(c, opt)
	})
}
