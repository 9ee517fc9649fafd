package main

// The program as users run it, with a mail server that is a small one but speaks SMTP.

import (
	"fmt"
	"io"
	"mime"
	"net"
	netmail "net/mail"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goworkers/internal/pgtest"
	"goworkers/internal/pgtest/example"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mailServer keeps what it is sent. It refuses mails to bounce@ for good, and the first one
// to later@ for now.
type mailServer struct {
	net.Listener
	working sync.WaitGroup

	mu       sync.Mutex
	mails    []string
	deferred bool
	taken    func(n int) // called when a mail is taken, before it is answered; may be nil
}

func serve(t *testing.T, address string) *mailServer {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{Listener: listener}
	s.working.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			s.working.Go(func() {
				defer client.Close()
				s.talk(textproto.NewConn(client))
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.working.Wait()
	})
	return s
}

func (s *mailServer) talk(c *textproto.Conn) {
	say := func(line string) { _ = c.PrintfLine("%s", line) } // one who is gone will not ask on
	say("220 mail.example.com ready")
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(line); {
		case strings.HasPrefix(verb, "RCPT TO:<BOUNCE@"):
			say("550 5.1.1 no such user")
		case strings.HasPrefix(verb, "RCPT TO:<LATER@") && s.first():
			say("451 4.7.1 greylisted")
		case verb == "DATA":
			say("354 go on")
			text, err := io.ReadAll(c.DotReader())
			if err != nil {
				return
			}
			s.take(string(text))
			say("250 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *mailServer) first() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := s.deferred
	s.deferred = true
	return !again
}

func (s *mailServer) take(text string) {
	s.mu.Lock()
	s.mails = append(s.mails, text)
	n, taken := len(s.mails), s.taken
	s.mu.Unlock()
	if taken != nil {
		taken(n)
	}
}

func (s *mailServer) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

func shop(t *testing.T) *pgtest.Database {
	t.Helper()
	db := example.Database(t, "mailq.sql")
	db.Exec(t, `insert into queue.mail_template values
		(73, 'en', 'Hello', e'Dear {username},\n\n{payload}\n.\nend'), (73, 'et', 'Tere, õu', 'Kallis {username}: {payload}')`)
	return db
}

func TestMailsAreSentTriedAgainAndGivenUp(t *testing.T) {
	t.Parallel()
	program, db, server := example.Build(t, &config{}), shop(t), serve(t, "127.0.0.1:0")
	db.Exec(t, `insert into queue.mailq (mk_template, username, email, mk_language, payload) values
		(73, 'Ülle & Co', 'ylle@example.com', 'et', 'a=b%2b'), (73, 'Bob', 'bob@example.com', null, null),
		(73, 'Late', 'later@example.com', 'en', 'x'), (73, 'Bounced', 'bounce@example.com', 'en', 'x'),
		(99, 'Nobody', 'nobody@example.com', 'en', 'x'), (73, 'Homeless', null, 'en', 'x')`)
	if n := pgtest.Value[int](t, db, "select count(*)::int from queue.mailq"); n != 0 {
		t.Errorf("the table has kept %d rows", n)
	}
	example.TickAndRetry(t, db)
	program.Start(t, "src_db="+db.DSN, "smtp="+server.Addr().String())
	db.WaitFor(t, "select count(*) = 3 from pgq.dead_letter")
	pgtest.Eventually(t, 10*time.Second, "all mails are sent", func() bool { return len(server.got()) == 3 })
	want := []string{
		"ylle@example.com|Tere, õu|Kallis Ülle & Co: a=b%2b\n",
		"bob@example.com|Hello|Dear Bob,\n\n\n.\nend\n",
		"later@example.com|Hello|Dear Late,\n\nx\n.\nend\n",
	}
	for i, text := range server.got() {
		mail, err := netmail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		to, err := netmail.ParseAddress(mail.Header.Get("To"))
		if err != nil {
			t.Fatal(err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(mail.Header.Get("Subject"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(mail.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s|%s|%s", to.Address, subject, body); got != want[i] {
			t.Errorf("mail %d is %q, want %q", i+1, got, want[i])
		}
	}
	reasons := []string{"5.1.1 no such user", `field "email": is NULL`, "there is no such template"}
	if got := example.Reasons(t, db); !slices.Equal(got, reasons) {
		t.Errorf("given up for %q, want %q", got, reasons)
	}
}

func TestMailsWaitForTheirServer(t *testing.T) {
	t.Parallel()
	program, db, server := example.Build(t, &config{}), shop(t), serve(t, "127.0.0.1:0")
	address := server.Addr().String()
	_ = server.Close()
	db.Exec(t, `select pgq.set_consumer_config('mail_events', 'mail_sender', 'max_retries', '1000000')`)
	db.Exec(t, `insert into queue.mailq (mk_template, username, email) values (73, 'Bob', 'bob@example.com')`)
	example.TickAndRetry(t, db)
	run := program.Start(t, "src_db="+db.DSN, "smtp="+address)
	pgtest.Eventually(t, 10*time.Second, "the mail is put aside", func() bool { return strings.Contains(run.Log(), "event will be tried again") })
	server = serve(t, address)
	pgtest.Eventually(t, 10*time.Second, "the mail is sent", func() bool { return len(server.got()) == 1 })
}

// Killed when a mail was taken and not yet answered: nothing is lost, and what comes twice
// is known by its Message-ID.
func TestMailsSurviveKills(t *testing.T) {
	t.Parallel()
	program, db, server := example.Build(t, &config{}), shop(t), serve(t, "127.0.0.1:0")
	const mails = 30
	db.Exec(t, `insert into queue.mailq (mk_template, username, email) select 73, 'u' || n, 'u' || n || '@example.com' from generate_series(1, $1) n`, mails)
	example.Tick(t, db)
	for _, at := range []int{1, 10, 30} {
		taken := make(chan struct{})
		killed := make(chan struct{})
		server.mu.Lock()
		first := len(server.mails)
		server.taken = func(n int) {
			if n == first+at {
				close(taken)
				<-killed
			}
		}
		server.mu.Unlock()
		run := program.Start(t, "src_db="+db.DSN, "smtp="+server.Addr().String())
		select {
		case <-taken:
		case <-time.After(20 * time.Second):
			t.Errorf("mail %d does not come", at)
		}
		run.Kill()
		close(killed)
		if t.Failed() {
			return
		}
	}
	server.mu.Lock()
	server.taken = nil
	server.mu.Unlock()
	run := program.Start(t, "src_db="+db.DSN, "smtp="+server.Addr().String())
	db.WaitFor(t, `select sub_batch is null and not exists (select from pgq.tick where tick_id > sub_last_tick and tick_event_seq > $1) from pgq.subscription`, mails-1)
	run.Kill()
	ids := map[string]string{}
	for _, text := range server.got() {
		mail, err := netmail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		to, id := mail.Header.Get("To"), mail.Header.Get("Message-ID")
		if other, found := ids[to]; found && other != id {
			t.Errorf("mails to %s have the ids %s and %s", to, other, id)
		}
		ids[to] = id
	}
	if n := len(server.got()); len(ids) != mails || n < mails+3 {
		t.Errorf("%d mails to %d people, want more than %d to %[3]d", n, len(ids), mails)
	}
}
