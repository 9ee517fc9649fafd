package pgwire_test

// Logins against the real thing: our client's side logs in to PostgreSQL, and psql and
// pgx log in to a server made of our server's side.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	. "goworkers/pgwire"
)

const ioLimit = 20 * time.Second

// wire is a blocking connection that gives one message a call.
type wire struct {
	net.Conn
	buf []byte
}

func newWire(conn net.Conn) *wire {
	conn.SetDeadline(time.Now().Add(ioLimit))
	return &wire{Conn: conn}
}

// fill reads until buf has n bytes.
func (w *wire) fill(n int) error {
	for len(w.buf) < n {
		chunk := make([]byte, 4096)
		got, err := w.Read(chunk)
		w.buf = append(w.buf, chunk[:got]...)
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *wire) take(n int) ([]byte, error) {
	if err := w.fill(n); err != nil {
		return nil, err
	}
	b := w.buf[:n:n]
	w.buf = w.buf[n:]
	return b, nil
}

func (w *wire) message() (typ byte, body []byte, err error) {
	if err := w.fill(HeaderSize); err != nil {
		return 0, nil, err
	}
	typ, size, _, err := ParseHeader(w.buf)
	if err != nil {
		return 0, nil, err
	}
	msg, err := w.take(size)
	if err != nil {
		return 0, nil, err
	}
	return typ, msg[HeaderSize:], nil
}

// startup reads opening packets until one that says what the client wants, refusing
// encryption.
func (w *wire) startup() (kind StartupKind, packet []byte, err error) {
	for {
		if err := w.fill(StartupHeaderSize); err != nil {
			return 0, nil, err
		}
		kind, size, _, err := ParseStartupHeader(w.buf)
		if err != nil {
			return 0, nil, err
		}
		if packet, err = w.take(size); err != nil {
			return 0, nil, err
		}
		if kind != SSLRequest && kind != GSSENCRequest {
			return kind, packet, nil
		}
		if _, err := w.Write([]byte("N")); err != nil {
			return 0, nil, err
		}
	}
}

// session is what a login to a server gave.
type session struct {
	*wire
	key     []byte
	params  map[string]string
	refused []string // by NegotiateProtocolVersion
}

// logIn connects and logs in; a refusal by the server is returned as *Report.
func logIn(t *testing.T, port int, auth *ClientAuth, database string) (*session, error) {
	t.Helper()
	return logInWith(t, port, auth, []Param{{"database", database}})
}

func logInWith(t *testing.T, port int, auth *ClientAuth, params []Param) (*session, error) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &session{wire: newWire(conn), params: map[string]string{}}
	if _, err := s.Write(AppendStartup(nil, append([]Param{{"user", auth.User}}, params...))); err != nil {
		return nil, err
	}
	for {
		typ, body, err := s.message()
		if err != nil {
			return nil, err
		}
		switch typ {
		case MsgAuthentication:
			answer, err := auth.Answer(nil, body)
			if err != nil {
				return nil, err
			}
			if _, err := s.Write(answer); err != nil {
				return nil, err
			}
		case MsgErrorResponse:
			rep, err := ParseReport(body)
			if err != nil {
				return nil, err
			}
			return nil, rep
		case MsgParameterStatus:
			name, value, err := ParseParameterStatus(body)
			if err != nil {
				return nil, err
			}
			s.params[string(name)] = string(value)
		case MsgBackendKeyData:
			if s.key, err = ParseBackendKeyData(body); err != nil {
				return nil, err
			}
		case MsgNegotiateProtocolVersion:
			if _, s.refused, err = ParseNegotiateProtocolVersion(body); err != nil {
				return nil, err
			}
		case MsgReadyForQuery:
			if !auth.Done() {
				return nil, errors.New("ReadyForQuery before AuthenticationOk")
			}
			return s, nil
		default:
			return nil, fmt.Errorf("%s during login", TypeName(typ, false))
		}
	}
}

// query runs one statement and returns the first column and the command tags.
func (s *session) query(sql string) (values, tags []string, err error) {
	if _, err := s.Write(AppendQuery(nil, sql)); err != nil {
		return nil, nil, err
	}
	for {
		typ, body, rerr := s.message()
		if rerr != nil {
			return nil, nil, rerr
		}
		switch typ {
		case MsgDataRow:
			row, rerr := ParseDataRow(nil, body)
			if rerr != nil {
				return nil, nil, rerr
			}
			values = append(values, string(row[0]))
		case MsgCommandComplete:
			tag, rerr := ParseCommandComplete(body)
			if rerr != nil {
				return nil, nil, rerr
			}
			tags = append(tags, string(tag))
		case MsgErrorResponse:
			if err, rerr = ParseReport(body); rerr != nil {
				err = rerr
			}
		case MsgReadyForQuery:
			return values, tags, err
		}
	}
}

// passwords that a login must get right: SASLprep changes the second and refuses the
// third, which is then taken as it is.
var passwords = []string{"simple", "ﬁve 5\u00a0%'\"\\", "\U0001F418 elephant", strings.Repeat("long", 200)}

// passwordServer starts a PostgreSQL whose users prove themselves: db m_N by md5, s_N
// by SCRAM, p_N in clear, all with passwords[N].
func passwordServer(t *testing.T) *pgtest.PrivateServer {
	dir, err := os.MkdirTemp("", "pgwire-hba.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	hba := filepath.Join(dir, "hba")
	var lines, users []string
	setup := []string{"create role md5 nologin", "create role scram nologin", "create role clear nologin"}
	for method, group := range map[string]string{"md5": "md5", "scram-sha-256": "scram", "password": "clear"} {
		lines = append(lines, fmt.Sprintf("host all +%s 127.0.0.1/32 %s", group, method))
	}
	for i, password := range passwords {
		for prefix, group := range map[string]string{"m": "md5", "s": "scram", "p": "clear"} {
			encryption := "scram-sha-256"
			if prefix == "m" {
				encryption = "md5"
			}
			users = append(users, fmt.Sprintf("set password_encryption = '%s'; create role %s_%d login password '%s' in role %s",
				encryption, prefix, i, strings.ReplaceAll(password, "'", "''"), group))
		}
	}
	lines = append(lines, "host all postgres 127.0.0.1/32 trust")
	if err := os.WriteFile(hba, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := pgtest.Server(t, "hba_file="+hba)
	d := &pgtest.Database{Name: "postgres", DSN: s.DSN}
	d.Exec(t, strings.Join(append(setup, users...), ";\n"))
	return s
}

func TestClientAuthLogsInToPostgreSQL(t *testing.T) {
	server := passwordServer(t)
	d := &pgtest.Database{Name: "postgres", DSN: server.DSN}
	for i, password := range passwords {
		for _, method := range []string{"m", "s", "p"} {
			user := fmt.Sprintf("%s_%d", method, i)
			t.Run(user, func(t *testing.T) {
				s, err := logIn(t, server.Port, &ClientAuth{User: user, Secret: NewSecret(password)}, "postgres")
				if err != nil {
					t.Fatal(err)
				}
				values, tags, err := s.query("select current_user")
				if err != nil || !slices.Equal(values, []string{user}) || !slices.Equal(tags, []string{"SELECT 1"}) {
					t.Errorf("got %q %q %v", values, tags, err)
				}
				if len(s.key) != 8 || s.params["server_version"] == "" {
					t.Errorf("key of %d bytes, parameters %v", len(s.key), s.params)
				}

				_, err = logIn(t, server.Port, &ClientAuth{User: user, Secret: NewSecret(password + "x")}, "postgres")
				var rep *Report
				if !errors.As(err, &rep) || rep.Code != "28P01" || rep.SeverityV != SeverityFatal {
					t.Errorf("wrong password: %v", err)
				}

				// The secrets that we derive are those that PostgreSQL stored.
				stored := NewSecret(pgtest.Value[string](t, d, "select rolpassword from pg_authid where rolname = $1", user))
				if !stored.MatchPassword(user, password) || stored.MatchPassword(user, password+"x") {
					t.Errorf("%s does not match its own password alone", stored)
				}
			})
		}
	}

	t.Run("md5 secret", func(t *testing.T) {
		if _, err := logIn(t, server.Port, &ClientAuth{User: "m_0", Secret: NewSecret(MD5Secret("m_0", passwords[0]))}, "postgres"); err != nil {
			t.Error(err)
		}
	})
	t.Run("secret that cannot serve", func(t *testing.T) {
		for user, secret := range map[string]string{"s_0": MD5Secret("s_0", passwords[0]), "p_0": MD5Secret("p_0", passwords[0]), "m_0": ""} {
			_, err := logIn(t, server.Port, &ClientAuth{User: user, Secret: NewSecret(secret)}, "postgres")
			if !errors.Is(err, ErrWrongPasswordType) {
				t.Errorf("%s: %v", user, err)
			}
		}
	})
	t.Run("secret of ours in pg_authid", func(t *testing.T) {
		v, err := BuildSCRAMSecret(passwords[2], nil, 1000)
		if err != nil {
			t.Fatal(err)
		}
		d.Exec(t, "create role ours login password '"+v.Text()+"' in role scram")
		conn, err := pgx.Connect(t.Context(), server.DSN+" user=ours password='"+escapeDSN(passwords[2])+"'")
		if err != nil {
			t.Fatal(err)
		}
		conn.Close(context.Background())
	})
	t.Run("keys learnt from a client open the server", func(t *testing.T) {
		secret := NewSecret(pgtest.Value[string](t, d, "select rolpassword from pg_authid where rolname = 's_1'"))
		keys := learnKeys(t, "s_1", secret, passwords[1])
		auth := &ClientAuth{User: "s_1", Keys: keys}
		if auth.Slow(AppendAuthentication(nil, AuthSASLContinue, nil)[HeaderSize:]) {
			t.Error("a login with keys computes no PBKDF2, but says that it does")
		}
		if _, err := logIn(t, server.Port, auth, "postgres"); err != nil {
			t.Error(err)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		s, err := logIn(t, server.Port, &ClientAuth{User: "postgres"}, "postgres")
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() {
			_, _, err := s.query("select pg_sleep(20)")
			result <- err
		}()
		d.WaitFor(t, "select exists (select from pg_stat_activity where query = 'select pg_sleep(20)' and state = 'active')")
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", server.Port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(AppendCancelRequest(nil, s.key)); err != nil {
			t.Fatal(err)
		}
		var rep *Report
		if err := <-result; !errors.As(err, &rep) || rep.Code != "57014" {
			t.Errorf("cancelled query ended with %v", err)
		}
	})
}

// learnKeys runs a SCRAM login between our two sides and returns what the server's
// side learnt.
func learnKeys(t *testing.T, user string, secret Secret, password string) SCRAMKeys {
	t.Helper()
	server := &ServerAuth{Method: MethodSCRAM, User: user, Secret: secret}
	client := &ClientAuth{User: user, Secret: NewSecret(password)}
	if err := converse(client, server); err != nil {
		t.Fatal(err)
	}
	keys, ok := server.Keys()
	if !ok {
		t.Fatal("no keys after a SCRAM login")
	}
	return keys
}

// converse runs a login between our two sides until one of them refuses.
func converse(client *ClientAuth, server *ServerAuth) error {
	request, done, err := server.Begin(nil)
	for err == nil {
		var answer []byte
		for rest := request; len(rest) > 0 && err == nil; {
			_, size, _, _ := ParseHeader(rest)
			answer, err = client.Answer(answer, rest[HeaderSize:size])
			rest = rest[size:]
		}
		if err != nil || done {
			break
		}
		request, done, err = server.Answer(nil, answer[HeaderSize:])
	}
	if err == nil && !client.Done() {
		return errors.New("login ended without AuthenticationOk")
	}
	return err
}

func TestBothSidesAgree(t *testing.T) {
	const user, password = "someone", "pa$$ word"
	scram, err := BuildSCRAMSecret(password, nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	plain, md5, scramSecret := NewSecret(password), NewSecret(MD5Secret(user, password)), NewSecret(scram.Text())
	cases := []struct {
		name   string
		method AuthMethod
		stored Secret
		ours   Secret
		want   error
	}{
		{"trust", MethodTrust, Secret{}, Secret{}, nil},
		{"plain against plain", MethodPlain, plain, plain, nil},
		{"plain against md5", MethodPlain, md5, plain, nil},
		{"plain against scram", MethodPlain, scramSecret, plain, nil},
		{"md5 against plain", MethodMD5, plain, plain, nil},
		{"md5 against md5", MethodMD5, md5, plain, nil},
		{"md5 answered from md5", MethodMD5, md5, md5, nil},
		{"md5 becomes scram", MethodMD5, scramSecret, plain, nil},
		{"scram against plain", MethodSCRAM, plain, plain, nil},
		{"scram against scram", MethodSCRAM, scramSecret, plain, nil},
		{"scram against md5 fails", MethodSCRAM, md5, plain, ErrPassword},
		{"plain with a wrong password", MethodPlain, plain, NewSecret("other"), ErrPassword},
		{"md5 with a wrong password", MethodMD5, md5, NewSecret("other"), ErrPassword},
		{"scram with a wrong password", MethodSCRAM, scramSecret, NewSecret("other"), ErrPassword},
		{"unknown user, plain", MethodPlain, Secret{}, plain, ErrPassword},
		{"unknown user, md5", MethodMD5, Secret{}, plain, ErrPassword},
		{"unknown user, scram", MethodSCRAM, Secret{}, plain, ErrPassword},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := converse(&ClientAuth{User: user, Secret: c.ours},
				&ServerAuth{Method: c.method, User: user, Secret: c.stored, MockKey: []byte("key")})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// serve answers one client on conn as a tiny server: it asks for the proof that method
// demands, and answers every query with the user's name. A cancel request is sent to
// cancels.
func serve(conn net.Conn, method AuthMethod, secrets map[string]Secret, key CancelKey, cancels chan<- []byte) error {
	defer conn.Close()
	w := newWire(conn)
	kind, packet, err := w.startup()
	if errors.Is(err, io.EOF) {
		return nil // pgx comes back on a new connection when TLS is refused
	}
	if err != nil {
		return err
	}
	if kind == CancelRequest {
		got, err := ParseCancelRequest(packet)
		cancels <- got
		return err
	}
	start, err := ParseStartup(packet)
	if err != nil {
		return err
	}
	user, _ := start.Get("user")
	var out []byte
	if options, need := start.Negotiate(); need {
		out = AppendNegotiateProtocolVersion(out, options)
	}
	auth := &ServerAuth{Method: method, User: user, Secret: secrets[user], MockKey: []byte("k")}
	out, done, err := auth.Begin(out)
	for {
		if err != nil {
			w.Write(AppendFatal(out, "28P01", err.Error()))
			return nil
		}
		if done {
			break
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
		typ, body, rerr := w.message()
		if rerr != nil {
			// psql hangs up to ask its user for a password.
			return nil
		}
		if typ != MsgPassword {
			return fmt.Errorf("%s during login", TypeName(typ, true))
		}
		out, done, err = auth.Answer(nil, body)
	}
	out = AppendParameterStatus(out, "server_version", "15.0")
	out = AppendParameterStatus(out, "client_encoding", "UTF8")
	out = AppendParameterStatus(out, "standard_conforming_strings", "on")
	out = AppendBackendKeyData(out, key[:])
	out = AppendNoticeResponse(out, &Report{Severity: SeverityNotice, Code: "00000", Message: "welcome", Detail: "Be well."})
	out = AppendReadyForQuery(out, TxIdle)
	for {
		if _, err := w.Write(out); err != nil {
			return err
		}
		typ, body, err := w.message()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		switch typ {
		case MsgQuery:
			sql, err := ParseQuery(body)
			if err != nil {
				return err
			}
			if strings.Contains(string(sql), "oops") {
				out = AppendErrorResponse(nil, &Report{Severity: SeverityError, Code: "42601", Message: "no such thing", Hint: "Ask else.", Position: "3"})
				out = AppendReadyForQuery(out, TxIdle)
				continue
			}
			out = AppendRowDescription(nil, []Column{{"who", OIDText}, {"null", OIDText}, {"n", OIDInt4}, {"big", OIDInt8}})
			out = AppendDataRow(out, [][]byte{[]byte(user), nil, []byte("-7"), []byte("1")})
			out = AppendCommandComplete(out, "SELECT 1")
			out = AppendReadyForQuery(out, TxIdle)
		case MsgTerminate:
			return nil
		default:
			return fmt.Errorf("unexpected %s", TypeName(typ, true))
		}
	}
}

// tinyServer listens on loopback and serves each client; what goes wrong fails the
// test.
func tinyServer(t *testing.T, method AuthMethod, secrets map[string]Secret, key CancelKey, cancels chan<- []byte) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if err := serve(conn, method, secrets, key, cancels); err != nil {
				t.Errorf("server's side: %v", err)
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-served })
	return l.Addr().(*net.TCPAddr).Port
}

func TestDriversLogInToServerAuth(t *testing.T) {
	bin := os.Getenv("PGBIN")
	if bin == "" {
		t.Fatal("PGBIN is not set: run the test under scripts/with-server")
	}
	psql := filepath.Join(bin, "psql")
	for i, password := range passwords[:3] {
		user := fmt.Sprintf("user_%d", i)
		scram, err := BuildSCRAMSecret(password, nil, 50)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name   string
			method AuthMethod
			secret Secret
		}{
			{"trust", MethodTrust, Secret{}},
			{"plain", MethodPlain, NewSecret(password)},
			{"md5", MethodMD5, NewSecret(MD5Secret(user, password))},
			{"scram from plain", MethodSCRAM, NewSecret(password)},
			{"scram from a stored secret", MethodSCRAM, NewSecret(scram.Text())},
		} {
			t.Run(fmt.Sprintf("%s, password %d", c.name, i), func(t *testing.T) {
				port := tinyServer(t, c.method, map[string]Secret{user: c.secret}, NewCancelKey(), nil)
				run := func(password string) (string, error) {
					cmd := exec.Command(psql, "-XAtw", "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-U", user, "-d", "x", "-c", "select")
					cmd.Env = append(os.Environ(), "PGPASSWORD="+password, "PGSSLMODE=prefer")
					out, err := cmd.CombinedOutput()
					return string(out), err
				}
				if out, err := run(password); err != nil || !strings.Contains(out, user+"||-7|1\n") {
					t.Errorf("psql: %v\n%s", err, out)
				}
				if out, err := run(password + "!"); c.method != MethodTrust && (err == nil || !strings.Contains(out, ErrPassword.Error())) {
					t.Errorf("psql with a wrong password: %v\n%s", err, out)
				}
				if c.method == MethodSCRAM && i == 1 {
					return // pgx normalises by another rule than SASLprep, PostgreSQL refuses it too
				}
				dsn := fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=x password='%s' default_query_exec_mode=simple_protocol", port, user, escapeDSN(password))
				conn, err := pgx.Connect(t.Context(), dsn)
				if err != nil {
					t.Fatal(err)
				}
				var who string
				var null *string
				var n int32
				var big int64
				err = conn.QueryRow(t.Context(), "select").Scan(&who, &null, &n, &big)
				if err != nil || who != user || null != nil || n != -7 || big != 1 {
					t.Errorf("pgx: %q %v %d %d %v", who, null, n, big, err)
				}
				_, err = conn.Exec(t.Context(), "oops")
				if err == nil || !strings.Contains(err.Error(), "no such thing (SQLSTATE 42601)") {
					t.Errorf("pgx: error came as %v", err)
				}
				conn.Close(context.Background())
			})
		}
	}
}

// escapeDSN escapes a value for single quotes in a connection string.
func escapeDSN(s string) string {
	return strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s)
}

func TestDriverCancelsWithOurKey(t *testing.T) {
	key := NewCancelKey()
	cancels := make(chan []byte, 1)
	port := tinyServer(t, MethodTrust, nil, key, cancels)
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%d user=u dbname=x sslmode=disable", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	pg := conn.PgConn()
	pid, secret := pg.PID(), pg.SecretKey()
	if int32(pid) < 0 {
		t.Errorf("process id %d is negative", int32(pid))
	}
	// The tiny server takes one client at a time: leave before cancelling.
	conn.Close(context.Background())
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := append([]byte{byte(pid >> 24), byte(pid >> 16), byte(pid >> 8), byte(pid)}, secret...)
	if _, err := c.Write(AppendCancelRequest(nil, sent)); err != nil {
		t.Fatal(err)
	}
	if got := <-cancels; !slices.Equal(got, key[:]) {
		t.Errorf("cancel came with %x, key is %x", got, key)
	}
}
