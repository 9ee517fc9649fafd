package consumers

// Jobs whose servers go away and come back in the middle.

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func TestConsumersGoOnAfterARestartOfTheirServers(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Server(t), pgtest.Server(t)
	type restarted struct {
		service  string
		src, dst *pgtest.Database
		log      *logText
		once     bool
		got      func() []string
	}
	var jobs []*restarted
	for _, service := range []string{QueueSplitterService, SimpleConsumerService, SimpleSerialConsumerService} {
		j := &restarted{service: service, src: source.DB(t, "pgq"), dst: target.DB(t, "pgq", "pgq_ext"), once: service != SimpleConsumerService}
		j.src.Exec(t, "select pgq.create_queue('user_events')")
		j.dst.Exec(t, usersSQL)
		j.got = func() []string { return noted(t, j.dst) }
		text := simpleText(j.src, j.dst, noteQuery, "")
		cfg, start := batch.JobConfig{}, starter(nil)
		switch service {
		case QueueSplitterService:
			j.dst.Exec(t, "select pgq.create_queue('public.users')")
			j.got = func() []string { return j.dst.Rows(t, "select ev_data from pgq.event_template order by ev_id") }
			var splitter QueueSplitterConfig
			load(t, service, &splitter, splitterText(j.src, j.dst, ""))
			cfg, start = splitter.JobConfig, func(job *batch.Job) (batch.Worker, error) { return NewQueueSplitter(job, splitter) }
		case SimpleConsumerService:
			cfg, start = simpleConsumer.make(t, text)
		default:
			cfg, start = serialConsumer.make(t, text)
		}
		j.log = running(t, service, cfg, start)
		j.src.WaitFor(t, "select count(*) = 1 from pgq.subscription")
		jobs = append(jobs, j)
	}
	want := map[string][]string{}
	n := 0
	produce := func(rounds int) {
		for range rounds {
			n++
			u := pgq.Row{"username": pgq.Text(fmt.Sprintf("Õ'%d", n)), "email": {}, "score": pgq.Text(fmt.Sprint(n))}
			for _, j := range jobs {
				conn, err := pgx.Connect(t.Context(), j.src.DSN)
				if err != nil {
					t.Fatal(err)
				}
				batchOf(t, conn, srcQueue, rowEvent(u), rowEvent(u))
				conn.Close(t.Context())
				row := userRow(u)
				if j.service == QueueSplitterService {
					row = u.Encode()
				}
				want[j.service] = append(want[j.service], row, row)
			}
		}
	}
	done := func(when string) {
		for _, j := range jobs {
			j.src.WaitFor(t, "select sub_last_tick = (select max(tick_id) from pgq.tick) from pgq.subscription")
			compare := noneLost
			if j.once {
				compare = sameRows
			}
			if err := compare(j.got(), want[j.service]); err != nil {
				t.Errorf("%s, %s: %v", j.service, when, err)
			}
		}
	}
	logs := map[string]*logText{}
	for _, j := range jobs {
		logs[j.service] = j.log
	}
	throughRestarts(t, source, target, logs, produce, done)
}

// throughRestarts has servers go away and come back while jobs work. Logs are those of
// the jobs, by name; done looks whether all that was produced is there.
func throughRestarts(t *testing.T, source, target *pgtest.PrivateServer, logs map[string]*logText, produce func(rounds int), done func(when string)) {
	t.Helper()
	produce(3)
	done("at first")
	for name, server := range map[string]*pgtest.PrivateServer{"source": source, "target": target} {
		produce(5) // and in the midst of it
		server.Stop(t)
		if server == target {
			produce(1) // without work nobody looks at it
		}
		for job, log := range logs {
			pgtest.Eventually(t, 20*time.Second, job+" notices", func() bool { return strings.Contains(log.String(), "work failed") })
		}
		server.Start(t)
		produce(2)
		done("after a restart of the " + name)
	}
}
