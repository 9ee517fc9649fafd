// The raw reads and writes of non-blocking sockets: recv and send, which take a shorter
// way through the kernel than read and write.

package evloop

import (
	"syscall"
	"unsafe"
)

// Read reads what fd has. It returns 0 and no error at the end of the stream, and
// syscall.EAGAIN when there is nothing now. The call is not told to the Go
// scheduler: it never blocks, since fd does not.
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
