// The console: the database `pgbouncer`, whose SQL is the pooler's own commands.

package pooler

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"goworkers/internal/pooler/ini"
	"goworkers/pgwire"
)

const consoleName = ini.ConsoleName

// maxCommand bounds console messages.
const maxCommand = 16 << 10

// console is one client's connection to the console.
type console struct {
	c       *client
	admin   bool
	waiting bool        // a command is not done yet
	done    func() bool // tells whether it is
	undo    func()      // takes it back when the client cancels
	tag     string
}

// failure is a command's error.
type failure struct{ code, message string }

func (f *failure) Error() string { return f.message }

func refuse(format string, args ...any) error {
	return &failure{pgwire.CodeProtocolViolation, fmt.Sprintf(format, args...)}
}

// openConsole completes a login to the console.
func (p *Pooler) openConsole(c *client) {
	name := c.login.user
	admin := slices.Contains(p.set.AdminUsers, name) || name == consoleName && c.sameUser()
	if !admin && !slices.Contains(p.set.StatsUsers, name) {
		c.w.failClient(c, "", "not allowed")
		return
	}
	c.console = &console{c: c, admin: admin}
	p.consoles[c.console] = struct{}{}
	delete(c.w.logins, c)
	out := c.login.answer
	for _, param := range [...]pgwire.Param{
		{Name: "server_version", Value: strings.TrimPrefix(Version, "skytools pooler ") + "/bouncer"}, {Name: "client_encoding", Value: "UTF8"},
		{Name: "server_encoding", Value: "UTF8"}, {Name: "DateStyle", Value: "ISO"}, {Name: "TimeZone", Value: "GMT"},
		{Name: "standard_conforming_strings", Value: "on"}, {Name: "is_superuser", Value: "on"},
	} {
		out = pgwire.AppendParameterStatus(out, param.Name, param.Value)
	}
	p.keys.give(c, p.set.PeerID)
	out = pgwire.AppendBackendKeyData(out, c.key[:])
	out = pgwire.AppendReadyForQuery(out, pgwire.TxIdle)
	c.login = nil
	c.phase = phaseConsole
	p.consolePool.stats.logins++
	if p.set.LogConnections {
		p.log.Info(c.prefix() + "login attempt: db=" + consoleName + " user=" + name + " tls=no")
	}
	c.console.send(out)
	if c.fd >= 0 {
		c.resume()
	}
}

func (k *console) p() *Pooler { return k.c.w.Pooler }

func (k *console) gone() {
	delete(k.p().consoles, k)
	if k.waiting {
		k.cancel()
	}
}

// cancel takes the running command back.
func (k *console) cancel() {
	if !k.waiting {
		return
	}
	k.waiting = false
	if k.undo != nil {
		k.p().alone(func() {
			k.undo()
			k.p().carryOutAll()
		})
	}
	if k.c.fd >= 0 {
		k.finish(&failure{"57014", "canceled on user request"})
		k.c.resume()
	}
}

// consoleWaits tells whether a command is not done yet.
func (p *Pooler) consoleWaits() bool {
	for k := range p.consoles {
		if k.waiting {
			return true
		}
	}
	return false
}

// goOn answers a command that had to wait.
func (k *console) goOn() {
	if !k.waiting || !k.done() {
		return
	}
	k.waiting = false
	k.finish(nil)
	if k.c.fd >= 0 {
		k.c.resume()
	}
}

func (k *console) send(b []byte) {
	k.p().consolePool.stats.sent += uint64(len(b))
	if err := k.c.send(b); err != nil {
		k.c.w.closeClient(k.c, "write to client: "+err.Error())
	}
}

// finish ends a command's answer.
func (k *console) finish(err error) {
	var out []byte
	if err != nil {
		code := pgwire.CodeProtocolViolation
		if f, ok := err.(*failure); ok {
			code = f.code
		}
		out = pgwire.AppendErrorResponse(out, &pgwire.Report{Severity: pgwire.SeverityError, Code: code, Message: err.Error()})
	} else {
		out = pgwire.AppendCommandComplete(out, k.tag)
	}
	k.send(pgwire.AppendReadyForQuery(out, pgwire.TxIdle))
}

// process handles the console's messages.
func (k *console) process(data []byte) int {
	c, used := k.c, 0
	for used < len(data) && c.fd >= 0 && !k.waiting {
		typ, size, ok, err := pgwire.ParseHeader(data[used:])
		if err != nil || ok && size > maxCommand {
			c.w.failClient(c, "", "bad packet header")
			return len(data)
		}
		if !ok || size > len(data)-used {
			break
		}
		body := data[used+pgwire.HeaderSize : used+size]
		used += size
		switch typ {
		case pgwire.MsgQuery:
			sql, err := pgwire.ParseQuery(body)
			if err != nil {
				c.w.failClient(c, "", "bad packet header")
				return len(data)
			}
			st := &k.p().consolePool.stats
			st.xacts++
			st.queries++
			st.received += uint64(size)
			k.command(string(sql))
		case pgwire.MsgTerminate:
			c.w.closeClient(c, "client close request")
		case pgwire.MsgParse, pgwire.MsgBind, pgwire.MsgDescribe, pgwire.MsgExecute, pgwire.MsgClose, pgwire.MsgFlush, pgwire.MsgSync:
			c.w.failClient(c, "", "extended query protocol not supported by admin console")
		default:
			c.w.failClient(c, "", "unexpected message from client: "+pgwire.TypeName(typ, true))
		}
	}
	return used
}

// words splits a command: names are lower case unless quoted, = stands alone.
func words(sql string) []string {
	var list []string
	for i := 0; i < len(sql); {
		switch ch := sql[i]; {
		case strings.IndexByte(" \t\r\n;", ch) >= 0:
			i++
		case ch == '=':
			list = append(list, "=")
			i++
		case ch == '\'' || ch == '"':
			var b strings.Builder
			for i++; i < len(sql); i++ {
				if sql[i] == ch {
					if i+1 < len(sql) && sql[i+1] == ch {
						i++
					} else {
						break
					}
				}
				b.WriteByte(sql[i])
			}
			i++
			list = append(list, b.String())
		default:
			end := i
			for end < len(sql) && strings.IndexByte(" \t\r\n;='\"", sql[end]) < 0 {
				end++
			}
			list = append(list, sql[i:end])
			i = end
		}
	}
	return list
}

// command runs one command and answers it.
func (k *console) command(sql string) {
	w := words(sql)
	if len(w) == 0 {
		k.send(pgwire.AppendReadyForQuery(pgwire.AppendEmptyQueryResponse(nil), pgwire.TxIdle))
		return
	}
	k.tag, k.done, k.undo = strings.ToUpper(w[0]), nil, nil
	k.p().alone(func() {
		err := k.dispatch(sql, w)
		// What the command has decided is done before its answer.
		k.p().carryOutAll()
		switch {
		case k.c.fd < 0:
		case err == nil && k.done != nil && !k.done():
			k.waiting = true
			k.p().awaited.Store(true)
		default:
			k.finish(err)
		}
	})
}

func (k *console) dispatch(sql string, w []string) error {
	name := strings.ToLower(w[0])
	arg := ""
	if len(w) > 1 {
		arg = w[1]
	}
	invalid := refuse("invalid command '%s', use SHOW HELP;", strings.TrimRight(strings.TrimSpace(sql), ";"))
	if name == "show" || name == "select" {
		if len(w) != 2 {
			return invalid
		}
		return k.show(strings.ToLower(strings.TrimSuffix(arg, "()")), invalid)
	}
	if name == "set" {
		return k.set(w[1:], invalid)
	}
	cmd, ok := commands[name]
	if !ok || len(w) > 2 {
		return invalid
	}
	if !k.admin {
		return refuse("admin access needed")
	}
	return cmd(k, arg)
}

// commands are those that change something; arg is "" or the word behind the name.
var commands map[string]func(k *console, arg string) error

func init() {
	commands = map[string]func(k *console, arg string) error{
		"reload": (*console).reload, "pause": (*console).pause, "resume": (*console).resume, "kill": (*console).kill,
		"disable": (*console).disable, "enable": (*console).enable, "reconnect": (*console).reconnect,
		"wait_close": (*console).waitClose, "kill_client": (*console).killClient, "shutdown": (*console).shutdown,
		"suspend": (*console).suspend,
	}
}

// database finds a command's argument.
func (k *console) database(name string) (*database, error) {
	if name == consoleName {
		return nil, refuse("cannot do that with the admin database %s", consoleName)
	}
	db := k.p().databases[name]
	if db == nil {
		db = k.p().databases[strings.ToLower(name)]
	}
	if db == nil {
		return nil, refuse("no such database: %s", name)
	}
	return db, nil
}

func (k *console) reload(string) error {
	if err := k.p().reload(); err != nil {
		return &failure{"F0000", "RELOAD failed, see logs for additional details"}
	}
	return nil
}

func (k *console) pause(arg string) error {
	p := k.p()
	if arg == "" {
		if p.paused {
			return refuse("already suspended/paused")
		}
		p.pauseAll()
		k.done = func() bool { return !p.busy(nil) }
		k.undo = p.resumeAll
		return nil
	}
	db, err := k.database(arg)
	if err != nil {
		return err
	}
	if db.paused {
		return refuse("already suspended/paused")
	}
	p.pause(db)
	k.done = func() bool { return !p.busy(db) }
	k.undo = func() { p.resume(db) }
	return nil
}

func (k *console) resume(arg string) error {
	p := k.p()
	if p.closing == closingServers {
		return refuse("pooler is shutting down")
	}
	if arg == "" {
		if !p.paused {
			return refuse("pooler is not paused/suspended")
		}
		p.resumeAll()
		return nil
	}
	db, err := k.database(arg)
	if err != nil {
		return err
	}
	if !db.paused {
		return refuse("database %s is not paused", db.name)
	}
	p.resume(db)
	return nil
}

// suspend belongs to the takeover by a new process, which this version does not have.
func (k *console) suspend(string) error {
	return refuse("SUSPEND is not supported by this version; use PAUSE")
}

func (k *console) kill(arg string) error {
	p := k.p()
	now := p.now()
	if arg == "" {
		for _, db := range p.databases {
			for _, pl := range db.pools {
				pl.Kill("admin forced disconnect", now)
			}
		}
		p.pauseAll()
		return nil
	}
	db, err := k.database(arg)
	if err != nil {
		return err
	}
	for _, pl := range db.pools {
		pl.Kill("admin forced disconnect", now)
	}
	p.pause(db)
	return nil
}

func (k *console) disable(arg string) error { return k.able(arg, true) }
func (k *console) enable(arg string) error  { return k.able(arg, false) }

func (k *console) able(arg string, disabled bool) error {
	if arg == "" {
		return refuse("a database is required")
	}
	db, err := k.database(arg)
	if err != nil {
		return err
	}
	db.disabled = disabled
	return nil
}

func (k *console) reconnect(arg string) error {
	var only *database
	if arg != "" {
		var err error
		if only, err = k.database(arg); err != nil {
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
func (k *console) waitClose(arg string) error {
	var only *database
	if arg != "" {
		var err error
		if only, err = k.database(arg); err != nil {
			return err
		}
	}
	p := k.p()
	k.done = func() bool { return !p.closePending(only) }
	return nil
}

func (k *console) killClient(arg string) error {
	id, err := strconv.ParseUint(strings.TrimPrefix(arg, "0x"), 10, 64)
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

func (k *console) shutdown(arg string) error {
	p := k.p()
	switch strings.ToLower(arg) {
	case "":
		p.log.Info("SHUTDOWN command issued")
		p.Stop()
	case "wait_for_servers":
		p.log.Info("SHUTDOWN WAIT_FOR_SERVERS command issued")
		p.shutdown(closingServers)
	case "wait_for_clients":
		p.log.Info("SHUTDOWN WAIT_FOR_CLIENTS command issued")
		p.shutdown(closingClients)
	default:
		return refuse("invalid shutdown mode '%s': use SHUTDOWN, SHUTDOWN WAIT_FOR_SERVERS or SHUTDOWN WAIT_FOR_CLIENTS", arg)
	}
	return nil
}

// set changes a setting: SET name = value, SET name TO value.
func (k *console) set(w []string, invalid error) error {
	if len(w) < 2 || w[1] != "=" && !strings.EqualFold(w[1], "to") || len(w) > 3 {
		return invalid
	}
	value := ""
	if len(w) == 3 {
		value = w[2]
	}
	name := strings.ToLower(w[0])
	if _, ok := driverParams[name]; ok {
		return nil
	}
	if !k.admin {
		return refuse("admin access needed")
	}
	p := k.p()
	cfg := *p.cfg
	warnings, err := cfg.Set(name, value)
	if err != nil {
		return refuse("%v", err)
	}
	for _, w := range warnings {
		p.log.Warn(w.String())
	}
	if err := p.apply(&cfg); err != nil {
		return refuse("%v", err)
	}
	return nil
}

// driverParams are what drivers ask for or set when they connect.
var driverParams = map[string]string{
	"client_encoding": "UTF8", "default_transaction_isolation": "read committed",
	"standard_conforming_strings": "on", "datestyle": "ISO", "timezone": "GMT",
}

// table is the result of a SHOW.
type table struct {
	columns []pgwire.Column
	rows    [][][]byte
}

// columns makes columns from words like `name` (text), `port:i`, `ttl:q`, `n:n`, `at:ts`.
func columns(text string) []pgwire.Column {
	var list []pgwire.Column
	for _, f := range strings.Fields(text) {
		name, typ, _ := strings.Cut(f, ":")
		oid := map[string]uint32{"": pgwire.OIDText, "i": pgwire.OIDInt4, "q": pgwire.OIDInt8, "n": pgwire.OIDNumeric, "ts": pgwire.OIDTimestamptz}[typ]
		list = append(list, pgwire.Column{Name: name, OID: oid})
	}
	return list
}

// add adds a row; nil is NULL.
func (t *table) add(values ...any) {
	row := make([][]byte, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case nil:
		case string:
			row[i] = []byte(v)
		case bool:
			row[i] = []byte("0")
			if v {
				row[i] = []byte("1")
			}
		case time.Time:
			row[i] = v.UTC().AppendFormat(nil, "2006-01-02 15:04:05 UTC")
		default:
			row[i] = fmt.Append(nil, v)
		}
	}
	t.rows = append(t.rows, row)
}

// sort orders the rows by their first columns.
func (t *table) sort(by int) {
	slices.SortStableFunc(t.rows, func(a, b [][]byte) int {
		for i := range by {
			if d := slices.Compare(a[i], b[i]); d != 0 {
				return d
			}
		}
		return 0
	})
}

// sortByNumber orders the rows by a column of numbers.
func (t *table) sortByNumber(column int) {
	slices.SortStableFunc(t.rows, func(a, b [][]byte) int {
		x, _ := strconv.ParseUint(string(a[column]), 10, 64)
		y, _ := strconv.ParseUint(string(b[column]), 10, 64)
		return cmp.Compare(x, y)
	})
}

// shows are the results that can be asked for. Each has a file of its own.
var shows map[string]func(p *Pooler, t *table)

func init() {
	shows = map[string]func(p *Pooler, t *table){
		"version": showVersion, "databases": showDatabases, "pools": showPools, "clients": showClients, "servers": showServers,
		"stats": showStats, "stats_totals": showStatsTotals, "stats_averages": showStatsAverages, "totals": showTotals,
		"users": showUsers, "lists": showLists, "config": showConfig, "state": showState, "dns_hosts": showDNSHosts,
		"peers": showPeers, "peer_pools": showPeerPools,
	}
}

func (k *console) show(what string, invalid error) error {
	k.tag = "SHOW"
	if what == "help" {
		k.send(helpNotice())
		return nil
	}
	var t table
	if value, ok := driverParams[what]; ok {
		t.columns = columns(what)
		t.add(value)
	} else if f := shows[what]; f != nil {
		f(k.p(), &t)
	} else {
		return invalid
	}
	out := pgwire.AppendRowDescription(nil, t.columns)
	for _, row := range t.rows {
		out = pgwire.AppendDataRow(out, row)
	}
	k.send(out)
	return nil
}
