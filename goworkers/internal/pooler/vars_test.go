package pooler

import "testing"

func TestOnlyDifferingParametersAreSet(t *testing.T) {
	tr, err := newTracked([]string{"IntervalStyle", "search_path", "timezone"})
	if err != nil {
		t.Fatal(err)
	}
	if len(tr) != len(baseTracked)+2 {
		t.Fatalf("tracked: %v", tr)
	}
	with := func(pairs ...string) vars {
		set := noVars.Value()
		for i := 0; i < len(pairs); i += 2 {
			set[tr.index(pairs[i])] = pairs[i+1]
		}
		return uniqueVars(set)
	}
	for _, tc := range []struct {
		name           string
		client, server vars
		want           string
	}{
		{"same", with("TimeZone", "UTC"), with("TimeZone", "UTC"), ""},
		{"same but for case", with("TimeZone", "utc"), with("TimeZone", "UTC"), ""},
		{"client has none", with(), with("DateStyle", "ISO"), ""},
		{"differs", with("DateStyle", "German"), with("DateStyle", "ISO"), "SET DateStyle='German';"},
		{"quoted", with("application_name", `it's a\b`), with(), `SET application_name= E'it''s a\\b';`},
		{"taken back", with("application_name", ""), with("application_name", "other"), "SET application_name='';"},
		{"list", with("search_path", "a, b"), with("search_path", "public"), "SET search_path=a, b;"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tr.appendChanges(nil, tc.client, tc.server)
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
