// One connection to a PostgreSQL server: its login, and what the pooler itself asks of it.

package pooler

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/pool"
	"goworkers/internal/pooler/tlsconn"
	"goworkers/pgwire"
)

// serverPhase is whom the server's messages are for.
type serverPhase uint8

const (
	serverConnecting serverPhase = iota // no connection yet
	serverAskTLS                        // one byte will tell whether the server speaks TLS
	serverLogin                         // authentication, start parameters
	serverGreeting                      // connect_query runs
	serverForward                       // they are the client's
	serverVars                          // the client's parameters are being set
	serverTest                          // reset or check query runs
	serverAuthQuery                     // the secret of a user is asked for
)

// server is one server connection.
type server struct {
	conn
	ps       *pool.Server
	pl       *dbPool
	cl       *client
	vars     vars
	pending  requests
	prepared prepared
	phase    serverPhase
	status   byte // of the last ReadyForQuery
	broken   bool // writing fails; reading will tell why
	dirty    bool // spoke without being asked
	refused  bool // a query of the pooler's own failed

	rescued     bool // its client has vanished; what it began is being ended
	rolledBack  bool // by our ROLLBACK, which is the last thing to try
	inRecovery  bool // it is a standby
	readOnly    bool // its transactions are, unless they say otherwise
	lateRelease bool // to be released when its client's current message is through

	login      *serverLoginState
	asks       *authQuery // in place of a client
	session    session
	params     []pgwire.Param // of the login; kept until the client of a dedicated server knows them
	host       string
	hostSince  time.Duration
	key        []byte // its cancel key
	id         uint64
	addr       netip.AddrPort
	local      netip.AddrPort
	target     target
	since      time.Duration
	queryStart time.Duration
	xactStart  time.Duration
	idleStart  time.Duration // in a transaction, waiting for the client

	rescueCancel time.Duration // when the last cancel request of a rescue was sent
}

// serverLoginState is needed while a server logs in.
type serverLoginState struct {
	auth       *pgwire.ClientAuth // of this try
	busy       bool               // a goroutine computes the answer
	hosts      []string           // still to be tried
	try        int
	failure    pool.Failure // of the last try
	refused    bool         // the last host was there, and waiting for it is of no use
	unsuitable bool         // a host was not what target_session_attrs wants
	anyWillDo  bool         // prefer-standby has found none
}

// codeCannotConnectNow marks refusals after which waiting makes sense.
const codeCannotConnectNow = "57P03"

// logConn is the server as the log names it.
func (s *server) logConn() logConn {
	return logConn{kind: 'S', id: s.id, db: s.pl.db.name, user: s.pl.user, end: netEnd{addr: s.addr, port: s.pl.db.Port}}
}

// about begins a log entry about the server.
func (s *server) about() *logrus.Entry { return s.w.about(s.logConn()) }

// openServer carries out Connect.
func (w *worker) openServer(ps *pool.Server) {
	pl := ps.Pool().Owner.(*dbPool)
	now := w.loop.Now()
	s := &server{conn: conn{w: w, fd: -1}, ps: ps, pl: pl, vars: noVars, id: w.lastID.Add(1), since: now}
	ps.Owner = s
	s.login = &serverLoginState{hosts: pl.candidates(now)}
	s.tryNext()
}

func (s *server) connect(t target) error {
	fd, _, err := dial(t, &s.w.set.sockets)
	if err != nil {
		return fmt.Errorf("connect failed: %w", err)
	}
	s.fd, s.target = int32(fd), t
	s.addr = address(t.sa)
	s.phase = serverConnecting
	if err := s.watch(evloop.Writable, s); err != nil {
		return err
	}
	// Also when it is connected already the loop has to say so first: who called this
	// may hold bytes of the connection before, which must not be taken for this one's.
	return nil
}

// connected begins the login once the socket is connected.
func (s *server) connected() {
	if err := socketError(int(s.fd)); err != nil {
		s.attemptFailed(pool.Failure{Message: "connect failed: " + err.Error()}, false)
		return
	}
	if sa, err := syscall.Getsockname(int(s.fd)); err == nil {
		s.local = address(sa)
	}
	s.setEvents(attentive)
	from := "unix"
	if s.local.IsValid() {
		from = s.local.String()
	}
	if s.w.set.LogConnections {
		s.w.note(s.logConn(), "new connection to server (from ", from, ")")
	}
	if s.w.serverTLS != nil && s.addr.IsValid() {
		s.phase = serverAskTLS
		s.write(pgwire.AppendSSLRequest(nil))
		return
	}
	s.sendStartup()
}

func (s *server) sendStartup() {
	s.phase = serverLogin
	s.write(pgwire.AppendStartup(nil, s.startupParams()))
}

// startupParams are those of a server login. A replication client's are its own.
func (s *server) startupParams() []pgwire.Param {
	params := s.pl.startupParams()
	pc := s.ps.DedicatedTo()
	if pc == nil {
		return params
	}
	c, ok := pc.Owner.(*client)
	if !ok || c.login == nil {
		return params
	}
	params = params[:2] // user and database
	for _, param := range c.login.params.Params {
		if param.Name != "user" && param.Name != "database" && !strings.HasPrefix(param.Name, "_pq_.") {
			params = append(params, param)
		}
	}
	return params
}

// tlsAnswer handles the server's answer to the request for TLS.
func (s *server) tlsAnswer(data []byte) int {
	w := s.w
	switch {
	case data[0] == 'N' && w.set.ServerTLS.SSLMode >= ini.SSLRequire:
		s.attemptFailed(pool.Failure{Message: "server refused SSL"}, true)
	case data[0] == 'N':
		s.sendStartup()
	case data[0] != 'S':
		s.attemptFailed(pool.Failure{Message: "server answers the request for TLS with what is no answer"}, true)
	case len(data) > 1:
		// Somebody in between would have it taken for the server's own words.
		s.attemptFailed(pool.Failure{Message: "received unencrypted data after SSL response"}, true)
	default:
		cfg, host := w.serverTLS, s.host
		s.startTLS(func(ctx context.Context, fd int) (*tlsconn.Conn, error) {
			return w.handshaker.Connect(ctx, cfg, fd, host)
		}, func(err error) {
			if err != nil {
				s.attemptFailed(pool.Failure{Message: handshakeFailed(err)}, !isAway(err))
				return
			}
			w.events.tlsServers++
			s.wantRead(s)
			s.sendStartup()
		})
	}
	return 1
}

// processOwn handles one message that is not the client's; 0 means that it is not
// there yet as far as it is needed, or that its connection has been given up.
func (s *server) processOwn(data []byte) int {
	n := s.processOne(data)
	if s.anew() {
		return 0
	}
	return n
}

// anew tells that what was read is of no use any more, as another host is tried.
func (s *server) anew() bool { return s.fd < 0 || s.phase == serverConnecting }

func (s *server) processOne(data []byte) int {
	if s.phase == serverAskTLS {
		return s.tlsAnswer(data)
	}
	typ, size, ok, err := pgwire.ParseHeader(data)
	if err != nil {
		s.w.serverLost(s, err)
		return 0
	}
	if !ok {
		return 0
	}
	if s.phase == serverAuthQuery && s.asks != nil && (typ == pgwire.MsgDataRow || typ == pgwire.MsgRowDescription || typ == pgwire.MsgErrorResponse) {
		switch {
		case size > evloop.BufferSize/2:
			s.asks.fail(fmt.Errorf("%s of %d bytes", pgwire.TypeName(typ, false), size))
			s.drop = true
			s.remain = max(0, size-len(data))
			return min(size, len(data))
		case size > len(data):
			return 0
		}
		s.asks.heard(typ, data[pgwire.HeaderSize:size])
		return size
	}
	switch typ {
	case pgwire.MsgAuthentication, pgwire.MsgCommandComplete, pgwire.MsgBackendKeyData, pgwire.MsgParameterStatus,
		pgwire.MsgReadyForQuery, pgwire.MsgErrorResponse, pgwire.MsgNegotiateProtocolVersion:
		if size > evloop.BufferSize/2 {
			s.w.serverLost(s, fmt.Errorf("%s of %d bytes", pgwire.TypeName(typ, false), size))
			return 0
		}
		if size > len(data) || s.login != nil && s.login.busy {
			return 0
		}
		s.handleOwn(typ, data[pgwire.HeaderSize:size])
		return size
	case pgwire.MsgCopyInResponse, pgwire.MsgCopyBothResponse:
		s.w.serverLost(s, errors.New("a query of the pooler's own began a COPY"))
		return 0
	}
	s.drop = true
	s.remain = max(0, size-len(data))
	return min(size, len(data))
}

func (s *server) handleOwn(typ byte, body []byte) {
	switch typ {
	case pgwire.MsgAuthentication:
		s.authenticate(body)
	case pgwire.MsgParameterStatus:
		s.parameterStatus(body, nil)
	case pgwire.MsgCommandComplete:
		if s.phase != serverVars {
			s.tag(body)
		}
	case pgwire.MsgBackendKeyData:
		key, err := pgwire.ParseBackendKeyData(body)
		if err != nil {
			s.w.serverLost(s, err)
			return
		}
		s.key = append([]byte(nil), key...)
	case pgwire.MsgErrorResponse:
		rep, err := pgwire.ParseReport(body)
		if err != nil {
			s.w.serverLost(s, err)
			return
		}
		s.ownError(rep)
	case pgwire.MsgReadyForQuery:
		if len(body) != 1 {
			s.w.serverLost(s, errReadySize)
			return
		}
		s.status = body[0]
		s.ownReady()
	}
}

// ownError handles a refusal of something that the pooler asked for.
func (s *server) ownError(rep *pgwire.Report) {
	switch s.phase {
	case serverLogin:
		why := pool.Failure{Code: rep.Code, Message: rep.Message}
		if rep.Code == codeCannotConnectNow {
			s.attemptFailed(why, false)
			return
		}
		s.w.serverLoginFailed(s, why)
	case serverGreeting:
		s.about().Error("connect_query failed: " + rep.Message)
	case serverVars:
		s.about().Warn("varcache_apply: " + rep.Message)
		s.refused = true
	case serverTest:
		s.about().Warn("reset or check query failed: " + rep.Message)
		s.refused = true
	}
}

// ownReady: what the pooler asked for is done.
func (s *server) ownReady() {
	w, now := s.w, s.w.loop.Now()
	switch s.phase {
	case serverLogin:
		if s.login == nil || !s.login.auth.Done() {
			w.serverLost(s, errors.New("ReadyForQuery before AuthenticationOk"))
			return
		}
		if !s.suits() {
			s.attemptUnsuitable()
			return
		}
		if !s.ps.Dedicated() {
			s.pl.rememberWelcome(s)
			s.params = nil
		}
		s.pl.hostWorks(s.host)
		s.login = nil
		if q := s.pl.db.ConnectQuery; q != "" && !s.ps.Dedicated() {
			s.phase = serverGreeting
			s.write(pgwire.AppendQuery(nil, q))
			return
		}
		s.loggedIn()
	case serverGreeting:
		s.loggedIn()
	case serverVars:
		s.varsDone()
	case serverAuthQuery:
		s.session = session{}
		if s.asks != nil {
			s.asks.end(s.status == pgwire.TxIdle)
		}
	case serverTest:
		s.session = session{}
		if s.refused || s.status != pgwire.TxIdle {
			w.serverLost(s, errors.New("test query failed"))
			return
		}
		s.phase = serverForward
		s.pl.Tested(s.ps, now)
	}
}

func (s *server) loggedIn() {
	s.phase = serverForward
	s.pl.failureLogged = ""
	s.pl.events.connects++
	s.pl.ServerReady(s.ps, s.w.loop.Now())
}

// authenticate answers the server; what takes long is computed in a goroutine.
func (s *server) authenticate(body []byte) {
	if s.phase != serverLogin || s.login == nil {
		s.w.serverLost(s, errors.New("authentication asked for out of turn"))
		return
	}
	auth := s.login.auth
	if !auth.Slow(body) {
		s.authAnswer(auth.Answer(nil, body))
		return
	}
	s.login.busy = true
	body = append([]byte(nil), body...)
	s.w.background(func() func() {
		out, err := auth.Answer(nil, body)
		return func() {
			if s.login == nil || s.login.auth != auth || s.fd < 0 {
				return // gone, or another host is tried
			}
			s.login.busy = false
			s.authAnswer(out, err)
			s.resumeOwn()
		}
	})
}

func (s *server) authAnswer(out []byte, err error) {
	if err != nil {
		why := "server login failed: " + err.Error()
		if errors.Is(err, pgwire.ErrWrongPasswordType) {
			why = "server login failed: wrong password type"
		}
		s.w.serverLoginFailed(s, pool.Failure{Message: why})
		return
	}
	s.write(out)
}

// resumeOwn goes on with messages that came while a goroutine was busy.
func (s *server) resumeOwn() {
	if s.fd < 0 || s.held == nil {
		return
	}
	data := s.held.Bytes()
	if used := s.process(data); !s.anew() {
		s.keep(data, used)
	}
}

// parameterStatus notes a parameter's value, for the client too if it has one.
func (s *server) parameterStatus(body []byte, c *client) {
	name, value, err := pgwire.ParseParameterStatus(body)
	if err != nil {
		return
	}
	if s.login != nil {
		s.params = append(s.params, pgwire.Param{Name: string(name), Value: string(value)})
	}
	s.noteRole(string(name), string(value))
	if i := s.w.tracked.index(string(name)); i >= 0 {
		s.reported()
		s.vars = withVar(s.vars, i, string(value))
		if c != nil {
			c.vars = withVar(c.vars, i, string(value))
		}
	}
}

// link joins a client and a server for the time until release. It reports false when
// the client's parameters must be set first; varsDone goes on then.
func (w *worker) link(c *client, s *server) bool {
	now := w.loop.Now()
	c.srv, s.cl = s, c
	s.pending.reset()
	s.dirty = false
	st := &s.pl.stats
	st.assignments++
	st.waitTime += now - c.requestTime
	s.pl.events.waits.observe(now - c.requestTime)
	s.session, s.rolledBack = session{}, false
	if s.ps.Dedicated() {
		c.welcomeReplication(s)
		return true
	}
	if c.vars == s.vars {
		return true
	}
	w.scratch = w.tracked.appendChanges(w.scratch[:0], c.vars, s.vars, s.pl.told)
	if len(w.scratch) == 0 {
		return true
	}
	s.phase, s.refused = serverVars, false
	s.write(w.scratch)
	return false
}

// varsDone: the server has taken the client's parameters over.
func (s *server) varsDone() {
	c := s.cl
	if s.refused || s.status != pgwire.TxIdle {
		s.pl.KillLink(s.ps, pool.Failure{Message: "invalid server parameter"}, s.w.loop.Now())
		return
	}
	s.phase = serverForward
	s.session = session{} // those SETs were ours
	if c == nil {
		return
	}
	// The server's spelling is the one that the next comparison meets.
	asked := c.vars
	c.vars, s.vars = s.w.tracked.settle(c.vars, s.vars, s.pl.told)
	if asked != c.vars {
		c.logCanonical(asked)
	}
	c.resume()
}

// logCanonical tells which values of the client its server spells otherwise than asked.
func (c *client) logCanonical(asked vars) {
	a, b := asked.Value(), c.vars.Value()
	for i, name := range c.w.tracked {
		if a[i] != b[i] {
			c.about().Debug("varcache_set_canonical: setting " + name + " to its canonical version " + a[i] + " -> " + b[i])
		}
	}
}

// ownQuery runs a reset or check query.
func (s *server) ownQuery(sql string) {
	s.phase, s.refused = serverTest, false
	s.write(pgwire.AppendQuery(nil, sql))
}

// closeServer carries out CloseServer.
func (w *worker) closeServer(s *server, reason string) {
	s.logEnd(reason)
	if s.fd >= 0 {
		// Behind a part of a message it would be taken for the rest of that.
		if s.phase >= serverForward && s.out == nil && (s.cl == nil || !s.cl.amidMessage()) {
			s.write(pgwire.AppendTerminate(nil))
		}
	}
	w.forgetServer(s)
}

// logEnd tells the log that a connection is closed.
func (s *server) logEnd(reason string) {
	if s.fd >= 0 && s.w.set.LogDisconnections {
		s.w.closed(s.logConn(), reason, s.w.loop.Now()-s.since)
	}
}

func (w *worker) forgetServer(s *server) {
	if c := s.cl; c != nil {
		c.cut = s.remain > 0 && !s.drop
		s.cl, c.srv = nil, nil
	}
	s.login = nil
	s.shut()
	s.prepared.clear(&w.statements)
}

// serverLost: the connection is gone, or says what it must not.
func (w *worker) serverLost(s *server, err error) {
	why := "server conn crashed?"
	if s.login != nil {
		what := "server closed the connection during login"
		if err != errEOF {
			what = "login failed: " + err.Error()
		}
		s.attemptFailed(pool.Failure{Message: what}, !isAway(err))
		return
	}
	reason := why
	if err != errEOF {
		reason += " (" + err.Error() + ")"
	}
	w.serverGone(s, reason, pool.Failure{Message: why})
}

// serverGone closes a server that its pool does not know to be lost; why is for its client.
func (w *worker) serverGone(s *server, reason string, why pool.Failure) {
	w.closeServer(s, reason)
	s.pl.ServerLost(s.ps, why, w.loop.Now())
}

// closeDirty closes a free server that said something.
func (w *worker) closeDirty(s *server) {
	w.closeServer(s, "idle server got dirty")
	s.pl.ServerLost(s.ps, pool.Failure{Message: "server conn crashed?"}, w.loop.Now())
}

// serverLoginFailed: the server refuses us, and other hosts would do the same.
func (w *worker) serverLoginFailed(s *server, why pool.Failure) {
	s.logFailure(why)
	s.logEnd(why.Message)
	w.forgetServer(s)
	if s.ps.State() == pool.ServerLogin {
		s.pl.LoginFailed(s.ps, why, w.loop.Now())
		return
	}
	s.pl.ServerLost(s.ps, why, w.loop.Now())
}

// trimLoginFailed takes words off that the log puts before a reason anyway.
func trimLoginFailed(why string) string { return strings.TrimPrefix(why, "server login failed: ") }
