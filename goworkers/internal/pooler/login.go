// A client's login: opening packets, TLS, start parameters, the welcome.

package pooler

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"

	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/ldap"
	"goworkers/internal/pooler/pool"
	"goworkers/internal/pooler/tlsconn"
	"goworkers/pgwire"
)

const (
	// maxLoginMessage bounds password messages: those of auth_file's secrets fit.
	maxLoginMessage = pgwire.MaxSecretSize + 1024

	// maxUserName is the longest name that auth_file can have, maxDatabaseName the
	// longest that a server can.
	maxUserName     = 127
	maxDatabaseName = 63

	// tlsHandshake is the first byte of a client that begins with TLS unasked.
	tlsHandshake = 0x16
)

// toldUserLimit is what a client is told whose user has enough of them.
const toldUserLimit = "client connections exceeded (max_user_client_connections)"

// clientLogin is needed while a client logs in.
type clientLogin struct {
	params      pgwire.Startup
	user        string
	dbName      string
	replication replication
	auth        pgwire.ServerAuth
	method      authMethod
	creds       *credentials // nil: the user is not known
	from        *user        // where creds stand; nil for those that auth_query gave
	ldap        *ldap.Options
	question    *authQuery // under way
	answer      []byte     // what goes out before the welcome
	granted     int        // size of the AuthenticationOk at the end of answer
}

// replication is what kind of connection a client asks for.
type replication uint8

const (
	replicationNone replication = iota
	replicationPhysical
	replicationLogical
)

var replicationNames = [...]string{"none", "physical", "logical"}

// asked is the kind as a login says it, in the log's words.
func (r replication) asked() string { return [...]string{"no", "yes", "database"}[r] }

func (r replication) String() string { return replicationNames[r] }

// parseReplication reads the startup parameter: database, or a boolean in any form that
// the server knows.
func parseReplication(value string) (kind replication, ok bool) {
	value = strings.ToLower(value)
	if value == "database" {
		return replicationLogical, true
	}
	is := func(word string, least int) bool { return len(value) >= least && strings.HasPrefix(word, value) }
	switch {
	case is("true", 1), is("yes", 1), value == "on", value == "1":
		return replicationPhysical, true
	case is("false", 1), is("no", 1), is("off", 2), value == "0":
		return replicationNone, true
	}
	return replicationNone, false
}

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
	w := c.w
	if data[0] == tlsHandshake && c.tls == nil && !c.unix && w.clientTLS != nil {
		c.beginTLS(data)
		return len(data)
	}
	if first := data[0]; first == tlsHandshake || first >= 'A' && first <= 'Z' || first >= 'a' && first <= 'z' {
		// Another protocol, or a message that comes too early: an error would be noise.
		w.closeClient(c, "bad startup packet")
		return 0
	}
	kind, size, ok, err := pgwire.ParseStartupHeader(data)
	switch {
	case err == nil:
	case kind == pgwire.CancelRequest:
		w.closeClient(c, "bad cancel request")
		return 0
	case binary.BigEndian.Uint16(data[4:]) == 2:
		w.failClient(c, "", "old V2 protocol not supported")
		return 0
	default:
		w.failClient(c, "", badHeader(data[:pgwire.StartupHeaderSize]))
		return 0
	}
	if !ok || size > len(data) {
		return 0
	}
	packet := data[:size]
	switch kind {
	case pgwire.SSLRequest, pgwire.GSSENCRequest:
		if size < len(data) {
			w.failClient(c, "", "received unencrypted data after SSL request")
			return 0
		}
		accept := kind == pgwire.SSLRequest && w.clientTLS != nil && c.tls == nil && !c.unix
		answer := byte('N')
		if accept {
			answer = 'S'
		}
		if err := c.send([]byte{answer}); err != nil {
			w.closeClient(c, "write to client: "+err.Error())
			return 0
		}
		if accept {
			c.beginTLS(nil)
		}
	case pgwire.CancelRequest:
		key, err := pgwire.ParseCancelRequest(packet)
		if err != nil {
			w.closeClient(c, "bad cancel request")
			return 0
		}
		w.cancelRequest(c, key)
		return 0
	case pgwire.StartupMessage:
		startup, err := pgwire.ParseStartup(packet)
		if err != nil {
			w.failClient(c, "", "invalid startup packet layout: expected terminator as last byte")
			return 0
		}
		if w.set.ClientTLS.SSLMode >= ini.SSLRequire && c.tls == nil && !c.unix {
			w.failClient(c, "", "SSL required")
			return 0
		}
		c.startup(startup)
	}
	return size
}

// beginTLS makes the handshake; early is what the client has sent of it.
func (c *client) beginTLS(early []byte) {
	w := c.w
	cfg := w.clientTLS
	early = append([]byte(nil), early...)
	c.phase = phaseTLS
	c.startTLS(func(ctx context.Context, fd int) (*tlsconn.Conn, error) {
		return w.handshaker.Accept(ctx, cfg, fd, early)
	}, func(err error) {
		c.phase = phaseStartup
		if err != nil {
			w.closeClient(c, handshakeFailed(err))
			return
		}
		w.events.tlsClients++
		c.wantRead(c)
	})
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
	if len(login.user) > maxUserName {
		p.failClient(c, "", "username too long")
		return
	}
	// As servers do, which would find such a database.
	login.dbName = login.dbName[:min(len(login.dbName), maxDatabaseName)]
	if value, ok := startup.Get("replication"); ok {
		if login.replication, ok = parseReplication(value); !ok {
			p.failClient(c, "", `invalid value for parameter "replication": "`+value+`"`)
			return
		}
		c.replication = login.replication
	}
	if !c.takeParams(startup.Params) {
		return
	}
	if options, need := startup.Negotiate(); need {
		login.answer = pgwire.AppendNegotiateProtocolVersion(login.answer, options)
	}
	c.counted = true
	if n := p.clientCount.Add(1); n > int64(p.set.MaxClientConn) && login.dbName != consoleName {
		p.failClient(c, "", "no more connections allowed (max_client_conn)")
		return
	}
	c.authenticate()
}

// sameUser tells whether the client is a process of the pooler's own user.
func (c *client) sameUser() bool {
	uid, ok := c.peerUID()
	return ok && uid == os.Getuid()
}

// peerUID is the system user of a client that came over a unix socket.
func (c *client) peerUID() (uid int, ok bool) {
	if !c.unix {
		return 0, false
	}
	cred, err := syscall.GetsockoptUcred(int(c.fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return 0, false
	}
	return int(cred.Uid), true
}

// takeParams looks at the startup parameters. Those of a replication connection go to
// its server as they are.
func (c *client) takeParams(params []pgwire.Param) bool {
	p := c.w
	set := noVars.Value()
	for _, param := range params {
		name := param.Name
		if name == "user" || name == "database" || name == "replication" || strings.HasPrefix(name, "_pq_.") {
			continue
		}
		if name == "options" {
			if c.replication == replicationNone && !c.takeOptions(&set, param.Value) {
				return false
			}
			continue
		}
		if c.replication == replicationNone && p.set.ignores(name) {
			continue
		}
		if i := p.tracked.index(name); i >= 0 {
			set[i] = param.Value
		} else if c.replication == replicationNone {
			p.failClient(c, "", "unsupported startup parameter: "+name)
			return false
		}
	}
	if p.set.ApplicationNameAddHost {
		i := p.tracked.index("application_name")
		if set[i] == "" {
			set[i] = "app"
		}
		set[i] += " - " + c.hostPort()
	}
	c.vars = uniqueVars(set)
	return true
}

// hostPort tells where the client is: of a process at the other end of a unix socket, its
// id and this machine's name.
func (c *client) hostPort() string {
	if !c.unix {
		return c.addr.String()
	}
	where := "unix"
	if cred, err := syscall.GetsockoptUcred(int(c.fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
		host, _ := os.Hostname()
		where = fmt.Sprintf("unix(%d@%s)", cred.Pid, host)
	}
	return fmt.Sprintf("%s:%d", where, c.w.set.ListenPort)
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
		if c.w.set.ignores(param.Name) {
			continue
		}
		if i := c.w.tracked.index(strings.ReplaceAll(param.Name, "-", "_")); i >= 0 {
			set[i] = param.Value
		} else if !ignored {
			c.w.failClient(c, "", "unsupported startup parameter in options: "+param.Name)
			return false
		}
	}
	return true
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
	case p.closing != closingNot && !p.mayComeLate(c):
		p.failClient(c, "", "pooler is shutting down")
		return
	case db.maxClients() > 0 && int(db.clients.Load()) >= db.maxClients():
		p.failClient(c, "", "client connections exceeded (max_db_client_connections)")
		return
	case c.user.maxClients(p.set) > 0 && int(c.user.clients.Load()) >= c.user.maxClients(p.set):
		p.failClient(c, "", toldUserLimit)
		return
	}
	pl := p.poolOf(db, c.user)
	if db.User == "" && login.from == nil {
		pl.takeCredentials(login.creds)
	}
	c.pl = pl
	db.clients.Add(1)
	c.user.clients.Add(1)
	c.pc.Owner = c
	c.phase = phaseWelcome
	c.moveTo(pl.w, func() {
		if pl.db.dead {
			c.w.failClient(c, "", toldKilled)
			return
		}
		if c.replication != replicationNone {
			c.requestTime = c.w.loop.Now()
			pl.Dedicated(&c.pc, c.w.loop.Now())
			return
		}
		pl.AwaitWelcome(&c.pc, c.w.loop.Now())
	})
}

// welcome carries out Welcome: the login is complete.
func (c *client) welcome() {
	pl := c.pl
	set := c.vars.Value()
	defaults := pl.defaults.Value()
	out := append(append(c.w.out[:0], c.login.answer...), pl.welcome...)
	news := false
	for i, name := range c.w.tracked {
		if set[i] == "" && defaults[i] != "" {
			set[i], news = defaults[i], true
		}
		if set[i] != "" || pl.told.has(i) {
			out = pgwire.AppendParameterStatus(out, name, set[i])
		}
	}
	if news {
		c.vars = uniqueVars(set)
	}
	c.loggedIn(out)
	c.w.out = reuse(out)
}

// welcomeReplication completes the login of a client whose own server has logged in.
func (c *client) welcomeReplication(s *server) {
	out := c.login.answer
	for _, param := range s.params {
		out = pgwire.AppendParameterStatus(out, param.Name, param.Value)
	}
	s.params = nil
	c.loggedIn(out)
}

// loggedIn sends the rest of the welcome.
func (c *client) loggedIn(out []byte) {
	p, pl := c.w, c.pl
	p.keys.give(c, p.set.PeerID)
	out = pgwire.AppendBackendKeyData(out, c.key[:])
	out = p.appendLoginNotice(out)
	out = pgwire.AppendReadyForQuery(out, pgwire.TxIdle)
	pl.stats.logins++
	delete(p.logins, c)
	c.login = nil
	c.phase = phaseActive
	if err := c.send(out); err != nil {
		p.closeClient(c, "write to client: "+err.Error())
		return
	}
	c.resume()
}

// appendLoginNotice appends login_notify_message.
func (p *Pooler) appendLoginNotice(dst []byte) []byte {
	if p.set.LoginNotifyMessage == "" {
		return dst
	}
	return pgwire.AppendNoticeResponse(dst, &pgwire.Report{Severity: pgwire.SeverityNotice, Code: "00000", Message: p.set.LoginNotifyMessage})
}

// dropped carries out DropClient.
func (c *client) dropped(why pool.Failure) {
	c.w.failClient(c, why.Code, why.Message)
}

// tlsState is version and cipher, or "no".
func (c *conn) tlsState() string {
	if c.tls == nil {
		return "no"
	}
	return c.tls.State()
}
