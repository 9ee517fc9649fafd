package batch

// From a command line to a running job.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"

	"github.com/sirupsen/logrus"
)

// Options are the switches of a job's command line.
type Options struct {
	Path    string            // the ini file
	Set     map[string]string // --set key=value
	Daemon  bool              // -d: go into the background
	Reload  bool              // -r: tell the running job to read its ini file again
	Stop    bool              // -s: tell the running job to end after the current work
	Kill    bool              // -k: tell the running job to end at once
	Quiet   bool              // -q: log only what needs a person
	Silent  bool              // -q of pgqd: log nothing to stderr
	Verbose bool              // -v: log the steps
	Sample  bool              // --ini: print a commented sample and end
	Place   Place             // --register and the like: only that, in the place of running
	Syslog  string            // unix socket of the syslog; empty: the machine's own

	Stdout, Stderr io.Writer // default: those of the process
}

// ParseSet reads one argument of --set: key=value, or several with commas
// between them. A part without = belongs to the value before it, so that
// lists can be set.
func ParseSet(into map[string]string, arg string) error {
	last := ""
	for _, part := range strings.Split(arg, ",") {
		key, value, ok := strings.Cut(part, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		switch {
		case ok && key != "":
			into[key] = strings.TrimSpace(value)
			last = key
		case !ok && last != "":
			into[last] += "," + part
		default:
			return Usagef("--set %q: write key=value", arg)
		}
	}
	return nil
}

// LoadConfig reads the section named service into cfg.
func LoadConfig(service string, cfg Config, opt Options) (*Section, error) {
	if opt.Path == "" {
		return nil, Usagef("no configuration file given; usage: %s [options] CONFIG.ini (--ini prints a sample)", service)
	}
	set := map[string]string{}
	for key, value := range opt.Set {
		set[key] = value
	}
	switch {
	case opt.Verbose:
		set["log_level"] = "debug"
	case opt.Quiet:
		set["log_level"] = "warning"
	}
	section, err := Load(opt.Path, service, LoadOptions{Env: os.Environ(), Set: set})
	if err != nil {
		return nil, err
	}
	if err := section.Decode(cfg); err != nil {
		return nil, err
	}
	common := cfg.Common()
	common.from = section
	problems := common.problems()
	if v, ok := cfg.(Validator); ok {
		problems = append(problems, v.Validate()...)
	}
	if len(problems) > 0 {
		for i, p := range problems {
			problems[i] = section.problem(p.Key, ConnString(section.values[p.Key]).String(), p.What)
		}
		return nil, &ConfigError{Problems: problems}
	}
	return section, nil
}

// Launch does what stands between a command line and a running job: prints
// the sample, signals the running process, or loads the configuration, goes
// into the background, takes the pid file, opens the log, tells systemd that the job
// is ready and calls run. cfg is filled before run is called. Everything is given back
// when run returns.
func Launch(ctx context.Context, service string, cfg Config, opt Options, run func(ctx context.Context, job *Job) error) error {
	if opt.Stdout == nil {
		opt.Stdout = os.Stdout
	}
	if opt.Stderr == nil {
		opt.Stderr = os.Stderr
	}
	if opt.Sample {
		_, err := io.WriteString(opt.Stdout, Sample(service, cfg))
		return err
	}
	section, err := LoadConfig(service, cfg, opt)
	if err != nil {
		return err
	}
	common := cfg.Common()
	for _, s := range []struct {
		wanted bool
		sig    syscall.Signal
		name   string
	}{{opt.Reload, syscall.SIGHUP, "SIGHUP"}, {opt.Stop, syscall.SIGINT, "SIGINT"}, {opt.Kill, syscall.SIGTERM, "SIGTERM"}} {
		if s.wanted {
			pid, err := SignalRunning(common.PidFile, s.sig)
			if common.PidFile == "" {
				return common.within(err)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(opt.Stderr, "%s sent to process %d\n", s.name, pid)
			return nil
		}
	}

	console := opt.Stderr
	if opt.Silent {
		console = nil
	}
	logs := openSystemLogs(service, common, opt.Syslog)
	defer logs.close()
	if logs.inJournal(opt.Stderr) {
		console = nil
	}
	var daemon *Daemon
	if opt.Daemon {
		if common.PidFile == "" {
			return Usagef("%s: [%s] pidfile: is missing; a daemon needs one, add pidfile = …", opt.Path, service)
		}
		if common.LogFile == "" && len(logs.hooks) == 0 {
			return Usagef("%s: [%s] logfile: is missing; a daemon has no terminal to log to, add logfile = …", opt.Path, service)
		}
		if daemon, err = Daemonize(); daemon == nil {
			return err
		}
		console = nil
	}
	pidfile := &PidFile{}
	if common.PidFile != "" {
		pidfile, err = WritePidFile(common.PidFile)
		var errno syscall.Errno
		if errors.As(err, &errno) { // the path is wrong
			return common.within(err)
		}
		if err != nil {
			return err
		}
		defer pidfile.Remove()
	}
	signals := NotifySignals()
	defer signals.Close()
	job, err := NewJob(service, *common, console)
	if err != nil {
		return err
	}
	defer job.Close()
	job.Signals = signals
	logs.join(job)
	for _, warning := range section.Warnings(cfg) {
		job.Log.Warn(warning)
	}
	if daemon != nil {
		if err := daemon.Ready(); err != nil {
			return err
		}
	}
	job.manager = newManager(job.Log, os.Getenv("NOTIFY_SOCKET"))
	job.manager.ready()
	over := make(chan struct{})
	var guard sync.WaitGroup
	guard.Go(func() {
		select {
		case <-signals.Stop:
		case <-over:
		}
		job.manager.stopping()
	})
	guard.Go(func() {
		signals.enforce(over, func() {
			job.Log.Error("the work under way does not end, the process ends without it")
			if common.PidFile != "" {
				pidfile.Remove()
			}
		})
	})
	err = run(ctx, job)
	close(over)
	guard.Wait()
	if err != nil && daemon != nil {
		job.Log.WithError(err).Error("job ended")
	}
	return err
}

// Worker does a job's rounds of work. Work is what Job.Run calls.
type Worker interface {
	Work(ctx context.Context) (more bool, err error)
}

// WorkerFunc is a Worker made of one function.
type WorkerFunc func(ctx context.Context) (more bool, err error)

// Work calls f.
func (f WorkerFunc) Work(ctx context.Context) (bool, error) { return f(ctx) }

// RunWorker launches a job whose rounds a Worker does. start makes the worker
// from the filled cfg; it is called again after a reload. A reload with a
// faulty configuration changes nothing.
func RunWorker(ctx context.Context, service string, cfg Config, opt Options, start func(job *Job) (Worker, error)) error {
	if opt.Place != "" && !opt.Sample {
		return opt.Place.place(ctx, service, cfg, opt, start)
	}
	return Launch(ctx, service, cfg, opt, func(ctx context.Context, job *Job) error {
		worker, err := start(job)
		if err != nil {
			return err
		}
		job.Reload = func(context.Context) error {
			target := reflect.ValueOf(cfg).Elem()
			kept := reflect.New(target.Type()).Elem()
			kept.Set(target)
			fresh := reflect.New(target.Type())
			if _, err := LoadConfig(service, fresh.Interface().(Config), opt); err != nil {
				return err
			}
			target.Set(fresh.Elem())
			job.Configure(*cfg.Common())
			next, err := start(job)
			if err != nil {
				target.Set(kept)
				job.Configure(*cfg.Common())
				return err
			}
			worker = next
			return nil
		}
		return job.Run(ctx, func(ctx context.Context) (bool, error) { return worker.Work(ctx) })
	})
}

// Configure takes over what can change while the job runs, and warns of keys that have
// changed and cannot: job_name, pidfile, logfile, metrics_listen, syslog and journald
// stay until the next start. It belongs to the goroutine that runs the job; RunWorker
// calls it itself.
func (j *Job) Configure(cfg JobConfig) {
	kept, wanted := j.Config.fixed(), cfg.fixed()
	for i, key := range kept {
		if wanted[i] != key {
			j.Log.WithFields(logrus.Fields{"key": key[0], "is": key[1], "wanted": wanted[i][1]}).Warn("the changed key takes effect at the next start")
		}
	}
	now := &j.Config
	cfg.JobName, cfg.PidFile, cfg.LogFile, cfg.MetricsListen = now.JobName, now.PidFile, now.LogFile, now.MetricsListen
	cfg.UseSyslog, cfg.UseSkylog, cfg.SyslogIdent, cfg.SyslogFacility = now.UseSyslog, now.UseSkylog, now.SyslogIdent, now.SyslogFacility
	cfg.Journald = now.Journald
	j.Config = cfg
	shapeLog(j.logger, &j.Config)
	if j.file != nil {
		j.file.resize(int64(cfg.LogSize), cfg.LogCount)
	}
}

// Main is the whole of a user's program: it reads the command line, runs the
// job and exits with 0, 1 or 2.
func Main(service string, cfg Config, start func(job *Job) (Worker, error)) {
	err := mainRun(context.Background(), service, cfg, os.Args[1:], os.Stdout, os.Stderr, start)
	os.Exit(Report(os.Stderr, service, err))
}

// Report prints an error for people, once, and returns the exit code.
func Report(stderr io.Writer, program string, err error) int {
	var child *childError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &child):
		return child.code
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintf(stderr, "%s: %s\n", program, line)
	}
	return ExitCode(err)
}

func mainRun(ctx context.Context, service string, cfg Config, args []string, stdout, stderr io.Writer, start func(job *Job) (Worker, error)) error {
	opt := Options{Set: map[string]string{}, Stdout: stdout, Stderr: stderr}
	flags := flag.NewFlagSet(service, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, f := range []struct {
		name, usage string
		value       *bool
	}{
		{"d", "go into the background", &opt.Daemon},
		{"r", "tell the running job to read its ini file again", &opt.Reload},
		{"s", "tell the running job to end after the current work", &opt.Stop},
		{"k", "tell the running job to end at once", &opt.Kill},
		{"q", "log only what needs a person", &opt.Quiet},
		{"v", "log the steps", &opt.Verbose},
		{"ini", "print a commented sample ini file", &opt.Sample},
	} {
		flags.BoolVar(f.value, f.name, false, f.usage)
	}
	var places []Place
	for _, f := range []struct {
		place Place
		usage string
	}{
		{PlaceRegister, "only register on the queue, to get what comes from now on"},
		{PlaceUnregister, "only take the registration off the queue"},
		{PlaceRewind, "only go back on the queue to where the target is, after the target was restored"},
		{PlaceReset, "only make the target forget its place, after the queue was made anew"},
	} {
		flags.BoolFunc(string(f.place), f.usage, func(string) error {
			places = append(places, f.place)
			return nil
		})
	}
	flags.Func("set", "set `key=value` over the ini file; may be repeated", func(arg string) error { return ParseSet(opt.Set, arg) })
	var words []string
	for len(args) > 0 { // options may stand behind the ini file, too
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(stdout, "usage: %s [options] CONFIG.ini\n\n", service)
			flags.SetOutput(stdout)
			flags.PrintDefaults()
			return nil
		} else if err != nil {
			return Usagef("%v; -h lists the options", err)
		}
		if args = flags.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	switch len(words) {
	case 0:
	case 1:
		opt.Path = words[0]
	default:
		return Usagef("too many arguments: %q; want one, the ini file", words)
	}
	var err error
	if opt.Place, err = OnePlace(places); err != nil {
		return err
	}
	return RunWorker(ctx, service, cfg, opt, start)
}

// OnePlace refuses more than one place.
func OnePlace(places []Place) (Place, error) {
	switch len(places) {
	case 0:
		return "", nil
	case 1:
		return places[0], nil
	}
	return "", Usagef("--%s and --%s exclude each other", places[0], places[1])
}
