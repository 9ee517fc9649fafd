package cli

// The command scriptmgr.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/scriptmgr"
	"goworkers/internal/shell"
)

const scriptmgrUsage = "CONFIG.ini start|stop|restart|reload|status [-a | -t SERVICE | JOB …]"

func newScriptmgr() *cli.Command {
	command := jobCommand(scriptmgr.Service, "start, stop and show the jobs of a machine", scriptmgrUsage,
		`Looks after all jobs whose ini files config_list names. Commands:

   start     start those that do not run, in the background
   stop      have them end after their current work, and wait for that
   restart   stop and start
   reload    have them read their ini files again
   status    show process, state and last line of the log; without a choice of all

-a is all jobs, -t SERVICE those of a service (repeatable), else names of jobs follow.
A section of a job's ini file is run by the command of its name; sections of the same
names in CONFIG.ini say otherwise:

   [scriptmgr]
   config_list = ~/conf/*.ini

   [DEFAULT]
   cwd = ~/

   [queue_mover]
   args = -v

   [mail_sender]
   script = ~/bin/mail_sender
   disabled = 1

Results go to stdout, and with logfile into a log, too. The exit status is 1 when
something could not be done, or an ini file could not be read. Example:

   scriptmgr jobs.ini start -a
   scriptmgr jobs.ini status -t queue_mover --json`, runScriptmgr)
	command.Flags = append(command.Flags,
		&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "all jobs"},
		&cli.StringSliceFlag{Name: "type", Aliases: []string{"t"}, Usage: "jobs of a `SERVICE`; may be repeated"},
		&cli.BoolFlag{Name: "json", Usage: "show the status as JSON"})
	return command
}

// choice is which jobs a command is for.
type choice struct {
	all, json       bool
	services, names []string
}

// command takes the words behind the ini file.
func (c *choice) command(words []string) (string, error) {
	if len(words) == 0 {
		return "", batch.Usagef("no command given; usage: scriptmgr [options] %s", scriptmgrUsage)
	}
	command := words[0]
	c.names = words[1:]
	chosen := len(c.services) > 0 || len(c.names) > 0
	switch {
	case !slices.Contains([]string{"start", "stop", "restart", "reload", "status"}, command):
		return "", batch.Usagef("unknown command %q; it is one of start, stop, restart, reload, status", command)
	case c.all && chosen:
		return "", batch.Usagef("-a is all jobs; give it alone")
	case !c.all && !chosen && command != "status":
		return "", batch.Usagef("%s which jobs? Name them, or give -t SERVICE or -a", command)
	case c.json && command != "status":
		return "", batch.Usagef("--json is for status")
	}
	c.all = c.all || !chosen
	return command, nil
}

func runScriptmgr(c *cli.Context, opt batch.Options, args []string) error {
	if opt.Sample {
		_, err := io.WriteString(opt.Stdout, scriptmgr.Sample)
		return err
	}
	if opt.Daemon || opt.Reload || opt.Stop || opt.Kill {
		return batch.Usagef("scriptmgr does not stay; -d, -r, -s and -k are for jobs, its commands are start, reload and stop")
	}
	which := choice{all: c.Bool("all"), json: c.Bool("json"), services: c.StringSlice("type")}
	command, err := which.command(args)
	if err != nil {
		return err
	}
	var cfg scriptmgr.Config
	if _, err := batch.LoadConfig(scriptmgr.Service, &cfg, opt); err != nil {
		return err
	}
	common := cfg.JobConfig
	common.MetricsListen = ""
	job, err := batch.NewJob(scriptmgr.Service, common, nil)
	if err != nil {
		return err
	}
	defer job.Close()
	out := opt.Stdout
	if opt.Quiet {
		out = io.Discard
	}
	m, err := scriptmgr.New(cfg, job.Log, scriptmgr.Options{Path: opt.Path, Commands: jobServices(), Out: out, Err: opt.Stderr})
	if err != nil {
		return err
	}
	jobs, err := m.Select(which.all, which.services, which.names)
	if err != nil {
		return err
	}
	return errors.Join(append(m.Faults, act(c.Context, m, command, jobs, which, opt.Stdout))...)
}

func act(ctx context.Context, m *scriptmgr.Manager, command string, jobs []*scriptmgr.Job, which choice, out io.Writer) error {
	named := len(which.names) > 0
	switch command {
	case "start":
		return m.Start(ctx, jobs, named)
	case "stop":
		_, err := m.Stop(ctx, jobs)
		return err
	case "restart":
		return m.Restart(ctx, jobs, named)
	case "reload":
		return m.Reload(jobs, named)
	}
	list := m.Status(jobs)
	if which.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(list)
	}
	return printJobs(out, list)
}

// printJobs prints a table; what a log holds must not steer the terminal.
func printJobs(out io.Writer, list []scriptmgr.Status) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "JOB\tSERVICE\tSTATE\tPID\tLOG\tLAST LINE")
	for _, s := range list {
		pid, age, line := "-", "-", ""
		if s.Pid != nil {
			pid = fmt.Sprint(*s.Pid)
		}
		if s.LogAge != nil {
			age, line = time.Duration(*s.LogAge*float64(time.Second)).Truncate(time.Second).String(), *s.LogLine
		}
		if s.Problem != nil {
			line = *s.Problem
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", shell.Printable(s.Job), shell.Printable(s.Service), s.State, pid, age, shell.Printable(line))
	}
	return table.Flush()
}

// jobServices are the commands that run as jobs, by the sections that they read.
func jobServices() map[string]string {
	list := map[string]string{pgqadmSection: "ticker"}
	for _, c := range commands() {
		switch c.Name {
		case "pgqadm", "pooler", "ticker", scriptmgr.Service:
			continue
		}
		if slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "daemon") }) {
			list[c.Name] = c.Name
		}
	}
	return list
}
