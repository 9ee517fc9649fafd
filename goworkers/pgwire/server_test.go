package pgwire_test

// What we build and how we read it, held against a real PostgreSQL.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	. "goworkers/pgwire"
)

// connectTo logs in to the shared server by trust, with further startup parameters.
func connectTo(t *testing.T, params ...Param) (*session, error) {
	t.Helper()
	config, err := pgx.ParseConfig(pgtest.DB(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	return logInWith(t, int(config.Port), &ClientAuth{User: config.User}, append([]Param{{"database", config.Database}}, params...))
}

func TestOptionsMeanWhatTheServerTakes(t *testing.T) {
	for _, options := range []string{
		`-c a.b=c --d-e.f=g\ h -ci.j=k\\l`,
		`  --a.b=1	-c a.b=2 `,
		`-c a.b=x=y --d.e=`,
		`--a.b=\\\\ -c d.e='q'`,
		`-c a.b=end\`,
	} {
		t.Run(options, func(t *testing.T) {
			params, err := ParseOptions(options)
			if err != nil {
				t.Fatal(err)
			}
			s, err := connectTo(t, Param{"options", options})
			if err != nil {
				t.Fatal(err)
			}
			last := map[string]string{}
			for _, p := range params {
				last[strings.ReplaceAll(p.Name, "-", "_")] = p.Value
			}
			for name, value := range last {
				got, _, err := s.query("show " + name)
				if err != nil || !slices.Equal(got, []string{value}) {
					t.Errorf("%s is %q for the server (%v), %q for us", name, got, err, value)
				}
			}
		})
	}
	for _, options := range []string{"-c", "-c ab", "a=b", "--=x"} {
		_, ours := ParseOptions(options)
		_, theirs := connectTo(t, Param{"options", options})
		if ours == nil || theirs == nil {
			t.Errorf("%q: we say %v, the server %v", options, ours, theirs)
		}
	}
}

func TestNegotiationWithTheServer(t *testing.T) {
	s, err := connectTo(t, Param{"_pq_.unknown", "x"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.refused, []string{"_pq_.unknown"}) {
		t.Errorf("the server does not know %q", s.refused)
	}
}

// TestExtendedProtocolRenamed sends a pipeline in which statement names are rewritten on
// the way, as a pooler does, and reads what comes back.
func TestExtendedProtocolRenamed(t *testing.T) {
	s, err := connectTo(t)
	if err != nil {
		t.Fatal(err)
	}
	// A client's messages, as they come.
	client := AppendParse(nil, []byte("mine"), []byte("select $1 + 1, repeat('x', 3)"), []byte{0, 1, 0, 0, 0, 23})
	client = AppendDescribe(client, TargetStatement, []byte("mine"))
	client = append(AppendBindHead(client, []byte("p"), []byte("mine"), 12), 0, 0, 0, 1, 0, 0, 0, 2, '4', '1', 0, 0)
	client = AppendExecute(client, []byte("p"), 0)
	client = AppendClose(client, TargetStatement, []byte("mine"))
	client = AppendSync(client)

	var out []byte
	renamed := []byte("PGBOUNCER_1")
	for rest := client; len(rest) > 0; {
		typ, size, _, err := ParseHeader(rest)
		if err != nil {
			t.Fatal(err)
		}
		body := rest[HeaderSize:size]
		switch typ {
		case MsgParse:
			p, err := ParseParse(body)
			if err != nil {
				t.Fatal(err)
			}
			out = AppendParse(out, renamed, p.Query, p.Types)
		case MsgBind:
			portal, _, head, ok := BindNames(body)
			if !ok {
				t.Fatal("Bind without names")
			}
			out = append(AppendBindHead(out, portal, renamed, len(body)-head), body[head:]...)
		case MsgDescribe, MsgClose:
			kind, _, err := ParseTarget(body)
			if err != nil {
				t.Fatal(err)
			}
			if typ == MsgDescribe {
				out = AppendDescribe(out, kind, renamed)
			} else {
				out = AppendClose(out, kind, renamed)
			}
		default:
			out = append(out, rest[:size]...)
		}
		rest = rest[size:]
	}
	if _, err := s.Write(out); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		typ, body, err := s.message()
		if err != nil {
			t.Fatal(err)
		}
		said := TypeName(typ, false)
		switch typ {
		case MsgRowDescription:
			columns, err := ParseRowDescription(body)
			if err != nil {
				t.Fatal(err)
			}
			said += fmt.Sprint(columns)
		case MsgDataRow:
			row, err := ParseDataRow(nil, body)
			if err != nil {
				t.Fatal(err)
			}
			said += fmt.Sprintf("%s", row)
		case MsgErrorResponse:
			rep, err := ParseReport(body)
			if err != nil {
				t.Fatal(err)
			}
			said += rep.Error()
		}
		got = append(got, said)
		if typ == MsgReadyForQuery {
			break
		}
	}
	want := []string{
		"ParseComplete", "ParameterDescription",
		"RowDescription[{?column? " + strconv.Itoa(OIDInt4) + "} {repeat " + strconv.Itoa(OIDText) + "}]",
		"BindComplete", "DataRow[42 xxx]", "CommandComplete", "CloseComplete", "ReadyForQuery",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestErrorsCarryAllFields(t *testing.T) {
	s, err := connectTo(t)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.query("do $$ begin raise exception 'm' using errcode = 'ZZ001', detail = 'd', hint = 'h', " +
		"column = 'c', constraint = 'n', datatype = 'y', table = 't', schema = 's'; end $$")
	rep, ok := err.(*Report)
	if !ok {
		t.Fatalf("got %v", err)
	}
	where := rep.Where
	rep.Where, rep.File, rep.Line, rep.Routine = "", "", "", ""
	want := Report{Severity: "ERROR", SeverityV: "ERROR", Code: "ZZ001", Message: "m", Detail: "d", Hint: "h",
		Column: "c", Constraint: "n", DataType: "y", Table: "t", Schema: "s"}
	if *rep != want || !strings.HasPrefix(where, "PL/pgSQL function inline_code_block") {
		t.Errorf("got %+v, where %q", rep, where)
	}
	_, _, err = s.query("select oops")
	if rep, ok := err.(*Report); !ok || rep.Position != "8" || rep.Code != "42703" {
		t.Errorf("got %+v", err)
	}
}
