package batch

// The keys that every job has.

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// JobConfig holds the keys that the ini section of every job may have. Embed
// it in the job's own config struct; that makes the struct a Config.
type JobConfig struct {
	// JobName names the job in logs, metrics and to the server. Default: the
	// name of the ini file without its suffix.
	JobName string `ini:"job_name" help:"name of the job in logs, metrics and pg_stat_activity; default: the file's name"`
	// LogFile takes the log. Default: none, stderr only.
	LogFile string `ini:"logfile" path:"true" help:"log file; empty: only stderr (example: ~/log/%(job_name)s.log)"`
	// PidFile guards against a second start, and -s -k -r find the job by it.
	// Default: none.
	PidFile string `ini:"pidfile" path:"true" help:"pid file, needed by -d -s -k -r (example: ~/pid/%(job_name)s.pid)"`
	// LoopDelay is the pause when there is nothing to do: 0 ends the job then,
	// below 0 runs one round only. Default: 1 s.
	LoopDelay time.Duration `ini:"loop_delay" default:"1" help:"seconds to sleep when there is nothing to do; 0: exit when idle, -1: one round"`
	// ConnectionLifetime is the age at which an idle connection is replaced.
	// Default: 20 min.
	ConnectionLifetime time.Duration `ini:"connection_lifetime" default:"1200" min:"0" help:"seconds after which a database connection is replaced"`
	// ExceptionSleep is the longest pause after an error; the first is 1 s and
	// each further one twice as long. Default: 20 s.
	ExceptionSleep time.Duration `ini:"exception_sleep" default:"20" min:"0.001" help:"longest pause after an error, in seconds; pauses grow from 1 s"`
	// ExceptionQuiet, ExceptionGrace and ExceptionReset say which errors are no alarm
	// at first; see Quiet. Default: none, 5 min, 15 min.
	ExceptionQuiet []string      `ini:"exception_quiet" help:"errors that are only warnings at first, with commas between: SQLSTATEs (57P01) or their first two characters (08), or names of Python's classes (psycopg2.OperationalError)"`
	ExceptionGrace time.Duration `ini:"exception_grace" default:"300" min:"0" help:"seconds from the first error on in which those of exception_quiet are warnings; what is still there after it is told as an error"`
	ExceptionReset time.Duration `ini:"exception_reset" default:"900" min:"0" help:"seconds without any error after which exception_grace begins anew"`
	// StatsPeriod is how often the statistics line is logged; 0 is after each
	// round that counted something. Default: 30 s.
	StatsPeriod time.Duration `ini:"stats_period" default:"30" min:"0" help:"seconds between statistics lines in the log; 0: after each round"`
	// LogSize is the size at which the log file is rotated. Default: 10 MiB.
	LogSize Size `ini:"log_size" default:"10MiB" help:"size at which the log file is rotated"`
	// LogCount is how many rotated log files are kept. Default: 3.
	LogCount int `ini:"log_count" default:"3" min:"0" help:"rotated log files to keep"`
	// LogFormat is text or json. Default: text.
	LogFormat string `ini:"log_format" default:"text" choice:"text,json" help:"form of the log lines"`
	// LogLevel is the least important level that is logged; -q and -v set it.
	// Default: info.
	LogLevel string `ini:"log_level" default:"info" choice:"debug,info,warning,error" help:"least important level that is logged; -v and -q change it"`
	// UseSyslog sends the log to the machine's syslog, too. Default: no.
	UseSyslog bool `ini:"syslog" default:"0" help:"send the log to syslog, too: 1 or 0"`
	// SyslogIdent is the name of entries in syslog and journal. Default: job_name.
	SyslogIdent string `ini:"syslog_ident" help:"name that syslog's and the journal's entries carry; default: job_name"`
	// SyslogFacility is where they go. Default: daemon.
	SyslogFacility string `ini:"syslog_facility" default:"daemon" help:"facility of syslog entries (daemon, user, local0 ... local7)"`
	// Journald sends the log to systemd's journal, too, with its fields (queue,
	// consumer, batch_id …) as fields of the journal (QUEUE=…). Default: no.
	Journald bool `ini:"journald" default:"0" help:"send the log to systemd's journal, too, in place of stderr if that leads there: 1 or 0"`
	// MetricsListen is the host:port where Prometheus reads /metrics. Default:
	// none.
	MetricsListen string `ini:"metrics_listen" help:"host:port that serves Prometheus metrics under /metrics; empty: off"`

	// ConfigFormat is how values name others; see Section. Default: 1.
	ConfigFormat string `ini:"config_format" default:"1" choice:"1,2" help:"1: %(name)s in a value is the value of another key; 2: ${name} or ${section:name} is"`

	UseSkylog       string `ini:"use_skylog" old:"true" choice:"0,1,2"`
	SkylogLocations string `ini:"skylog_locations" unused:"use_skylog sends the log to syslog"`
	LogFmt          string `ini:"logfmt_*" unused:"lines have one form, with log_format = json another"`
	LogDateFmt      string `ini:"logdatefmt_*" unused:"times have one form"`

	from *Section // where it was read from, if it was
}

// Key names a key of the job's ini section for people: file, section and key, and
// where its value is from when it is not from there.
func (c *JobConfig) Key(key string) string {
	if c.from == nil {
		return key
	}
	return fmt.Sprintf("%s: [%s] %s%s", c.from.path, c.from.name, key, origin(c.from.source(key)))
}

// File is the ini file that the configuration was read from; "" when it was not.
func (c *JobConfig) File() string {
	if c.from == nil {
		return ""
	}
	return c.from.path
}

// within adds to an error that names its key where that key stands.
func (c *JobConfig) within(err error) error {
	if c.from == nil {
		return err
	}
	return fmt.Errorf("%s: [%s]: %w", c.from.path, c.from.name, err)
}

// syslog says how entries are named in syslog and to which facility they go; the name
// is empty when no syslog is wanted.
func (c *JobConfig) syslog() (ident, facility string) {
	if !c.UseSyslog && !c.skylog() {
		return "", ""
	}
	return c.ident(), cmp.Or(c.SyslogFacility, "daemon")
}

func (c *JobConfig) ident() string { return cmp.Or(c.SyslogIdent, c.JobName) }

// skylog tells whether the old key asks for a log beyond stderr and logfile.
func (c *JobConfig) skylog() bool { return c.UseSkylog == "1" || c.UseSkylog == "2" }

// Quiet are the errors that are no alarm at first.
func (c *JobConfig) Quiet() Quiet {
	return Quiet{Classes: c.ExceptionQuiet, Grace: c.ExceptionGrace, Reset: c.ExceptionReset}
}

// problems are those that the values' types do not show.
func (c *JobConfig) problems() []Problem {
	_, facility := c.syslog()
	if known := SyslogFacilities(); facility != "" && !slices.Contains(known, strings.ToLower(facility)) {
		return []Problem{{Key: "syslog_facility", What: "is none of " + strings.Join(known, ", ")}}
	}
	return nil
}

// warnings are what works otherwise than somebody may think.
func (c *JobConfig) warnings() []Problem {
	var list []Problem
	for _, name := range c.ExceptionQuiet {
		if _, known := classNamed(name); !known {
			list = append(list, Problem{Key: "exception_quiet",
				What: fmt.Sprintf("%q names no errors that a job can have; write a SQLSTATE, its first two characters, or a class of psycopg2", name)})
		}
	}
	if c.skylog() {
		list = append(list, Problem{Key: "use_skylog", What: "means syslog = 1 now; write that"})
	}
	return list
}

// fixed are the keys that stay as they are until the next start, with their values.
func (c *JobConfig) fixed() [][2]string {
	ident, _ := c.syslog()
	return [][2]string{
		{"job_name", c.JobName}, {"pidfile", c.PidFile}, {"logfile", c.LogFile}, {"metrics_listen", c.MetricsListen},
		{"syslog", strconv.FormatBool(ident != "")}, {"syslog_ident", c.SyslogIdent}, {"syslog_facility", c.SyslogFacility},
		{"journald", strconv.FormatBool(c.Journald)},
	}
}

// Common gives the framework its part of a job's configuration.
func (c *JobConfig) Common() *JobConfig { return c }

// Config is a pointer to a struct that embeds JobConfig.
type Config interface {
	Common() *JobConfig
}

// Validator is a Config that knows what else can be wrong in it once every
// value has the right type. Of the problems Key and What are read; the rest
// is filled in.
type Validator interface {
	Validate() []Problem
}

// Defaulter is a Config that gives keys other defaults than their tags do.
type Defaulter interface {
	Defaults() map[string]string
}
