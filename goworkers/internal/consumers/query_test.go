package consumers

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"goworkers/internal/pgtest"
	"goworkers/internal/sqltext"
	"goworkers/pgq"
)

func TestStatementsBecomeParameters(t *testing.T) {
	for _, c := range []struct{ name, text, sql, names string }{
		{"placeholders", "SELECT * FROM f(%(username)s, %(email)s);", "SELECT * FROM f($1, $2);", "username email"},
		{"as in files of SkyTools 3", "select f(%%(pgq.ev_data)s)", "select f($1)", "pgq.ev_data"},
		{"one name twice", "select %(id)s, %(id)s::text", "select $1, $2::text", "id id"},
		{"a name with blanks and another alphabet", "select %(Weird Col)s, %(õun)s", "select $1, $2", "Weird Col,õun"},
		{"percent signs", "select 7 % 2, 7 %% 2 where 'a' like 'a%%'", "select 7 % 2, 7 % 2 where 'a' like 'a%'", ""},
		{"words that touch", "select 1 where%(a)sand%(b)s", "select 1 where $1 and $2", "a b"},
		{"comments", "select 1 -- %(a)s; %%\n/* %(b)s /* ; */ ' */ + %(c)s", "select 1 -- %(a)s; %%\n/* %(b)s /* ; */ ' */ + $1", "c"},
		{"quotes", `select 'it''s; ', E'\';', "a;""b", $x$;$$;$x$, %(a)s`, `select 'it''s; ', E'\';', "a;""b", $x$;$$;$x$, $1`, "a"},
		{"a comment behind the end", "select 1; -- done\n", "select 1; -- done", ""},
		{"names with dollars", "select a$1, %(b)s from a$1", "select a$1, $1 from a$1", "b"},
		{"a string that is not closed", "select 'a", "select 'a", ""},
		{"a comment that is not closed", "select 1 /* a", "select 1 /* a", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, err := parseOne("dst_query", c.text)
			if err != nil {
				t.Fatal(err)
			}
			names := strings.FieldsFunc(c.names, func(r rune) bool { return r == ',' || !strings.Contains(c.names, ",") && r == ' ' })
			if q.sql != c.sql || !slices.Equal(q.names, names) {
				t.Errorf("%q with %q\nwant %q with %q", q.sql, q.names, c.sql, names)
			}
		})
	}
}

func TestStatementsThatCannotBeMeant(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", " \n", "is empty"},
		{"a placeholder in quotes", "select f('%(a)s')", "has %(a)s inside of quotes; take the quotes off"},
		{"one in a quoted name", `select "%(a)s"`, "has %(a)s inside of quotes"},
		{"one in dollar quotes", "do $$ begin f(%(a)s); end $$", "has %(a)s inside of quotes"},
		{"no s", "select %(a)d", `has "%(a)d", which is no placeholder`},
		{"no end", "select %(a", "which is no placeholder"},
		{"no name", "select %()s", "which is no placeholder"},
		{"a number", "select $1", "write %(name)s where a value shall stand"},
		{"two statements", "select f(%(a)s); select g(%(a)s)", "is more than one statement; write a function"},
		{"two statements and a comment", "select 1; /* ; */ select 2", "is more than one statement"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if q, err := parseOne("dst_query", c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v, want %q", q, err, c.want)
			}
		})
	}
	if _, err := parseEventQuery("select %(pgq.ev_extra5)s"); err == nil || !strings.Contains(err.Error(), "the fields of an event are pgq.tick_id, pgq.ev_id") {
		t.Errorf("a field that events do not have: %v", err)
	}
}

// The server gives each parameter the type that its place wants, and gets what was
// meant, whatever is in it.
func TestParametersGetTheirTypesFromTheServer(t *testing.T) {
	t.Parallel()
	conn := pgtest.DB(t).Conn(t)
	q, err := parseOne("dst_query", `select %(n)s + 1, %(n)s || '', %(at)s::timestamptz at time zone 'utc',
		array[%(b)s, true], %(raw)s::bytea, %(json)s::jsonb -> 'a', %(none)s::int is null, %(empty)s = ''`)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]pgtype.Text{
		"n": pgq.Text("41"), "at": pgq.Text("2008-05-20 10:00:00.5+03"), "b": pgq.Text("f"), "raw": pgq.Text(`\x00ff`),
		"json": pgq.Text(`{"a": "it's; \"õ\""}`), "none": {}, "empty": pgq.Text(""),
	}
	args, err := q.args(func(name string) (pgtype.Text, bool) { v, found := values[name]; return v, found }, nil)
	if err != nil {
		t.Fatal(err)
	}
	result := conn.PgConn().ExecParams(t.Context(), q.sql, args, nil, nil, nil).Read()
	if result.Err != nil {
		t.Fatal(result.Err)
	}
	var got []string
	for _, value := range result.Rows[0] {
		got = append(got, string(value))
	}
	if want := []string{"42", "41", "2008-05-20 07:00:00.5", "{f,t}", `\x00ff`, `"it's; \"õ\""`, "t", "t"}; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Whatever the text is, what was read of it has one parameter for each name, and none of
// the placeholders is left outside of comments and quotes.
func FuzzParseQuery(f *testing.F) {
	for _, text := range []string{
		"select f(%(a)s, %%(b)s) %% 2", "select 'a%%', E'\\'', $x$ ; $x$; -- %(a)s", "/* /* */ %(a)s", "%(a)s1%(b)s", "$$%(a)s", "\"%(a)s\"",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parseQuery("k", text)
		if err != nil {
			return
		}
		parameters := 0
		for i := 0; i < len(q.sql); {
			length, opaque, _ := lexeme(q.sql, i)
			if !opaque && q.sql[i] == '$' && i+1 < len(q.sql) && isDigit(q.sql[i+1]) && (i == 0 || !sqltext.IsWord(q.sql[i-1])) {
				parameters++
			}
			i += length
		}
		if parameters != len(q.names) {
			t.Errorf("%q became %q with %d parameters for %q", text, q.sql, parameters, q.names)
		}
	})
}
