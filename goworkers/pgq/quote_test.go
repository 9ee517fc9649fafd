package pgq_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"goworkers/pgq"
)

// Texts that quoting may stumble over.
var oddTexts = []string{
	"", "a", "O'Reilly", "''", `\`, `\\'`, `a\nb`, "tab\tnew\nline\rend", "\b\f\v", `\N`, `\.`, "õ𐍈'", "null", "NULL",
	`"quoted"`, "$1", "%s", "-- no comment", "/* */", "; drop table t", "{a,b}", strings.Repeat(`'\`, 1000),
}

func TestQuoteLiteral(t *testing.T) {
	for _, c := range []struct {
		name  string
		value pgtype.Text
		want  string
	}{
		{"null", null, "null"},
		{"empty", pgq.Text(""), "''"},
		{"plain", pgq.Text("abc"), "'abc'"},
		{"quotes are doubled", pgq.Text("O'Reilly"), "'O''Reilly'"},
		{"backslashes are doubled behind an E", pgq.Text(`a\b`), `E'a\\b'`},
		{"both", pgq.Text(`\'`), `E'\\'''`},
		{"line ends stay", pgq.Text("a\nb"), "'a\nb'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pgq.QuoteLiteral(c.value); got != c.want {
				t.Errorf("QuoteLiteral = %s, want %s", got, c.want)
			}
		})
	}
}

func TestQuoteCopy(t *testing.T) {
	for _, c := range []struct {
		name  string
		value pgtype.Text
		want  string
	}{
		{"null", null, `\N`},
		{"empty", pgq.Text(""), ""},
		{"plain", pgq.Text("abc"), "abc"},
		{"what is escaped", pgq.Text("a\\b\tc\nd\re"), `a\\b\tc\nd\re`},
		{"what looks like null", pgq.Text(`\N`), `\\N`},
		{"what looks like the end", pgq.Text(`\.`), `\\.`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(pgq.QuoteCopy([]byte("x\t"), c.value)); got != "x\t"+c.want {
				t.Errorf("QuoteCopy = %q, want %q behind what was there", got, c.want)
			}
		})
	}
}

func TestQuoteFQIdent(t *testing.T) {
	for name, want := range map[string]string{
		"users":          "public.users",
		"app.users":      "app.users",
		"app.Users":      `app."Users"`,
		"app.a.b":        `app."a.b"`,
		"user.order":     `"user"."order"`,
		`a"b.c d`:        `"a""b"."c d"`,
		".x":             `"".x`,
		"":               `public.""`,
		"õ.1a":           `"õ"."1a"`,
		"pg_temp.a_1":    "pg_temp.a_1",
		"left.returning": `"left"."returning"`,
	} {
		if got := pgq.QuoteFQIdent(name); got != want {
			t.Errorf("QuoteFQIdent(%q) = %s, want %s", name, got, want)
		}
	}
}

// laterWords are key words that came after PostgreSQL 14, by the version that had them
// first: to quote them costs older servers nothing.
var laterWords = map[string]int{
	"json_array": 16, "json_arrayagg": 16, "json_object": 16, "json_objectagg": 16, "system_user": 16,
	"json": 17, "json_exists": 17, "json_query": 17, "json_scalar": 17, "json_serialize": 17, "json_table": 17,
	"json_value": 17, "merge_action": 17,
}

func TestQuotingIsTheServersOwn(t *testing.T) {
	ctx, conn, db := setup(t)
	words := db.Rows(t, "select word from pg_get_keywords()")
	if len(words) < 400 {
		t.Fatalf("the server knows %d key words", len(words))
	}
	for word := range laterWords {
		words = append(words, word)
	}
	words = append(words, oddTexts...)
	words = append(words, "a$b", "_", "a_1", "1a", "A", "aB", "über", "a b")
	var version int
	if err := conn.QueryRow(ctx, "select current_setting('server_version_num')::int / 10000").Scan(&version); err != nil {
		t.Fatal(err)
	}
	for _, word := range words {
		var ident, literal string
		if err := conn.QueryRow(ctx, "select quote_ident($1), quote_literal($1)", word).Scan(&ident, &literal); err != nil {
			t.Fatal(err)
		}
		if got := pgq.QuoteLiteral(pgq.Text(word)); got != literal {
			t.Errorf("QuoteLiteral(%q) = %s, the server writes %s", word, got, literal)
		}
		if since := laterWords[word]; since > version {
			ident = `"` + word + `"`
		}
		if got := pgq.QuoteIdent(word); got != ident {
			t.Errorf("QuoteIdent(%q) = %s, the server writes %s", word, got, ident)
		}
	}
}

// What is quoted means to the server what it was, whatever it takes for an escape.
func TestTheServerReadsWhatIsQuoted(t *testing.T) {
	ctx, conn, _ := setup(t)
	for _, conforming := range []string{"on", "off"} {
		if _, err := conn.Exec(ctx, "set escape_string_warning = off; set standard_conforming_strings = "+conforming); err != nil {
			t.Fatal(err)
		}
		for _, text := range oddTexts {
			var got string
			// pgx asks for standard_conforming_strings where it writes arguments into the text: here are none.
			err := conn.QueryRow(ctx, "select "+pgq.QuoteLiteral(pgq.Text(text))+"::text").Scan(&got)
			if err != nil || got != text {
				t.Errorf("standard_conforming_strings = %s: %q came back as %q, %v", conforming, text, got, err)
			}
		}
	}
	if _, err := conn.Exec(ctx, "create table public.copied (n int, a text, b text)"); err != nil {
		t.Fatal(err)
	}
	var lines []byte
	for n, text := range oddTexts {
		lines = fmt.Appendf(lines, "%d\t", n)
		lines = append(pgq.QuoteCopy(lines, pgq.Text(text)), '\t')
		lines = append(pgq.QuoteCopy(lines, null), '\n')
	}
	if _, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(string(lines)), "copy public.copied from stdin"); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(ctx, "select a from public.copied where b is null order by n")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || !slices.Equal(got, oddTexts) {
		t.Errorf("copied %q, %v", got, err)
	}
	for _, name := range []string{"Mixed Case", "select", "õ", `a"b`, "a.b", "plain_1"} {
		var got string
		sql := fmt.Sprintf("create table %s (a int); select relname from pg_class where oid = to_regclass('%[1]s')",
			pgq.QuoteFQIdent("public."+name))
		results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		if err == nil && len(results) == 2 && len(results[1].Rows) == 1 {
			got = string(results[1].Rows[0][0])
		}
		if got != name {
			t.Errorf("the table %q became %q, %v", name, got, err)
		}
	}
}

// What stands in quotes is read to its end, and nothing of it is SQL.
func FuzzQuoteLiteral(f *testing.F) {
	for _, text := range oddTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		row, keys, err := pgq.DecodeSQL('D', "a="+pgq.QuoteLiteral(pgq.Text(text)))
		if err != nil || row["a"] != pgq.Text(text) || !slices.Equal(keys, []string{"a"}) {
			t.Errorf("%q came back as %v, %v", text, row, err)
		}
		row, keys, err = pgq.DecodeSQL('D', pgq.QuoteIdent(text)+"=null")
		if text != "" && (err != nil || row[text] != null || !slices.Equal(keys, []string{text})) {
			t.Errorf("the name %q came back as %q, %v", text, keys, err)
		}
		fields := strings.Split(string(append(pgq.QuoteCopy(nil, pgq.Text(text)), "\tend"...)), "\t")
		if len(fields) != 2 || strings.ContainsAny(fields[0], "\n\r") {
			t.Errorf("%q is more than one field of COPY: %q", text, fields)
		}
	})
}
