// The raw calls for non-blocking sockets. They are not told to the Go scheduler, since
// none of them blocks. Reads and writes are recv and send, which take a shorter way
// through the kernel than read and write.

package evloop

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"
)

// Accept takes a connection, non-blocking and closed in programs that are started, from a
// listening socket. addr is the client's, not valid of a unix socket. The error is
// syscall.EAGAIN when nobody waits.
func Accept(fd int) (conn int, addr netip.AddrPort, err error) {
	var sa syscall.RawSockaddrAny
	size := uint32(syscall.SizeofSockaddrAny)
	r, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)),
		syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, addr, errno
	}
	port := func(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }
	switch sa.Addr.Family {
	case syscall.AF_INET:
		in := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&sa))
		addr = netip.AddrPortFrom(netip.AddrFrom4(in.Addr), port(&in.Port))
	case syscall.AF_INET6:
		in := (*syscall.RawSockaddrInet6)(unsafe.Pointer(&sa))
		addr = netip.AddrPortFrom(netip.AddrFrom16(in.Addr), port(&in.Port))
	}
	return int(r), addr, nil
}

// Close closes a socket; the one error that can be, of a descriptor that is not open,
// would be the caller's fault.
func Close(fd int) { syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0) }

// Read reads what fd has. It returns 0 and no error at the end of the stream, and
// syscall.EAGAIN when there is nothing now.
func Read(fd int, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// Write writes as much of p as fd takes now: a short count with no error means
// that its buffer is full.
func Write(fd int, p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p[done:]))), uintptr(len(p)-done), syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			done += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return done, nil
		default:
			return done, errno
		}
	}
	return done, nil
}
