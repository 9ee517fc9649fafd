package shell

import (
	"slices"
	"strings"
	"testing"
)

var splits = []struct {
	name, text string
	want       []string
	rest       string
}{
	{"nothing", " \n", nil, ""},
	{"two in a line", "select 1; select 2;", []string{"select 1", "select 2"}, ""},
	{"one that goes on", "select 1; select", []string{"select 1"}, " select"},
	{"empty ones", ";; select 1;;", []string{"select 1"}, ""},
	{"quotes", `select ';', "a;b", 'it''s;';`, []string{`select ';', "a;b", 'it''s;'`}, ""},
	{"backslashes mean nothing in plain quotes", `select '\'; select 2;`, []string{`select '\'`, `select 2`}, ""},
	{"but in E quotes", `select E'\'; select'; x`, []string{`select E'\'; select'`}, " x"},
	{"open quotes", "select 'a;", nil, "select 'a;"},
	{"dollar quotes", "do $$ begin; end $$; select $a$;$$;$a$;", []string{"do $$ begin; end $$", "select $a$;$$;$a$"}, ""},
	{"a parameter is no quote", "select $1; select $2;", []string{"select $1", "select $2"}, ""},
	{"comments", "-- a; b\nselect /* ; /* ; */ ; */ 1; -- more;", []string{"-- a; b\nselect /* ; /* ; */ ; */ 1"}, ""},
	{"an open comment", "/* select 1;", nil, "/* select 1;"},
	{"parentheses", "create rule r as on insert to t do (select 1; select 2);", []string{"create rule r as on insert to t do (select 1; select 2)"}, ""},
	{"a body in SQL", "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3;",
		[]string{"create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end", "select 3"}, ""},
	{"begin by itself", "begin; select 1; end;", []string{"begin", "select 1", "end"}, ""},
	{"other letters", "select 'ä;', ä;", []string{"select 'ä;', ä"}, ""},
}

func TestStatementsEndAtTheirSemicolon(t *testing.T) {
	t.Parallel()
	for _, c := range splits {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, rest := split(c.text)
			if !slices.Equal(got, c.want) || rest != c.rest {
				t.Errorf("split(%q)\n= %q, %q\nwant %q, %q", c.text, got, rest, c.want, c.rest)
			}
		})
	}
}

func TestCommandsEndWithTheirLine(t *testing.T) {
	t.Parallel()
	var g gatherer
	for _, c := range []struct {
		line string
		want []string
	}{
		{"show queue", []string{"show queue"}},
		{"SHOW Queue q;", []string{"SHOW Queue q"}},
		{"-- only a comment", nil},
		{"select 1", nil},
		{"show queue", nil}, // of that select
		{"; create queue q", []string{"select 1\nshow queue", "create queue q"}},
		{"show", nil},
		{"queue -- all of them", []string{"show\nqueue -- all of them"}},
		{"show work_mem", nil},
		{";", []string{"show work_mem"}},
		{`\q`, []string{`\q`}},
	} {
		if got := g.add(c.line); !slices.Equal(got, c.want) {
			t.Errorf("after %q: %q, want %q", c.line, got, c.want)
		}
	}
	g.add("select 2")
	if got := g.end(); !slices.Equal(got, []string{"select 2"}) || g.pending != "" {
		t.Errorf("at the end: %q", got)
	}
}

func TestWordsOfACommand(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"create queue a.b-c":                  "create|queue|a.b-c",
		`create queue "my ""own"" queue"`:     `create|queue|my "own" queue`,
		"alter queue * set max_lag='5 s',a=1": "alter|queue|*|set|max_lag|=|5 s|,|a|=|1",
		"show 'open":                          "show|open",
	} {
		if got := strings.Join(words(text), "|"); got != want {
			t.Errorf("words(%q) = %q, want %q", text, got, want)
		}
	}
}

// bare is a text from its first token on.
func bare(text string) string {
	l := lexer{text: text}
	if !l.next() {
		if l.open {
			return "/*"
		}
		return ""
	}
	return text[l.pos-len(l.token):]
}

// tokens are what stands in a text, but for the ; at the ends of statements.
func tokens(text string) (list []string) {
	l := lexer{text: text}
	for l.next() {
		if l.kind == tokenEnd {
			l.restart()
			continue
		}
		list = append(list, l.token)
	}
	return list
}

// The splitter reads what users type: it must end on any of it, lose nothing but
// comments and semicolons, and find the same ones line by line.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{"select 1;", "$$", "$a$;$a$;", "E'\\", "/*/*", "--", "'''", "create function begin atomic", "\xff;", "e", "$", "select 1 -- a\n; /* ; */ show queue\n"} {
		f.Add(seed)
	}
	for _, c := range splits {
		f.Add(c.text)
		f.Add(strings.ReplaceAll(c.text, " ", "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		statements, rest := split(text)
		var kept []string
		for _, s := range append(slices.Clone(statements), rest) {
			kept = append(kept, tokens(s)...)
		}
		if all := tokens(text); !slices.Equal(kept, all) {
			t.Fatalf("of %q are kept\n%q, want\n%q", text, kept, all)
		}
		var byLine []string
		pending := ""
		for line := range strings.Lines(text) {
			more, open := split(pending + line)
			byLine, pending = append(byLine, more...), open
		}
		// A line with nothing but a comment is gone before the next one comes.
		for i := range statements {
			statements[i] = bare(statements[i])
		}
		for i := range byLine {
			byLine[i] = bare(byLine[i])
		}
		if !slices.Equal(byLine, statements) || bare(pending) != bare(rest) {
			t.Fatalf("line by line %q is %q, %q\nat once %q, %q", text, byLine, pending, statements, rest)
		}
		find(text)
	})
}
