// How clients prove who they are: which way holds for whom, and the steps of each.

package pooler

import (
	"errors"
	"fmt"
	osuser "os/user"
	"slices"
	"strconv"

	"goworkers/internal/pooler/hba"
	"goworkers/internal/pooler/ini"
	"goworkers/pgwire"
)

// authMethod is a way to prove who one is.
type authMethod uint8

const (
	authReject authMethod = iota
	authAny
	authTrust
	authPlain
	authMD5
	authSCRAM
	authCert
	authPeer
	authLDAP
)

var authMethodNames = [...]string{"reject", "any", "trust", "plain", "md5", "scram-sha-256", "cert", "peer", "ldap"}

func (m authMethod) String() string { return authMethodNames[m] }

// needsNoSecret tells that a user proves itself otherwise than by its secret.
func (m authMethod) needsNoSecret() bool {
	return m == authTrust || m == authCert || m == authPeer || m == authLDAP
}

var methodOfType = map[ini.AuthType]authMethod{
	ini.AuthAny: authAny, ini.AuthTrust: authTrust, ini.AuthPlain: authPlain, ini.AuthMD5: authMD5,
	ini.AuthSCRAM: authSCRAM, ini.AuthCert: authCert, ini.AuthLDAP: authLDAP,
}

var methodOfRule = map[hba.Method]authMethod{
	hba.Reject: authReject, hba.Trust: authTrust, hba.MD5: authMD5, hba.Password: authPlain,
	hba.SCRAM: authSCRAM, hba.Peer: authPeer, hba.Cert: authCert, hba.LDAP: authLDAP,
}

// credentials are what a user proves itself with, here and to servers. They never
// change: what is learned makes new ones.
type credentials struct {
	secret   pgwire.Secret
	verifier *pgwire.SCRAMSecret // derived from a plain secret
	keys     pgwire.SCRAMKeys    // learned at a login
}

// authenticate chooses how the client proves who it is.
func (c *client) authenticate() {
	p, login := c.w, c.login
	if p.set.LogConnections {
		// Who fails is to be found in the log, too.
		p.note(c.logConn(), "login attempt: db=", login.dbName, " user=", login.user, " tls=", c.tlsState(),
			" replication=", login.replication.asked())
	}
	onConsole := login.dbName == consoleName
	if onConsole && login.user == consoleName && c.sameUser() {
		// Who may read the pooler's memory may use its console.
		c.user = &user{name: consoleName}
		login.creds = &credentials{}
		c.begin(authTrust, nil)
		return
	}
	method := methodOfType[p.set.AuthType]
	var rule *hba.Rule
	if p.set.AuthType == ini.AuthHBA {
		method = authReject
		rule = p.hbaRules.Match(hba.Conn{
			Database: login.dbName, User: login.user, Addr: c.addr.Addr(), TLS: c.tls != nil,
			Replication: login.replication == replicationPhysical,
		})
		if rule != nil {
			method = methodOfRule[rule.Method]
		}
	}
	switch method {
	case authReject:
		why := "login rejected"
		if rule == nil {
			why = "no authentication method is found"
		}
		p.failClient(c, "", why)
		return
	case authAny:
		if !onConsole && p.lacksForcedUser(login.dbName) {
			p.log.Errorf("auth_type=any needs a forced user: set user= for database %q in [databases]", login.dbName)
			p.failClient(c, "", "bouncer config error")
			return
		}
		c.user = p.userNamed(login.user)
		login.creds = &credentials{}
		c.begin(authTrust, rule)
		return
	}
	asks := p.authUser(login.dbName)
	if method == authLDAP || asks == login.user {
		asks = ""
	}
	if u := p.users[login.user]; u != nil && u.listed {
		creds := u.creds.Load()
		// Who proves itself without a secret needs none here, but perhaps on the server.
		if creds.secret.Kind() != pgwire.SecretNone || method.needsNoSecret() && (onConsole || asks == "") {
			login.creds, login.from, c.user = creds, u, u
			c.begin(method, rule)
			return
		}
	}
	if asks != "" {
		c.askServer(asks, method, rule)
		return
	}
	if login.creds == nil && method != authLDAP {
		c.about().Info("no such user: " + login.user) // the client hears only that it fails
	}
	c.begin(method, rule)
}

// begin starts the exchange. Without credentials it runs all the same, with a secret
// that nothing matches, so that an answer does not tell which users exist.
func (c *client) begin(method authMethod, rule *hba.Rule) {
	p, login := c.w, c.login
	login.method = method
	login.auth = pgwire.ServerAuth{User: login.user, MockKey: p.mockKey, Iterations: p.set.ScramIterations}
	if login.creds != nil {
		login.auth.Secret, login.auth.Verifier = login.creds.secret, login.creds.verifier
	}
	var mapName string
	if rule != nil {
		mapName = rule.Map
	}
	switch method {
	case authTrust:
		login.auth.Method = pgwire.MethodTrust
	case authPlain:
		login.auth.Method = pgwire.MethodPlain
	case authMD5:
		login.auth.Method = pgwire.MethodMD5
		if login.creds == nil && p.mockSCRAM {
			login.auth.Method = pgwire.MethodSCRAM
		}
	case authSCRAM:
		login.auth.Method = pgwire.MethodSCRAM
	case authCert:
		if !c.certificateFits(mapName) {
			p.failClient(c, "", "TLS certificate name mismatch")
			return
		}
		login.auth.Method = pgwire.MethodTrust
	case authPeer:
		if !c.systemUserFits(mapName) {
			p.failClient(c, "", `"peer" authentication failed`)
			return
		}
		login.auth.Method = pgwire.MethodTrust
	case authLDAP:
		// The password goes to the directory, not against a secret.
		login.ldap = p.ldapOptions
		if rule != nil {
			login.ldap = rule.LDAP
		}
		c.phase = phaseAuth
		c.sendAuth(pgwire.AppendAuthentication(nil, pgwire.AuthCleartextPassword, nil))
		return
	}
	if login.auth.Method == pgwire.MethodTrust && login.creds == nil {
		p.failClient(c, "", fmt.Sprintf("%q authentication failed", method))
		return
	}
	c.phase = phaseAuth
	if login.auth.Slow() && login.auth.Method != pgwire.MethodPlain {
		c.slowAuth(func() ([]byte, bool, error) { return login.auth.Begin(nil) })
		return
	}
	c.authStep(login.auth.Begin(nil))
}

// certificateFits tells whether the names in the client's certificate allow its user.
func (c *client) certificateFits(mapName string) bool {
	if c.tls == nil {
		return false
	}
	cn, alternative := c.tls.PeerNames()
	names := alternative
	if cn != "" {
		names = append([]string{cn}, alternative...)
	}
	return c.identFits(mapName, names...)
}

// systemUserFits tells the same of the system user at the other end of a unix socket.
func (c *client) systemUserFits(mapName string) bool {
	uid, ok := c.peerUID()
	if !ok {
		return false
	}
	u, err := osuser.LookupId(strconv.Itoa(uid))
	if err != nil {
		c.about().Warn("peer: " + err.Error())
		return false
	}
	return c.identFits(mapName, u.Username)
}

func (c *client) identFits(mapName string, names ...string) bool {
	maps := c.w.identMaps
	if slices.ContainsFunc(names, func(n string) bool { return maps.Allows(mapName, n, c.login.user) }) {
		return true
	}
	switch {
	case mapName == "":
	case !maps.Has(mapName):
		c.about().Warn("ident map " + mapName + " cannot be matched")
	default:
		c.about().Warn("ident map: " + mapName + " does not have a match")
	}
	return false
}

// passwordMessage handles one answer to a request for a password.
func (c *client) passwordMessage(data []byte) int {
	typ, size, ok, err := pgwire.ParseHeader(data)
	if err == nil && !ok {
		return 0
	}
	switch {
	case err == nil && typ == pgwire.MsgTerminate:
		c.w.closeClient(c, "client close request")
		return 0
	case err != nil || typ != pgwire.MsgPassword:
		c.w.closeClient(c, "unexpected message during authentication")
		return 0
	case size > maxLoginMessage:
		c.w.failClient(c, "", "password too long")
		return 0
	}
	if size > len(data) {
		return 0
	}
	login := c.login
	body := data[pgwire.HeaderSize:size]
	if (login.method == authPlain || login.method == authLDAP) && len(body) == 1 {
		c.w.failClient(c, "", "empty password returned by client")
		return 0
	}
	if login.method == authLDAP {
		c.askDirectory(body)
		return size
	}
	auth := &login.auth
	if auth.Slow() && auth.Method == pgwire.MethodPlain {
		body = append([]byte(nil), body...)
		c.slowAuth(func() ([]byte, bool, error) { return auth.Answer(nil, body) })
		return size
	}
	c.authStep(auth.Answer(nil, body))
	return size
}

// slowAuth runs a step in a goroutine, few at a time; the client is not read meanwhile.
func (c *client) slowAuth(step func() ([]byte, bool, error)) {
	w := c.w
	c.phase = phaseBusy
	w.background(func() func() {
		select {
		case w.hashing <- struct{}{}:
		case <-w.ctx.Done():
			return func() {}
		}
		out, done, err := step()
		<-w.hashing
		return func() { c.afterSlowAuth(out, done, err) }
	})
}

func (c *client) afterSlowAuth(out []byte, done bool, err error) {
	if c.fd < 0 || c.phase != phaseBusy {
		return
	}
	c.phase = phaseAuth
	c.authStep(out, done, err)
	if c.fd >= 0 && c.phase == phaseAuth {
		c.resume()
	}
	c.w.run()
}

// authStep sends what an authentication step gave, and ends it.
func (c *client) authStep(out []byte, done bool, err error) {
	p, login := c.w, c.login
	if err != nil {
		why := "password authentication failed"
		if m := login.auth.Method; m == pgwire.MethodSCRAM || m == pgwire.MethodMD5 && login.auth.Secret.Kind() == pgwire.SecretSCRAM {
			why = "SASL authentication failed"
		}
		if errors.Is(err, pgwire.ErrMechanism) {
			why = pgwire.ErrMechanism.Error()
		}
		if !errors.Is(err, pgwire.ErrPassword) {
			c.about().Info("login: " + err.Error())
		}
		p.failClient(c, "", why)
		return
	}
	if !done {
		c.sendAuth(out)
		return
	}
	login.answer = append(login.answer, out...)
	login.granted = len(pgwire.AppendAuthentication(nil, pgwire.AuthOK, nil))
	if login.creds == nil {
		// Cannot be: nothing matches no secret.
		p.failClient(c, "", "password authentication failed")
		return
	}
	c.learn()
	c.authenticated()
}

func (c *client) sendAuth(out []byte) {
	if err := c.send(append(c.login.answer, out...)); err != nil {
		c.w.closeClient(c, "write to client: "+err.Error())
		return
	}
	c.login.answer = nil
}

// learn keeps what the login has brought: what was derived from a plain secret, and
// the keys with which a SCRAM secret opens servers too.
func (c *client) learn() {
	login := c.login
	if c.user == nil {
		c.user = c.w.userNamed(login.user)
	}
	next := *login.creds
	news := false
	if v := login.auth.Verifier; v != nil && v != next.verifier {
		next.verifier, news = v, true
	}
	if keys, ok := login.auth.Keys(); ok && next.keys.ClientKey == nil {
		next.keys, news = keys, true
	}
	if !news {
		return
	}
	if u := login.from; u != nil && u.creds.Load() == login.creds {
		u.creds.Store(&next)
	}
	login.creds = &next
}
