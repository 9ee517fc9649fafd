package pooler

import "testing"

func TestOnlyDifferingParametersAreSet(t *testing.T) {
	tr, err := newTracked([]string{"IntervalStyle", "search_path", "timezone", "work_mem"})
	if err != nil {
		t.Fatal(err)
	}
	if len(tr) != len(baseTracked)+3 {
		t.Fatalf("tracked: %v", tr)
	}
	with := func(pairs ...string) vars {
		set := noVars.Value()
		for i := 0; i < len(pairs); i += 2 {
			set[tr.index(pairs[i])] = pairs[i+1]
		}
		return uniqueVars(set)
	}
	told := toldSet(1<<len(tr)-1) &^ (1 << tr.index("work_mem"))
	for _, tc := range []struct {
		name           string
		client, server vars
		want           string
	}{
		{"same", with("TimeZone", "UTC"), with("TimeZone", "UTC"), ""},
		{"same but for case", with("TimeZone", "utc"), with("TimeZone", "UTC"), ""},
		{"client has none", with(), with("DateStyle", "ISO"), "SET DateStyle TO DEFAULT;"},
		{"differs", with("DateStyle", "German"), with("DateStyle", "ISO"), "SET DateStyle='German';"},
		{"quoted", with("application_name", `it's a\b`), with(), `SET application_name= E'it''s a\\b';`},
		{"taken back", with("application_name", ""), with("application_name", "other"), "SET application_name='';"},
		{"list", with("search_path", "a, b"), with("search_path", "public"), "SET search_path=a, b;"},
		{"empty list", with("search_path", ""), with("search_path", "public"), "SET search_path='';"},
		{"another role but for case", with("session_authorization", "bob"), with("session_authorization", "Bob"), "SET session_authorization='bob';"},
		{"not reported", with("work_mem", "1MB"), with(), "SET work_mem='1MB';"},
		{"not reported, the other way round", with(), with("work_mem", "1MB"), "SET work_mem TO DEFAULT;"},
		{"not reported, unsure", with("work_mem", "1MB"), with("work_mem", unsureValue), "SET work_mem='1MB';"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tr.appendChanges(nil, tc.client, tc.server, told)
			sql := ""
			if len(got) > 0 {
				sql = string(got[5 : len(got)-1])
			}
			if sql != tc.want {
				t.Errorf("got %q, want %q", sql, tc.want)
			}
		})
	}
	if _, err := newTracked([]string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"}); err == nil {
		t.Error("more parameters are taken than fit")
	}
}
