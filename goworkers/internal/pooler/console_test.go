package pooler

import (
	"context"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
)

func TestCommandGrammar(t *testing.T) {
	for sql, want := range map[string]command{
		"":                                  {},
		" ;\n; ":                            {},
		"-- ping":                           {},
		"show version":                      {name: "show", arg: "version"},
		"  SHOW\tPools\n;":                  {name: "show", arg: "Pools"},
		`pause "My ""db"""`:                 {name: "pause", arg: `My "db"`},
		`kill "";`:                          {name: "kill"},
		"select version()":                  {name: "select", arg: "version()"},
		"reload":                            {name: "reload"},
		"set a=1":                           {name: "set", arg: "a", value: "1"},
		"SET Query_Timeout = '7.5';":        {name: "set", arg: "query_timeout", value: "7.5"},
		"set a TO b":                        {name: "set", arg: "a", value: "b"},
		"set a to 'b c' ; ":                 {name: "set", arg: "a", value: "b c"},
		"set q = 'select ''x'''":            {name: "set", arg: "q", value: "select 'x'"},
		`set q = ""`:                        {name: "set", arg: "q"},
		"set a = ';'":                       {name: "set", arg: "a", value: ";"},
		"set server_check_query='select 1'": {name: "set", arg: "server_check_query", value: "select 1"},
	} {
		if got, ok := parseCommand(sql); !ok || got != want {
			t.Errorf("%q: %+v, %v", sql, got, ok)
		}
	}
	for _, sql := range []string{
		"show version; show version", "show version show", "pause; d", "pause a b", "pause = d", "pause'd'", "'pause' d", "pause 'd'", "show 'pools'", "= 1",
		"set", "set a", "set a 1", "set a =", "set a = ;", "set a = b c", "set a to", "set ato b", "set a tob", "set = 1", "set a = 'b", `pause "d`,
		"set a = 'b' c", "-- comment\nshow version", "/* x */ show version", "show version -- x",
	} {
		if got, ok := parseCommand(sql); ok {
			t.Errorf("%q is taken for %+v", sql, got)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, sql := range []string{"show pools;", `pause "a""b"`, "set a to 'b''c'", "set a=1 ;", "' \" = to"} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		cmd, ok := parseCommand(sql)
		if !ok || cmd.name == "" {
			return
		}
		// What was understood can be said again.
		again := cmd.name
		switch quoted := `"` + strings.ReplaceAll(cmd.value, `"`, `""`) + `"`; {
		case cmd.name == "set":
			again += " " + cmd.arg + " = " + quoted
		case cmd.arg != "":
			again += ` "` + strings.ReplaceAll(cmd.arg, `"`, `""`) + `"`
		}
		if got, ok := parseCommand(again); !ok || got != cmd {
			t.Errorf("%q is %+v, but %q is %+v, %v", sql, cmd, again, got, ok)
		}
	})
}

func TestConsoleCommands(t *testing.T) {
	r := start(t, config{
		databases: entry("d", pgtest.DB(t)), settings: "stats_users = watcher",
		authFile: "\"postgres\" \"\"\n\"watcher\" \"\"\n\"other\" \"\"\n",
	})
	a := r.connect("d")
	pid := value[int](t, a, backend)
	r.console("reconnect d")
	if got := value[int](t, a, backend); got == pid {
		t.Error("RECONNECT left the server")
	}
	r.console("wait_close d")
	r.console("SET Query_Timeout = '7.5';")
	rows := r.console("show config")
	i := slices.IndexFunc(rows, func(m map[string]string) bool { return m["key"] == "query_timeout" })
	if rows[i]["value"] != "7.5" || rows[i]["changeable"] != "yes" {
		t.Errorf("query_timeout: %v", rows[i])
	}
	for _, tc := range []struct{ sql, want string }{
		{"fly", "invalid command 'fly', use SHOW HELP;"},
		{"Fly 'me';", "invalid command 'Fly 'me';', use SHOW HELP;"},
		{"show nothing", "invalid command 'show nothing', use SHOW HELP;"},
		{"show", "invalid command 'show', use SHOW HELP;"},
		{"select 1", "invalid command 'select 1', use SHOW HELP;"},
		{"pause a b", "invalid command 'pause a b', use SHOW HELP;"},
		{"show version; pause", "invalid command 'show version; pause', use SHOW HELP;"},
		{"shutdown sometime", "invalid command 'shutdown sometime', use SHOW HELP;"},
		{"reload now", "invalid command 'reload now', use SHOW HELP;"},
		{"kill_client", "invalid client pointer supplied"},
		{"kill_client x", "invalid client pointer supplied"},
		{"kill_client 9999", "client not found"},
		{"kill_client 0xabcdef", "client not found"},
		{"kill nowhere", "no such database: nowhere"},
		{"pause D", "no such database: D"},
		{"pause \"no where\"", "no such database: no where"},
		{"wait_close nowhere", "no such database: nowhere"},
		{"disable", "a database is required"},
		{"enable", "a database is required"},
		{"resume", "pooler is not paused/suspended"},
		{"resume d", "database d is not paused"},
		{"pause pgbouncer", "cannot pause admin db: pgbouncer"},
		{"resume pgbouncer", "database pgbouncer is not paused"},
		{"kill pgbouncer", "cannot kill admin db: pgbouncer"},
		{"disable pgbouncer", "cannot disable admin db: pgbouncer"},
		{"enable pgbouncer", "cannot enable admin db: pgbouncer"},
		{"reconnect pgbouncer", "cannot reconnect admin db: pgbouncer"},
		{"set no_such_setting = 1", "SET failed"},
		{"set listen_port = 1", "SET failed"},
		{"set query_timeout = long", "SET failed"},
	} {
		if _, err := r.command(tc.sql); err == nil || pgError(t, err).Message != tc.want || pgError(t, err).Code != "08P01" || pgError(t, err).Severity != "ERROR" {
			t.Errorf("%s: %v", tc.sql, err)
		}
	}
	if _, err := r.command("set listen_port = 1"); !strings.Contains(pgError(t, err).Detail, "restart") {
		t.Errorf("no detail: %v", pgError(t, err).Detail)
	}
	// Pausing what is paused is done already; pausing all is refused.
	r.console("pause d")
	r.console("pause d")
	r.console("resume d")
	r.console("pause")
	if _, err := r.command("pause"); err == nil || pgError(t, err).Message != "already suspended/paused" {
		t.Errorf("pause again: %v", err)
	}
	r.console("resume")
	// By the number of either column.
	for _, column := range []string{"id", "ptr"} {
		b := r.connect("d", "application_name="+column)
		r.console("kill_client " + r.where("clients", "application_name", column)[0][column])
		if _, err := b.Exec(background(t), "select 1"); err == nil || pgError(t, err).Message != "admin forced disconnect" {
			t.Errorf("client killed by %s: %v", column, err)
		}
	}
	watcher, err := pgconn.Connect(background(t), r.dsn("pgbouncer", "user=watcher"))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close(context.Background())
	for what := range shows {
		if _, err := watcher.Exec(background(t), "show "+what).ReadAll(); (err != nil) != (what == "fds") {
			t.Errorf("stats user: show %s: %v", what, err)
		}
	}
	for _, sql := range []string{"pause", "set query_timeout = 1", "shutdown", "reload", "kill_client 1"} {
		if _, err := watcher.Exec(background(t), sql).ReadAll(); err == nil || pgError(t, err).Message != "admin access needed" {
			t.Errorf("stats user: %s: %v", sql, err)
		}
	}
	if _, err := watcher.Exec(background(t), "fly").ReadAll(); err == nil || pgError(t, err).Message != "invalid command 'fly', use SHOW HELP;" {
		t.Errorf("stats user: %v", err)
	}
	res := watcher.ExecParams(background(t), "show pools", nil, nil, nil, nil).Read()
	if e, ok := asPgError(res.Err); !ok || e.Message != "extended query protocol not supported by admin console" || e.Severity != "ERROR" {
		t.Errorf("extended protocol: %v", res.Err)
	}
	if e := r.refused("pgbouncer", "user=other"); e.Message != "not allowed" {
		t.Errorf("got %v", e)
	}
}

// What drivers ask for and set when they connect means nothing here, but is answered.
func TestConsoleHumoursDrivers(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	cfg, err := pgconn.ParseConfig(r.dsn("pgbouncer"))
	if err != nil {
		t.Fatal(err)
	}
	var notices []string
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message+n.Detail) }
	conn, err := pgconn.ConnectConfig(background(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if v := conn.ParameterStatus("server_version"); v != "4.0/bouncer" {
		t.Errorf("server_version %q", v)
	}
	for _, tc := range []struct{ sql, tag, value string }{
		{"show client_encoding", "SHOW", "UTF-8"}, {"show extra_float_digits", "SHOW", "2"}, {"SHOW DateStyle", "SHOW", "ISO"}, {"show TimeZone;", "SHOW", "GMT"},
		{"show standard_conforming_strings", "SHOW", "on"}, {"show default_transaction_isolation", "SHOW", "read committed"},
		{"select version", "SHOW", Version}, {"show version", "SHOW", Version},
		{"set client_encoding to 'UTF8'", "SET", ""}, {"set datestyle = ISO", "SET", ""}, {"set extra_float_digits = 3", "SET", ""},
		{"set query_wait_timeout = '77'", "SET query_wait_timeout=77", ""},
	} {
		notices = nil
		res, err := conn.Exec(background(t), tc.sql).ReadAll()
		if err != nil || len(res) != 1 || res[0].CommandTag.String() != tc.tag || tc.value != "" && string(res[0].Rows[0][0]) != tc.value {
			t.Errorf("%s: %v, %v", tc.sql, res, err)
		}
		if tc.tag == "SET" && !slices.Equal(notices, []string{"SET ignored"}) {
			t.Errorf("%s: notices %q", tc.sql, notices)
		}
	}
	notices = nil
	if res, err := conn.Exec(background(t), "show help").ReadAll(); err != nil || len(res) != 1 || len(res[0].Rows) != 0 {
		t.Errorf("show help: %v, %v", res, err)
	}
	if len(notices) != 1 || !strings.HasPrefix(notices[0], "Console usage\n\tSHOW HELP|CONFIG") {
		t.Fatalf("help: %q", notices)
	}
	// It names everything there is.
	for what := range shows {
		if !strings.Contains(notices[0], strings.ToUpper(what)) {
			t.Errorf("SHOW HELP does not tell of SHOW %s", what)
		}
	}
	for name := range commands {
		if !strings.Contains(notices[0], strings.ToUpper(name)) && name != "suspend" {
			t.Errorf("SHOW HELP does not tell of %s", name)
		}
	}
}

func TestProgramsReadTheConsole(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	exec(t, r.connect("d"), "select 1")
	t.Run("pgx", func(t *testing.T) {
		cfg, err := pgx.ParseConfig(r.dsn("pgbouncer"))
		if err != nil {
			t.Fatal(err)
		}
		cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		conn, err := pgx.ConnectConfig(background(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		rows, err := conn.Query(background(t), "show pools")
		if err != nil {
			t.Fatal(err)
		}
		pools, err := pgx.CollectRows(rows, pgx.RowToMap)
		if err != nil || len(pools) != 2 || pools[0]["database"] != "d" || pools[0]["cl_active"] != int32(1) || pools[0]["load_balance_hosts"] != nil {
			t.Errorf("%v: %v", pools, err)
		}
		if err := conn.Ping(background(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("psql", func(t *testing.T) {
		psql := filepath.Join(os.Getenv("SKYTOOLS_TEST_TREE"), "bin", "psql")
		if _, err := os.Stat(psql); err != nil {
			if psql, err = osexec.LookPath("psql"); err != nil {
				t.Fatal("there is no psql")
			}
		}
		out, err := osexec.Command(psql, "-X", "-A", "-t", "-h", "127.0.0.1", "-p", strconv.Itoa(r.port), "-U", "postgres", "pgbouncer",
			"-c", "show pools", "-c", "show nothing").CombinedOutput()
		if text := string(out); !strings.HasPrefix(text, "d|postgres|1|0|") || !strings.Contains(text, "ERROR:  invalid command 'show nothing', use SHOW HELP;") {
			t.Errorf("psql: %v: %s", err, text)
		}
	})
}
