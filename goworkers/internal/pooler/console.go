// The console: the database `pgbouncer`, whose SQL is the pooler's own commands.

package pooler

import (
	"fmt"
	"slices"
	"strings"

	"goworkers/internal/pooler/ini"
	"goworkers/pgwire"
)

const consoleName = ini.ConsoleName

// maxCommand bounds console messages.
const maxCommand = 16 << 10

// console is one client's connection to the console.
type console struct {
	c     *client
	admin bool
	doing         // the command that is being carried out
	waits []doing // commands that are not done yet: others are answered meanwhile
}

// doing is a command's state.
type doing struct {
	tag  string
	done func() bool // tells whether it is done; nil: at once
	undo func()      // takes it back when its client cancels or leaves; may be nil
}

// failure is a command's error; detail may be empty.
type failure struct{ code, message, detail string }

func (f *failure) Error() string { return f.message }

func refuse(format string, args ...any) error {
	return &failure{code: pgwire.CodeProtocolViolation, message: fmt.Sprintf(format, args...)}
}

// openConsole completes a login to the console.
func (p *Pooler) openConsole(c *client) {
	name := c.login.user
	admin := slices.Contains(p.set.AdminUsers, name) || name == consoleName && c.sameUser()
	if !admin && !slices.Contains(p.set.StatsUsers, name) {
		c.w.failClient(c, "", "not allowed")
		return
	}
	if limit := c.user.maxClients(p.set); !admin && limit > 0 {
		if int(c.user.clients.Load())+p.onConsole()[name] >= limit {
			c.w.failClient(c, "", toldUserLimit)
			return
		}
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
	// What the client has set of the tracked parameters is taken for granted.
	set := c.vars.Value()
	for i, name := range p.tracked {
		if set[i] != "" {
			out = pgwire.AppendParameterStatus(out, name, set[i])
		}
	}
	p.keys.give(c, p.set.PeerID)
	out = pgwire.AppendBackendKeyData(out, c.key[:])
	out = p.appendLoginNotice(out)
	out = pgwire.AppendReadyForQuery(out, pgwire.TxIdle)
	c.login = nil
	c.phase = phaseConsole
	p.consolePool.stats.logins++
	c.console.send(out)
	if c.fd >= 0 {
		c.resume()
	}
}

// onConsole counts the console's clients by user.
func (p *Pooler) onConsole() map[string]int {
	n := map[string]int{}
	for k := range p.consoles {
		n[k.c.user.name]++
	}
	return n
}

func (k *console) p() *Pooler { return k.c.w.Pooler }

func (k *console) gone() {
	delete(k.p().consoles, k)
	k.cancel()
	k.p().suspenderGone(k)
}

// cancel takes back the commands that are not done yet.
func (k *console) cancel() {
	waits := k.waits
	k.waits = nil
	for _, w := range waits {
		if w.undo != nil {
			k.p().alone(func() {
				w.undo()
				k.p().carryOutAll()
			})
		}
		if k.c.fd >= 0 {
			k.finish(w.tag, &failure{code: "57014", message: "canceled on user request"})
		}
	}
}

// consoleWaits tells whether a command is not done yet.
func (p *Pooler) consoleWaits() bool {
	for k := range p.consoles {
		if len(k.waits) > 0 {
			return true
		}
	}
	return false
}

// goOn answers the commands that had to wait and are done now.
func (k *console) goOn() {
	var done []string
	k.waits = slices.DeleteFunc(k.waits, func(w doing) bool {
		if !w.done() {
			return false
		}
		done = append(done, w.tag)
		return true
	})
	for _, tag := range done {
		if k.c.fd >= 0 {
			k.finish(tag, nil)
		}
	}
}

func (k *console) send(b []byte) {
	if err := k.c.send(b); err != nil {
		k.c.w.closeClient(k.c, "write to client: "+err.Error())
	}
}

// finish ends a command's answer.
func (k *console) finish(tag string, err error) {
	var out []byte
	if err != nil {
		k.c.logError(err.Error())
		rep := &pgwire.Report{Severity: pgwire.SeverityError, Code: pgwire.CodeProtocolViolation, Message: err.Error()}
		if f, ok := err.(*failure); ok {
			rep.Code, rep.Detail = f.code, f.detail
		}
		out = pgwire.AppendErrorResponse(out, rep)
	} else {
		out = pgwire.AppendCommandComplete(out, tag)
	}
	k.send(pgwire.AppendReadyForQuery(out, pgwire.TxIdle))
}

// process handles the console's messages.
func (k *console) process(data []byte) int {
	c, used := k.c, 0
	for used < len(data) && c.fd >= 0 {
		typ, size, ok, err := pgwire.ParseHeader(data[used:])
		if err != nil || ok && size > maxCommand {
			c.w.failClient(c, "", badHeader(data[used:used+pgwire.HeaderSize]))
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
				c.w.failClient(c, "", toldBadPacket)
				return len(data)
			}
			st := &k.p().consolePool.stats
			st.xacts++
			st.queries++
			k.command(string(sql))
		case pgwire.MsgTerminate:
			c.w.closeClient(c, "client close request")
		case pgwire.MsgParse, pgwire.MsgBind, pgwire.MsgDescribe, pgwire.MsgExecute, pgwire.MsgClose:
			k.finish("", refuse("extended query protocol not supported by admin console"))
			c.w.failClient(c, "", "bad packet")
		case pgwire.MsgFlush, pgwire.MsgSync, pgwire.MsgFunctionCall:
			k.finish("", refuse("unsupported packet type for admin console: %d", typ))
			c.w.failClient(c, "", "bad packet")
		case pgwire.MsgCopyData, pgwire.MsgCopyDone, pgwire.MsgCopyFail:
		default:
			c.w.failClient(c, "", toldUnknown)
		}
	}
	return used
}

// command runs one command and answers it.
func (k *console) command(sql string) {
	cmd, ok := parseCommand(sql)
	if ok && cmd.name == "" {
		k.send(pgwire.AppendReadyForQuery(pgwire.AppendEmptyQueryResponse(nil), pgwire.TxIdle))
		return
	}
	k.doing = doing{tag: strings.ToUpper(cmd.name)}
	k.p().alone(func() {
		err := refuse("invalid command '%s', use SHOW HELP;", sql)
		if ok {
			err = k.dispatch(cmd, err)
		}
		// What the command has decided is done before its answer.
		k.p().carryOutAll()
		switch {
		case k.c.fd < 0:
		case err == nil && k.done != nil && !k.done():
			k.waits = append(k.waits, k.doing)
			k.p().awaited.Store(true)
		default:
			k.finish(k.tag, err)
		}
	})
}

// dispatch runs a command; invalid is the error for one that does not exist.
func (k *console) dispatch(cmd command, invalid error) error {
	if err := k.whileHanding(cmd.name); err != nil {
		return err
	}
	switch cmd.name {
	case "show", "select":
		return k.show(strings.ToLower(strings.TrimSuffix(cmd.arg, "()")), invalid)
	case "set":
		return k.set(cmd.arg, cmd.value)
	}
	run, ok := commands[cmd.name]
	if !ok {
		return invalid
	}
	if !k.admin {
		return refuse("admin access needed")
	}
	if cmd.name != "shutdown" { // which tells of itself, with what it waits for
		text := strings.ToUpper(cmd.name)
		if cmd.arg != "" {
			text += " '" + cmd.arg + "'"
		}
		k.c.about().Info(text + " command issued")
	}
	return run(k, cmd.arg, invalid)
}
