// Addresses and sockets: host names to addresses, addresses to connected sockets.

package pooler

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// target is an address to connect to.
type target struct {
	family int
	sa     syscall.Sockaddr
}

// socketOptions are the settings of TCP sockets.
type socketOptions struct {
	keepalive                   bool
	keepIdle, keepIntvl         int
	keepCount, userTimeout, buf int
}

// apply sets them on a connection; errors are passed over, since a socket without works
// too.
func (o *socketOptions) apply(fd int) {
	o.applyFirst(fd)
	o.applyRest(fd)
}

// applyFirst sets those that a listening socket can hand on, whatever they were before:
// what is accepted then has them without a system call.
func (o *socketOptions) applyFirst(fd int) {
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	keepalive := 0
	if o.keepalive {
		keepalive = 1
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, keepalive)
}

// applyRest sets the others.
func (o *socketOptions) applyRest(fd int) {
	if o.keepalive {
		for _, opt := range [...]struct{ name, value int }{
			{syscall.TCP_KEEPIDLE, o.keepIdle}, {syscall.TCP_KEEPINTVL, o.keepIntvl}, {syscall.TCP_KEEPCNT, o.keepCount},
		} {
			if opt.value > 0 {
				syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, opt.name, opt.value)
			}
		}
	}
	if o.userTimeout > 0 {
		const tcpUserTimeout = 18
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpUserTimeout, o.userTimeout)
	}
	if o.buf > 0 {
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, o.buf)
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, o.buf)
	}
}

// dial opens a connection; busy says that it is not there yet.
func dial(t target, opts *socketOptions) (fd int, busy bool, err error) {
	fd, err = syscall.Socket(t.family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, false, err
	}
	if t.family != syscall.AF_UNIX {
		opts.apply(fd)
	}
	switch err := syscall.Connect(fd, t.sa); err {
	case nil:
		return fd, false, nil
	case syscall.EINPROGRESS:
		return fd, true, nil
	default:
		syscall.Close(fd)
		return -1, false, err
	}
}

// socketError is why a connection could not be made, or nil.
func socketError(fd int) error {
	n, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err != nil {
		return err
	}
	if n != 0 {
		return syscall.Errno(n)
	}
	return nil
}

func unixTarget(dir string, port int) target {
	path := filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port))
	return target{syscall.AF_UNIX, &syscall.SockaddrUnix{Name: path}}
}

func ipTarget(ip netip.Addr, port int) target {
	if ip.Is4() || ip.Is4In6() {
		return target{syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: ip.As4()}}
	}
	sa := &syscall.SockaddrInet6{Port: port, Addr: ip.As16()}
	if zone := ip.Zone(); zone != "" {
		if i, err := net.InterfaceByName(zone); err == nil {
			sa.ZoneId = uint32(i.Index)
		}
	}
	return target{syscall.AF_INET6, sa}
}

// netEnd is an end of a connection as the log names it.
type netEnd struct {
	addr netip.AddrPort // not valid: a unix socket
	port int            // of a unix socket
	pid  int32          // at the other end of a unix socket; 0: not known
}

func (e netEnd) append(b []byte) []byte {
	switch {
	case e.addr.IsValid():
		return e.addr.AppendTo(b)
	case e.pid != 0:
		b = strconv.AppendInt(append(b, "unix("...), int64(e.pid), 10)
		b = append(b, "):"...)
	default:
		b = append(b, "unix:"...)
	}
	return strconv.AppendInt(b, int64(e.port), 10)
}

// listener is one listening socket.
type listener struct {
	p    *Pooler
	fd   int
	name string // as configured, for the log
	unix string // path to remove, or ""
	tcp  bool
}

// listenTCP listens on one address.
func listenTCP(p *Pooler, ip netip.Addr, port int) (*listener, error) {
	if l := p.inheritedListener(netip.AddrPortFrom(ip, uint16(port)).String()); l != nil {
		return l, nil
	}
	t := ipTarget(ip, port)
	fd, err := syscall.Socket(t.family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if p.set.SoReusePort {
		const soReusePort = 15
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soReusePort, 1)
	}
	if t.family == syscall.AF_INET6 {
		syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1)
	}
	if p.set.sockets.buf > 0 {
		// Accepted sockets inherit it.
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, p.set.sockets.buf)
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, p.set.sockets.buf)
	}
	l := &listener{p: p, fd: fd, name: netip.AddrPortFrom(ip, uint16(port)).String(), tcp: true}
	l.configure()
	if err := syscall.Bind(fd, t.sa); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return l, l.listen()
}

func (l *listener) listen() error {
	if err := syscall.Listen(l.fd, l.p.set.ListenBacklog); err != nil {
		syscall.Close(l.fd)
		return err
	}
	return nil
}

// listenUnix listens on the unix socket of a port in a folder, or in the abstract
// name space when the folder begins with @.
func listenUnix(p *Pooler, dir string, port int) (*listener, error) {
	path := filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port))
	if l := p.inheritedListener("unix:" + path); l != nil {
		return l, nil
	}
	abstract := strings.HasPrefix(dir, "@")
	if !abstract {
		if _, err := os.Lstat(path + ".lock"); err == nil {
			return nil, fmt.Errorf("%s.lock exists: a PostgreSQL server uses this socket; change unix_socket_dir or listen_port", path)
		}
		// A socket that somebody answers on must not be taken away.
		fd, busy, err := dial(unixTarget(dir, port), &p.set.sockets)
		if err == nil {
			syscall.Close(fd)
			if !busy {
				return nil, fmt.Errorf("%s is in use by another process; stop it, or change unix_socket_dir or listen_port", path)
			}
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	l := &listener{p: p, fd: fd, name: "unix:" + path}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	if !abstract {
		l.unix = path
		if err := os.Chmod(path, p.set.UnixSocketMode); err != nil {
			l.close()
			return nil, err
		}
		if p.set.unixGroup >= 0 {
			if err := os.Chown(path, -1, p.set.unixGroup); err != nil {
				l.close()
				return nil, err
			}
		}
	}
	return l, l.listen()
}

// configure sets what is the settings' of a listening socket, which works without, too:
// what its connections inherit, and that the system keeps them back while they say
// nothing yet, for so many seconds.
func (l *listener) configure() {
	if l.tcp {
		l.p.set.sockets.applyFirst(l.fd)
		syscall.SetsockoptInt(l.fd, syscall.IPPROTO_TCP, syscall.TCP_DEFER_ACCEPT, l.p.set.TCPDeferAccept)
	}
}

func (l *listener) close() {
	if l.fd < 0 {
		return
	}
	syscall.Close(l.fd)
	l.fd = -1
	if l.unix != "" {
		os.Remove(l.unix)
	}
}
