package ticker

// What /metrics tells, and that the ready-made rules and dashboard ask for nothing
// else.

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"goworkers/batch"
	"goworkers/internal/pgtest"
)

// told returns the metrics that a ticker has, each with the names of its labels.
func told(t *testing.T, r *running) map[string]map[string]bool {
	t.Helper()
	families, err := r.job.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]bool{}
	for _, f := range families {
		labels := map[string]bool{"instance": true, "cluster": true} // Prometheus adds them
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		all[f.GetName()] = labels
	}
	return all
}

// everything makes a database of which every metric has something to tell.
func everything(t *testing.T) *pgtest.Database {
	t.Helper()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); select pgq.create_queue('bad');
		select pgq.register_consumer('q', 'c'); select pgq.register_consumer('q', 'held');
		update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0', queue_rotation_period = '0'`)
	d.Exec(t, `select pgq.insert_event('q', 't', 'd')`)
	d.Exec(t, `select pgq.ticker('q')`)
	d.Exec(t, `select pgq.event_failed(b, 1, 'broken') from pgq.next_batch('q', 'c') b`)
	d.Exec(t, `select pgq.insert_event_at('q', now() + interval '1 day', 't', 'd');
		select pgq.event_retry_raw('q', 'held', now(), null, now(), 1, 'again', 'd', null, null, null, null);
		update pgq.tick set tick_snapshot = '4000000000:4000000000:' where tick_queue = 2`)
	return d
}

const monitoring = "../../examples/monitoring"

var (
	metricName = regexp.MustCompile(`\bskytools_[a-z_]+`)
	labelName  = regexp.MustCompile(`\$labels\.([a-z_]+)|\{\{([a-z_]+)\}\}`)
	byDatabase = regexp.MustCompile(`\bby \((database|database, [a-z_, ]*)\)`)
	grouped    = regexp.MustCompile(`\b(?:by|on) \(([a-z_, ]+)\)`)
)

// checkExpr finds what in an expression, or in the text about it, no ticker tells.
func checkExpr(t *testing.T, where, expr, text string, told map[string]map[string]bool) {
	t.Helper()
	names := metricName.FindAllString(expr, -1)
	if len(names) == 0 {
		t.Errorf("%s: no metric in %q", where, expr)
	}
	var wanted []string
	for _, m := range labelName.FindAllStringSubmatch(text, -1) {
		wanted = append(wanted, m[1]+m[2])
	}
	for _, m := range grouped.FindAllStringSubmatch(expr, -1) {
		wanted = append(wanted, strings.Split(m[1], ", ")...)
	}
	for _, name := range names {
		labels, found := told[name]
		if !found {
			t.Errorf("%s: the ticker tells no %s", where, name)
			continue
		}
		for _, label := range wanted {
			if !labels[label] {
				t.Errorf("%s: %s has no label %s", where, name, label)
			}
		}
	}
	for _, pair := range []string{"()", "{}", "[]"} {
		if strings.Count(expr, pair[:1]) != strings.Count(expr, pair[1:]) {
			t.Errorf("%s: %s do not match in %q", where, pair, expr)
		}
	}
}

func TestMonitoringAsksForWhatIsTold(t *testing.T) {
	t.Parallel()
	d := everything(t)
	settings := quick(one(d))
	r := start(t, settings, nil)
	r.waitLog(t, "ticker: queue bad")
	d.Exec(t, `create function public.broken(text) returns int language sql as 'select 1/0';
		update pgq.queue set queue_extra_maint = '{public.broken}' where queue_id = 1`) // for errors_total
	var metrics map[string]map[string]bool
	for _, name := range []string{"skytools_ticker_errors_total", "skytools_ticker_retried_events_total", "skytools_queue_rotation_blocked_seconds"} {
		pgtest.Eventually(t, soon, name+" is told", func() bool {
			metrics = told(t, r)
			return metrics[name] != nil
		})
	}
	d.Exec(t, `notify pgq_insert, 'q'`)
	pgtest.Eventually(t, soon, "the word is counted", func() bool {
		metrics = told(t, r)
		return metrics["skytools_ticker_wakeups_total"] != nil && metrics["skytools_ticker_ticks_total"] != nil
	})

	t.Run("rules", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(monitoring, "skytools.rules.yml"))
		if err != nil {
			t.Fatal(err)
		}
		type rule struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
		var file struct {
			Groups []struct {
				Name  string
				Rules []rule
			}
		}
		decoder := yaml.NewDecoder(strings.NewReader(string(text)))
		decoder.KnownFields(true)
		if err := decoder.Decode(&file); err != nil {
			t.Fatal(err)
		}
		if len(file.Groups) != 1 || len(file.Groups[0].Rules) < 8 {
			t.Fatalf("groups: %+v", file.Groups)
		}
		for _, name := range []string{"TickerDown", "TickerStalled", "TickerGone", "SpareTickersOnly", "QueuesNotTold"} {
			if !slices.ContainsFunc(file.Groups[0].Rules, func(r rule) bool { return r.Alert == name && r.Labels["severity"] == "critical" }) {
				t.Errorf("no critical rule %s", name)
			}
		}
		for _, rule := range file.Groups[0].Rules {
			if m := byDatabase.FindString(rule.Expr); m != "" {
				t.Errorf("%s: %q takes databases of one name on several servers for one", rule.Alert, m)
			}
			if rule.Alert == "" || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" {
				t.Errorf("rule %+v lacks a name, a severity or a summary", rule)
			}
			checkExpr(t, rule.Alert, rule.Expr, rule.Annotations["summary"], metrics)
		}
	})
	t.Run("dashboard", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(monitoring, "grafana-dashboard.json"))
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ Expr, LegendFormat string }
			}
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatal(err)
		}
		if len(board.Panels) < 10 {
			t.Errorf("%d panels", len(board.Panels))
		}
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				checkExpr(t, panel.Title, target.Expr, target.LegendFormat, metrics)
			}
		}
	})
	t.Run("scrape", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(monitoring, "prometheus.yml"))
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Rules  []string `yaml:"rule_files"`
			Scrape []struct {
				Static []struct{ Labels map[string]string } `yaml:"static_configs"`
			} `yaml:"scrape_configs"`
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(file.Rules, []string{"skytools.rules.yml", "pooler.rules.yml"}) || len(file.Scrape) != 3 {
			t.Fatalf("it loads %v and scrapes %v", file.Rules, file.Scrape)
		}
		if len(file.Scrape[0].Static) == 0 || file.Scrape[0].Static[0].Labels["cluster"] == "" {
			t.Errorf("tickers have no label cluster, which the rules go by: %v", file.Scrape[0])
		}
	})
	t.Run("README", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(monitoring, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		// `_name` in a row continues the first name's prefix.
		prefix := regexp.MustCompile("`(skytools_(?:queue|ticker))?(_[a-z_]+)")
		written := map[string]bool{}
		for _, line := range strings.Split(string(text), "\n") {
			if !strings.HasPrefix(line, "| `skytools_") {
				continue
			}
			start := ""
			for _, m := range prefix.FindAllStringSubmatch(strings.Split(line, " | ")[0], -1) {
				if m[1] != "" {
					start = m[1]
				}
				written[start+m[2]] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(metrics)) {
			if (strings.HasPrefix(name, "skytools_queue_") || strings.HasPrefix(name, "skytools_ticker_")) && !written[name] {
				t.Errorf("README names no %s", name)
			}
		}
		for name := range written {
			if metrics[name] == nil {
				t.Errorf("README names %s, which no ticker tells", name)
			}
		}
	})
}

// The values of a queue and its consumers, and their end.
func TestMetricsOfQueuesAndConsumers(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); select pgq.register_consumer('q', 'c'); select pgq.register_consumer('q', 'd')`)
	for range 3 {
		d.Exec(t, `select pgq.insert_event('q', 't', 'd')`)
	}
	d.Exec(t, `update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '1 hour', queue_rotation_period = '1 hour'`)
	d.Exec(t, `select pgq.ticker('q')`)
	d.Exec(t, `select pgq.event_failed(b, 1, 'broken'), pgq.event_retry(b, 2, 3600) from pgq.next_batch('q', 'c') b`)
	d.Exec(t, `select pgq.insert_event_at('q', now() + interval '1 day', 't', 'd')`)
	d.Exec(t, `update pgq.subscription set sub_paused = true where sub_consumer = (select co_id from pgq.consumer where co_name = 'd')`)
	r := start(t, quick(one(d)), nil)
	d.WaitFor(t, `select count(*) >= 2 from pgq.tick`)
	pgtest.Eventually(t, soon, "the queue is told", func() bool {
		_, found := r.gauge(t, "skytools_queue_tick_age_seconds", d.Name, "q")
		return found
	})
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"queue_tick_idle_period_seconds", []string{"q"}, 3600},
		{"queue_rotation_period_seconds", []string{"q"}, 3600},
		{"queue_ticker_off", []string{"q"}, 0},
		{"queue_delayed_events", []string{"q"}, 1},
		{"queue_consumer_dead_events", []string{"q", "c"}, 1},
		{"queue_consumer_retry_events", []string{"q", "c"}, 1},
		{"queue_consumer_dead_events", []string{"q", "d"}, 0},
		{"queue_consumer_batch_open", []string{"q", "c"}, 1},
		{"queue_consumer_batch_open", []string{"q", "d"}, 0},
		{"queue_consumer_paused", []string{"q", "c"}, 0},
		{"queue_consumer_paused", []string{"q", "d"}, 1},
		{"queue_consumer_ticks_total", []string{"q", "c"}, 1},
	} {
		got, found := r.gauge(t, "skytools_"+c.name, append(c.labels, d.Name)...)
		if !found || got != c.want {
			t.Errorf("%s%v = %v (found: %v), want %v", c.name, c.labels, got, found, c.want)
		}
	}
	for name, least := range map[string]float64{
		"queue_events_total": 3, "queue_ticks_total": 2, "queue_table_bytes": 1,
		"queue_consumer_pending_events": 2, "queue_consumer_lag_seconds": 0, "queue_rotation_age_seconds": 0,
	} {
		if got, found := r.gauge(t, "skytools_"+name, "q", d.Name); !found || got < least {
			t.Errorf("%s = %v (found: %v), want at least %v", name, got, found, least)
		}
	}
	d.Exec(t, `select pgq.drop_queue('q', true)`)
	if _, found := r.gauge(t, "skytools_queue_tick_age_seconds", "q"); found {
		t.Error("the dropped queue is still told")
	}
	if _, found := r.gauge(t, "skytools_queue_consumer_lag_seconds", "q"); found {
		t.Error("the consumer of the dropped queue is still told")
	}
}

// A database that does not answer costs its own series, and neither the scrape nor
// the others'.
func TestScrapeSurvivesALostDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	lost, other := server.DB(t, "pgq"), pgtest.DB(t, "pgq")
	for _, d := range []*pgtest.Database{lost, other} {
		d.Exec(t, busyQueue)
	}
	cfg := DaemonConfig{DatabaseList: []string{lost.DSN, other.DSN}}
	cfg.JobConfig = batch.JobConfig{JobName: "test"}
	r := start(t, quick(cfg.Settings()), nil)
	for _, d := range []*pgtest.Database{lost, other} {
		pgtest.Eventually(t, soon, "both are told", func() bool {
			_, found := r.gauge(t, "skytools_queue_tick_age_seconds", d.Name)
			return found
		})
	}
	server.Stop(t)
	if _, found := r.gauge(t, "skytools_queue_tick_age_seconds", lost.Name); found {
		t.Error("the lost database is told all the same")
	}
	if _, found := r.gauge(t, "skytools_queue_tick_age_seconds", other.Name); !found {
		t.Error("the other database is not told")
	}
	server.Start(t)
	pgtest.Eventually(t, soon, "the lost one is told again", func() bool {
		_, found := r.gauge(t, "skytools_queue_tick_age_seconds", lost.Name)
		return found
	})
}
