package pgq_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"goworkers/pgq"
)

func texts(list ...string) []pgtype.Text {
	all := make([]pgtype.Text, len(list))
	for i, s := range list {
		all[i] = pgq.Text(s)
	}
	return all
}

func TestArrayHasOneForm(t *testing.T) {
	for _, c := range []struct {
		name string
		list []pgtype.Text
		text string
	}{
		{"no elements", texts(), "{}"},
		{"numbers", texts("1", "-2"), "{1,-2}"},
		{"null", []pgtype.Text{pgq.Text("a"), null}, "{a,NULL}"},
		{"a text that reads null", texts("null", "NuLL", "nulls"), `{"null","NuLL",nulls}`},
		{"an empty text", texts(""), `{""}`},
		{"what parts", texts("a,b", "{", "}"), `{"a,b","{","}"}`},
		{"quotes and backslashes", texts(`"`, `\`, `'`), `{"\"","\\",'}`},
		{"blanks", texts(" a", "b c", "\n"), "{\" a\",\"b c\",\"\n\"}"},
		{"other letters", texts("õ", "𐍈"), "{õ,𐍈}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pgq.MakeArray(c.list); got != c.text {
				t.Errorf("MakeArray = %s, want %s", got, c.text)
			}
			if got, err := pgq.ParseArray(c.text); err != nil || !slices.Equal(got, c.list) {
				t.Errorf("ParseArray = %v, %v, want %v", got, err, c.list)
			}
		})
	}
}

func TestParseArrayTakesOtherForms(t *testing.T) {
	for _, c := range []struct {
		name, text string
		list       []pgtype.Text
	}{
		{"blanks around elements", " { a , \"b\" ,null }\n", append(texts("a", "b"), null)},
		{"blanks in elements", `{a b}`, texts("a b")},
		{"blanks that are escaped", `{a\ }`, texts("a ")},
		{"escapes out of quotes", `{\"a\,\\}`, texts(`"a,\`)},
		{"an escape makes no null", `{nul\l}`, texts("null")},
		{"no elements and blanks", "{ }", texts()},
		{"bounds", "[0:1]={a,b}", texts("a", "b")},
		{"negative bounds", "[-1:-1] = {a}", texts("a")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := pgq.ParseArray(c.text); err != nil || !slices.Equal(got, c.list) {
				t.Errorf("ParseArray(%q) = %v, %v, want %v", c.text, got, err, c.list)
			}
		})
	}
}

func TestParseArrayRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":             "does not begin with {",
		"a":            "does not begin with {",
		"{":            "no } ends",
		"{a":           "no } ends",
		`{"a`:          "quotes are not closed",
		`{"a\`:         "quotes are not closed",
		`{a\`:          "ends with a backslash",
		"{,a}":         "element 1: it is empty",
		"{a,}":         "element 2: it is empty",
		`{"a"b}`:       "follows its quotes",
		`{a"b"}`:       "in the middle",
		"{a}}":         `"}" follows its end`,
		"{a},":         "follows its end",
		"{{a},{b}}":    "several dimensions",
		"{a,{b}}":      "several dimensions",
		"[1:1][1:1]={": "several dimensions",
		"[1:2]={a}":    "bounds are those of 2 elements",
		"[2:1]={}":     "below its lower",
		"[1:1]{a}":     "no = follows",
		"[1:x]={a}":    "not of the form",
		"[1:1]={}":     "element 1: it is empty",
	} {
		if list, err := pgq.ParseArray(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseArray(%q) = %v, %v, want %q", text, list, err, want)
		}
	}
}

// The server takes the same texts for arrays, and reads the same out of them.
func TestParseArrayAgreesWithTheServer(t *testing.T) {
	ctx, conn, _ := setup(t)
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"{", "}", ",", `"`, `\`, " ", "a", "NULL", "null", "\n", "õ", `""`, "{}", "b c"}
	accepted, refused := 0, 0
	for range 4000 {
		var b strings.Builder
		for range random.IntN(8) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		text := b.String()
		if random.IntN(4) > 0 {
			text = "{" + text + "}"
		}
		got, err := pgq.ParseArray(text)
		var dimensions int
		var written string
		serverErr := conn.QueryRow(ctx, "select coalesce(array_ndims($1::text::text[]), 0), $1::text::text[]::text", text).Scan(&dimensions, &written)
		if e := new(pgconn.PgError); serverErr != nil && (!errors.As(serverErr, &e) || e.Code != "22P02") {
			t.Fatal(serverErr)
		}
		if err != nil && serverErr == nil && dimensions != 1 && strings.Contains(err.Error(), "several dimensions") {
			continue // {{}} is empty to the server
		}
		switch {
		case (err == nil) != (serverErr == nil):
			t.Errorf("%q: ParseArray %v, %v; the server %s, %v", text, got, err, written, serverErr)
		case err != nil:
			refused++
		default:
			accepted++
			rows, _ := conn.Query(ctx, "select x from unnest($1::text::text[]) with ordinality u (x, n) order by n", text)
			if want, err := pgx.CollectRows(rows, pgx.RowTo[pgtype.Text]); err != nil || !slices.Equal(got, want) {
				t.Errorf("%q: ParseArray %v, the server %v, %v", text, got, want, err)
			}
			if made := pgq.MakeArray(got); made != written {
				t.Errorf("MakeArray writes %s, the server %s", made, written)
			}
		}
	}
	if accepted < 300 || refused < 300 {
		t.Errorf("%d arrays and %d others show little", accepted, refused)
	}
}

// What is read can be written, and read again.
func FuzzParseArray(f *testing.F) {
	for _, seed := range []string{"{}", "{a,NULL}", `{"a\"b", c }`, "[0:1]={a,b}", "{{a}}", `{\`, "[1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := pgq.ParseArray(text)
		if err != nil {
			return
		}
		if again, err := pgq.ParseArray(pgq.MakeArray(list)); err != nil || !slices.Equal(again, list) {
			t.Errorf("%q is %v, which is written %s and read %v, %v", text, list, pgq.MakeArray(list), again, err)
		}
	})
}
