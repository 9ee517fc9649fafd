package pgwire

// Framing: what ParseHeader promises to the hot path.

import (
	"bytes"
	"errors"
	"testing"
)

func TestParseHeaderWaitsForAWholeHeader(t *testing.T) {
	msg := AppendQuery(nil, "select 1")
	for i := range HeaderSize {
		if _, _, ok, err := ParseHeader(msg[:i]); ok || err != nil {
			t.Errorf("%d bytes: ok=%v err=%v", i, ok, err)
		}
	}
	typ, size, ok, err := ParseHeader(msg[:HeaderSize])
	if typ != MsgQuery || size != len(msg) || !ok || err != nil {
		t.Errorf("got %q size=%d ok=%v err=%v, want Q size=%d", typ, size, ok, err, len(msg))
	}
}

func TestParseHeaderRefusesImpossibleLengths(t *testing.T) {
	for _, h := range []string{"Q\x00\x00\x00\x03", "Q\x00\x00\x00\x00", "Q\xff\xff\xff\xff", "Q\x80\x00\x00\x00", "Q\x7f\xff\xff\xff"} {
		if _, _, ok, err := ParseHeader([]byte(h)); ok || !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: ok=%v err=%v", h, ok, err)
		}
	}
	if _, size, ok, err := ParseHeader([]byte("d\x7f\xff\xff\xfe")); size != 1<<31-1 || !ok || err != nil {
		t.Errorf("largest message: size=%d ok=%v err=%v", size, ok, err)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	stream := AppendReadyForQuery(AppendCommandComplete(AppendDataRow(nil, [][]byte{[]byte("1"), nil}), "SELECT 1"), TxIdle)
	bind := append(AppendBindHead(nil, []byte("p"), []byte("s"), 2), 0, 0)
	broken := []byte("Q\x00\x00\x00\x00")
	out := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		for rest := stream; len(rest) > 0; {
			typ, size, _, _ := ParseHeader(rest)
			if typ == MsgReadyForQuery {
				if _, err := ParseReadyForQuery(rest[HeaderSize:size]); err != nil {
					t.Fatal(err)
				}
			}
			rest = rest[size:]
		}
		portal, statement, head, _ := BindNames(bind[HeaderSize:])
		out = AppendBindHead(out[:0], portal, statement, len(bind)-HeaderSize-head)
		out = AppendSync(AppendClose(out, TargetStatement, statement))
		if _, _, _, err := ParseHeader(broken); err == nil {
			t.Fatal("no error")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestTypeNameTellsTheSidesApart(t *testing.T) {
	for _, c := range []struct {
		typ    byte
		client bool
		want   string
	}{
		{'C', true, "Close"}, {'C', false, "CommandComplete"}, {'E', false, "ErrorResponse"},
		{'d', true, "CopyData"}, {'d', false, "CopyData"}, {'y', true, "unknown message 'y'"}, {7, false, "unknown message 0x07"},
	} {
		if got := TypeName(c.typ, c.client); got != c.want {
			t.Errorf("%q from client %v: %q, want %q", c.typ, c.client, got, c.want)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte("Z\x00\x00\x00\x05I"))
	f.Add([]byte("Q\x00\x00\x00\x03"))
	f.Add([]byte("d\x7f\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		typ, size, ok, err := ParseHeader(b)
		if ok != (len(b) >= HeaderSize && err == nil) {
			t.Fatalf("ok=%v err=%v for %d bytes", ok, err, len(b))
		}
		if ok && (size < HeaderSize || !bytes.Equal(AppendHeader(nil, typ, size-HeaderSize), b[:HeaderSize])) {
			t.Fatalf("header %x read as type %q size %d", b[:HeaderSize], typ, size)
		}
	})
}
