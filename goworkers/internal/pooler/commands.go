// The commands of the console that change something.

package pooler

import (
	"slices"
	"strconv"
	"strings"

	"goworkers/internal/pooler/ini"
	"goworkers/pgwire"
)

// commands are those that change something; arg is "" or the word behind the name, and
// invalid the error for a command that does not exist.
var commands map[string]func(k *console, arg string, invalid error) error

func init() {
	commands = map[string]func(k *console, arg string, invalid error) error{
		"reload": (*console).reload, "pause": (*console).pause, "resume": (*console).resume, "kill": (*console).kill,
		"disable": (*console).disable, "enable": (*console).enable, "reconnect": (*console).reconnect,
		"wait_close": (*console).waitClose, "kill_client": (*console).killClient, "shutdown": (*console).shutdown,
		"suspend": (*console).suspend,
	}
}

// database finds a command's argument; verb is what the console's own is spared.
func (k *console) database(name, verb string) (*database, error) {
	if name == consoleName {
		return nil, refuse("cannot %s admin db: %s", verb, consoleName)
	}
	db := k.p().databases[name]
	if db == nil {
		return nil, refuse("no such database: %s", name)
	}
	return db, nil
}

func (k *console) reload(arg string, invalid error) error {
	if arg != "" {
		return invalid
	}
	if err := k.p().reload(); err != nil {
		return &failure{code: "F0000", message: "RELOAD failed, see logs for additional details"}
	}
	return nil
}

func (k *console) pause(arg string, _ error) error {
	p := k.p()
	if arg == "" {
		if p.paused || p.suspended != suspendNot {
			return refuse("already suspended/paused")
		}
		p.pauseAll()
		k.done = func() bool { return !p.busy(nil) }
		k.undo = p.resumeAll
		return nil
	}
	db, err := k.database(arg, "pause")
	if err != nil {
		return err
	}
	p.pause(db)
	k.done = func() bool { return !p.busy(db) }
	k.undo = func() { p.resume(db) }
	return nil
}

func (k *console) resume(arg string, _ error) error {
	p := k.p()
	if p.closing == closingServers {
		return refuse("pooler is shutting down")
	}
	if arg == "" {
		if p.suspended != suspendNot {
			p.endHanding("RESUME")
			p.unsuspend()
			return nil
		}
		if !p.paused {
			return refuse("pooler is not paused/suspended")
		}
		p.resumeAll()
		return nil
	}
	if arg == consoleName {
		return refuse("database %s is not paused", arg)
	}
	db, err := k.database(arg, "resume")
	if err != nil {
		return err
	}
	if !db.paused {
		return refuse("database %s is not paused", db.name)
	}
	p.resume(db)
	return nil
}

// toldKilled is what clients are told whose database is gone, be it for a while.
const toldKilled = "database removed"

func (k *console) kill(arg string, _ error) error {
	p := k.p()
	now := p.now()
	if arg == "" {
		for _, db := range p.databases {
			for _, pl := range db.pools {
				pl.Kill(toldKilled, now)
			}
		}
		p.pauseAll()
		return nil
	}
	db, err := k.database(arg, "kill")
	if err != nil {
		return err
	}
	for _, pl := range db.pools {
		pl.Kill(toldKilled, now)
	}
	p.pause(db)
	return nil
}

func (k *console) disable(arg string, _ error) error { return k.able(arg, "disable", true) }
func (k *console) enable(arg string, _ error) error  { return k.able(arg, "enable", false) }

func (k *console) able(arg, verb string, disabled bool) error {
	if arg == "" {
		return refuse("a database is required")
	}
	db, err := k.database(arg, verb)
	if err != nil {
		return err
	}
	db.disabled = disabled
	return nil
}

func (k *console) reconnect(arg string, _ error) error {
	var only *database
	if arg != "" {
		var err error
		if only, err = k.database(arg, "reconnect"); err != nil {
			return err
		}
	}
	for _, db := range k.p().databases {
		for _, pl := range db.pools {
			if only == nil || only == db {
				pl.reconnect()
			}
		}
	}
	return nil
}

// waitClose waits until the servers that RECONNECT or RELOAD marked are gone.
func (k *console) waitClose(arg string, _ error) error {
	var only *database
	if arg != "" {
		var err error
		if only, err = k.database(arg, "wait in"); err != nil {
			return err
		}
	}
	p := k.p()
	k.done = func() bool { return !p.closePending(only) }
	return nil
}

func (k *console) killClient(arg string, _ error) error {
	// Decimal as in the column id, or as in ptr.
	id, err := strconv.ParseUint(arg, 0, 64)
	if err != nil {
		return refuse("invalid client pointer supplied")
	}
	for _, w := range k.p().workers {
		for c := range w.clients {
			if c.id == id {
				w.failClient(c, "", "admin forced disconnect")
				return nil
			}
		}
	}
	return refuse("client not found")
}

func (k *console) shutdown(arg string, invalid error) error {
	p := k.p()
	switch strings.ToLower(arg) {
	case "":
		p.log.Info("SHUTDOWN command issued")
		if err := p.handedOver(); err != nil {
			return err
		}
		p.Stop()
		if h := p.handing; h == nil || !h.extended {
			k.c.w.closeClient(k.c, "shutdown")
		} // or the other process is to know that we have heard it
	case "wait_for_servers":
		p.log.Info("SHUTDOWN WAIT_FOR_SERVERS command issued")
		p.shutdown(closingServers)
	case "wait_for_clients":
		p.log.Info("SHUTDOWN WAIT_FOR_CLIENTS command issued")
		p.shutdown(closingClients)
	default:
		return invalid
	}
	return nil
}

// set changes a setting.
func (k *console) set(name, value string) error {
	if slices.Contains(ignoredParams, name) {
		k.send(pgwire.AppendNoticeResponse(nil, &pgwire.Report{Severity: pgwire.SeverityNotice, Code: "00000", Message: "SET ignored"}))
		return nil
	}
	if !k.admin {
		return refuse("admin access needed")
	}
	p := k.p()
	cfg := *p.cfg
	warnings, err := cfg.Set(name, value)
	if err == nil {
		for _, w := range warnings {
			p.log.Warn(w.String())
		}
		err = p.apply(&cfg)
	}
	if err != nil {
		return &failure{code: pgwire.CodeProtocolViolation, message: "SET failed", detail: err.Error()}
	}
	for _, r := range cfg.Rows() {
		if r.Key == name && r.Value == ini.Hidden {
			value = r.Value
		}
	}
	k.tag = "SET " + name + "=" + value
	return nil
}

// ignoredParams are what drivers set when they connect; it has no meaning here.
var ignoredParams = []string{
	"client_encoding", "default_transaction_isolation", "standard_conforming_strings", "datestyle", "timezone",
	"extra_float_digits", "application_name",
}
