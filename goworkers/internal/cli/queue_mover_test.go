package cli

// The command queue_mover, as a process that is killed.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func TestQueueMoverKeepsCountThroughKills(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	src, dst := pgtest.DB(t, "pgq"), pgtest.DB(t, "pgq", "pgq_ext")
	src.Exec(t, "select pgq.create_queue('events')")
	dst.Exec(t, "select pgq.create_queue('all_events')")
	ini := setupIni(t, "queue_mover", fmt.Sprintf("job_name = mover\nsrc_db = %s\ndst_db = %s\n"+
		"pgq_queue_name = events\ndst_queue_name = all_events\nloop_delay = 0.01\nexception_sleep = 0.01\n", src.DSN, dst.DSN))
	mover := link(t, "queue_mover")
	if code, _, stderr := call(t, mover, "--register", ini); code != 0 || !strings.Contains(stderr, "consumer registered") {
		t.Fatalf("--register: %d, %q", code, stderr)
	}

	const rounds, events = 8, 500
	producer := src.Conn(t)
	for round := range rounds {
		if _, err := producer.Exec(ctx, `select pgq.insert_event('events', 't', n::text)
			from generate_series($1::int, $2::int) n`, round*events+1, (round+1)*events); err != nil {
			t.Fatal(err)
		}
		if _, err := pgq.ForceTick(ctx, producer, "events"); err != nil {
			t.Fatal(err)
		}
		if _, err := pgq.Ticker(ctx, producer); err != nil {
			t.Fatal(err)
		}
		// Killed at once after the target has seen the batch come, somewhere
		// between the first event and the finish; the last one may do its work.
		cmd := exec.Command(mover, "-q", ini)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		dst.WaitFor(t, `select coalesce((select last_value > $1 and is_called from pgq.event_1_id_seq), false)`, round*events+1+round*37)
		if round == rounds-1 {
			src.WaitFor(t, `select s.sub_last_tick = (select max(tick_id) from pgq.tick) from pgq.subscription s`)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	if got := dst.Rows(t, `select count(*), count(distinct ev_data), min(ev_data::int), max(ev_data::int) from pgq.event_template`); got[0] != fmt.Sprintf("%[1]d|%[1]d|1|%[1]d", rounds*events) {
		t.Errorf("count|distinct|min|max = %s, want %d different events", got[0], rounds*events)
	}

	for _, c := range []struct{ option, want string }{
		{"--rewind", "consumer moved on its queue to where the target is"},
		{"--reset", "target has forgotten its place"},
	} {
		if code, _, stderr := call(t, mover, c.option, ini); code != 0 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: %d, %q", c.option, code, stderr)
		}
	}
	if got := dst.Rows(t, `select last_tick_id from pgq_ext.completed_tick`); len(got) != 0 {
		t.Errorf("after --reset the target has tick %v", got)
	}
	if code, _, stderr := call(t, mover, "--rewind", ini); code != 1 || !strings.Contains(stderr, "nowhere to go back to") {
		t.Errorf("--rewind after --reset: %d, %q", code, stderr)
	}
	if code, _, stderr := call(t, mover, "--unregister", ini); code != 0 {
		t.Errorf("--unregister: %d, %q", code, stderr)
	}
	if code, _, stderr := call(t, mover, "--unregister", ini); code != 1 || stderr != "queue_mover: "+ini+": the consumer is not registered on queue \"events\"\n" {
		t.Errorf("--unregister again: %d, %q", code, stderr)
	}
}

func TestQueueMoverRefusesBadInput(t *testing.T) {
	t.Parallel()
	good := "src_db = dbname=a\ndst_db = dbname=b\npgq_queue_name = q\ndst_queue_name = r\n"
	for _, c := range []struct {
		name, section, text string
		args                []string
		want                string
	}{
		{"nothing in the section", "queue_mover", "", nil, "[queue_mover] queue_name: is missing"},
		{"another section", "mover", good, nil, "[queue_mover]: section not found; the file has [mover]"},
		{"a key that does not exist", "queue_mover", good + "dst_queue = x\n", nil, `[queue_mover] dst_queue = "x": unknown key`},
		{"no number", "queue_mover", good + "pgq_lazy_fetch = many\n", nil, `[queue_mover] pgq_lazy_fetch = "many":`},
		{"both", "queue_mover", good, []string{"--register", "--unregister"}, "exclude each other"},
		{"two others", "queue_mover", good, []string{"--rewind", "--reset"}, "exclude each other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ini := setupIni(t, c.section, c.text)
			code, stdout, stderr := run(t, append(append([]string{"queue_mover"}, c.args...), ini)...)
			if code != 2 || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("%d, %q, %q; want 2 and %q", code, stdout, stderr, c.want)
			}
		})
	}
}

// What only a person can mend ends a start with status 1 and one line; a server
// that cannot be reached is waited for (TestDaemonWaitsForItsDatabase).
func TestQueueMoverEndsWhenItsDatabasesAreNotSetUp(t *testing.T) {
	t.Parallel()
	bare, old := pgtest.DB(t), pgtest.DB(t)
	old.Exec(t, "create schema pgq; create function pgq.version() returns text language sql as $$ select '2.1.8'::text $$")
	good := pgtest.DB(t, "pgq", "pgq_ext")
	good.Exec(t, "select pgq.create_queue('q')")
	nowhere := good.DSN + " dbname=nowhere"
	for _, c := range []struct{ name, src, dst, queue, want string }{
		{"no source", nowhere, good.DSN, "q", `[queue_mover] src_db: cannot connect to database "nowhere"`},
		{"no pgq", bare.DSN, good.DSN, "q", "src_db needs the extension pgq"},
		{"old pgq", old.DSN, good.DSN, "q", "src_db: the database has pgq 2.1.8, but 3.0 or newer is needed"},
		{"no queue", good.DSN, good.DSN, "none", "create the queue with: pgqadm INI create none"},
		{"no target", good.DSN, nowhere, "q", `[queue_mover] dst_db: cannot connect to database "nowhere"`},
		{"no pgq_ext", good.DSN, bare.DSN, "q", "dst_db needs the extension pgq_ext"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ini := setupIni(t, "queue_mover", "src_db = "+c.src+"\ndst_db = "+c.dst+"\npgq_queue_name = "+c.queue+"\ndst_queue_name = q\n")
			code, stdout, stderr := run(t, "queue_mover", ini)
			lines := strings.Split(strings.TrimSpace(stderr), "\n")
			last := lines[len(lines)-1]
			if code != 1 || stdout != "" || !strings.Contains(last, c.want) || !strings.Contains(last, ini) {
				t.Errorf("%d, %q, %q; want 1 and %q", code, stdout, stderr, c.want)
			}
		})
	}
}
