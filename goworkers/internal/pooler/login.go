// A client's login: opening packets, authentication, the welcome.

package pooler

import (
	"errors"
	"os"
	"strings"
	"syscall"

	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// maxLoginMessage bounds password messages.
const maxLoginMessage = 16 << 10

// processLogin handles bytes of a client that is not logged in.
func (c *client) processLogin(data []byte) int {
	used := 0
	for used < len(data) && c.fd >= 0 {
		var n int
		switch c.phase {
		case phaseStartup:
			n = c.startupPacket(data[used:])
		case phaseAuth:
			n = c.passwordMessage(data[used:])
		default:
			return used
		}
		if n == 0 {
			return used
		}
		used += n
	}
	return used
}

// startupPacket handles one opening packet.
func (c *client) startupPacket(data []byte) int {
	kind, size, ok, err := pgwire.ParseStartupHeader(data)
	if err != nil {
		why := "bad startup packet"
		if errors.Is(err, pgwire.ErrProtocolVersion) {
			why = "unsupported frontend protocol: only version 3 is known"
		}
		c.w.failClient(c, "", why)
		return 0
	}
	if !ok || size > len(data) {
		return 0
	}
	packet := data[:size]
	switch kind {
	case pgwire.SSLRequest, pgwire.GSSENCRequest:
		if size < len(data) {
			c.w.failClient(c, "", "received unencrypted data after SSL request")
			return 0
		}
		if err := c.send([]byte{'N'}); err != nil {
			c.w.closeClient(c, "write to client: "+err.Error())
			return 0
		}
	case pgwire.CancelRequest:
		key, err := pgwire.ParseCancelRequest(packet)
		if err != nil {
			c.w.closeClient(c, "bad cancel request")
			return 0
		}
		c.w.cancelRequest(c, key)
		return 0
	case pgwire.StartupMessage:
		startup, err := pgwire.ParseStartup(packet)
		if err != nil {
			c.w.failClient(c, "", "bad startup packet")
			return 0
		}
		c.startup(startup)
	}
	return size
}

// startup takes the parameters of a login and begins authentication.
func (c *client) startup(startup pgwire.Startup) {
	p := c.w
	login := &clientLogin{params: startup}
	c.login = login
	login.user, _ = startup.Get("user")
	login.dbName, _ = startup.Get("database")
	if login.dbName == "" {
		login.dbName = login.user
	}
	if login.user == "" {
		p.failClient(c, "", "no username supplied")
		return
	}
	if !c.takeParams(startup.Params) {
		return
	}
	if options, need := startup.Negotiate(); need {
		login.answer = pgwire.AppendNegotiateProtocolVersion(login.answer, options)
	}
	onConsole := login.dbName == consoleName
	if !onConsole {
		c.counted = true
		if p.clientCount.Add(1) > int64(p.set.MaxClientConn) {
			p.failClient(c, "", "no more connections allowed (max_client_conn)")
			return
		}
	}

	u := p.users[login.user]
	login.auth = pgwire.ServerAuth{
		Method: p.set.authMethod, User: login.user, MockKey: p.mockKey, Iterations: p.set.ScramIterations,
	}
	switch {
	case onConsole && login.user == consoleName && c.sameUser():
		// Who may read the pooler's memory may use its console.
		login.auth.Method = pgwire.MethodTrust
		c.user = &user{name: consoleName}
	case p.set.authAny && (onConsole || !p.lacksForcedUser(login.dbName)):
		login.auth.Method = pgwire.MethodTrust
		c.user = p.userNamed(login.user)
	case p.set.authAny:
		p.failClient(c, "", "bouncer config error")
		p.log.Errorf("auth_type=any needs a forced user: set user= for database %q in [databases]", login.dbName)
		return
	case u == nil || !u.listed || u.secret.Kind() == pgwire.SecretNone && login.auth.Method != pgwire.MethodTrust:
		if login.auth.Method == pgwire.MethodTrust {
			p.failClient(c, "", `"trust" authentication failed`)
			return
		}
		// The exchange runs with a secret that nothing matches, so that an answer
		// does not tell which users exist.
	default:
		login.auth.Secret = u.secret
		login.auth.Verifier = u.verifier
		c.user = u
	}
	c.phase = phaseAuth
	if login.auth.Slow() && login.auth.Method != pgwire.MethodPlain {
		c.slowAuth(func() ([]byte, bool, error) { return login.auth.Begin(nil) })
		return
	}
	c.authStep(login.auth.Begin(nil))
}

// sameUser tells whether the client is a process of the pooler's own user.
func (c *client) sameUser() bool {
	if !c.unix {
		return false
	}
	cred, err := syscall.GetsockoptUcred(int(c.fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	return err == nil && int(cred.Uid) == os.Getuid()
}

// takeParams looks at the startup parameters.
func (c *client) takeParams(params []pgwire.Param) bool {
	p := c.w
	set := noVars.Value()
	for _, param := range params {
		name := param.Name
		if name == "user" || name == "database" || strings.HasPrefix(name, "_pq_.") {
			continue
		}
		if name == "options" {
			if !c.takeOptions(&set, param.Value) {
				return false
			}
			continue
		}
		if name == "replication" && (param.Value == "false" || param.Value == "off" || param.Value == "no" || param.Value == "0") {
			continue
		}
		if i := p.tracked.index(name); i >= 0 {
			set[i] = param.Value
		} else if !p.set.ignores(name) {
			p.failClient(c, "", "unsupported startup parameter: "+name)
			return false
		}
	}
	if p.set.ApplicationNameAddHost {
		i := p.tracked.index("application_name")
		if set[i] == "" {
			set[i] = "app"
		}
		set[i] += " - " + hostPort(c.addr, p.set.ListenPort)
	}
	c.vars = uniqueVars(set)
	return true
}

// takeOptions looks at the parameters within the parameter options.
func (c *client) takeOptions(set *varSet, options string) bool {
	params, err := pgwire.ParseOptions(options)
	ignored := c.w.set.ignores("options")
	if err != nil {
		if ignored {
			return true
		}
		c.w.failClient(c, "", "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed")
		return false
	}
	for _, param := range params {
		if i := c.w.tracked.index(param.Name); i >= 0 {
			set[i] = param.Value
		} else if !ignored && !c.w.set.ignores(param.Name) {
			c.w.failClient(c, "", "unsupported startup parameter in options: "+param.Name)
			return false
		}
	}
	return true
}

// passwordMessage handles one answer to a request for a password.
func (c *client) passwordMessage(data []byte) int {
	typ, size, ok, err := pgwire.ParseHeader(data)
	if err == nil && !ok {
		return 0
	}
	if err != nil || typ != pgwire.MsgPassword || size > maxLoginMessage {
		if typ == pgwire.MsgTerminate {
			c.w.closeClient(c, "client close request")
			return 0
		}
		c.w.failClient(c, "", "unexpected message during authentication")
		return 0
	}
	if size > len(data) {
		return 0
	}
	auth := &c.login.auth
	body := data[pgwire.HeaderSize:size]
	if auth.Slow() && auth.Method == pgwire.MethodPlain {
		body = append([]byte(nil), body...)
		c.slowAuth(func() ([]byte, bool, error) { return auth.Answer(nil, body) })
		return size
	}
	c.authStep(auth.Answer(nil, body))
	return size
}

// slowAuth runs a step in a goroutine; the client is not read meanwhile.
func (c *client) slowAuth(step func() ([]byte, bool, error)) {
	c.phase = phaseBusy
	c.w.background(func() func() {
		out, done, err := step()
		return func() {
			if c.fd < 0 || c.phase != phaseBusy {
				return
			}
			c.phase = phaseAuth
			c.authStep(out, done, err)
			if c.fd >= 0 {
				c.resume()
			}
		}
	})
}

// authStep sends what an authentication step gave, and ends it.
func (c *client) authStep(out []byte, done bool, err error) {
	p, login := c.w, c.login
	if err != nil {
		why := "password authentication failed"
		if m := login.auth.Method; m == pgwire.MethodSCRAM || m == pgwire.MethodMD5 && login.auth.Secret.Kind() == pgwire.SecretSCRAM {
			why = "SASL authentication failed"
		}
		if !errors.Is(err, pgwire.ErrPassword) {
			p.log.Info(c.prefix() + "login: " + err.Error())
		}
		p.failClient(c, "", why)
		return
	}
	if u := c.user; u != nil && login.auth.Verifier != nil && u.verifier == nil && u.secret.Equal(login.auth.Secret) {
		u.verifier = login.auth.Verifier
	}
	if !done {
		if err := c.send(append(login.answer, out...)); err != nil {
			p.closeClient(c, "write to client: "+err.Error())
		}
		login.answer = nil
		return
	}
	login.answer = append(login.answer, out...)
	if c.user == nil {
		// Cannot be: nothing matches no secret.
		p.failClient(c, "", "password authentication failed")
		return
	}
	if keys, ok := login.auth.Keys(); ok {
		c.user.keys = keys
	}
	c.authenticated()
}

// authenticated finds the client's pool.
func (c *client) authenticated() {
	p, login := c.w, c.login
	if login.dbName == consoleName {
		p.openConsole(c)
		return
	}
	// Not before: strangers must not fill the list of databases through the entry *.
	db := p.findDatabase(login.dbName)
	if db == nil {
		p.failClient(c, "", "no such database: "+login.dbName)
		return
	}
	switch {
	case db.disabled:
		p.failClient(c, "", `database "`+db.name+`" is disabled`)
		return
	case p.closing != closingNot:
		p.failClient(c, "", "pooler is shutting down")
		return
	case db.maxClients() > 0 && int(db.clients.Load()) >= db.maxClients():
		p.failClient(c, "", "client connections exceeded (max_db_client_connections)")
		return
	case c.user.maxClients(p.set) > 0 && int(c.user.clients.Load()) >= c.user.maxClients(p.set):
		p.failClient(c, "", "client connections exceeded (max_user_client_connections)")
		return
	}
	c.pl = p.poolOf(db, c.user)
	db.clients.Add(1)
	c.user.clients.Add(1)
	c.pc.Owner = c
	c.phase = phaseWelcome
	c.moveTo(c.pl.w, func() { c.pl.AwaitWelcome(&c.pc, c.w.loop.Now()) })
}

// welcome carries out Welcome: the login is complete.
func (c *client) welcome() {
	p, pl := c.w, c.pl
	set := c.vars.Value()
	defaults := pl.defaults.Value()
	out := append(c.login.answer, pl.welcome...)
	for i, name := range p.tracked {
		if set[i] == "" {
			set[i] = defaults[i]
		}
		if set[i] != "" {
			out = pgwire.AppendParameterStatus(out, name, set[i])
		}
	}
	c.vars = uniqueVars(set)
	c.key = pgwire.NewCancelKey()
	out = pgwire.AppendBackendKeyData(out, c.key[:])
	if p.set.LoginNotifyMessage != "" {
		out = pgwire.AppendNoticeResponse(out, &pgwire.Report{Severity: pgwire.SeverityNotice, Code: "00000", Message: p.set.LoginNotifyMessage})
	}
	out = pgwire.AppendReadyForQuery(out, pgwire.TxIdle)
	pl.stats.logins++
	if p.set.LogConnections {
		p.log.Info(c.prefix() + "login attempt: db=" + c.login.dbName + " user=" + c.login.user + " tls=no")
	}
	delete(p.logins, c)
	c.login = nil
	c.phase = phaseActive
	if err := c.send(out); err != nil {
		p.closeClient(c, "write to client: "+err.Error())
		return
	}
	c.resume()
}

// dropped carries out DropClient.
func (c *client) dropped(why pool.Failure) {
	c.w.failClient(c, why.Code, why.Message)
}
