// Package scriptmgr starts, stops and shows the jobs of a machine: those whose ini
// files lie where its own says.
//
// The model: a job is a section of such a file whose name is a service, which is a
// command of this program or has a section in the manager's ini file. Its process is
// the one in its pid file, and its own switches (-d) and signals are all that is used:
// SIGINT to end after the current work, SIGHUP to read the ini file again. The manager
// remembers nothing and looks afresh each time, so jobs may be started and stopped by
// others too, and its own end, at whatever moment, leaves them as they are.
package scriptmgr

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"goworkers/batch"
)

// Service is the manager's section in its ini file.
const Service = "scriptmgr"

// Config holds the keys of the section [scriptmgr].
type Config struct {
	batch.JobConfig
	// ConfigList names the ini files of the jobs. Required.
	ConfigList []string `ini:"config_list" required:"true" help:"ini files of the jobs, with commas between; * stands for any letters (example: ~/conf/*.ini)"`
	// StopTimeout is how long a job may take to end its current work. Default: 60 s.
	StopTimeout time.Duration `ini:"stop_timeout" default:"60" min:"0" help:"seconds to wait for a job to end after its current work"`
}

// serviceConfig holds the keys of a service's section.
type serviceConfig struct {
	Script   string `ini:"script" help:"program; default: the command of this program that is named like the service"`
	Args     string `ini:"args" help:"options that stand before -d and the ini file"`
	Cwd      string `ini:"cwd" help:"directory that the job starts in; default: that of scriptmgr"`
	User     string `ini:"user" help:"user that the job runs as; needs root"`
	Disabled bool   `ini:"disabled" help:"1: not started"`

	owner *user.User // User; nil: like us
}

// Sample is a commented ini file.
const Sample = `# scriptmgr: the jobs of this machine.
[scriptmgr]

# ini files of the jobs, with commas between; * stands for any letters
config_list = ~/conf/*.ini

# log of what was started and stopped; empty: none
#logfile = ~/log/%(job_name)s.log

# seconds to wait for a job to end after its current work
#stop_timeout = 60

# What holds for every service that does not say otherwise:
[DEFAULT]

# directory that jobs start in; default: that of scriptmgr
#cwd = ~/

# options that stand before -d and the ini file (example: -v)
#args =

# user that jobs run as; needs root
#user =

# Services are the commands of this program; a section of a service's name changes how
# its jobs run, and makes other programs services.
#[queue_mover]
#args = -v

#[mail_sender]
# program; a name is looked for in PATH
#script = ~/bin/mail_sender
# 1: not started
#disabled = 0
`

// Options are what a Manager has beside its ini file.
type Options struct {
	Path string // the ini file
	// Commands are the commands of this program that are jobs, by the services that
	// they are for.
	Commands map[string]string
	// Program is this program. Default: os.Executable.
	Program string
	// Out gets a line for each thing done, Err one for each warning.
	Out, Err io.Writer
}

// Manager knows the jobs.
type Manager struct {
	// Jobs are all that were found, by name.
	Jobs []*Job
	// Faults are the ini files that could not be read.
	Faults []error

	cfg      Config
	opt      Options
	log      logrus.FieldLogger
	services map[string]*serviceConfig
}

// Job is one job.
type Job struct {
	Name     string
	Service  string
	Config   string // its ini file
	Disabled bool

	pidfile, logfile string
	how              *serviceConfig
	fault            error // why nothing can be done with it
}

// New reads the ini files. log gets what is done. The error says that the manager's own
// file is wrong.
func New(cfg Config, log logrus.FieldLogger, opt Options) (*Manager, error) {
	if opt.Program == "" {
		var err error
		if opt.Program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
	}
	m := &Manager{cfg: cfg, opt: opt, log: log, services: map[string]*serviceConfig{}}
	for name := range opt.Commands {
		m.services[name] = &serviceConfig{}
	}
	names, err := batch.Sections(opt.Path)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name == Service {
			continue
		}
		how := &serviceConfig{}
		if err := m.readService(name, how); err != nil {
			return nil, err
		}
		m.services[name] = how
	}
	for name := range opt.Commands { // [DEFAULT] counts for those without a section, too
		if !slices.Contains(names, name) {
			if err := m.readDefaults(m.services[name]); err != nil {
				return nil, err
			}
		}
	}
	for name, how := range m.services {
		if how.User == "" {
			continue
		}
		if how.owner, err = user.Lookup(how.User); err != nil {
			return nil, batch.Usagef("%s: [%s] user: there is no user %q", m.opt.Path, name, how.User)
		}
	}
	return m, m.find()
}

func (m *Manager) readService(name string, how *serviceConfig) error {
	section, err := batch.Load(m.opt.Path, name, batch.LoadOptions{})
	if err != nil {
		return err
	}
	if err := section.Decode(how); err != nil {
		return err
	}
	if how.Script == "" && m.opt.Commands[name] == "" {
		return batch.Usagef("%s: [%s] script: is missing; this program has no command for the service, add script = …", m.opt.Path, name)
	}
	return nil
}

// readDefaults reads what [DEFAULT] says, which every section shows.
func (m *Manager) readDefaults(how *serviceConfig) error {
	section, err := batch.Load(m.opt.Path, Service, batch.LoadOptions{})
	if err != nil {
		return err
	}
	var disabled string
	for key, to := range map[string]*string{"args": &how.Args, "cwd": &how.Cwd, "user": &how.User, "disabled": &disabled} {
		if *to, _, err = section.Get(key); err != nil {
			return err
		}
	}
	how.Disabled = slices.Contains([]string{"1", "yes", "on", "true"}, strings.ToLower(disabled))
	return nil
}

// find finds the jobs.
func (m *Manager) find() error {
	own, _ := os.Stat(m.opt.Path)
	seen := map[string]bool{}
	for _, pattern := range m.cfg.ConfigList {
		full, err := home(pattern, nil)
		if err != nil {
			return batch.Usagef("%s: %q %v", m.cfg.Key("config_list"), pattern, err)
		}
		files, err := filepath.Glob(full)
		if err != nil {
			return batch.Usagef("%s: %q is no pattern of file names; close its brackets", m.cfg.Key("config_list"), pattern)
		}
		if len(files) == 0 {
			m.warn("%s: no file is named like %s", m.cfg.Key("config_list"), pattern)
		}
		for _, file := range files {
			if full, err := filepath.Abs(file); err == nil {
				file = full
			}
			if info, err := os.Stat(file); err == nil && own != nil && os.SameFile(info, own) || seen[file] {
				continue
			}
			seen[file] = true
			if err := m.read(file); err != nil {
				m.log.Error(err.Error())
				m.Faults = append(m.Faults, errors.New(err.Error())) // no misuse of the manager
			}
		}
	}
	slices.SortFunc(m.Jobs, func(a, b *Job) int {
		return strings.Compare(a.Name+"\x00"+a.Config, b.Name+"\x00"+b.Config)
	})
	for i, j := range m.Jobs[min(1, len(m.Jobs)):] {
		if before := m.Jobs[i]; before.Name == j.Name {
			j.fault = fmt.Errorf("the job is in %s, too; give each a job_name of its own", before.Config)
			before.fault = fmt.Errorf("the job is in %s, too; give each a job_name of its own", j.Config)
		}
	}
	return nil
}

// read finds the jobs of one file.
func (m *Manager) read(file string) error {
	names, err := batch.Sections(file)
	if err != nil {
		return err
	}
	known := false
	for _, name := range names {
		how := m.services[name]
		if how == nil { // a part of the file that is for something else
			continue
		}
		known = true
		section, err := batch.Load(file, name, batch.LoadOptions{Env: os.Environ()})
		if err != nil {
			return err
		}
		j := &Job{Name: strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), Service: name, Config: file, how: how, Disabled: how.Disabled}
		for key, to := range map[string]*string{"job_name": &j.Name, "pidfile": &j.pidfile, "logfile": &j.logfile} {
			value, found, err := section.Get(key)
			switch {
			case err != nil:
				return err
			case found && value != "" && key == "job_name":
				*to = value
			case found && key != "job_name":
				if *to, err = home(value, how.owner); err != nil {
					return batch.Usagef("%s: [%s] %s: %q %v", file, name, key, value, err)
				}
			}
		}
		if j.pidfile == "" {
			j.fault = fmt.Errorf("%s: [%s] pidfile: is missing; a job is found by it, add pidfile = …", file, name)
		}
		m.Jobs = append(m.Jobs, j)
	}
	if !known {
		m.warn("%s: no section is a service: [%s]; ignored", file, strings.Join(names, "], ["))
	}
	return nil
}

// home replaces ~ or ~user at the start of a path; nil is us.
func home(path string, owner *user.User) (string, error) {
	if !strings.HasPrefix(path, "~") {
		return path, nil
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			return "", fmt.Errorf("has ~%s, but there is no such user; write the whole path", name)
		}
		owner = u
	}
	if owner != nil {
		return filepath.Join(owner.HomeDir, rest), nil
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("has ~, but HOME is not set; write the whole path")
	}
	return filepath.Join(dir, rest), nil
}

// Select chooses jobs: all, those of some services, or by their names.
func (m *Manager) Select(all bool, services, names []string) ([]*Job, error) {
	for _, service := range services {
		if m.services[service] == nil {
			return nil, batch.Usagef("%s knows no service %q; it is one of %s", m.opt.Path, service, strings.Join(m.known(), ", "))
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(m.Jobs, func(j *Job) bool { return j.Name == name }) {
			return nil, batch.Usagef("no job is named %q; list them with: scriptmgr %s status", name, m.opt.Path)
		}
	}
	var list []*Job
	for _, j := range m.Jobs {
		if all || slices.Contains(services, j.Service) || slices.Contains(names, j.Name) {
			list = append(list, j)
		}
	}
	return list, nil
}

func (m *Manager) known() []string {
	var names []string
	for name := range m.services {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (m *Manager) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.log.Warn(text)
	fmt.Fprintf(m.opt.Err, "%s: %s\n", Service, text)
}

func (m *Manager) say(j *Job, what string) {
	m.log.WithField("job", j.Name).Info(what)
	fmt.Fprintf(m.opt.Out, "%s: %s\n", j.Name, what)
}
