// New clients.

package pooler

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"goworkers/internal/pooler/evloop"
)

const (
	// acceptBatch bounds the clients taken in one turn.
	acceptBatch = 64
	// acceptPause is the rest after the descriptors have run out.
	acceptPause = 5 * time.Second
)

// Ready is the loop's call for a listening socket.
func (l *listener) Ready(evloop.Events) {
	p := l.p
	for range acceptBatch {
		fd, addr, err := evloop.Accept(l.fd)
		switch err {
		case nil:
			p.accepted(l, fd, addr)
		case syscall.EINTR, syscall.ECONNABORTED:
		case syscall.EAGAIN:
			p.main.run()
			return
		default:
			p.log.Warn(fmt.Sprintf("cannot accept clients on %s: %v; trying again in %s", l.name, err, acceptPause))
			p.acceptAgain = p.now() + acceptPause
			for _, l := range p.listeners {
				p.main.loop.Modify(l.fd, 0)
			}
			p.main.run()
			return
		}
	}
	p.main.run()
}

// drain takes the clients that the kernel has connected already: the end of a listening
// socket would cut them off.
func (l *listener) drain() {
	for {
		fd, addr, err := evloop.Accept(l.fd)
		switch err {
		case nil:
			l.p.accepted(l, fd, addr)
		case syscall.EINTR, syscall.ECONNABORTED:
		default:
			return
		}
	}
}

// mayComeLate tells that a client logs in although the end has begun: it was connected
// before, or it would have met another process.
func (p *Pooler) mayComeLate(c *client) bool { return p.closing == closingClients && !c.unix }

// lateLogins tells whether clients log in that may come late.
func (p *Pooler) lateLogins() bool {
	for c := range p.main.logins {
		if p.mayComeLate(c) {
			return true
		}
	}
	return false
}

func (p *Pooler) accepted(l *listener, fd int, addr netip.AddrPort) {
	w := p.main
	c := &client{conn: conn{w: w, fd: int32(fd)}, id: p.lastID.Add(1), unix: !l.tcp, addr: addr, since: p.now(), vars: noVars}
	c.pc.Owner = c
	if l.tcp {
		p.set.sockets.applyRest(fd) // the first ones came with the listener
	}
	if err := c.watch(attentive, c); err != nil {
		p.log.WithError(err).Error("cannot watch a new client")
		syscall.Close(fd)
		return
	}
	w.clients[c] = struct{}{}
	w.logins[c] = struct{}{}
	if l.tcp && p.set.TCPDeferAccept > 0 && c.mayRead() {
		c.read(false) // it was accepted since it has sent something
	}
}

// listenAddresses are the addresses that an entry of listen_addr means.
func listenAddresses(name string) ([]netip.Addr, error) {
	if name == "*" {
		all := []netip.Addr{netip.IPv4Unspecified()}
		if fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err == nil {
			syscall.Close(fd)
			all = append(all, netip.IPv6Unspecified())
		}
		return all, nil
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{ip}, nil
	}
	ips, err := net.LookupIP(name)
	var addrs []netip.Addr
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs, err
}
