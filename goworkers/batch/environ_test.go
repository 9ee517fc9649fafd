package batch

// Keys from the environment.

import (
	"context"
	"strings"
	"testing"
	"time"
)

type envConfig struct {
	JobConfig
	DB    ConnString `ini:"src_db" required:"true"`
	Queue string     `ini:"queue_name" alias:"pgq_queue_name"`
	Key   string     `ini:"api_key" secret:"true" choice:"a,b"`
	Mode  string     `ini:"mode"`
}

func TestPrecedenceOfSettings(t *testing.T) {
	const file = "[DEFAULT]\nloop_delay = 1\n[m]\nsrc_db = dbname=file\n"
	for _, tc := range []struct {
		name, text string
		env        map[string]string
		opt        Options
		want       string // src_db, queue_name, loop_delay, log_level
	}{
		{"[DEFAULT] alone", file, nil, Options{}, "dbname=file||1s|info"},
		{"the section over [DEFAULT]", file + "loop_delay = 2\n", nil, Options{}, "dbname=file||2s|info"},
		{"the environment over the section", file + "loop_delay = 2\n",
			map[string]string{"SKYTOOLS_LOOP_DELAY": "3", "SKYTOOLS_SRC_DB": "dbname=env"}, Options{}, "dbname=env||3s|info"},
		{"the environment over [DEFAULT]", file, map[string]string{"SKYTOOLS_LOOP_DELAY": "3"}, Options{}, "dbname=file||3s|info"},
		{"--set over the environment", file, map[string]string{"SKYTOOLS_LOOP_DELAY": "3"},
			Options{Set: map[string]string{"loop_delay": "4"}}, "dbname=file||4s|info"},
		{"-v over the environment", file, map[string]string{"SKYTOOLS_LOG_LEVEL": "error"}, Options{Verbose: true}, "dbname=file||1s|debug"},
		{"an older name in the environment", file + "queue_name = file\n", map[string]string{"SKYTOOLS_PGQ_QUEUE_NAME": "env"}, Options{}, "dbname=file|env|1s|info"},
		{"a word of the file's own", file + "queue_name = q_%(place)s\nplace = file\n", map[string]string{"SKYTOOLS_PLACE": "env"}, Options{}, "dbname=file|q_env|1s|info"},
		{"words of the file in the environment", file + "place = file\n", map[string]string{"SKYTOOLS_QUEUE_NAME": "q_%(place)s"}, Options{}, "dbname=file|q_file|1s|info"},
		{"an empty one", file + "queue_name = file\n", map[string]string{"SKYTOOLS_QUEUE_NAME": ""}, Options{}, "dbname=file||1s|info"},
		{"what is not meant for it", file, map[string]string{"SKYTOOLS_DST_DB": "x", "SKYTOOLS_NODE": "x", "skytools_src_db": "x", "SKYTOOLS_Src_Db": "x",
			daemonEnv: "", "SRC_DB": "x", "SKYTOOLS_": "x"}, Options{}, "dbname=file||1s|info"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for name, value := range tc.env {
				t.Setenv(name, value)
			}
			tc.opt.Path = writeIni(t, tc.text)
			var cfg envConfig
			if _, err := LoadConfig("m", &cfg, tc.opt); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join([]string{string(cfg.DB), cfg.Queue, cfg.LoopDelay.String(), cfg.LogLevel}, "|"); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// A fault names where the value is from, and hides what is secret.
func TestFaultsNameTheirSource(t *testing.T) {
	for name, value := range map[string]string{
		"SKYTOOLS_SRC_DB": "host=h password=hidden port=oh", "SKYTOOLS_API_KEY": "hidden", "SKYTOOLS_METRICS_LISTENN": "x",
		"SKYTOOLS_QUEUE_NAEM": "x", "SKYTOOLS_LOG_COUNT": "-1", "SKYTOOLS_MODEE": "hidden",
	} {
		t.Setenv(name, value)
	}
	path := writeIni(t, "[m]\nlog_size = big\n")
	_, err := LoadConfig("m", &envConfig{}, Options{Path: path, Set: map[string]string{"loop_delay": "soon"}})
	if ExitCode(err) != 2 {
		t.Fatalf("got %v, want misuse", err)
	}
	for _, want := range []string{
		`src_db = "host=h password=*** port=oh" (from SKYTOOLS_SRC_DB): is not a connection string`,
		`api_key = "***" (from SKYTOOLS_API_KEY): must be one of`,
		`log_count = "-1" (from SKYTOOLS_LOG_COUNT): is too small`,
		`loop_delay = "soon" (from --set): is not a time span`,
		`log_size = "big": is not a size`,
		`queue_name: SKYTOOLS_QUEUE_NAEM of the environment is no key; did you mean SKYTOOLS_QUEUE_NAME? Unset or rename it`,
		`metrics_listen: SKYTOOLS_METRICS_LISTENN of the environment is no key`,
	} {
		if !strings.Contains(err.Error(), path+": [m] "+want) {
			t.Errorf("missing: %s in\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 7 || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%d lines, want 7, without secrets:\n%v", n, err)
	}
}

func TestConnectErrorNamesTheEnvironment(t *testing.T) {
	t.Setenv("SKYTOOLS_SRC_DB", "host=127.0.0.1 port=1 password=hidden")
	path := writeIni(t, "[m]\nsrc_db = dbname=right\n")
	var cfg envConfig
	if _, err := LoadConfig("m", &cfg, Options{Path: path}); err != nil {
		t.Fatal(err)
	}
	job, _ := setupJob(t, cfg.JobConfig)
	_, err := job.DB(context.Background(), "src_db", cfg.DB)
	if want := path + ": [m] src_db (from SKYTOOLS_SRC_DB): cannot connect to database "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s…", err, want)
	}
	if job.Config.LoopDelay != time.Second {
		t.Errorf("loop_delay is %s", job.Config.LoopDelay)
	}
}

func TestOneSlip(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"src_bd", "src_db", true}, {"scr_db", "src_db", true}, {"src_d", "src_db", true}, {"src_dbs", "src_db", true}, {"srk_db", "src_db", true},
		{"src_db", "src_db", false}, {"dst_db", "src_db", false}, {"crs_db", "src_db", false}, {"db", "dbs", false}, {"queue", "consumer", false},
		{"bd_src", "src_db", false}, {"aa_bbb", "aaa_bb", false},
	} {
		if got := oneSlip(tc.a, tc.b); got != tc.want {
			t.Errorf("%s and %s: %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
}
