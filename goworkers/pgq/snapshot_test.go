package pgq_test

import (
	"reflect"
	"strings"
	"testing"

	"goworkers/pgq"
)

func TestParseSnapshot(t *testing.T) {
	for text, want := range map[string]pgq.Snapshot{
		"10:10:":                  {XMin: 10, XMax: 10},
		"10:20:":                  {XMin: 10, XMax: 20},
		"10:20:10,14,19":          {XMin: 10, XMax: 20, XIP: []int64{10, 14, 19}},
		"10:20:14,14":             {XMin: 10, XMax: 20, XIP: []int64{14}},
		"1:9223372036854775807:1": {XMin: 1, XMax: 1<<63 - 1, XIP: []int64{1}},
	} {
		if got, err := pgq.ParseSnapshot(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseSnapshot(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":            "want xmin:xmax:list",
		"10:20":       "want xmin:xmax:list",
		"10:20::":     "want xmin:xmax:list",
		"0:20:":       "xmin is not",
		"+1:20:":      "xmin is not",
		"x:20:":       "xmin is not",
		"20:10:":      "xmax is not",
		"10::":        "xmax is not",
		"10:20:9":     `"9" is not`,
		"10:20:20":    `"20" is not`,
		"10:20:15,":   `"" is not`,
		"10:20:15,14": "not in order",
		"10:20:15 ":   `"15 " is not`,
		"9223372036854775808:9223372036854775809:": "xmin is not",
	} {
		if got, err := pgq.ParseSnapshot(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseSnapshot(%q) = %v, %v, want %q", text, got, err, want)
		}
	}
}

// The server sees the same transactions in the same snapshots, those of ticks as well.
func TestSnapshotSeesWhatTheServerSees(t *testing.T) {
	ctx, conn, db := setup(t)
	// Ids are given out while older transactions are under way.
	var open []int64
	for range 3 {
		other := db.Conn(t)
		tx, err := other.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(ctx)
		var id int64
		if err := tx.QueryRow(ctx, "select txid_current()").Scan(&id); err != nil {
			t.Fatal(err)
		}
		open = append(open, id)
		db.Exec(t, "select txid_current()")
	}
	tick(t, ctx, conn)
	snapshots := db.Rows(t, "select tick_snapshot from pgq.tick where tick_id = (select max(tick_id) from pgq.tick)")
	snapshots = append(snapshots, "10:20:12,13,19", "10:10:", "100:200:100,150")
	for _, text := range snapshots {
		s, err := pgq.ParseSnapshot(text)
		if err != nil || s.String() != text {
			t.Fatalf("%q is %v, %v", text, s, err)
		}
		ids := []int64{1, s.XMin - 1, s.XMin, s.XMax - 1, s.XMax, s.XMax + 1}
		for id := s.XMin; id < s.XMin+30; id++ {
			ids = append(ids, id)
		}
		for _, id := range append(ids, open...) {
			var want bool
			if err := conn.QueryRow(ctx, "select txid_visible_in_snapshot($1, $2::text::txid_snapshot)", id, text).Scan(&want); err != nil {
				t.Fatal(err)
			}
			if got := s.Contains(id); got != want {
				t.Errorf("%s contains %d: %v, the server says %v", text, id, got, want)
			}
		}
	}
	if s, _ := pgq.ParseSnapshot(snapshots[0]); s.Contains(open[0]) || len(s.XIP) < 2 {
		t.Errorf("the tick's snapshot %v does not know the open transactions %v", s, open)
	}
}

func FuzzParseSnapshot(f *testing.F) {
	for _, seed := range []string{"10:20:10,14,19", "1:1:", "::", "10:20:,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := pgq.ParseSnapshot(text)
		if err != nil {
			return
		}
		if again, err := pgq.ParseSnapshot(s.String()); err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%q is %v, which is read again as %v, %v", text, s, again, err)
		}
		if s.Contains(s.XMax) || !s.Contains(s.XMin-1) {
			t.Errorf("%v does not end where it should", s)
		}
		for _, id := range s.XIP {
			if s.Contains(id) {
				t.Errorf("%v contains %d", s, id)
			}
		}
	})
}
