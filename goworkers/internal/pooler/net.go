// Addresses and sockets: host names to addresses, addresses to connected sockets.

package pooler

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
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

func (o *socketOptions) apply(fd int) {
	// A socket without these works too, so errors are passed over.
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if o.keepalive {
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
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

// hostPort names an end of a connection for log and console.
func hostPort(addr netip.AddrPort, port int) string {
	if !addr.IsValid() {
		return fmt.Sprintf("unix:%d", port)
	}
	return addr.String()
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
	l.deferAccept()
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

// deferAccept has the system keep connections back that say nothing yet, for so many
// seconds.
func (l *listener) deferAccept() {
	if l.tcp {
		// It works without, too.
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
