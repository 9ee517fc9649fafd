// Bytes that wait: for their receiver to take them, or for a server to be free.

package evloop

// Buffer holds bytes in order: appended at the end, taken from the front. It
// comes from a Buffers and goes back there when it is empty.
type Buffer struct {
	b   []byte
	off int
}

// Bytes are those not taken yet, valid until the next call.
func (b *Buffer) Bytes() []byte { return b.b[b.off:] }

// Len is the number of bytes not taken yet.
func (b *Buffer) Len() int { return len(b.b) - b.off }

// Size is the memory that the buffer takes, in bytes.
func (b *Buffer) Size() int { return cap(b.b) }

// Skip takes n bytes from the front.
func (b *Buffer) Skip(n int) { b.off += n }

// Append adds p at the end.
func (b *Buffer) Append(p []byte) {
	if b.off > 0 && len(b.b)+len(p) > cap(b.b) {
		b.b = b.b[:copy(b.b, b.b[b.off:])]
		b.off = 0
	}
	b.b = append(b.b, p...)
}

// The sizes that buffers are kept in: a query, a page of rows, a full read.
var bufferSizes = [...]int{512, 8 << 10, BufferSize}

// Buffers keeps empty buffers for reuse. One belongs to one loop.
type Buffers struct {
	free [len(bufferSizes)][]*Buffer
}

// bufferKeep is how many empty buffers of a size are kept.
const bufferKeep = 64

// Get gives a buffer with room for at least n bytes.
func (bs *Buffers) Get(n int) *Buffer {
	for i, size := range bufferSizes {
		if n > size {
			continue
		}
		if k := len(bs.free[i]); k > 0 {
			b := bs.free[i][k-1]
			bs.free[i] = bs.free[i][:k-1]
			return b
		}
		return &Buffer{b: make([]byte, 0, size)}
	}
	return &Buffer{b: make([]byte, 0, n)}
}

// Free is how many empty buffers are kept, and the bytes of memory that they take.
func (bs *Buffers) Free() (n, bytes int) {
	for _, list := range bs.free {
		n += len(list)
		for _, b := range list {
			bytes += cap(b.b)
		}
	}
	return n, bytes
}

// Put takes a buffer back; its bytes are forgotten.
func (bs *Buffers) Put(b *Buffer) {
	b.b, b.off = b.b[:0], 0
	// A buffer grown beyond the largest size goes to the collector.
	if cap(b.b) > 2*BufferSize {
		return
	}
	for i := len(bufferSizes) - 1; i >= 0; i-- {
		if cap(b.b) >= bufferSizes[i] {
			if len(bs.free[i]) < bufferKeep {
				bs.free[i] = append(bs.free[i], b)
			}
			return
		}
	}
}
