// The online restart, seen from the new process: it has the running one stand still, takes
// over its sockets and what it knows of them, and says so. Up to that word (SHUTDOWN) it
// does nothing to the sockets but hold them, so that whatever fails before leaves the
// running process as it was. After it nothing may fail any more.

package pooler

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
	"goworkers/pgwire"
)

const (
	// takeoverPatience is how long the running process may take for an answer beyond
	// suspend_timeout.
	takeoverPatience = 15 * time.Second
	// maxHandedMessage bounds what is read of one message.
	maxHandedMessage = 1 << 30
)

// ErrNoPredecessor tells that no process runs that could be taken over.
var ErrNoPredecessor = errors.New("no process answers on the unix socket")

// predecessor is the connection to the running process's console.
type predecessor struct {
	fd      int
	pid     int // 0: not known
	pidfd   int // -1: none
	version string
	buf     []byte
	used    int
	fds     []int // received and not asked for yet
}

// heritage is what the running process hands over.
type heritage struct {
	old       *predecessor
	extended  bool
	state     handedPooler
	clients   []*handedRow
	servers   []*handedRow
	listeners []*handedListener
	doomed    []doomed
}

// handedRow is one client or server. fd is ours until a connection has it.
type handedRow struct {
	fd, oldFD, link      int
	user, db             string
	cancel               uint64
	vars                 [len(fdVars)]string
	secret               string
	clientKey, serverKey []byte
	client               *handedClient // nil: not extended, or no client
	server               *handedServer
	adopted              *server
}

type handedListener struct {
	fd   int
	name string // as in the log
	tcp  bool
	path string // of a unix socket in the file system
}

// doomed is a connection that does not go on under the new configuration.
type doomed struct {
	fd     int
	client bool
	within bool // a message: an error would be taken for a part of it
	name   logConn
	since  time.Duration
	why    string
}

// TakeOver makes a pooler as New does, but one that goes on with what the process has
// which serves the unix socket of cfg: its listeners, clients and servers. When it
// returns without an error the other process has let go of them, and Run must follow at
// once. On an error the other process goes on as before. ErrNoPredecessor says that
// there is none: New is right then.
func TakeOver(cfg *ini.Config, opt Options) (*Pooler, error) {
	h, err := askPredecessor(cfg, opt.step)
	if err != nil {
		return nil, err
	}
	opt.heritage = h
	p, err := newPooler(cfg, opt)
	if err != nil {
		h.giveBack()
		return nil, err
	}
	if err := p.start(); err != nil {
		h.giveBack()
		p.end()
		return nil, err
	}
	return p, nil
}

// AwaitPredecessor waits for the end of the process that was taken over, for as long as
// limit at most; true says that it has come, or that there was none. Until then it keeps
// its pid file. Any goroutine may call it, once.
func (p *Pooler) AwaitPredecessor(limit time.Duration) bool {
	if p.heritage == nil {
		return true
	}
	o := p.heritage.old
	defer o.close()
	fd := o.pidfd
	if fd < 0 {
		// Its end is also that of the connection, but for what it does then.
		fd = o.fd
	}
	deadline := time.Now().Add(limit)
	for o.pid != os.Getpid() {
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if n == 0 || err != nil {
			continue
		}
		if fd == o.pidfd {
			return true
		}
		if _, _, err := o.message(); err != nil {
			return true
		}
	}
	return true
}

// HandedOver tells, once Run has returned, that another process has taken this one over
// and is the service now.
func (p *Pooler) HandedOver() bool { return p.handing != nil && p.handing.over }

// Warn writes a warning to the pooler's log; any goroutine may call it.
func (p *Pooler) Warn(text string) { p.log.Warn(text) }

// began is the time that the old process's times count from.
func (h *heritage) began() time.Time {
	if !h.extended {
		return time.Now()
	}
	now, then := systemClock(), h.state.Clock
	if then == 0 || now < then {
		now = then
	}
	return time.Now().Add(-h.state.Age - time.Duration(now-then))
}

// systemClock is the system's monotonic clock in ns; 0: it cannot be read.
func systemClock() int64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return now.Nano()
}

// giveBack closes our copies of all sockets that no connection has yet, and the
// connection to the old process, which goes on then.
func (h *heritage) giveBack() {
	for _, row := range append(h.clients, h.servers...) {
		if row.fd >= 0 {
			syscall.Close(row.fd)
			row.fd = -1
		}
	}
	for _, l := range h.listeners {
		if l.fd >= 0 {
			syscall.Close(l.fd)
			l.fd = -1
		}
	}
	for _, d := range h.doomed {
		syscall.Close(d.fd)
	}
	h.doomed = nil
	h.old.close()
}

// askPredecessor gets everything that the running process hands over; it stands still then.
func askPredecessor(cfg *ini.Config, step func(string)) (*heritage, error) {
	if step == nil {
		step = func(string) {}
	}
	if cfg.UnixSocketDir == "" {
		return nil, fmt.Errorf("%s: [pgbouncer] unix_socket_dir is empty: a running process is taken over through its unix socket", cfg.Path)
	}
	old, err := callPredecessor(cfg)
	if err != nil {
		return nil, err
	}
	h := &heritage{old: old}
	step("connected")
	if err = h.ask(step); err != nil {
		h.giveBack()
		return nil, fmt.Errorf("take over process %d (%s): %w; it goes on", old.pid, old.version, err)
	}
	return h, nil
}

func (h *heritage) ask(step func(string)) error {
	old := h.old
	rows, err := old.query("SHOW VERSION")
	if err != nil {
		return err
	}
	if len(rows) == 1 && len(rows[0].values) == 1 {
		old.version = string(rows[0].values[0])
	}
	suspend, show := "SUSPEND", "SHOW FDS"
	if h.extended = strings.HasPrefix(old.version, programName); h.extended {
		suspend, show = suspend+" "+wordExtended, "SHOW "+wordFDs
	}
	if _, err := old.query(suspend); err != nil {
		if rep := (*pgwire.Report)(nil); errors.As(err, &rep) && strings.HasPrefix(rep.Message, "invalid command") {
			return fmt.Errorf("it knows no SUSPEND, so it cannot be taken over; set so_reuseport = 1 for both, start the other one, then SHUTDOWN WAIT_FOR_CLIENTS here: %w", err)
		}
		return err
	}
	step("suspended")
	if rows, err = old.queryFDs(show, func(n int) {
		if n == 3 {
			step("rows")
		}
	}); err != nil {
		h.keepFDs(rows)
		return err
	}
	if err := h.sort(rows); err != nil {
		return err
	}
	step("received")
	return nil
}

// keepFDs notes sockets that came before something went wrong, for giveBack.
func (h *heritage) keepFDs(rows []consoleRow) {
	for _, row := range rows {
		h.clients = append(h.clients, &handedRow{fd: row.fd})
	}
}

// sort tells rows apart.
func (h *heritage) sort(rows []consoleRow) error {
	stream := newHandedReader()
	var failed error
	for i, r := range rows {
		if failed != nil {
			h.keepFDs(rows[i:])
			return failed
		}
		failed = h.sortRow(r, stream)
	}
	return failed
}

func (h *heritage) sortRow(r consoleRow, stream *handedReader) (err error) {
	row := &handedRow{fd: r.fd, user: r.text("user"), db: r.text("database"), secret: r.text("password")}
	taken := false
	defer func() {
		if !taken && row.fd >= 0 {
			syscall.Close(row.fd)
			row.fd = -1
		}
		if err != nil {
			err = fmt.Errorf("row of SHOW FDS about a %s: %w", r.text("task"), err)
		}
	}()
	if row.oldFD, err = r.number("fd"); err != nil {
		return err
	}
	if row.link, err = r.number("link"); err != nil {
		return err
	}
	if row.cancel, err = strconv.ParseUint(r.text("cancel"), 10, 64); err != nil {
		return err
	}
	for i, name := range [...]string{"client_encoding", "std_strings", "datestyle", "timezone"} {
		row.vars[i] = r.text(name)
	}
	if row.clientKey, err = parseBytea(r.value("scram_client_key")); err != nil {
		return err
	}
	if row.serverKey, err = parseBytea(r.value("scram_server_key")); err != nil {
		return err
	}
	state := r.value("state")
	task := r.text("task")
	if (task == taskState) == (row.fd >= 0) {
		return errors.New("the number of sockets is not that of the rows")
	}
	if row.fd >= 0 {
		// Both processes want it so; PgBouncer's own are.
		if err := syscall.SetNonblock(row.fd, true); err != nil {
			return err
		}
	}
	switch task {
	case taskState:
		if err := stream.next(state, &h.state); err != nil {
			return err
		}
		if v := h.state.Version; v < 1 || v > handedVersion {
			return fmt.Errorf("it is written in version %d, and this program knows %d", v, handedVersion)
		}
		return nil
	case taskListener:
		l, err := parseListener(row.fd)
		if err != nil {
			return err
		}
		taken = true
		h.listeners = append(h.listeners, l)
	case taskClient:
		if h.extended {
			row.client = &handedClient{}
			err = stream.next(state, row.client)
			if err == nil && uint(row.client.Conn.Pool) >= uint(len(h.state.Pools)) {
				err = errors.New("it names no pool")
			}
		}
		if err != nil {
			return err
		}
		taken = true
		h.clients = append(h.clients, row)
	case taskServer:
		if h.extended {
			row.server = &handedServer{}
			err = stream.next(state, row.server)
			if err == nil && uint(row.server.Conn.Pool) >= uint(len(h.state.Pools)) {
				err = errors.New("it names no pool")
			}
		}
		if err != nil {
			return err
		}
		taken = true
		h.servers = append(h.servers, row)
	default:
		return fmt.Errorf("task %q is not known", task)
	}
	return nil
}

// parseListener looks what a listening socket is bound to.
func parseListener(fd int) (*handedListener, error) {
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	if addr := address(sa); addr.IsValid() {
		return &handedListener{fd: fd, name: addr.String(), tcp: true}, nil
	}
	if u, ok := sa.(*syscall.SockaddrUnix); ok {
		l := &handedListener{fd: fd, name: "unix:" + u.Name, path: u.Name}
		if strings.HasPrefix(u.Name, "@") {
			l.path = ""
		}
		return l, nil
	}
	return nil, fmt.Errorf("a listening socket of an unknown family")
}

// inheritedListener gives the old process's socket of that name, or nil.
func (p *Pooler) inheritedListener(name string) *listener {
	if p.heritage == nil {
		return nil
	}
	for _, l := range p.heritage.listeners {
		if l.name == name && l.fd >= 0 {
			fd := l.fd
			l.fd = -1
			in := &listener{p: p, fd: fd, name: name, tcp: l.tcp}
			in.configure()
			return in
		}
	}
	return nil
}

// inherit takes everything over: at its end the old process has let go of it.
func (p *Pooler) inherit() error {
	h := p.heritage
	if err := p.adopt(); err != nil {
		return err
	}
	p.step("adopted")
	// It must not find our word after we have given up.
	h.old.patience(h.state.Patience)
	if err := h.old.shutdown(h.extended); err != nil {
		return fmt.Errorf("take over process %d (%s): %w", h.old.pid, h.old.version, err)
	}
	// No way back from here.
	p.step("shutdown")
	for _, w := range p.workers {
		w.loop.Tick()
	}
	p.log.Info(fmt.Sprintf("took over %d client and %d server connections from process %d (%s)", p.clientCount.Load(), p.serverCount(), h.old.pid, h.old.version))
	for _, l := range p.listeners {
		for _, in := range h.listeners {
			if in.name == l.name {
				l.unix = in.path
			}
		}
	}
	for _, l := range h.listeners {
		if l.fd >= 0 {
			p.log.Info("no longer listening on " + l.name)
			syscall.Close(l.fd)
			l.fd = -1
			if l.path != "" {
				os.Remove(l.path)
			}
		}
	}
	for _, d := range h.doomed {
		p.endDoomed(d)
	}
	h.doomed, h.clients, h.servers = nil, nil, nil
	p.unsuspend()
	if err := p.startMetrics(); err != nil {
		p.log.Error(err.Error())
	}
	return nil
}

func (p *Pooler) step(name string) {
	if p.options.step != nil {
		p.options.step(name)
	}
}

func (p *Pooler) serverCount() (n int) {
	p.eachPool(func(pl *dbPool) { n += pl.TotalServers() })
	return n
}

// endDoomed closes a connection that does not go on.
func (p *Pooler) endDoomed(d doomed) {
	if p.set.LogDisconnections {
		p.closed(d.name, d.why, p.now()-d.since)
	}
	if d.client && !d.within {
		evloop.Write(d.fd, pgwire.AppendFatal(nil, pgwire.CodeProtocolViolation, d.why))
	}
	if !d.client && !d.within {
		evloop.Write(d.fd, pgwire.AppendTerminate(nil))
	}
	syscall.Close(d.fd)
}

// handedVars brings values of the old process's tracked parameters into our order.
func (p *Pooler) handedVars(row *handedRow, values []string) vars {
	set := noVars.Value()
	names := p.heritage.state.Tracked
	if !p.heritage.extended {
		names, values = fdVars[:], row.vars[:]
	}
	for i, name := range names {
		if j := p.tracked.index(name); j >= 0 && i < len(values) {
			set[j] = values[i]
		}
	}
	return uniqueVars(set)
}

// handedTold brings what servers tell of the old process's tracked parameters into our order.
func (p *Pooler) handedTold(told []bool) (set toldSet) {
	for i, name := range p.heritage.state.Tracked {
		if j := p.tracked.index(name); j >= 0 && i < len(told) && told[i] {
			set |= 1 << j
		}
	}
	return set
}

// toldByAll are the parameters that every server tells, for those of a PgBouncer, whose
// welcomes we have not heard.
func (p *Pooler) toldByAll() (set toldSet) {
	for _, name := range append(fdVars[:], "application_name", "IntervalStyle") {
		if j := p.tracked.index(name); j >= 0 {
			set |= 1 << j
		}
	}
	return set
}

// unsure has a server's parameters set at its next use that PgBouncer has not told.
func (p *Pooler) unsure(vs vars) vars {
	set := vs.Value()
	for i := range p.tracked {
		if set[i] == "" {
			set[i] = unsureValue
		}
	}
	return uniqueVars(set)
}

// close ends the connection to the old process.
func (o *predecessor) close() {
	if o.pidfd >= 0 {
		syscall.Close(o.pidfd)
		o.pidfd = -1
	}
	if o.fd >= 0 {
		syscall.Close(o.fd)
		o.fd = -1
	}
	for _, fd := range o.fds {
		syscall.Close(fd)
	}
	o.fds = nil
}

// callPredecessor logs in to the console of the running process.
func callPredecessor(cfg *ini.Config) (*predecessor, error) {
	t := unixTarget(cfg.UnixSocketDir, cfg.ListenPort)
	path := t.sa.(*syscall.SockaddrUnix).Name
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	o := &predecessor{fd: fd, pidfd: -1, version: "version unknown"}
	// Each message comes with the word of the kernel from whom it is: who listens first may
	// have been another process.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1); err != nil {
		o.close()
		return nil, err
	}
	o.patience(cfg.SuspendTimeout)
	switch err := syscall.Connect(fd, t.sa); err {
	case nil:
	case syscall.ENOENT, syscall.ECONNREFUSED:
		o.close()
		return nil, fmt.Errorf("%w %s", ErrNoPredecessor, path)
	default:
		o.close()
		return nil, fmt.Errorf("connect to the running process at %s: %w", path, err)
	}
	if err := o.logIn(); err != nil {
		o.close()
		return nil, fmt.Errorf("take over the process at %s: %w; it goes on", path, err)
	}
	return o, nil
}

// patience is how long the old process has for each answer, beyond what it may wait for.
func (o *predecessor) patience(waits time.Duration) {
	limit := syscall.NsecToTimeval(int64(waits + takeoverPatience))
	syscall.SetsockoptTimeval(o.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit)
	syscall.SetsockoptTimeval(o.fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit)
}

func (o *predecessor) logIn() error {
	if err := o.write(pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: consoleName}, {Name: "database", Value: consoleName}})); err != nil {
		return err
	}
	for {
		typ, body, err := o.message()
		if err != nil {
			return err
		}
		switch typ {
		case pgwire.MsgAuthentication:
			code, _, err := pgwire.ParseAuthentication(body)
			if err != nil {
				return err
			}
			if code != pgwire.AuthOK {
				return fmt.Errorf("it asks for a password where it trusts its own system user; is it a PgBouncer, or PostgreSQL?")
			}
		case pgwire.MsgErrorResponse:
			return reportError(body)
		case pgwire.MsgReadyForQuery:
			return nil
		}
	}
}

func reportError(body []byte) error {
	rep, err := pgwire.ParseReport(body)
	if err != nil {
		return err
	}
	return rep
}

// consoleRow is one row of an answer of the console.
type consoleRow struct {
	fd      int // -1: none rode along
	columns map[string]int
	values  [][]byte
}

func (r consoleRow) value(name string) []byte {
	if i, ok := r.columns[name]; ok && i < len(r.values) {
		return r.values[i]
	}
	return nil
}

func (r consoleRow) text(name string) string { return string(r.value(name)) }

func (r consoleRow) number(name string) (int, error) {
	n, err := strconv.Atoi(r.text(name))
	if err != nil {
		return 0, fmt.Errorf("column %s: %w", name, err)
	}
	return n, nil
}

func (o *predecessor) query(sql string) ([]consoleRow, error) {
	return o.queryFDs(sql, func(int) {})
}

// queryFDs asks and gives all rows, those with a socket number 0 or more with it; each is
// told of. The rows hold up to an error, too: their sockets are the caller's.
func (o *predecessor) queryFDs(sql string, each func(n int)) (rows []consoleRow, err error) {
	if err := o.write(pgwire.AppendQuery(nil, sql)); err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	columns := map[string]int{}
	var problem error
	for {
		typ, body, err := o.message()
		if err != nil {
			return rows, fmt.Errorf("%s: %w", sql, err)
		}
		switch typ {
		case pgwire.MsgRowDescription:
			list, err := pgwire.ParseRowDescription(body)
			if err != nil {
				return rows, fmt.Errorf("%s: %w", sql, err)
			}
			for i, c := range list {
				columns[c.Name] = i
			}
		case pgwire.MsgDataRow:
			values, err := pgwire.ParseDataRow(nil, bytes.Clone(body))
			if err != nil {
				return rows, fmt.Errorf("%s: %w", sql, err)
			}
			row := consoleRow{fd: -1, columns: columns, values: values}
			if fd := row.text("fd"); fd != "" && fd != "-1" {
				if len(o.fds) == 0 {
					return rows, fmt.Errorf("%s: no socket comes with row %d; the limit of open files may be too low for twice as many (ulimit -n)", sql, len(rows)+1)
				}
				row.fd, o.fds = o.fds[0], o.fds[1:]
			}
			rows = append(rows, row)
			each(len(rows))
		case pgwire.MsgErrorResponse:
			problem = fmt.Errorf("%s: %w", sql, reportError(body))
		case pgwire.MsgReadyForQuery:
			return rows, problem
		}
	}
}

// shutdown tells the old process that we go on. PgBouncer answers by its end alone.
func (o *predecessor) shutdown(answers bool) error {
	if err := o.write(pgwire.AppendQuery(nil, "SHUTDOWN")); err != nil {
		return fmt.Errorf("SHUTDOWN: %w", err)
	}
	for {
		typ, body, err := o.message()
		switch {
		case err == errEOF && !answers:
			return nil
		case err != nil:
			return fmt.Errorf("SHUTDOWN: %w", err)
		case typ == pgwire.MsgErrorResponse:
			return fmt.Errorf("SHUTDOWN: %w", reportError(body))
		case typ == pgwire.MsgCommandComplete && answers:
			return nil
		}
	}
}

func (o *predecessor) write(b []byte) error {
	for len(b) > 0 {
		n, err := syscall.SendmsgN(o.fd, b, nil, nil, syscall.MSG_NOSIGNAL)
		switch err {
		case nil:
			b = b[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return errors.New("it does not read")
		default:
			return err
		}
	}
	return nil
}

// message reads one message; its body is valid up to the next call. Sockets that come
// before its last byte are in fds by then.
func (o *predecessor) message() (typ byte, body []byte, err error) {
	for {
		there := o.buf[o.used:]
		typ, size, ok, err := pgwire.ParseHeader(there)
		if err != nil {
			return 0, nil, err
		}
		if ok && size > maxHandedMessage {
			return 0, nil, fmt.Errorf("%s of %d bytes", pgwire.TypeName(typ, false), size)
		}
		if ok && size <= len(there) {
			o.used += size
			return typ, there[pgwire.HeaderSize:size], nil
		}
		if err := o.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// fill reads what there is.
func (o *predecessor) fill() error {
	var chunk [64 << 10]byte
	oob := make([]byte, syscall.CmsgSpace(64*4)+syscall.CmsgSpace(syscall.SizeofUcred))
	n, k, flags, _, err := syscall.Recvmsg(o.fd, chunk[:], oob, syscall.MSG_CMSG_CLOEXEC)
	switch err {
	case nil:
	case syscall.EINTR:
		return nil
	case syscall.EAGAIN:
		return errors.New("it does not answer")
	default:
		return err
	}
	if n == 0 {
		return errEOF
	}
	list, err := syscall.ParseSocketControlMessage(oob[:k])
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].Header.Type == syscall.SCM_CREDENTIALS {
			if err := o.checkSender(&list[i]); err != nil {
				return err
			}
			continue
		}
		fds, err := syscall.ParseUnixRights(&list[i])
		if err != nil {
			return err
		}
		o.fds = append(o.fds, fds...)
	}
	if flags&syscall.MSG_CTRUNC != 0 {
		return errors.New("too many open files for its sockets: raise the limit (ulimit -n)")
	}
	o.buf = append(o.buf[:copy(o.buf, o.buf[o.used:])], chunk[:n]...)
	o.used = 0
	return nil
}

// checkSender looks from whom a message is: what it says we are going to believe.
func (o *predecessor) checkSender(m *syscall.SocketControlMessage) error {
	cred, err := syscall.ParseUnixCredentials(m)
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Getuid() {
		return fmt.Errorf("it belongs to system user %d, and this process to %d: run both as the same user", cred.Uid, os.Getuid())
	}
	if o.pid == 0 && cred.Pid > 0 {
		o.pid = int(cred.Pid)
		if o.pidfd, err = unix.PidfdOpen(o.pid, 0); err != nil {
			o.pidfd = -1
		}
	}
	return nil
}

// peerOf gives both ends of a socket; unix tells what it is.
func peerOf(fd int) (peer, local netip.AddrPort, unix bool) {
	if sa, err := syscall.Getsockname(fd); err == nil {
		local = address(sa)
		_, unix = sa.(*syscall.SockaddrUnix)
	}
	if sa, err := syscall.Getpeername(fd); err == nil {
		peer = address(sa)
	}
	return peer, local, unix
}

// plainKey is a cancel key as PgBouncer's rows have it; nil: none.
func plainKey(n uint64) []byte {
	if n == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, n)
}
