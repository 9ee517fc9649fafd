package consumers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"goworkers/batch"
	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func splitterText(src, dst *pgtest.Database, more string) string {
	return fmt.Sprintf("job_name = splitter\nsrc_db = %s\ndst_db = %s\nqueue_name = %s\npgq_lazy_fetch = 3\n%s", src.DSN, dst.DSN, srcQueue, more)
}

// split runs a splitter until the source is empty.
func split(t *testing.T, text string) (string, error) {
	t.Helper()
	var cfg QueueSplitterConfig
	load(t, QueueSplitterService, &cfg, text)
	return drain(t, QueueSplitterService, cfg.JobConfig, func(job *batch.Job) (batch.Worker, error) { return NewQueueSplitter(job, cfg) })
}

// inQueue is what a queue of the target holds, in the order of ids.
func inQueue(t *testing.T, dst *pgtest.Database, queue, columns string) []string {
	t.Helper()
	return dst.Rows(t, "select "+columns+" from "+pgtest.Value[string](t, dst, `select queue_data_pfx from pgq.queue where queue_name = $1`, queue)+" order by ev_id")
}

func TestSplitterGivesEachQueueItsEventsInOrder(t *testing.T) {
	t.Parallel()
	queues := []string{"mail", "Queue \"ü\"", "it's"}
	for _, c := range []struct {
		field string
		event func(queue string, data string) pgq.Event
	}{
		{"extra1", func(queue, data string) pgq.Event { return pgq.Event{Data: pgq.Text(data), Extra1: pgq.Text(queue)} }},
		{"ev_extra4", func(queue, data string) pgq.Event { return pgq.Event{Data: pgq.Text(data), Extra4: pgq.Text(queue)} }},
		{"ev_type", func(queue, data string) pgq.Event { return pgq.Event{Data: pgq.Text(data), Type: pgq.Text(queue)} }},
	} {
		t.Run(c.field, func(t *testing.T) {
			t.Parallel()
			src, producer := queueDB(t, srcQueue, "splitter")
			dst, target := queueDB(t, queues[0])
			for _, queue := range queues[1:] {
				if _, err := pgq.CreateQueue(t.Context(), target, queue); err != nil {
					t.Fatal(err)
				}
			}
			want := map[string][]string{}
			for i := range 30 {
				queue, data := queues[i*i%len(queues)], fmt.Sprintf("%03d", i)
				insert(t, producer, srcQueue, c.event(queue, data))
				want[queue] = append(want[queue], data)
				if i%11 == 10 {
					tick(t, producer, srcQueue)
				}
			}
			tick(t, producer, srcQueue)
			if _, err := split(t, splitterText(src, dst, "queue_field = "+c.field)); err != nil {
				t.Fatal(err)
			}
			for _, queue := range queues {
				if err := sameRows(inQueue(t, dst, queue, "ev_data"), want[queue]); err != nil {
					t.Errorf("queue %q: %v", queue, err)
				}
			}
		})
	}
}

func TestSplitterKeepsAllButTheID(t *testing.T) {
	t.Parallel()
	src, producer := queueDB(t, srcQueue, "splitter")
	dst, _ := queueDB(t, "public.users")
	for _, u := range append(users, bigUser()) {
		ev := rowEvent(u)
		ev.Extra2, ev.Extra3 = pgq.Text(""), pgq.Text("tab\tline\n\\N")
		insert(t, producer, srcQueue, ev)
	}
	src.Exec(t, "update pgq.event_template set ev_time = '2008-05-20 10:00:00.123456+03' where ev_data like '%ann%'")
	tick(t, producer, srcQueue)
	if _, err := split(t, splitterText(src, dst, "")); err != nil {
		t.Fatal(err)
	}
	const all = "ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4"
	want := src.Rows(t, "select "+all+" from pgq.event_template order by ev_id")
	if err := sameRows(inQueue(t, dst, "public.users", all), want); err != nil || len(want) != len(users)+1 {
		t.Errorf("%d events: %v", len(want), err)
	}
}

func TestSplitterStopsAtAnEventThatHasNoQueue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		bad  pgq.Event
		want []string
	}{
		{"NULL", pgq.Event{Data: pgq.Text("b")}, []string{`queue "user_events"`, "event 2: ev_extra1 names no queue to go to: it is NULL", "on_bad_event"}},
		{"empty", pgq.Event{Data: pgq.Text("b"), Extra1: pgq.Text("")}, []string{"event 2: ev_extra1 names no queue to go to: it is empty"}},
		{"no such queue", pgq.Event{Data: pgq.Text("b"), Extra1: pgq.Text("nowhere")}, []string{`event 2: ev_extra1 names a queue that dst_db does not have`, `"nowhere"`, "create it there with: pgqadm INI create nowhere"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src, producer := queueDB(t, srcQueue, "splitter")
			dst, _ := queueDB(t, "mail")
			batchOf(t, producer, srcQueue, pgq.Event{Data: pgq.Text("a"), Extra1: pgq.Text("mail")}, c.bad, pgq.Event{Data: pgq.Text("c"), Extra1: pgq.Text("mail")})
			for range 2 {
				_, err := split(t, splitterText(src, dst, ""))
				for _, want := range c.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Fatalf("error %v\nwant %q", err, want)
					}
				}
			}
			if got := inQueue(t, dst, "mail", "ev_data"); len(got) != 0 {
				t.Errorf("%v were split", got)
			}
			if c.name != "no such queue" {
				return
			}
			// As the error says.
			if _, err := pgq.CreateQueue(t.Context(), dst.Conn(t), "nowhere"); err != nil {
				t.Fatal(err)
			}
			if _, err := split(t, splitterText(src, dst, "")); err != nil {
				t.Fatal(err)
			}
			if got := append(inQueue(t, dst, "mail", "ev_data"), inQueue(t, dst, "nowhere", "ev_data")...); !slices.Equal(got, []string{"a", "c", "b"}) {
				t.Errorf("split %v", got)
			}
		})
	}
}

func TestSplitterSurvivesAStopAtAnyStep(t *testing.T) {
	t.Parallel()
	src, producer := queueDB(t, srcQueue, "splitter")
	dst, target := queueDB(t, "a")
	if _, err := pgq.CreateQueue(t.Context(), target, "b"); err != nil {
		t.Fatal(err)
	}
	faults := pgtest.NewFaults(t)
	text := splitterText(faults.Through(t, src), faults.Through(t, dst), "")
	want := map[string][]string{}
	n := 0
	produce := func() {
		for range 4 { // pgq_lazy_fetch is 3: a full portion and a part of one
			queue, data := string("ab"[n%2]), fmt.Sprintf("%05d", n)
			want[queue] = append(want[queue], data)
			insert(t, producer, srcQueue, pgq.Event{Data: pgq.Text(data), Extra1: pgq.Text(queue)})
			n++
		}
		tick(t, producer, srcQueue)
	}
	stopAtEachStep(t, faults, produce, func() error { _, err := split(t, text); return err }, func() error {
		if err := sameRows(inQueue(t, dst, "a", "ev_data"), want["a"]); err != nil {
			return err
		}
		return sameRows(inQueue(t, dst, "b", "ev_data"), want["b"])
	})
}
