package ticker

// The two configurations: [pgqadm] for one database, [pgqd] for all of a
// server or a list. Both come down to Settings.

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"goworkers/batch"
)

// Config is the section [pgqadm]: the ticker of one database, and the
// database that the admin commands work on.
type Config struct {
	batch.JobConfig
	// DB is the queue database. Required.
	DB batch.ConnString `ini:"db" required:"true" help:"connection string of the queue database (example: dbname=mydb host=127.0.0.1)"`
	// Period is the time between two looks for queues that want a tick.
	// Default: 0.5 s.
	Period time.Duration `ini:"loop_delay" default:"0.5" help:"seconds between looks at the queues; at least 2 while all queues have notify set: their writers wake the ticker"`
	// MaintPeriod is the time between two rounds of maintenance. Default: 5 min.
	MaintPeriod time.Duration `ini:"maint_delay" default:"300" help:"seconds between rounds of maintenance (rotation, vacuum)"`
	// MaintMinutes is the old way to say MaintPeriod. Default: not used.
	MaintMinutes float64 `ini:"maint_delay_min" min:"0" help:"minutes between rounds of maintenance, the old form of maint_delay"`
	// RetryPeriod is the time between two looks for events to be retried.
	// Default: 30 s.
	RetryPeriod time.Duration `ini:"retry_delay" default:"30" help:"seconds between looks for events whose retry time has come; more than 1 counts as 1"`
	// CheckPeriod is the time after which a database that cannot be ticked is
	// looked at again. Default: 60 s.
	CheckPeriod time.Duration `ini:"check_period" default:"60" help:"seconds after which a database without pgq is looked at again"`
	// ExceptionSleep is the longest pause after an error. Default: 60 s.
	ExceptionSleep time.Duration `ini:"exception_sleep" default:"60" min:"0.001" help:"longest pause after an error, in seconds; pauses grow from 1 s"`
	// StatsPeriod is the time between two statistics lines. Default: 30 s.
	StatsPeriod time.Duration `ini:"stats_period" alias:"ticker_log_delay" default:"30" min:"0" help:"seconds between statistics lines in the log"`
	// CheckLag is how far a consumer may be behind before check tells of it. Default:
	// 15 min.
	CheckLag time.Duration `ini:"check_lag" default:"900" min:"1" help:"seconds that a consumer may lag before pgqadm check tells of it"`

	QueueRefresh string `ini:"queue_refresh_period" unused:"the server knows its queues"`
}

// DaemonConfig is the section [pgqd]: the ticker of many databases.
type DaemonConfig struct {
	batch.JobConfig
	// BaseConnstr leads to the server; the database name is added. Default: "".
	BaseConnstr batch.ConnString `ini:"base_connstr" help:"connection string without dbname, used for every database (example: host=127.0.0.1 port=5432)"`
	// InitialDatabase is where the list of databases is asked for. Default:
	// template1.
	InitialDatabase string `ini:"initial_database" default:"template1" help:"database to connect to for the list of databases"`
	// DatabaseList names the databases to tick. Default: all.
	DatabaseList []string `ini:"database_list" help:"databases to tick, with commas between; empty: all. An entry with = in it is added to base_connstr whole (example: dbname=q port=5433)"`
	// CheckPeriod is the time between two looks for databases. Default: 60 s.
	CheckPeriod time.Duration `ini:"check_period" default:"60" help:"seconds between looks for new databases and for pgq in them"`
	// RetryPeriod is the time between two looks for events to be retried.
	// Default: 30 s.
	RetryPeriod time.Duration `ini:"retry_period" default:"30" help:"seconds between looks for events whose retry time has come; more than 1 counts as 1"`
	// MaintPeriod is the time between two rounds of maintenance. Default: 2 min.
	MaintPeriod time.Duration `ini:"maint_period" default:"120" help:"seconds between rounds of maintenance (rotation, vacuum)"`
	// Period is the time between two looks for queues that want a tick.
	// Default: 1 s.
	Period time.Duration `ini:"ticker_period" default:"1" help:"seconds between looks at the queues; at least 2 while all queues have notify set: their writers wake the ticker"`
	// ConnectionLifetime is the age at which the ticking connection is
	// replaced. Default: 1 h.
	ConnectionLifetime time.Duration `ini:"connection_lifetime" default:"3600" min:"0" help:"seconds after which a database connection is replaced"`
	// ExceptionSleep is the longest pause after an error. Default: 60 s.
	ExceptionSleep time.Duration `ini:"exception_sleep" default:"60" min:"0.001" help:"longest pause after an error, in seconds; pauses grow from 1 s"`

	LoopDelay string `ini:"loop_delay" unused:"ticker_period is the time between ticks"`
}

// target is one database to tick.
type target struct {
	name       string // in log and metrics
	dsn        batch.ConnString
	key        string // of the configuration that leads there
	discovered bool   // on the server, not named by the operator: it may well lack pgq
}

// Settings say what a ticker does.
type Settings struct {
	targets  []target                               // databases to tick, when they are known
	discover target                                 // else where to ask for them
	connect  func(database string) batch.ConnString // and how to get there
	hint     string                                 // what to do about a database without pgq

	period, maintPeriod, retryPeriod, checkPeriod time.Duration
	lifetime, longestPause, statsPeriod           time.Duration
	quiet                                         batch.Quiet
	pace
	application string
}

// pace is what the operator does not set.
type pace struct {
	// Looks at a database whose queues all send word are so rare, unless period is
	// longer; events to be retried are looked for each peekPeriod; a
	// spare looks whether it is needed each sparePeriod, and a standby whether it has
	// been promoted each standbyPeriod.
	restPeriod, peekPeriod, sparePeriod, standbyPeriod time.Duration
	// A round of the tick loop that takes longer hangs; a connection that ticks and
	// is silent for longer than deafPeriod beyond the longest pause is given up by
	// the server, for a spare to take over.
	roundLimit, deafPeriod time.Duration
}

var ownPace = pace{
	restPeriod:    2 * time.Second,
	peekPeriod:    time.Second,
	sparePeriod:   time.Second,
	standbyPeriod: 2 * time.Second,
	roundLimit:    time.Minute,
	deafPeriod:    30 * time.Second,
}

// Settings of [pgqadm].
func (c *Config) Settings() Settings {
	s := Settings{
		targets:      []target{{name: databaseName(c.DB), dsn: c.DB, key: c.Key("db")}},
		hint:         "pgqadm CONFIG.ini install",
		period:       c.Period,
		maintPeriod:  c.MaintPeriod,
		retryPeriod:  c.RetryPeriod,
		pace:         ownPace,
		checkPeriod:  c.CheckPeriod,
		lifetime:     c.ConnectionLifetime,
		longestPause: c.ExceptionSleep,
		statsPeriod:  c.StatsPeriod,
		quiet:        c.Quiet(),
		application:  c.JobName,
	}
	if c.MaintMinutes > 0 {
		s.maintPeriod = time.Duration(c.MaintMinutes * float64(time.Minute))
	}
	return s
}

// Validate finds periods that would make a loop spin.
func (c *Config) Validate() []batch.Problem {
	return shortPeriods(map[string]time.Duration{
		"loop_delay": c.Period, "maint_delay": c.MaintPeriod, "retry_delay": c.RetryPeriod, "check_period": c.CheckPeriod,
	})
}

// Settings of [pgqd].
func (c *DaemonConfig) Settings() Settings {
	s := Settings{
		connect:      func(name string) batch.ConnString { return addDatabase(c.BaseConnstr, name) },
		period:       c.Period,
		maintPeriod:  c.MaintPeriod,
		retryPeriod:  c.RetryPeriod,
		pace:         ownPace,
		checkPeriod:  c.CheckPeriod,
		lifetime:     c.ConnectionLifetime,
		longestPause: c.ExceptionSleep,
		statsPeriod:  c.StatsPeriod,
		quiet:        c.Quiet(),
		application:  c.JobName,
	}
	if len(c.DatabaseList) == 0 {
		s.discover = target{name: c.InitialDatabase, dsn: s.connect(c.InitialDatabase), key: c.Key("base_connstr")}
	}
	for _, entry := range c.DatabaseList {
		s.targets = append(s.targets, c.target(entry))
	}
	return s
}

// Defaults are those of pgqd, which has always logged to syslog.
func (c *DaemonConfig) Defaults() map[string]string {
	return map[string]string{"syslog": "1", "syslog_ident": "pgqd"}
}

// target reads one entry of database_list.
func (c *DaemonConfig) target(entry string) target {
	key := c.Key("database_list")
	switch {
	case isURL(entry):
		dsn := batch.ConnString(entry)
		return target{name: databaseName(dsn), dsn: dsn, key: key}
	case strings.Contains(entry, "="):
		dsn := batch.ConnString(entry)
		if !isURL(string(c.BaseConnstr)) {
			dsn = c.BaseConnstr + " " + dsn
		}
		return target{name: databaseName(dsn), dsn: dsn, key: key}
	}
	return target{name: entry, dsn: addDatabase(c.BaseConnstr, entry), key: key}
}

// Validate finds periods that would make a loop spin, and faults in
// database_list.
func (c *DaemonConfig) Validate() []batch.Problem {
	problems := shortPeriods(map[string]time.Duration{
		"ticker_period": c.Period, "maint_period": c.MaintPeriod, "retry_period": c.RetryPeriod, "check_period": c.CheckPeriod,
	})
	seen := map[string]bool{}
	for _, entry := range c.DatabaseList {
		t := c.target(entry)
		if err := t.dsn.Check(); err != nil {
			problems = append(problems, batch.Problem{Key: "database_list",
				What: fmt.Sprintf("%q %v", batch.ConnString(entry).String(), err)})
		} else if seen[t.name] {
			problems = append(problems, batch.Problem{Key: "database_list",
				What: fmt.Sprintf("has %q twice; name each database once", t.name)})
		}
		seen[t.name] = true
	}
	return problems
}

const shortestPeriod = time.Millisecond

func shortPeriods(periods map[string]time.Duration) []batch.Problem {
	var problems []batch.Problem
	for _, key := range slices.Sorted(maps.Keys(periods)) {
		if periods[key] < shortestPeriod {
			problems = append(problems, batch.Problem{Key: key,
				What: "is too short; write 0.001 (seconds) or more, or a number with a unit (500ms)"})
		}
	}
	return problems
}

func isURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// addDatabase puts a database name into a connection string.
func addDatabase(base batch.ConnString, name string) batch.ConnString {
	if isURL(string(base)) {
		if u, err := url.Parse(string(base)); err == nil {
			u.Path = "/" + name
			return batch.ConnString(u.String())
		}
	}
	quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(name)
	return batch.ConnString(strings.TrimSpace(fmt.Sprintf("%s dbname='%s'", base, quoted)))
}
