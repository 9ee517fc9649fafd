// What one process hands to the next in SHOW FDS_EXTENDED: PgBouncer's rows, and in a
// column of its own what PgBouncer's lack, as one gob stream that runs through the rows.
// Fields may be added: who does not know one passes over it. What may not be passed over
// wants a new handedVersion.

package pooler

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"
	"unsafe"
)

// handedVersion is that of the stream; a process takes what is not newer than its own.
const handedVersion = 1

// What our own processes say in place of SUSPEND and SHOW FDS.
const (
	wordExtended = "extended" // behind SUSPEND
	wordFDs      = "fds_extended"
)

// fdColumns are the columns of SHOW FDS; the names are PgBouncer's.
const fdColumns = "fd:i task user database addr port:i cancel:q link:i client_encoding std_strings datestyle timezone " +
	"password scram_client_key:b scram_server_key:b"

// What a row of SHOW FDS is about.
const (
	taskListener = "pooler"
	taskClient   = "client"
	taskServer   = "server"
	taskState    = "state" // no socket: a handedPooler
)

// handedPooler is what belongs to no connection. Times count from the same start as
// those of the old process, which is Age ago.
type handedPooler struct {
	Version          int
	Age              time.Duration // on the monotonic clock, which stood at Clock then
	Clock            int64         // in ns; that of the system is the same for both processes
	LastID, LastText uint64
	MockKey          []byte
	Paused           bool
	Periods          int
	PeriodEnds       [2]time.Duration
	NextPeriod       time.Duration
	Patience         time.Duration // how long the old process waits for SHUTDOWN
	Console          handedStats
	Loops            []uint64 // loopEvents of all loops together, in their order there
	Tracked          []string
	Users            []handedUser
	Texts            []handedText
	Databases        []handedDatabase
	Pools            []handedPool
}

// handedEvents are those of a pool.
type handedEvents struct {
	Waits, Queries, Xacts                   []uint64
	ClientErrors, Connects, ConnectFailures uint64
}

func (e *poolEvents) hand() handedEvents {
	return handedEvents{
		slices.Clone(e.waits[:]), slices.Clone(e.queries[:]), slices.Clone(e.xacts[:]), e.clientErrors, e.connects, e.connectFailures,
	}
}

func (e *poolEvents) take(h *handedEvents) {
	copy(e.waits[:], h.Waits)
	copy(e.queries[:], h.Queries)
	copy(e.xacts[:], h.Xacts)
	e.clientErrors, e.connects, e.connectFailures = h.ClientErrors, h.Connects, h.ConnectFailures
}

// handedUser is what logins have taught us about a user of auth_file.
type handedUser struct {
	Name, Secret         string
	ClientKey, ServerKey []byte
}

// handedText is a prepared statement that clients share.
type handedText struct{ Name, Body string }

type handedDatabase struct {
	Name                   string
	Paused, Disabled, Auto bool
	Idle                   time.Duration
	Target                 string // see database.target
}

type handedPool struct {
	Database, User       string // the server-side user
	Known                bool   // Welcome and Defaults are
	Welcome              []byte
	Defaults             []string // of the tracked parameters
	Told                 []bool   // of them: servers tell their values
	Stats                handedStats
	Shown                [2]handedStats
	Events               handedEvents
	HostIndex            int
	Secret               string
	ClientKey, ServerKey []byte
}

// handedConn is what clients and servers have in common.
type handedConn struct {
	ID        uint64
	Pool      int // in handedPooler.Pools
	Out, Held []byte
	Remain    int
	Drop      bool
	Since     time.Duration
	Vars      []string
}

type handedClient struct {
	Conn                   handedConn
	Link                   uint64 // its server's ID; 0: none
	Waiting                bool
	Listed                 bool // its user stood in auth_file
	Key                    []byte
	Replication            string
	Counted, Cut, Notified bool
	Leaked                 bool
	RequestTime            time.Duration
	Names                  []handedName
}

// handedName is a client's own name for a text.
type handedName struct {
	Name, Text string
	Lapsed     bool // it can be given anew
}

type handedServer struct {
	Conn                              handedConn
	Idle, Dedicated, CloseNeeded      bool
	SettingVars                       bool
	Status                            byte
	Broken, Dirty, Refused            bool
	LateRelease, InRecovery, ReadOnly bool
	Block, Savepoint                  bool
	Sets                              int
	Left                              string
	Host                              string
	Key                               []byte
	Created                           time.Duration
	QueryStart, XactStart, IdleStart  time.Duration
	Prepared                          []string // the last used last
	Queue                             []byte
	Named                             []handedRequest
	Copying, Open, Failed             bool
}

// handedRequest is one about a prepared statement; Kind is that of namedRequest.
type handedRequest struct {
	Kind             byte
	Text, Name, Prev string
}

// handedStats are counters in their order there.
type handedStats []uint64

// fields are all counters of a pool, of whatever type.
func (c *counters) fields() []*uint64 {
	list := []*uint64{
		&c.assignments, &c.xacts, &c.queries, &c.received, &c.sent, &c.clientParses, &c.serverParses, &c.binds, &c.logins,
	}
	for _, d := range [...]*time.Duration{&c.xactTime, &c.queryTime, &c.waitTime} {
		list = append(list, (*uint64)(unsafe.Pointer(d)))
	}
	return list
}

func (c *counters) hand() (h handedStats) {
	for _, f := range c.fields() {
		h = append(h, *f)
	}
	return h
}

func (c *counters) take(h handedStats) {
	for i, f := range c.fields() {
		if i < len(h) {
			*f = h[i]
		}
	}
}

// handedWriter writes the stream in parts.
type handedWriter struct {
	part bytes.Buffer
	enc  *gob.Encoder
}

func newHandedWriter() *handedWriter {
	w := &handedWriter{}
	w.enc = gob.NewEncoder(&w.part)
	return w
}

// next is the next part, which adds v to the stream, as the text of a bytea.
func (w *handedWriter) next(v any) ([]byte, error) {
	w.part.Reset()
	if err := w.enc.Encode(v); err != nil {
		return nil, err
	}
	return bytea(w.part.Bytes()), nil
}

// handedReader reads the stream.
type handedReader struct {
	part []byte
	dec  *gob.Decoder
}

func newHandedReader() *handedReader {
	r := &handedReader{}
	r.dec = gob.NewDecoder(r)
	return r
}

// Read gives what is left of the part, for the decoder.
func (r *handedReader) Read(b []byte) (int, error) {
	if len(r.part) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(b, r.part)
	r.part = r.part[n:]
	return n, nil
}

// ReadByte keeps the decoder from reading ahead.
func (r *handedReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := r.Read(b[:])
	return b[0], err
}

// next decodes the part of one row into v.
func (r *handedReader) next(text []byte, v any) error {
	var err error
	if r.part, err = parseBytea(text); err != nil {
		return err
	}
	if err := r.dec.Decode(v); err != nil {
		return err
	}
	if len(r.part) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.part))
	}
	return nil
}

// bytea is the text of a value of that type; nil stays NULL.
func bytea(b []byte) []byte {
	if b == nil {
		return nil
	}
	return hex.AppendEncode([]byte(`\x`), b)
}

func parseBytea(text []byte) ([]byte, error) {
	if text == nil {
		return nil, nil
	}
	digits, ok := bytes.CutPrefix(text, []byte(`\x`))
	if !ok {
		return nil, fmt.Errorf("a bytea that does not begin with \\x")
	}
	return hex.AppendDecode(nil, digits)
}
