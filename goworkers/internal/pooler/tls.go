// TLS on a socket: the handshake in a goroutine, the bytes in the loop.

package pooler

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/tlsconn"
)

// handshake is one under way. Until it ends the goroutine that makes it has the
// socket: that of a connection which is shut meanwhile is closed by the goroutine.
type handshake struct {
	cancel context.CancelFunc
	left   atomic.Bool // by the first of the two who are done with the socket
}

// startTLS makes a handshake on the connection's socket, which the loop leaves alone
// meanwhile, and calls then in the loop unless the connection was shut.
func (c *conn) startTLS(shake func(ctx context.Context, fd int) (*tlsconn.Conn, error), then func(error)) {
	w, fd := c.w, int(c.fd)
	ctx, cancel := context.WithCancel(w.ctx)
	h := &handshake{cancel: cancel}
	c.shake = h
	c.park()
	w.background(func() func() {
		conn, err := shake(ctx, fd)
		cancel()
		if h.left.Swap(true) {
			syscall.Close(fd)
			return func() {}
		}
		return func() {
			if c.shake != h {
				return // shut since
			}
			c.shake = nil
			c.tls = conn
			then(err)
			w.run()
		}
	})
}

// handshakeFailed says so for the log.
func handshakeFailed(err error) string {
	return "TLS handshake failed: " + strings.TrimPrefix(err.Error(), "TLS handshake: ")
}

// fillTLS is fill for a connection with TLS.
func (c *conn) fillTLS(buf []byte) (n int, full bool, err error) {
	// What an earlier call has come to, after its last bytes.
	if n, _, err := c.tls.Decrypt(buf, nil); n > 0 || err != nil {
		return n, true, tlsEnd(err, n)
	}
	w := c.w
	if w.cipher == nil {
		w.cipher = make([]byte, evloop.BufferSize)
	}
	room := len(buf) - tlsconn.Slack
	for {
		k, err := evloop.Read(int(c.fd), w.cipher[:room])
		if err != nil {
			return 0, false, err
		}
		if k == 0 {
			return 0, false, errEOF
		}
		// Of a part of a record nothing comes.
		if n, _, err = c.tls.Decrypt(buf, w.cipher[:k]); n > 0 || err != nil {
			return n, k == room || err != nil, tlsEnd(err, n)
		}
	}
}

// tlsEnd is how the stream ends, once its last bytes are out.
func tlsEnd(err error, n int) error {
	if n > 0 || err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return errEOF
	}
	return err
}
