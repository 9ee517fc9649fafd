// Lists whose links lie in the elements, so that moving one costs no memory.

package pool

type links[T any] struct {
	prev, next *T
}

type linked[T any] interface {
	*T
	links() *links[T]
}

// list is a doubly linked list; its zero value is empty.
type list[T any, P linked[T]] struct {
	first, last *T
	n           int
}

func (l *list[T, P]) pushBack(e *T) { l.insert(e, nil) }

func (l *list[T, P]) pushFront(e *T) { l.insert(e, l.first) }

// insert puts e before an element of the list, or at its end if that is nil.
func (l *list[T, P]) insert(e, before *T) {
	prev := l.last
	if before != nil {
		k := P(before).links()
		prev, k.prev = k.prev, e
	} else {
		l.last = e
	}
	k := P(e).links()
	k.prev, k.next = prev, before
	if prev != nil {
		P(prev).links().next = e
	} else {
		l.first = e
	}
	l.n++
}

// remove takes e out; e must be in this list.
func (l *list[T, P]) remove(e *T) {
	k := P(e).links()
	if k.prev != nil {
		P(k.prev).links().next = k.next
	} else {
		l.first = k.next
	}
	if k.next != nil {
		P(k.next).links().prev = k.prev
	} else {
		l.last = k.prev
	}
	k.prev, k.next = nil, nil
	l.n--
}

func (c *Client) links() *links[Client] { return &c.link }
func (s *Server) links() *links[Server] { return &s.link }
func (h *hunger) links() *links[hunger] { return &h.link }
