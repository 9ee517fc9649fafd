package pooler

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

// opens sends a startup packet and gives all that comes back until the pooler waits or
// closes: types of messages, and the text of an error.
func (r *rig) opens(t *testing.T, packet []byte) (types string, why string, conn net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	for {
		typ, body, err := message1(conn)
		if err != nil {
			return types, why, conn
		}
		types += string(typ)
		switch typ {
		case pgwire.MsgErrorResponse:
			rep, err := pgwire.ParseReport(body)
			if err != nil {
				t.Fatal(err)
			}
			why = rep.Message
		case pgwire.MsgNegotiateProtocolVersion:
			minor, options, err := pgwire.ParseNegotiateProtocolVersion(body)
			if err != nil {
				t.Fatal(err)
			}
			why = fmt.Sprint(minor, options)
		case pgwire.MsgReadyForQuery:
			return types, why, conn
		}
	}
}

// params makes a startup packet for the user postgres.
func params(words ...string) []byte {
	list := []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "d"}}
	for i := 0; i < len(words); i += 2 {
		list = append(list, pgwire.Param{Name: words[i], Value: words[i+1]})
	}
	return pgwire.AppendStartup(nil, list)
}

func TestStartupParameters(t *testing.T) {
	db := pgtest.DB(t)
	bothThreads(t, func(t *testing.T, threads string) {
		r := start(t, config{
			databases: entry("d", db) + "\n" + entry("postgres", db),
			settings:  threads + "ignore_startup_parameters = extra_float_digits\ntrack_extra_parameters = IntervalStyle, search_path",
		})
		const in, out = "Z", "E"
		for _, tc := range []struct {
			name   string
			packet []byte
			end    string
			why    string
		}{
			{"no parameter", params(), in, ""},
			{"tracked", params("application_name", "x", "IntervalStyle", "iso_8601", "datestyle", "German"), in, ""},
			{"ignored", params("extra_float_digits", "3"), in, ""},
			{"unknown", params("work_mem", "1GB"), out, "unsupported startup parameter: work_mem"},
			{"options", params("options", `-c search_path=a,b --intervalstyle=postgres -capplication_name=a\ b`), in, ""},
			{"unknown in options", params("options", "-c work_mem=1GB"), out, "unsupported startup parameter in options: work_mem"},
			{"ignored in options", params("options", "-c extra_float_digits=1"), in, ""},
			{"other options", params("options", "-S 100"), out, "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"},
			{"no user", pgwire.AppendStartup(nil, []pgwire.Param{{Name: "database", Value: "d"}}), out, "no username supplied"},
			{"database named as the user", pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}}), in, ""},
			{"replication off", params("replication", "off"), in, ""},
			{"replication false", params("replication", "F"), in, ""},
			{"replication nonsense", params("replication", "maybe"), out, `invalid value for parameter "replication": "maybe"`},
			{"no terminator", params()[:len(params())-1], out, "invalid startup packet layout: expected terminator as last byte"},
			{"protocol 2", []byte{0, 0, 0, 9, 0, 2, 0, 0, 0}, out, "old V2 protocol not supported"},
			{"too long", []byte{0x7f, 0, 0, 0, 0, 3, 0, 0}, out, "bad packet header: '7f00000000030000'"},
			{"long", params("application_name", strings.Repeat("x", 9900)), in, ""},
		} {
			packet := tc.packet
			if tc.name == "no terminator" {
				binary.BigEndian.PutUint32(packet, uint32(len(packet)))
			}
			types, why, conn := r.opens(t, packet)
			if !strings.HasSuffix(types, tc.end) || why != tc.why {
				t.Errorf("%s: %s %q; want %s %q", tc.name, types, why, tc.end, tc.why)
			}
			conn.Close()
		}
		conn := r.connect("d", `options='-c search_path=a,b --intervalstyle=postgres_verbose -capplication_name=a\\ b'`)
		if got := value[string](t, conn, "select current_setting('search_path') || '|' || current_setting('intervalstyle') || '|' || current_setting('application_name')"); got != "a, b|postgres_verbose|a b" {
			t.Errorf("in options: %s", got)
		}
	})
}

func TestNewerProtocolsAreTalkedDown(t *testing.T) {
	db := pgtest.DB(t)
	for _, auth := range []string{"trust", "md5"} {
		r := start(t, config{databases: entry("d", db), settings: "auth_type = " + auth, authFile: authLine("postgres", "x")})
		newer := params()
		newer[7] = 2 // 3.2
		for _, tc := range []struct {
			packet []byte
			want   string
		}{
			{newer, "0 []"}, {params("_pq_.shiny", "on", "_pq_.new", "x"), "0 [_pq_.shiny _pq_.new]"}, {params(), ""},
		} {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(time.Minute))
			conn.Write(tc.packet)
			typ, body, err := message1(conn)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if typ == pgwire.MsgNegotiateProtocolVersion {
				minor, options, err := pgwire.ParseNegotiateProtocolVersion(body)
				if err != nil {
					t.Fatal(err)
				}
				got = fmt.Sprint(minor, " ", options)
				if typ, _, err = message1(conn); err != nil {
					t.Fatal(err)
				}
			}
			if got != tc.want || typ != pgwire.MsgAuthentication {
				t.Errorf("%s: %q, then %c; want %q", auth, got, typ, tc.want)
			}
			conn.Close()
		}
	}
}

func TestApplicationNameTellsTheHost(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db), settings: "application_name_add_host = 1"})
	const sql = "select current_setting('application_name')"
	if got := value[string](t, r.connect("d"), sql); !strings.HasPrefix(got, "app - 127.0.0.1:") {
		t.Errorf("without a name: %q", got)
	}
	if got := value[string](t, r.connect("d", "application_name=mine"), sql); !strings.HasPrefix(got, "mine - 127.0.0.1:") {
		t.Errorf("with a name: %q", got)
	}
	if got := value[string](t, r.connect("d", "host="+r.dir), sql); !strings.HasPrefix(got, fmt.Sprintf("app - unix(%d@", os.Getpid())) {
		t.Errorf("over the unix socket: %q", got)
	}
}

func TestReplicationIsAskedForInAllForms(t *testing.T) {
	for value, want := range map[string]replication{
		"true": replicationPhysical, "T": replicationPhysical, "on": replicationPhysical, "Yes": replicationPhysical, "1": replicationPhysical,
		"database": replicationLogical, "DATABASE": replicationLogical,
		"false": replicationNone, "off": replicationNone, "of": replicationNone, "n": replicationNone, "0": replicationNone,
	} {
		if got, ok := parseReplication(value); !ok || got != want {
			t.Errorf("%s: %v, %v", value, got, ok)
		}
	}
	for _, value := range []string{"", "o", "2", "truer", "databases", "physical"} {
		if got, ok := parseReplication(value); ok {
			t.Errorf("%q is taken for %v", value, got)
		}
	}
	db := pgtest.DB(t)
	bothThreads(t, func(t *testing.T, threads string) {
		r := start(t, config{databases: entry("d", db), settings: threads})
		for _, value := range []string{"true", "T", "on", "1", "database"} {
			types, why, conn := r.opens(t, params("replication", value, "options", "-c work_mem=64kB", "lock_timeout", "1s"))
			if !strings.HasSuffix(types, "Z") {
				t.Errorf("replication=%s: %s %s", value, types, why)
			}
			conn.Close()
		}
	})
}

func TestLimitsOfUsers(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{
		databases: entry("d", db, "user=postgres"),
		users:     "one = max_user_client_connections=1\nmany = max_user_client_connections=3\npostgres = max_user_client_connections=1",
		authFile:  authLine("one", "") + authLine("many", "") + authLine("other", "") + authLine("postgres", ""),
		settings:  "max_user_client_connections = 2",
	})
	const full = "client connections exceeded (max_user_client_connections)"
	for user, limit := range map[string]int{"one": 1, "many": 3, "other": 2} {
		for range limit {
			r.connect("d", "user="+user)
		}
		r.bounces(t, full, "d", "user="+user)
	}
	// The console is for those who have to set it right.
	r.connect("d")
	r.bounces(t, full, "d")
	r.console("show version")
	r.console("show version")
}

// A login that comes to a halt anywhere is ended, and says so as long as it can be said.
func TestLoginTimeoutInEachPhase(t *testing.T) {
	t.Parallel()
	silent := scripted{"", ""}
	stuck := silent.serve(t)
	bothThreads(t, func(t *testing.T, threads string) {
		r := start(t, config{
			databases: fmt.Sprintf("d = host=127.0.0.1 port=%d\nasks = host=127.0.0.1 port=%d auth_user=postgres", stuck, stuck),
			authFile:  authLine("postgres", "x") + authLine("free", scramSecret(t, "geheim")),
			settings:  threads + "auth_type = md5\nclient_login_timeout = 1\nserver_tls_sslmode = disable",
		})
		for name, packet := range map[string][]byte{
			"nothing": nil, "a part of the packet": params()[:6], "no password": params(), "half a password": append(params(), 'p', 0, 0, 0, 50, 'x'),
			"N, and then nothing": pgwire.AppendSSLRequest(nil),
			"auth_query":          pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "who"}, {Name: "database", Value: "asks"}}),
		} {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			conn.Write(packet)
			answer, err := io.ReadAll(conn)
			if err != nil || !strings.Contains(string(answer), "client_login_timeout") {
				t.Errorf("%s: %q, %v", name, answer, err)
			}
			conn.Close()
		}
		// The pool's first server does not answer.
		r.bounces(t, "client_login_timeout", "d", "password=x")
	})
}

func TestNobodyGetsInWhileThePoolerEnds(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db)})
	conn := r.connect("d")
	unix := "host=" + r.dir
	if _, err := r.tryConsole(unix, "shutdown wait_for_clients"); err != nil {
		t.Fatal(err)
	}
	r.bounces(t, "pooler is shutting down", "d", unix)
	if _, err := r.tryConsole(unix, "show version"); err != nil {
		t.Errorf("the console is to be reached: %v", err)
	}
	exec(t, conn, "select 1")
	conn.Close(background(t))
	r.waitLog("all clients have disconnected, exiting")
}
