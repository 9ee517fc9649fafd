package pgq_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"goworkers/pgq"
)

var null pgtype.Text

func TestRowHasOneForm(t *testing.T) {
	for _, c := range []struct {
		name string
		row  pgq.Row
		data string
	}{
		{"no columns", pgq.Row{}, ""},
		{"a null is the name alone", pgq.Row{"email": null}, "email"},
		{"an empty text keeps its sign", pgq.Row{"email": pgq.Text("")}, "email="},
		{"columns stand by name", pgq.Row{"b": pgq.Text("2"), "a": pgq.Text("1"), "c": null}, "a=1&b=2&c"},
		{"what stands for itself", pgq.Row{"a": pgq.Text("azAZ09_.-")}, "a=azAZ09_.-"},
		{"a space is a plus", pgq.Row{"a": pgq.Text("x + y")}, "a=x+%2b+y"},
		{"what parts is escaped", pgq.Row{"a&b": pgq.Text("1=2&%")}, "a%26b=1%3d2%26%25"},
		{"other letters by their bytes", pgq.Row{"õ": pgq.Text("Ä\n")}, "%c3%b5=%c3%84%0a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.row.Encode(); got != c.data {
				t.Errorf("Encode() = %q, want %q", got, c.data)
			}
			got, err := pgq.DecodeRow(c.data)
			if err != nil || !maps.Equal(got, c.row) {
				t.Errorf("DecodeRow(%q) = %v, %v, want %v", c.data, got, err, c.row)
			}
		})
	}
}

func TestDecodeRowTakesOtherForms(t *testing.T) {
	for _, c := range []struct {
		name, data string
		row        pgq.Row
	}{
		{"upper-case escapes", "a=%C3%B5", pgq.Row{"a": pgq.Text("õ")}},
		{"unescaped letters", "õ=Ä!", pgq.Row{"õ": pgq.Text("Ä!")}},
		{"a second sign belongs to the value", "a=b=c", pgq.Row{"a": pgq.Text("b=c")}},
		{"empty pairs", "&a=1&&b&", pgq.Row{"a": pgq.Text("1"), "b": null}},
		{"the later of two", "a=1&a=2", pgq.Row{"a": pgq.Text("2")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := pgq.DecodeRow(c.data)
			if err != nil || !maps.Equal(got, c.row) {
				t.Errorf("DecodeRow(%q) = %v, %v, want %v", c.data, got, err, c.row)
			}
		})
	}
}

func TestDecodeRowRefusesBrokenEscapes(t *testing.T) {
	for _, data := range []string{"a=%", "a=%4", "a=1&b=%4x", "%zz=1", "a=%%41"} {
		row, err := pgq.DecodeRow(data)
		if err == nil {
			t.Errorf("DecodeRow(%q) = %v, want an error", data, row)
		} else if !strings.Contains(err.Error(), "is no escape") {
			t.Errorf("DecodeRow(%q): the error %q does not say what is wrong", data, err)
		}
	}
}

func TestDecodeColumnsKeepsOrderAndStops(t *testing.T) {
	var got []string
	stop := errors.New("stop")
	err := pgq.DecodeColumns("b=1&a&b=x+y&&d=%c3%b5&e=2", func(name string, value pgtype.Text) error {
		got = append(got, fmt.Sprintf("%s %q %v", name, value.String, value.Valid))
		if name == "d" {
			return stop
		}
		return nil
	})
	if want := []string{`b "1" true`, `a "" false`, `b "x y" true`, `d "õ" true`}; err != stop || !slices.Equal(got, want) {
		t.Errorf("DecodeColumns gave %q, %v, want %q, stop", got, err, want)
	}
}

// The reason that DecodeColumns is there.
func TestDecodeColumnsAllocatesLittle(t *testing.T) {
	for _, c := range []struct {
		name, data string
		most       float64
	}{
		{"nothing is escaped", plainRow, 0},
		{"something is", escapedRow, 1},
	} {
		got := testing.AllocsPerRun(100, func() {
			if err := pgq.DecodeColumns(c.data, func(string, pgtype.Text) error { return nil }); err != nil {
				t.Error(err)
			}
		})
		if got > c.most {
			t.Errorf("%s: %.0f allocations, want %.0f", c.name, got, c.most)
		}
	}
}

// Rows of some 200 bytes.
const (
	plainRow = "id=1234567&username=somebody.else&email&created=20261130&score=42&flag=t&country=ee&payload=" +
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	escapedRow = "id=1234567&username=somebody+else&email=a%40b.ee&created=2026-11-30+12%3a00%3a00%2b00&score=42&flag=t&payload=" +
		"%c3%b5%c3%a4aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct{ name, data string }{{"plain", plainRow}, {"escaped", escapedRow}} {
		b.Run("columns/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := pgq.DecodeColumns(c.data, func(string, pgtype.Text) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("row/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := pgq.DecodeRow(c.data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What logutriga writes is read, and written again as it stands but for the order
// of the columns.
func TestRowIsWhatLogutrigaWrites(t *testing.T) {
	ctx, conn, db := setup(t)
	db.Exec(t, `create table public.odd (id int primary key, "a b" text, "c&=d" text, empty text, nothing text, flag bool, "õ" text);
		create trigger log after insert or update or delete on public.odd
			for each row execute function pgq.logutriga('events', 'backup')`)
	every := make([]rune, 0, 300) // all of ASCII that a text can have, and more
	for c := rune(1); c < 300; c++ {
		every = append(every, c)
	}
	want := pgq.Row{
		"id": pgq.Text("1"), "a b": pgq.Text(string(every)), "c&=d": pgq.Text("+%2b+ %"), "empty": pgq.Text(""),
		"nothing": null, "flag": pgq.Text("t"), "õ": pgq.Text("\U0001F418\n"),
	}
	db.Exec(t, "insert into public.odd values (1, $1, $2, '', null, true, $3)", want["a b"], want["c&=d"], want["õ"])
	db.Exec(t, "update public.odd set empty = 'x'")
	db.Exec(t, "delete from public.odd")
	tick(t, ctx, conn)
	events, err := pgq.GetBatchEvents(ctx, conn, nextBatch(t, ctx, conn, "c").ID)
	if err != nil || len(events) != 3 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if got := events[0]; got.Type.String != "I:id" || got.Extra1.String != "public.odd" || got.Extra2.Valid {
		t.Errorf("insert event: %+v", got)
	}
	for _, c := range []struct{ name, data string }{
		{"inserted row", events[0].Data.String}, {"old row of the update", events[1].Extra2.String},
	} {
		got, err := pgq.DecodeRow(c.data)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %q decodes to %v, %v, want %v", c.name, c.data, got, err, want)
		}
		wrote, written := strings.Split(want.Encode(), "&"), strings.Split(c.data, "&")
		slices.Sort(wrote)
		slices.Sort(written)
		if !slices.Equal(wrote, written) {
			t.Errorf("%s: logutriga wrote %q, Encode %q", c.name, written, wrote)
		}
	}
	want["empty"] = pgq.Text("x")
	if got, err := pgq.DecodeRow(events[1].Data.String); err != nil || !maps.Equal(got, want) {
		t.Errorf("updated row = %v, %v", got, err)
	}
}

// What was decoded has one encoded form, which decodes to the same.
func FuzzDecodeRow(f *testing.F) {
	for _, seed := range []string{"", "a=1&b=2&c", "a=%c3%b5+x&=", "a=%", "&&a==%3d", "%26=%41&A"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		row, err := pgq.DecodeRow(data)
		if err != nil {
			return
		}
		encoded := row.Encode()
		again, err := pgq.DecodeRow(encoded)
		if err != nil || !maps.Equal(row, again) {
			t.Errorf("%q decodes to %v, which encodes to %q, which decodes to %v, %v", data, row, encoded, again, err)
		}
		if strings.Trim(encoded, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.-+%&=") != "" {
			t.Errorf("%q has characters that must be escaped", encoded)
		}
	})
}
