package pgwire_test

// Golden traces: conversations with a real PostgreSQL, as lines in testdata/trace.
// UPDATE_GOLDEN=1 writes them anew.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "goworkers/pgwire"
)

func TestConversationsWithTheServer(t *testing.T) {
	bind := func(dst []byte, statement, value string) []byte {
		rest := append([]byte{0, 0, 0, 1, 0, 0, 0, byte(len(value))}, value...)
		rest = append(rest, 0, 0)
		return append(AppendBindHead(dst, nil, []byte(statement), len(rest)), rest...)
	}
	query := func(sql string) []byte { return AppendQuery(nil, sql) }
	pipeline := AppendParse(nil, []byte("s"), []byte("select $1 / 0"), []byte{0, 1, 0, 0, 0, 23})
	pipeline = AppendDescribe(pipeline, TargetStatement, []byte("s"))
	pipeline = bind(pipeline, "s", "1")
	pipeline = AppendExecute(pipeline, nil, 0)
	pipeline = bind(pipeline, "s", "2") // the server drops it: an error stands before it
	pipeline = AppendSync(pipeline)
	limited := AppendParse(nil, nil, []byte("select generate_series(1, $1::int)"), nil)
	limited = bind(limited, "", "3")
	limited = AppendExecute(limited, nil, 2)
	limited = AppendExecute(limited, nil, 2)
	limited = AppendSync(AppendClose(limited, TargetPortal, nil))
	copyIn := AppendMessage(nil, MsgCopyData, []byte("1\ta\n2\t\\N\n"))
	copyIn = AppendMessage(copyIn, MsgCopyDone, nil)

	for _, c := range []struct {
		name  string
		steps [][]byte // each is answered up to ReadyForQuery or CopyInResponse
	}{
		{"simple", [][]byte{
			query("select 1 as a, null as b, repeat('ä', 100) as c; select"), query(""),
			query("begin"), query("oops"), query("rollback"), query("do $$ begin raise notice 'hi'; end $$"),
		}},
		{"extended", [][]byte{pipeline, limited}},
		{"copy", [][]byte{
			query("create temp table t (a int, b text)"), query("copy t from stdin"), copyIn, query("copy t to stdout"),
			query("copy t from stdin"), AppendMessage(nil, MsgCopyFail, []byte("enough\x00")),
		}},
		{"listen", [][]byte{query("set application_name = 'traced'"), query("listen c; notify c, 'payload'")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := connectTo(t)
			if err != nil {
				t.Fatal(err)
			}
			tracer := &Tracer{Steady: true}
			var got []byte
			for _, step := range c.steps {
				for rest := step; len(rest) > 0; {
					typ, size, _, err := ParseHeader(rest)
					if err != nil {
						t.Fatal(err)
					}
					got = append(tracer.Append(got, true, typ, rest[HeaderSize:size]), '\n')
					rest = rest[size:]
				}
				if _, err := s.Write(step); err != nil {
					t.Fatal(err)
				}
				for answered := false; !answered; {
					typ, body, err := s.message()
					if err != nil {
						t.Fatal(err)
					}
					line := string(tracer.Append(nil, false, typ, body))
					if typ == MsgNotificationResponse {
						line = "B NotificationResponse" // its process id has as many digits as it likes
					}
					got = append(append(got, line...), '\n')
					answered = typ == MsgReadyForQuery || typ == MsgCopyInResponse
				}
			}
			golden := filepath.Join("testdata", "trace", c.name+".txt")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(want) != string(got) {
				t.Errorf("%s says\n%s\nthe wire\n%s", golden, want, got)
			}
		})
	}
}

func TestTraceHidesProofsAndNamesFaults(t *testing.T) {
	var tr Tracer
	for _, c := range []struct {
		client bool
		msg    []byte
		want   string
	}{
		{true, AppendPassword(nil, "geheim"), "F PasswordMessage 7 bytes"},
		{false, AppendAuthentication(nil, AuthMD5Password, []byte("salt")), "B Authentication AuthenticationMD5Password"},
		{false, AppendBackendKeyData(nil, []byte("12345678")), "B BackendKeyData"},
		{false, AppendParameterStatus(nil, "a", "b"), `B ParameterStatus "a" "b"`},
		{false, AppendMessage(nil, MsgDataRow, []byte{0, 1}), "B DataRow protocol violation: DataRow counts 1 values in 0 bytes"},
		{true, AppendMessage(nil, MsgBind, []byte("x")), "F Bind protocol violation: Bind ends too early"},
		{true, AppendMessage(nil, MsgSync, []byte("x")), "F Sync protocol violation: Sync has 1 bytes too many"},
		{true, AppendMessage(nil, 'y', []byte("x")), "F unknown message 'y' 1 bytes"},
		{true, AppendQuery(nil, strings.Repeat("ä", 60)), `F Query "` + strings.Repeat("ä", 32) + `"... 120 bytes`},
	} {
		if got := string(tr.Append(nil, c.client, c.msg[0], c.msg[HeaderSize:])); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func FuzzTracer(f *testing.F) {
	f.Add(true, byte('P'), []byte("s\x00select\x00\x00\x01\x00\x00\x00\x17"))
	f.Add(false, byte('E'), []byte("SERROR\x00Mm\x00\x00"))
	f.Add(false, byte('D'), []byte("\x00\x01\x00\x00\x00\x01x"))
	f.Fuzz(func(t *testing.T, fromClient bool, typ byte, body []byte) {
		line := (&Tracer{Limit: 8}).Append(nil, fromClient, typ, body)
		for _, c := range line {
			if c < ' ' || c == 0x7f {
				t.Fatalf("control character in %q", line)
			}
		}
	})
}
