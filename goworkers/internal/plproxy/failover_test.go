package plproxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
)

// listen makes a session that keeps the warnings it gets.
func (c *cluster) listen(t *testing.T) *[]*pgconn.Notice {
	t.Helper()
	config, err := pgx.ParseConfig(c.rig.proxy.DSN)
	if err != nil {
		t.Fatal(err)
	}
	var notices []*pgconn.Notice
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n) }
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	c.conn = conn
	return &notices
}

// fresh starts a session anew, which remembers nothing.
func (c *cluster) fresh(t *testing.T) {
	t.Helper()
	c.conn = c.rig.proxy.Conn(t)
}

const where = `create function public.where_one(i_cluster text) returns text language plproxy
	as 'cluster i_cluster; run on 0; select current_database();';
	create function public.where_any(i_cluster text) returns text language plproxy
	as 'cluster i_cluster; run on any; select current_database();';`

// Of several hosts in one connect string each has its connect_timeout.
func TestNextHost(t *testing.T) {
	r := newRig(t)
	r.proxy.Exec(t, where)
	links := []*pgtest.Link{pgtest.NewLink(t, r.ports[0]), pgtest.NewLink(t, r.ports[0]), pgtest.NewLink(t, r.ports[0])}
	ports := fmt.Sprintf("%d,%d,%d", links[0].Port, links[1].Port, links[2].Port)
	connstr := "host=127.0.0.1,127.0.0.1,127.0.0.1 port=" + ports + " user=postgres dbname=" + r.parts[0].Name
	silent, refuse := pgtest.Fault{Do: pgtest.Stall}, pgtest.Fault{Refuse: true}

	for _, test := range []struct {
		name   string
		more   string
		faults [3]pgtest.Fault
		want   string // SQLSTATE, or empty
		detail []string
	}{
		{name: "first silent", faults: [3]pgtest.Fault{silent}},
		{name: "first refuses", faults: [3]pgtest.Fault{refuse}},
		{name: "two silent", faults: [3]pgtest.Fault{silent, silent}},
		{name: "in the middle of the start", faults: [3]pgtest.Fault{{Do: pgtest.Stall, Way: pgtest.ToClient, After: 20}, refuse}},
		{name: "reset", faults: [3]pgtest.Fault{{Do: pgtest.Reset}}},
		{name: "all down", faults: [3]pgtest.Fault{silent, refuse, {Do: pgtest.Close}}, want: "08001",
			detail: []string{"connect_timeout has passed", "Connection refused", "closed the connection"}},
		{name: "no standby", more: " target_session_attrs=standby", want: "08001",
			detail: []string{"not in hot standby mode"}},
		{name: "rather a standby", more: " target_session_attrs=prefer-standby", faults: [3]pgtest.Fault{refuse}},
		{name: "primary", more: " target_session_attrs=primary", faults: [3]pgtest.Fault{silent}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &cluster{rig: r, name: strings.ReplaceAll(test.name, " ", "_")}
			c.fresh(t)
			r.server(t, c.name, []string{connstr + test.more}, "connect_timeout '500ms'", "query_timeout '20s'")
			for i, link := range links {
				link.Set(test.faults[i])
				defer link.Heal()
			}
			a := c.try(t, "where_one")
			if test.want == "" {
				if a.err != nil {
					t.Fatalf("%v (%s)", a.err, a.err.Detail)
				}
				if a.rows[0] != r.parts[0].Name {
					t.Errorf("it ran on %s", a.rows[0])
				}
				return
			}
			a.fails(t, test.want)
			for _, detail := range test.detail {
				if !strings.Contains(a.err.Detail, detail) {
					t.Errorf("the detail is %q and does not tell %q", a.err.Detail, detail)
				}
			}
		})
	}
}

// A silent host comes last for a while.
func TestSilentHostIsRemembered(t *testing.T) {
	r := newRig(t)
	c := r.cluster(t)
	connstr := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=%s", c.links[0].Port, c.links[1].Port, r.parts[0].Name)
	c.links[0].Set(pgtest.Fault{Do: pgtest.Stall})
	r.proxy.Exec(t, "create function public.to_connect(i_connstr text) returns text language plproxy as 'connect i_connstr; select current_database();'")
	for i := range 3 {
		a := try(t, c.conn, "select public.to_connect($1)", fmt.Sprintf("%s connect_timeout=1 application_name=a%d", connstr, i))
		if a.err != nil {
			t.Fatal(a.err)
		}
		if first := a.took.Seconds() >= 1; first != (i == 0) {
			t.Errorf("call %d took %s", i, a.took)
		}
	}
}

// RUN ON ANY takes another partition when one is down, if the cluster says so.
func TestFailover(t *testing.T) {
	r := newRig(t)
	r.proxy.Exec(t, where)
	c := r.cluster(t, "failover 'on'", "connect_timeout '500ms'", "query_timeout '20s'")
	for i := range 3 {
		c.links[i].Set([]pgtest.Fault{{Do: pgtest.Stall}, {Refuse: true}, {Do: pgtest.Reset}}[i])
	}
	for range 5 {
		c.fresh(t)
		for range 4 {
			if where := c.call(t, "where_any")[0]; where != r.parts[3].Name {
				t.Fatalf("it ran on %s", where)
			}
		}
	}

	t.Log("all down")
	c.fresh(t)
	c.links[3].Set(pgtest.Fault{Refuse: true})
	a := c.try(t, "where_any")
	a.fails(t, "08001")
	if want := `could not connect to any partition of cluster "` + c.name + `"`; a.err.Message != want {
		t.Errorf("message %q, want %q", a.err.Message, want)
	}
	for i := range 4 {
		if n := strings.Count(a.err.Detail, fmt.Sprintf("partition %d: ", i)); n != 1 {
			t.Errorf("partition %d is named %d times in %q", i, n, a.err.Detail)
		}
	}
	// What was down is tried when nothing else is there.
	c.links[0].Heal()
	if where := c.call(t, "where_any")[0]; where != r.parts[0].Name {
		t.Errorf("it ran on %s", where)
	}
	// A partition that was chosen by its number stays the only one.
	r.proxy.Exec(t, "create function public.pid_two(i_cluster text) returns int language plproxy as 'cluster i_cluster; run on 2; select public.pid();'")
	c.try(t, "pid_two").fails(t, "08001")
}

// What a partition was asked already is not asked again of another, unless the
// cluster is read only.
func TestFailoverInMidCall(t *testing.T) {
	r := newRig(t)
	r.proxy.Exec(t, `create function public.lines_any(i_cluster text, i_lines int) returns setof text language plproxy
		as 'cluster i_cluster; run on any; select public.lines(i_lines);'`)
	for _, test := range []struct {
		readOnly string
		fault    pgtest.Fault
	}{
		{"off", pgtest.Fault{Do: pgtest.Reset, Way: pgtest.ToClient}},
		{"on", pgtest.Fault{Do: pgtest.Reset, Way: pgtest.ToClient}},
		{"on", pgtest.Fault{Do: pgtest.Close, Way: pgtest.ToClient, After: 40000}},
	} {
		t.Run(fmt.Sprintf("read_only %s after %d", test.readOnly, test.fault.After), func(t *testing.T) {
			c := r.cluster(t, "failover 'on'", "read_only '"+test.readOnly+"'", "query_timeout '0'", "connect_timeout '0'")
			c.call(t, "pids")
			for i := range 3 {
				c.links[i].Set(test.fault)
			}
			seen := 0
			for range 12 {
				a := c.try(t, "lines_any", 2000)
				switch {
				case a.err != nil && test.readOnly == "on":
					t.Fatal(a.err)
				case a.err != nil:
					a.fails(t, "08006", "08001")
					seen++
				case len(a.rows) != 2000:
					t.Fatalf("%d rows, want 2000", len(a.rows))
				}
			}
			if test.readOnly == "off" && seen == 0 {
				t.Error("no call met a partition that fails")
			}
		})
	}
}

// RUN ON ALL returns what the living partitions have, and warns of the others.
func TestSkippedPartitions(t *testing.T) {
	r := newRig(t)
	for _, test := range []struct {
		name  string
		warm  bool
		fault pgtest.Fault
		want  string
	}{
		{"refused", false, pgtest.Fault{Refuse: true}, "08001"},
		{"silent", false, pgtest.Fault{Do: pgtest.Stall}, "08001"},
		{"reset", true, pgtest.Fault{Do: pgtest.Reset, Way: pgtest.ToClient}, "08006"},
		{"half", true, pgtest.Fault{Do: pgtest.Close, Way: pgtest.ToClient, After: 40000}, "08006"},
		{"silent in the middle", true, pgtest.Fault{Do: pgtest.Stall, Way: pgtest.ToClient, After: 40000}, "57014"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := r.cluster(t, "on_partition_error 'skip'")
			notices := c.listen(t)
			var before []string
			if test.warm {
				before = c.call(t, "pids")
			}
			// the first one's rows would be the first to get out
			c.links[0].Set(test.fault)
			c.links[2].Set(test.fault)
			a := c.try(t, "lines_all", 2000)
			if a.err != nil {
				t.Fatal(a.err)
			}
			if a.took > bounded {
				t.Errorf("it took %s", a.took)
			}
			if len(a.rows) != 4000 {
				t.Errorf("%d rows, want the 4000 of two partitions", len(a.rows))
			}
			if len(*notices) != 2 {
				t.Fatalf("%d warnings, want 2", len(*notices))
			}
			for _, n := range *notices {
				t.Log(n.Severity, n.Code, n.Message)
				if n.Code != test.want || n.Severity != "WARNING" {
					t.Errorf("%s %s, want WARNING %s", n.Severity, n.Code, test.want)
				}
			}
			c.links[0].Heal()
			c.links[2].Heal()
			after := c.call(t, "pids")
			if len(after) != 4 {
				t.Fatalf("%d partitions answer, want 4", len(after))
			}
			if test.warm && (before[1] != after[1] || before[3] != after[3]) {
				t.Errorf("good connections were not kept: %v became %v", before, after)
			}
		})
	}
}

// Errors of partitions are skipped and cost no connection, but never all of them,
// nor the caller's own cancel.
func TestSkippedErrors(t *testing.T) {
	r := newRig(t)
	c := r.cluster(t, "on_partition_error 'skip'", "query_timeout '0'")
	notices := c.listen(t)
	before := c.call(t, "pids")

	a := c.try(t, "no_all")
	if a.err == nil || a.err.Code != "P1234" || a.err.Hint != "ask again" {
		t.Errorf("when all partitions fail: %v, want the error of one", a.err)
	}
	if len(*notices) != 3 {
		t.Errorf("%d warnings, want 3", len(*notices))
	}

	r.parts[2].Exec(t, "create or replace function public.no() returns int language sql as 'select 7'")
	*notices = nil
	if got := c.call(t, "no_all"); !slices.Equal(got, []string{"7"}) {
		t.Errorf("got %v, want [7]", got)
	}
	if len(*notices) != 3 {
		t.Fatalf("%d warnings, want 3", len(*notices))
	}
	for _, n := range *notices {
		if n.Code != "P1234" || !strings.HasSuffix(n.Message, `of cluster "`+c.name+`" is left out: no`) || n.Hint != "ask again" {
			t.Errorf("%s: %q, hint %q", n.Code, n.Message, n.Hint)
		}
	}
	if after := c.call(t, "pids"); !slices.Equal(before, after) {
		t.Errorf("connections were not kept: %v became %v", before, after)
	}

	c.set(t, "set statement_timeout = '500ms'")
	c.try(t, "slow_all").fails(t, "57014")
	r.quiet(t)

	// Only those that do not answer are left out, and told to stop.
	c.set(t, "set statement_timeout = 0")
	r.parts[1].Exec(t, "create or replace function public.slow() returns int language sql as 'select 8'")
	r.proxy.Exec(t, fmt.Sprintf("alter server %q options (set query_timeout '500ms')", c.name))
	if got := c.call(t, "slow_all"); !slices.Equal(got, []string{"8"}) {
		t.Errorf("got %v, want [8]", got)
	}
	r.quiet(t)
}
