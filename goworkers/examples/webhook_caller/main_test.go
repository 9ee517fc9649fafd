package main

// The program as users run it, against a receiver that does not always want to.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goworkers/internal/pgtest"
	"goworkers/internal/pgtest/example"
	"goworkers/pgq"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call is what the receiver got.
type call struct {
	key, body string
}

// receiver answers each call with the status that its row asks for, and at the second try
// of "429 then 200" with the other one.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil || request.Method != http.MethodPost || request.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v, %v", request.Method, request.URL, request.Header, err)
		}
		var row struct{ Answer string }
		if err := json.Unmarshal(body, &row); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		key := request.Header.Get("Idempotency-Key")
		r.mu.Lock()
		defer r.mu.Unlock()
		tries := 0
		for _, c := range r.calls {
			if c.key == key {
				tries++
			}
		}
		r.calls = append(r.calls, call{key, string(body)})
		answers := strings.Split(row.Answer, " then ")
		var code int
		if _, err := fmt.Sscan(answers[min(tries, len(answers)-1)], &code); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(r.Close)
	return r
}

// got counts the calls for each row.
func (r *receiver) got() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := map[string]int{}
	for _, c := range r.calls {
		count[c.body]++
	}
	return count
}

func order(t *testing.T, db *pgtest.Database, row pgq.Row) {
	t.Helper()
	_, err := pgq.InsertEvent(context.Background(), db.Conn(t), "orders", pgq.Event{Type: pgq.Text("order"), Data: pgq.Text(row.Encode())})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCallsAreMadeTriedAgainAndGivenUp(t *testing.T) {
	t.Parallel()
	program := example.Build(t, &config{})
	db, receiver := example.Database(t, "webhook.sql"), newReceiver(t)
	order(t, db, pgq.Row{"answer": pgq.Text("200"), "text": pgq.Text(`O'Reilly & "õ" \`), "nothing": {}})
	for _, answer := range []string{"204", "503 then 200", "429 then 500 then 201", "400", "404", "500"} {
		order(t, db, pgq.Row{"answer": pgq.Text(answer)})
	}
	db.Exec(t, "select pgq.insert_event('orders', 'order', 'answer=%4')")
	example.TickAndRetry(t, db)
	program.Start(t, "src_db="+db.DSN, "url="+receiver.URL)
	db.WaitFor(t, "select count(*) = 4 from pgq.dead_letter")
	pgtest.Eventually(t, 10*time.Second, "all calls are made", func() bool { return receiver.got()[`{"answer":"429 then 500 then 201"}`] == 3 })
	want := map[string]int{
		`{"answer":"200","nothing":null,"text":"O'Reilly \u0026 \"õ\" \\"}`: 1,
		`{"answer":"204"}`: 1, `{"answer":"503 then 200"}`: 2, `{"answer":"429 then 500 then 201"}`: 3,
		`{"answer":"400"}`: 1, `{"answer":"404"}`: 1, `{"answer":"500"}`: 9, // once, and max_retries is 8
	}
	if got := receiver.got(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("calls by row: %v\nwant %v", got, want)
	}
	reasons := []string{"400 Bad Request", "404 Not Found", "500 Internal Server Error", `field "ev_data": decode row: in "answer=%4": "%4" is no escape: two hex digits must follow the %`}
	if got := example.Reasons(t, db); !slices.Equal(got, reasons) {
		t.Errorf("given up for %q, want %q", got, reasons)
	}
}

// Pauses grow as the subscription says, also when nobody listens at the URL.
func TestCallsAreTriedAgainWithGrowingPauses(t *testing.T) {
	t.Parallel()
	program := example.Build(t, &config{})
	db, receiver := example.Database(t, "webhook.sql"), newReceiver(t)
	receiver.Close()
	example.Tick(t, db)
	order(t, db, pgq.Row{"answer": pgq.Text("200")})
	program.Start(t, "src_db="+db.DSN, "url="+receiver.URL)
	for try, pause := range []int{30, 60, 120} {
		db.WaitFor(t, "select count(*) = 1 from pgq.retry_queue where ev_retry = $1", try+1)
		if got := pgtest.Value[int](t, db, "select extract(epoch from ev_retry_after - now())::int from pgq.retry_queue"); got < pause-10 || got > pause {
			t.Errorf("after try %d the pause is %d s, want %d", try+1, got, pause)
		}
		db.Exec(t, "update pgq.retry_queue set ev_retry_after = now()")
	}
}

// A program that is killed in the middle of its calls makes them once more, by the same key.
func TestCallsSurviveKills(t *testing.T) {
	t.Parallel()
	program := example.Build(t, &config{})
	db, receiver := example.Database(t, "webhook.sql"), newReceiver(t)
	const orders = 60
	for n := range orders {
		order(t, db, pgq.Row{"answer": pgq.Text("200"), "n": pgq.Text(fmt.Sprint(n))})
	}
	example.Tick(t, db)
	for round := 1; round <= 3; round++ {
		run := program.Start(t, "src_db="+db.DSN, "url="+receiver.URL)
		pgtest.Eventually(t, 10*time.Second, "some calls are made", func() bool { return len(receiver.got()) >= min(round*10, orders) })
		run.Kill()
	}
	program.Start(t, "src_db="+db.DSN, "url="+receiver.URL)
	pgtest.Eventually(t, 10*time.Second, "all calls are made", func() bool { return len(receiver.got()) == orders })
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	keys := map[string]string{}
	for _, c := range receiver.calls {
		if other, found := keys[c.body]; found && other != c.key {
			t.Errorf("%s came with the keys %s and %s", c.body, other, c.key)
		}
		keys[c.body] = c.key
	}
}
