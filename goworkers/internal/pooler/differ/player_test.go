package differ

// A play: the steps of a conversation, carried out against a product.

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"goworkers/pgwire"
)

const (
	stepLimit = 10 * time.Second       // what should come has come by then
	quiet     = 150 * time.Millisecond // and for this long is nothing
)

type player struct {
	conv    *conversation
	in      *instance
	config  config
	render  *renderer
	id      string
	trace   strings.Builder
	clients map[string]*client
	order   []string
}

type client struct {
	conn  net.Conn
	in    *bufio.Reader
	out   []byte // gathered
	split int
	cols  columns
	key   []byte
	ended bool // the product has closed, or we have
}

// errEnd ends a play early; the trace says why.
var errEnd = errors.New("the play has ended")

// play carries out the steps and returns the trace. The error tells of a step that
// cannot be carried out, whatever the product does.
func play(conv *conversation, in *instance, database string) (string, error) {
	id := fmt.Sprint(plays.Add(1))
	p := &player{
		conv: conv, in: in, id: id, config: conv.config.copy(), clients: map[string]*client{},
		render: &renderer{
			hidden: conv.hidden, pids: map[string]string{},
			replace: strings.NewReplacer(database, "{database}", in.addr, "{address}", listenPort, "{port}", in.serverPort, "{server port}", in.dir, "{dir}",
				in.server, "{server}"),
		},
	}
	defer func() {
		for _, c := range p.clients {
			c.conn.Close()
		}
	}()
	for _, s := range conv.steps {
		p.say("%s", s.text)
		if err := p.step(s); errors.Is(err, errEnd) {
			return p.trace.String(), nil
		} else if err != nil {
			return p.trace.String(), fmt.Errorf("line %d: %s: %w", s.line, s.text, err)
		}
	}
	for _, name := range p.order {
		c := p.clients[name]
		if c.ended {
			continue
		}
		p.say("%s ends", name)
		if w, ok := c.conn.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
		}
		if err := p.until(c, "Close", nil); err != nil {
			break
		}
	}
	return p.trace.String(), nil
}

func (p *player) say(format string, values ...any) {
	fmt.Fprintf(&p.trace, format+"\n", values...)
}

// stuck ends the play.
func (p *player) stuck(format string, values ...any) error {
	p.say("  !! "+format, values...)
	return errEnd
}

func (p *player) step(s step) error {
	s.words = slices.Clone(s.words) // other plays have another id
	for i := range s.words {
		text := strings.ReplaceAll(s.words[i].text, "{id}", p.id)
		if before, rest, ok := strings.Cut(text, "{number of "); ok {
			name, after, _ := strings.Cut(rest, "}")
			number, err := p.number(name)
			if err != nil {
				return err
			}
			text = before + number + after
		}
		s.words[i].text = text
	}
	switch s.verb {
	case "wait":
		return p.wait(s.words)
	case "config":
		_, line, _ := strings.Cut(s.text, " ")
		if err := p.config.add(line); err != nil {
			return err
		}
		return p.in.write(p.config)
	case "exit":
		select {
		case <-p.in.exited:
		case <-time.After(stepLimit):
			return p.stuck("it runs on")
		}
		p.say("  status %d", p.in.cmd.ProcessState.ExitCode())
		return nil
	case "signal":
		signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
			"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}
		sig, ok := signals[s.words[0].text]
		if !ok {
			return errors.New("unknown signal")
		}
		return p.in.cmd.Process.Signal(sig)
	case "connect":
		network := "tcp"
		if len(s.words) > 0 {
			network = s.words[0].text
		}
		_, err := p.connect(s.client, network)
		return err
	}
	c, ok := p.clients[s.client]
	if !ok {
		var err error
		if c, err = p.connect(s.client, "tcp"); err != nil {
			return err
		}
	}
	switch s.verb {
	case "login":
		return p.login(c, s.words)
	case "close":
		c.ended = true
		return c.conn.Close()
	case "split":
		a := &args{words: s.words}
		c.split = a.number()
		return a.err
	case "+", ">":
		var err error
		if c.out, err = encode(c.out, s.words, p.key); err != nil || s.verb == "+" {
			return err
		}
		return p.flush(c)
	}
	return p.read(c, s.words)
}

func (p *player) key(name string) ([]byte, error) {
	c := p.clients[name]
	if c == nil || c.key == nil {
		return nil, fmt.Errorf("client %q has no cancel key", name)
	}
	return c.key, nil
}

// number is what SHOW CLIENTS calls a client's id.
func (p *player) number(name string) (string, error) {
	c := p.clients[name]
	if c == nil {
		return "", fmt.Errorf("no client %q", name)
	}
	rows, err := p.console("show clients")
	if err != nil {
		return "", p.stuck("show clients: %v", err)
	}
	port := fmt.Sprint(c.conn.LocalAddr().(*net.TCPAddr).Port)
	for _, row := range rows {
		if row["port"] == port {
			return row["id"], nil
		}
	}
	return "", p.stuck("%s is not in show clients", name)
}

func (p *player) connect(name, network string) (*client, error) {
	addr := p.in.addr + ":" + listenPort
	if network == "unix" {
		addr = filepath.Join(p.in.dir, ".s.PGSQL."+listenPort)
	}
	conn, err := net.DialTimeout(network, addr, stepLimit)
	if err != nil {
		return nil, p.stuck("no connection: %s", errors.Unwrap(err))
	}
	if old := p.clients[name]; old != nil {
		old.conn.Close()
	} else {
		p.order = append(p.order, name)
	}
	c := &client{conn: conn, in: bufio.NewReader(conn)}
	p.clients[name] = c
	return c, nil
}

// flush sends what was gathered. A product that has closed does not mind.
func (p *player) flush(c *client) error {
	out := c.out
	c.out = nil
	if n := c.split; n > 0 && n < len(out) {
		c.split = 0
		if _, err := c.conn.Write(out[:n]); err != nil {
			return nil
		}
		if !hasRead(c.conn) {
			return p.stuck("the first %d bytes are not read", n)
		}
		out = out[n:]
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(stepLimit))
	if _, err := c.conn.Write(out); errors.Is(err, os.ErrDeadlineExceeded) {
		return p.stuck("not taken within %s", stepLimit)
	}
	return nil
}

// hasRead waits until the other side of a connection has read all that was sent, which
// the kernel tells in its table of sockets.
func hasRead(conn net.Conn) bool {
	hex := func(a net.Addr) string {
		tcp := a.(*net.TCPAddr)
		return fmt.Sprintf("%08X:%04X", binary.LittleEndian.Uint32(tcp.IP.To4()), tcp.Port)
	}
	local, remote := hex(conn.LocalAddr()), hex(conn.RemoteAddr())
	for deadline := time.Now().Add(stepLimit); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			return false
		}
		unread := 0
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) < 5 {
				continue
			}
			sending, receiving, _ := strings.Cut(f[4], ":")
			if f[1] == local && f[2] == remote && strings.Trim(sending, "0") != "" ||
				f[1] == remote && f[2] == local && strings.Trim(receiving, "0") != "" {
				unread++
			}
		}
		if unread == 0 {
			return true
		}
	}
	return false
}

// next reads a message. io.EOF: the product has closed.
func (p *player) next(c *client) (typ byte, body []byte, err error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(stepLimit))
	var head [pgwire.HeaderSize]byte
	if n, err := io.ReadFull(c.in, head[:]); err != nil {
		if n > 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, nil, p.stuck("half a header: %x", head[:n])
		}
		return 0, nil, p.readError(c, err)
	}
	_, size, _, err := pgwire.ParseHeader(head[:])
	if err != nil || size > 1<<26 {
		return 0, nil, p.stuck("no header: %x", head)
	}
	body = make([]byte, size-pgwire.HeaderSize)
	if _, err := io.ReadFull(c.in, body); err != nil {
		if p.readError(c, err) == io.EOF {
			return 0, nil, p.stuck("a message of type %c that ends early", head[0])
		}
		return 0, nil, err
	}
	if head[0] == pgwire.MsgBackendKeyData {
		c.key = body
	}
	return head[0], body, nil
}

func (p *player) readError(c *client, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return p.stuck("nothing more within %s", stepLimit)
	}
	// A reset is a close with bytes unread.
	c.ended = true
	return io.EOF
}

func (p *player) read(c *client, words []word) error {
	a := &args{words: words}
	switch what := a.text(); what {
	case "byte":
		_ = c.conn.SetReadDeadline(time.Now().Add(stepLimit))
		b, err := c.in.ReadByte()
		if err != nil {
			if err = p.readError(c, err); err == io.EOF {
				p.say("  Close")
				return nil
			}
			return err
		}
		p.say("  byte %q", b)
		return nil
	case "nothing":
		limit := quiet
		if len(a.words) > 0 {
			limit = time.Duration(a.number()) * time.Millisecond
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(limit))
		if _, err := c.in.Peek(1); errors.Is(err, os.ErrDeadlineExceeded) {
			return a.err
		}
		p.say("  something")
		return a.err
	case "until":
		typ := a.text()
		return p.until(c, typ, a.words)
	default:
		return fmt.Errorf("unknown word %q", what)
	}
}

// until reads messages up to the one that is asked for.
func (p *player) until(c *client, name string, words []word) error {
	var only []string
	sorted, brief, times := false, false, 1
	for _, w := range words {
		switch key, value, ok := strings.Cut(w.text, "="); {
		case ok && key == "only":
			only = strings.Split(value, ",")
		case w.text == "sorted":
			sorted = true
		case w.text == "brief":
			brief = true
		case strings.HasPrefix(w.text, "x"):
			a := &args{words: []word{{text: w.text[1:]}}}
			if times = a.number(); a.err != nil {
				return a.err
			}
		default:
			return fmt.Errorf("unknown word %q", w.text)
		}
	}
	c.cols.only = only
	var rows []string
	for {
		typ, body, err := p.next(c)
		if err == nil && typ == pgwire.MsgDataRow {
			row := p.render.message(&c.cols, typ, body)
			// Rows without a shown column only tell that there are some.
			if !(len(only) == 1 && only[0] == "" && slices.Contains(rows, row)) {
				rows = append(rows, row)
			}
			continue
		}
		if sorted {
			slices.Sort(rows)
		}
		for _, row := range rows {
			p.say("  %s", row)
		}
		rows = rows[:0]
		if err == io.EOF {
			p.say("  Close")
			return nil
		}
		if err != nil {
			return err
		}
		line := p.render.message(&c.cols, typ, body)
		switch {
		case ofPgBouncer.MatchString(line):
		case brief && (typ == pgwire.MsgParameterStatus || typ == pgwire.MsgBackendKeyData):
		default:
			p.say("  %s", line)
		}
		if what, _, _ := strings.Cut(line, " "); what == name {
			if times--; times == 0 {
				return nil
			}
		}
	}
}

// login does a whole login; of what comes, ParameterStatus and the key are left out.
func (p *player) login(c *client, words []word) error {
	auth := pgwire.ClientAuth{User: "postgres"}
	database := "db"
	var more []pgwire.Param
	for _, w := range words {
		key, value, _ := strings.Cut(w.text, "=")
		switch key {
		case "user":
			auth.User = value
		case "database":
			database = value
		case "password":
			auth.Secret = pgwire.NewSecret(value)
		default:
			more = append(more, pgwire.Param{Name: key, Value: value})
		}
	}
	params := append([]pgwire.Param{{Name: "user", Value: auth.User}, {Name: "database", Value: database}}, more...)
	c.out = pgwire.AppendStartup(nil, params)
	if err := p.flush(c); err != nil {
		return err
	}
	for {
		typ, body, err := p.next(c)
		if err == io.EOF {
			p.say("  Close")
			return nil
		}
		if err != nil {
			return err
		}
		switch typ {
		case pgwire.MsgParameterStatus, pgwire.MsgBackendKeyData:
			continue
		}
		p.say("  %s", p.render.message(&c.cols, typ, body))
		switch typ {
		case pgwire.MsgReadyForQuery:
			return nil
		case pgwire.MsgAuthentication:
			if c.out, err = auth.Answer(nil, body); err != nil {
				return p.stuck("no answer: %v", err)
			}
			if err := p.flush(c); err != nil {
				return err
			}
		}
	}
}

// wait asks the console until a row looks as it should.
func (p *player) wait(words []word) error {
	if len(words) < 2 {
		return errors.New("want: wait DATABASE|\"SHOW ...\" COLUMN=VALUE")
	}
	query, want := words[0].text, map[string]string{}
	if !words[0].quoted {
		query, want["database"] = "show pools", words[0].text
	}
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w.text, "=")
		if !ok {
			return fmt.Errorf("want COLUMN=VALUE instead of %q", w.text)
		}
		want[key] = value
	}
	var last []string
	for deadline := time.Now().Add(stepLimit); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		rows, err := p.console(query)
		if err != nil {
			return p.stuck("%s: %v", query, err)
		}
		last = nil
		for _, row := range rows {
			seen := true
			for key, value := range want {
				last = append(last, key+"="+row[key])
				seen = seen && row[key] == value
			}
			if seen {
				return nil
			}
		}
	}
	return p.stuck("not within %s: %q", stepLimit, last)
}

// console asks on a connection of its own.
func (p *player) console(query string) ([]map[string]string, error) {
	conn, err := net.Dial("tcp", p.in.addr+":"+listenPort)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(stepLimit))
	out := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "admin"}, {Name: "database", Value: "pgbouncer"}})
	if _, err := conn.Write(out); err != nil {
		return nil, err
	}
	var names []string
	var rows []map[string]string
	ready := 0
	for r := bufio.NewReader(conn); ready < 2; {
		var head [pgwire.HeaderSize]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, err
		}
		_, size, _, err := pgwire.ParseHeader(head[:])
		if err != nil {
			return nil, err
		}
		body := make([]byte, size-pgwire.HeaderSize)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, err
		}
		switch head[0] {
		case pgwire.MsgErrorResponse:
			report, _ := pgwire.ParseReport(body)
			return nil, report
		case pgwire.MsgReadyForQuery:
			next := pgwire.AppendQuery(nil, query)
			if ready++; ready == 2 {
				next = pgwire.AppendTerminate(nil)
			}
			if _, err := conn.Write(next); err != nil {
				return nil, err
			}
		case pgwire.MsgRowDescription:
			cols, err := pgwire.ParseRowDescription(body)
			if err != nil {
				return nil, err
			}
			for _, c := range cols {
				names = append(names, c.Name)
			}
		case pgwire.MsgDataRow:
			values, err := pgwire.ParseDataRow(nil, body)
			if err != nil {
				return nil, err
			}
			row := map[string]string{}
			for i, v := range values {
				row[names[i]] = string(v)
			}
			rows = append(rows, row)
		}
	}
	// It must not be counted by what the conversation asks next.
	_, err = io.Copy(io.Discard, conn)
	return rows, err
}
