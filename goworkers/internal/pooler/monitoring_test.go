package pooler

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"

	"goworkers/internal/pgtest"
)

const monitoring = "../../examples/monitoring"

func TestHistogramBuckets(t *testing.T) {
	var h histogram
	for _, d := range []time.Duration{0, 1, firstBucket, firstBucket + 1, 2 * firstBucket, 2*firstBucket + 1, time.Second, firstBucket << (bucketCount - 1), firstBucket<<(bucketCount-1) + 1, time.Hour} {
		h.observe(d)
	}
	count, buckets := h.cumulative()
	if count != 10 || len(buckets) != bucketCount {
		t.Fatalf("%d times in %d buckets", count, len(buckets))
	}
	for bound, want := range map[float64]uint64{0.0001: 3, 0.0002: 5, 0.0004: 6, bucketBound(bucketCount - 1): 8} {
		if buckets[bound] != want {
			t.Errorf("up to %gs: %d, not %d", bound, buckets[bound], want)
		}
	}
	if top := bucketBound(bucketCount - 1); top < 100 || top > 110 {
		t.Errorf("the longest time is %gs", top)
	}
	if n := testing.AllocsPerRun(100, func() { h.observe(time.Second) }); n != 0 {
		t.Errorf("a time costs %g allocations", n)
	}
}

// gather gives the metrics as they are now.
func (r *rig) gather() map[string]*dto.MetricFamily {
	r.t.Helper()
	r.sweeps(1)
	families, err := r.p.metrics.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	all := map[string]*dto.MetricFamily{}
	for _, f := range families {
		all[f.GetName()] = f
	}
	return all
}

func TestMetricsTellWhatHappened(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_size=7 reserve_pool_size=2") + "\nbroken = host=127.0.0.1 port=1",
		settings: "metrics_listen = 127.0.0.1:0\nmax_client_conn = 55\nquery_wait_timeout = 1\nserver_login_retry = 15"})
	a := r.connect("d")
	exec(t, a, "select pg_catalog.pg_sleep(0.15)")
	exec(t, a, "begin")
	exec(t, a, "select 1")
	exec(t, a, "commit")
	if _, err := a.Prepare(background(t), "named", "select 2"); err != nil {
		t.Fatal(err)
	}
	r.refused("nowhere")
	r.refused("broken")
	r.cancelAt(make([]byte, 8))
	r.console("kill_client " + r.where("clients", "database", "d")[0]["id"])
	b := r.connect("d")
	exec(t, b, "select 1")
	r.console("pause d")
	all := r.gather()
	value := func(name string, labels ...string) float64 {
		t.Helper()
		for _, m := range all[name].GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				if l.GetName() != "user" {
					got = append(got, l.GetValue())
				}
			}
			if slices.Equal(got, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		t.Errorf("no %s %q", name, labels)
		return -1
	}
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"pooler_pool_size", []string{"d"}, 7}, {"pooler_reserve_pool_size", []string{"d"}, 2}, {"pooler_paused", []string{"d"}, 1},
		{"pooler_clients", []string{"d", "idle"}, 1}, {"pooler_servers", []string{"d", "idle"}, 0}, {"pooler_max_wait_seconds", []string{"d"}, 0},
		{"pooler_logins_total", []string{"d"}, 2}, {"pooler_queries_total", []string{"d"}, 6}, {"pooler_transactions_total", []string{"d"}, 4},
		{"pooler_client_parses_total", []string{"d"}, 1}, {"pooler_server_parses_total", []string{"d"}, 1}, {"pooler_binds_total", []string{"d"}, 0},
		{"pooler_client_errors_total", []string{"d"}, 1}, {"pooler_server_connects_total", []string{"d"}, 1},
		{"pooler_server_connect_failures_total", []string{"broken"}, 1}, {"pooler_server_connect_failures_total", []string{"d"}, 0},
		{"pooler_failed_logins_total", nil, 2}, {"pooler_cancel_requests_total", nil, 1}, {"pooler_client_tls_total", nil, 0},
		{"pooler_client_connections", nil, 1}, {"pooler_max_client_conn", nil, 55},
	} {
		if got := value(tc.name, tc.labels...); got != tc.want {
			t.Errorf("%s %v is %g, not %g", tc.name, tc.labels, got, tc.want)
		}
	}
	if value("pooler_max_descriptors") < 100 || value("process_open_fds") < 5 {
		t.Error("no descriptors are told")
	}
	for name, want := range map[string]struct{ count, slow uint64 }{
		"pooler_query_duration_seconds": {6, 1}, "pooler_transaction_duration_seconds": {4, 1}, "pooler_wait_duration_seconds": {4, 0},
	} {
		i := slices.IndexFunc(all[name].GetMetric(), func(m *dto.Metric) bool { return m.GetLabel()[0].GetValue() == "d" })
		h := all[name].GetMetric()[i].GetHistogram()
		if h.GetSampleCount() != want.count || want.slow > 0 && h.GetSampleSum() < 0.15 {
			t.Errorf("%s: %d times of %gs", name, h.GetSampleCount(), h.GetSampleSum())
		}
		for _, b := range h.GetBucket() {
			if b.GetUpperBound() < 0.15 && b.GetCumulativeCount() > want.count-want.slow {
				t.Errorf("%s: %d within %gs", name, b.GetCumulativeCount(), b.GetUpperBound())
			}
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + r.p.metrics.server.Addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `pooler_query_duration_seconds_bucket{database="d",user="postgres",le="+Inf"} 6`) {
		t.Errorf("over HTTP:\n%s", text)
	}
}

// told is the names of metrics, each with those of its labels.
func (r *rig) told() map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for name, f := range r.gather() {
		labels := map[string]bool{"instance": true}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		all[name] = labels
		if f.GetType() == dto.MetricType_HISTOGRAM {
			bucket := maps.Clone(labels)
			bucket["le"] = true
			all[name+"_bucket"], all[name+"_sum"], all[name+"_count"] = bucket, labels, labels
		}
	}
	return all
}

var (
	metricName = regexp.MustCompile(`\b(?:pooler|process)_[a-z_]+`)
	labelName  = regexp.MustCompile(`\$labels\.([a-z_]+)|\{\{([a-z_]+)\}\}`)
	grouped    = regexp.MustCompile(`\b(?:by|on) \(([a-z_, ]+)\)`)
	selector   = regexp.MustCompile(`([a-z_]+)(?:=|!=|=~|!~)"`)
)

// checkExpr finds what in an expression, or in the text about it, no pooler tells.
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
			t.Errorf("%s: the pooler tells no %s", where, name)
			continue
		}
		for _, label := range wanted {
			if !labels[label] {
				t.Errorf("%s: %s has no label %s", where, name, label)
			}
		}
	}
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		if !slices.ContainsFunc(names, func(name string) bool { return told[name][m[1]] }) {
			t.Errorf("%s: nothing has the label %s", where, m[1])
		}
	}
	for _, pair := range []string{"()", "{}", "[]"} {
		if strings.Count(expr, pair[:1]) != strings.Count(expr, pair[1:]) {
			t.Errorf("%s: %s do not match in %q", where, pair, expr)
		}
	}
}

func TestMonitoringAsksForWhatIsTold(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: "metrics_listen = 127.0.0.1:0"})
	exec(t, r.connect("d"), "select 1")
	told := r.told()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(monitoring, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	t.Run("rules", func(t *testing.T) {
		var file struct {
			Groups []struct {
				Name  string
				Rules []struct {
					Alert, Expr, For    string
					Labels, Annotations map[string]string
				}
			}
		}
		decoder := yaml.NewDecoder(strings.NewReader(string(read("pooler.rules.yml"))))
		decoder.KnownFields(true)
		if err := decoder.Decode(&file); err != nil {
			t.Fatal(err)
		}
		if len(file.Groups) != 1 || len(file.Groups[0].Rules) < 10 {
			t.Fatalf("groups: %+v", file.Groups)
		}
		for _, rule := range file.Groups[0].Rules {
			if rule.Alert == "" || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.For == "" {
				t.Errorf("rule %+v lacks a name, a time, a severity or a summary", rule)
			}
			checkExpr(t, rule.Alert, rule.Expr, rule.Annotations["summary"], told)
		}
	})
	t.Run("dashboard", func(t *testing.T) {
		var board struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ Expr, LegendFormat string }
			}
		}
		if err := json.Unmarshal(read("pooler-dashboard.json"), &board); err != nil {
			t.Fatal(err)
		}
		if len(board.Panels) < 10 {
			t.Errorf("%d panels", len(board.Panels))
		}
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				checkExpr(t, panel.Title, target.Expr, target.LegendFormat, told)
			}
		}
	})
	t.Run("README", func(t *testing.T) {
		written := map[string]bool{}
		for line := range strings.Lines(string(read("README.md"))) {
			if strings.HasPrefix(line, "| `pooler_") {
				for _, name := range metricName.FindAllString(strings.Split(line, " | ")[0], -1) {
					written[name] = true
				}
			}
		}
		for name := range told {
			base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
			if strings.HasPrefix(name, "pooler_") && !written[base] {
				t.Errorf("README names no %s", name)
			}
		}
		for name := range written {
			if told[name] == nil {
				t.Errorf("README names %s, which no pooler tells", name)
			}
		}
	})
}
