// Package cli is the command line of the one binary. Each command has a file
// here: it reads its arguments, builds a config and calls the package that
// does the work. Results go to stdout, logs and errors to stderr; the exit
// code is 0 for done, 1 for failed, 2 for misuse.
package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"goworkers/batch"
)

// Version is the product's version; extensions and sidecars carry the same.
const Version = "4.0"

// commands is the list of what the binary can do: one line a command.
func commands() []*cli.Command {
	return []*cli.Command{
		newBulkLoader(),
		newCubeDispatcher(),
		newDataMaintainer(),
		newPgqadm(),
		newPgqd(),
		newPooler(),
		newQueueLoader(),
		newQueueMover(),
		newQueueSplitter(),
		newScriptmgr(),
		newSimpleConsumer(),
		newSimpleLocalConsumer(),
		newSimpleSerialConsumer(),
		newTableDispatcher(),
		newTicker(),
		newVersion(),
	}
}

// later are names of the SkyTools scripts that a link may have, but that this
// version has no command for.
var later = []string{
	"londiste", "walmgr",
}

// Main runs the command that args name and returns the exit code. args[0] is
// the name of the program: skytools, or that of a command.
func Main(args []string, stdout, stderr io.Writer) int {
	program := strings.TrimSuffix(filepath.Base(args[0]), ".py")
	app := newApp(stdout, stderr)
	argv := append([]string{app.Name}, args[1:]...)
	if app.Command(program) != nil || slices.Contains(later, program) {
		argv = append([]string{app.Name, program}, args[1:]...)
	} else {
		program = app.Name
		if len(args) > 1 && app.Command(args[1]) != nil {
			program = args[1]
		}
	}
	if len(argv) > 1 {
		if command := app.Command(argv[1]); command != nil && command.Name != pgqadmSection {
			argv = append(argv[:2:2], optionsFirst(command, argv[2:])...)
		}
	}
	return batch.Report(stderr, program, app.Run(argv))
}

// optionsFirst puts options before the other arguments: users of the older tools write
// them in any order. Those of pgqadm's commands are its own to read.
func optionsFirst(command *cli.Command, args []string) []string {
	var options, others []string
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--":
			return slices.Concat(options, []string{"--"}, others, args[i+1:])
		case !strings.HasPrefix(arg, "-") || arg == "-":
			others = append(others, arg)
		default:
			options = append(options, arg)
			if !wantsValue(command, strings.TrimLeft(arg, "-")) {
				continue
			}
			if i++; i == len(args) {
				return options // whose parser will miss the value
			}
			options = append(options, args[i])
		}
	}
	return append(options, others...)
}

// wantsValue tells whether an argument with its value follows the option.
func wantsValue(command *cli.Command, option string) bool {
	for _, flag := range command.Flags {
		if slices.Contains(flag.Names(), option) {
			_, isSwitch := flag.(*cli.BoolFlag)
			return !isSwitch
		}
	}
	return false
}

func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:                      "skytools",
		Usage:                     "queues, consumers and pooling for PostgreSQL",
		Description:               "Each command also answers to its own name when the binary is linked under it.",
		UsageText:                 "skytools COMMAND [options] [arguments]",
		Commands:                  commands(),
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // --set splits by itself
		HideHelpCommand:           true,
		Flags:                     []cli.Flag{versionFlag()},
		Writer:                    stdout,
		ErrWriter:                 stderr,
		ExitErrHandler:            func(*cli.Context, error) {}, // Main prints and decides
		OnUsageError:              usageError,
		Action: func(c *cli.Context) error {
			switch name := c.Args().First(); {
			case c.Bool("version"):
				return printVersion(c, "skytools")
			case slices.Contains(later, name):
				return batch.Usagef("this version (%s) has no command %q", Version, name)
			case name != "":
				return batch.Usagef("unknown command %q; skytools -h lists the commands", name)
			}
			return batch.Usagef("no command given; skytools -h lists the commands")
		},
	}
}

func usageError(c *cli.Context, err error, _ bool) error {
	return batch.Usagef("%v; -h lists the options", err)
}

func versionFlag() cli.Flag {
	return &cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version and end"}
}

func printVersion(c *cli.Context, program string) error {
	_, err := fmt.Fprintf(c.App.Writer, "%s version %s\n", program, Version)
	return err
}
