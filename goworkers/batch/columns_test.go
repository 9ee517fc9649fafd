package batch

// Events decoded into structs.

import (
	"database/sql"
	"encoding/json"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"goworkers/pgq"
)

func event(kind, data string) *pgq.Event {
	return &pgq.Event{ID: 7, Type: pgq.Text(kind), Data: pgq.Text(data), Extra1: pgq.Text("public.t")}
}

// decodeInto decodes one event.
func decodeInto[T any](ev *pgq.Event, options ...HandleOption) (v T, bad *columnError) {
	bad = decoderOf[T](options)()(ev, &v)
	return v, bad
}

type point struct{ X, Y int }

type base struct {
	ID      int64
	Created time.Time `json:"created_at,omitempty"`
}

type everyKind struct {
	base
	Name     string
	Small    int8
	Big      uint64
	Ratio    float32
	Flag     bool
	Raw      []byte
	Wait     time.Duration
	Numeric  pgtype.Numeric
	UUID     pgtype.UUID
	Stamp    pgtype.Timestamptz
	Note     pgtype.Text
	Old      sql.NullInt64
	Huge     big.Int
	Maybe    *int
	MaybeTxt *pgtype.Text `db:"maybe_txt"`
	HTTPCode []int
	Tags     []*string `db:"tags"`
	Where    point
	Extra    map[string]any
	Any      any
	Ignored  chan int `db:"-"`
	hidden   int
}

func TestHandleFillsEveryKindOfField(t *testing.T) {
	text, one := "a,b", 1
	want := everyKind{
		base: base{ID: 5, Created: time.Date(2026, 11, 30, 12, 0, 0, 120000000, time.UTC)},
		Name: "O'Reilly & õ", Small: -128, Big: 1<<64 - 1, Ratio: 1.5, Flag: true, Raw: []byte{0, 0xff},
		Wait:     90 * time.Minute,
		Numeric:  pgtype.Numeric{Int: big.NewInt(1250), Exp: -2, Valid: true},
		UUID:     pgtype.UUID{Bytes: [16]byte{15: 1}, Valid: true},
		Stamp:    pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true},
		Huge:     *new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil),
		Maybe:    &one,
		HTTPCode: []int{200, 404}, Tags: []*string{&text, nil}, Where: point{1, 2},
		Extra: map[string]any{"k": []any{"v"}}, Any: 1.0,
	}
	row := pgq.Row{
		"id": pgq.Text("5"), "created_at": pgq.Text("2026-11-30 14:00:00.12+02"), "name": pgq.Text("O'Reilly & õ"), "small": pgq.Text("-128"),
		"big": pgq.Text("18446744073709551615"), "ratio": pgq.Text("1.5"), "flag": pgq.Text("t"), "raw": pgq.Text(`\x00ff`), "wait": pgq.Text("01:30:00"),
		"numeric": pgq.Text("12.50"), "uuid": pgq.Text("00000000-0000-0000-0000-000000000001"), "stamp": pgq.Text("infinity"), "note": {},
		"huge": pgq.Text("1000000000000000000000000000000"), "maybe": pgq.Text("1"), "maybe_txt": {}, "http_code": pgq.Text("{200,404}"),
		"tags": pgq.Text(`{"a,b",NULL}`), "where": pgq.Text(`{"X":1,"Y":2}`), "extra": pgq.Text(`{"k":["v"]}`), "any": pgq.Text("1"),
		"old": {}, "not_known": pgq.Text("x"),
	}
	same := func(form string, got everyKind, bad *columnError) {
		t.Helper()
		if bad != nil {
			t.Fatalf("%s: %v", form, bad)
		}
		if !got.Created.Equal(want.Created) {
			t.Errorf("%s: created %s, want %s", form, got.Created, want.Created)
		}
		got.Created = want.Created // in another zone
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, want\n%+v", form, got, want)
		}
	}
	got, bad := decodeInto[everyKind](event("I:id", row.Encode()))
	same("url-encoded", got, bad)

	var sets []string
	for name, value := range row {
		sets = append(sets, pgq.QuoteIdent(name)+"="+pgq.QuoteLiteral(value))
	}
	got, bad = decodeInto[everyKind](event("U", strings.Join(sets[1:], ",")+" where "+sets[0]))
	same("sql", got, bad)

	object := map[string]any{}
	for name, value := range row {
		if object[name] = value.String; !value.Valid {
			object[name] = nil
		}
	}
	object["where"], object["extra"], object["flag"], object["id"] = json.RawMessage(row["where"].String), json.RawMessage(row["extra"].String), true, 5
	object["http_code"], object["created_at"] = []int{200, 404}, "2026-11-30T14:00:00.12+02:00"
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	got, bad = decodeInto[everyKind](event("mail", string(data)))
	same("json", got, bad)
	if !reflect.ValueOf(got).FieldByName("hidden").IsZero() || got.hidden != 0 {
		t.Error("a field that is not exported was written to")
	}
}

func TestHandleReadsTimesAndBytes(t *testing.T) {
	type row struct {
		At  *time.Time
		Raw []byte
	}
	for text, want := range map[string]string{
		"2026-11-30 12:00:00+00":       "2026-11-30T12:00:00Z",
		"2026-11-30 12:00:00.5+05:30":  "2026-11-30T06:30:00.5Z",
		"1800-01-01 00:00:00+01:39:49": "1799-12-31T22:20:11Z",
		"2026-11-30 12:00:00":          "2026-11-30T12:00:00Z",
		"2026-11-30T12:00:00.25Z":      "2026-11-30T12:00:00.25Z",
		"2026-11-30":                   "2026-11-30T00:00:00Z",
	} {
		v, bad := decodeInto[row](event("t", pgq.Row{"at": pgq.Text(text), "raw": pgq.Text("x")}.Encode()))
		if bad != nil || v.At.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%s is %v, %v, want %s", text, v.At, bad, want)
		}
	}
	for text, want := range map[string]string{`\x4142`: "AB", `\x414`: `\x414`, "plain": "plain", "": ""} {
		v, bad := decodeInto[row](event("t", pgq.Row{"raw": pgq.Text(text)}.Encode()))
		if bad != nil || string(v.Raw) != want || v.Raw == nil {
			t.Errorf("%s is %q, %v, want %q", text, v.Raw, bad, want)
		}
	}
}

func TestHandleNamesWhatIsBad(t *testing.T) {
	type row struct {
		N     int16
		Maybe *int8
		When  *time.Time
		Flag  *bool
		List  []int
		Num   pgtype.Numeric
		Map   map[string]int
	}
	for _, c := range []struct {
		name, data, want string
		options          []HandleOption
	}{
		{"missing", "maybe=1", `field "n": is missing`, nil},
		{"null", "n&list={}&map={}", `field "n": is NULL`, nil},
		{"no number", "n=x1", `field "n": "x1" is not a whole number`, nil},
		{"a number with a fraction", "n=1.0", `field "n": "1.0" is not a whole number`, nil},
		{"too large", "n=32768", `field "n": "32768" is too large for int16`, nil},
		{"too large behind a pointer", "n=1&maybe=128", `field "maybe": "128" is too large for int8`, nil},
		{"no time", "n=1&when=infinity", `field "when": "infinity" is not a time of the form`, nil},
		{"no boolean", "n=1&flag=maybe", `field "flag": "maybe" is not true or false`, nil},
		{"no list", "n=1&list={{1}}", `field "list": "{{1}}" is not a list: `, nil},
		{"a bad element", "n=1&list={1,x}", `field "list": "{1,x}" has an element 2 that is not a whole number`, nil},
		{"a null element", "n=1&list={NULL}", `has an element 1 that is NULL`, nil},
		{"not of its type", "n=1&num=x", `field "num": "x" is not a pgtype.Numeric: `, nil},
		{"no json", "n=1&map=x", `field "map": "x" is not the JSON that is wanted: `, nil},
		{"a broken escape", "n=%", `field "ev_data": decode row: in "n=%"`, nil},
		{"broken json", "{", `field "ev_data": decode json`, nil},
		{"another format than said", "n=1", `field "ev_data": decode json`, []HandleOption{DataJSON}},
		{"sql of another event", "n='1'", `field "ev_data": decode sql: 't' is not one of the operations`, []HandleOption{DataSQL}},
		{"unknown and strict", "n=1&x=1", `field "x": is not expected`, []HandleOption{Strict}},
		{"missing and strict", "n=1&list={}&map={}", `field "maybe": is missing`, []HandleOption{Strict}},
		{"a long value", "n=" + strings.Repeat("9", 1000), `999…" is too large`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if v, bad := decodeInto[row](event("t", c.data), c.options...); bad == nil || !strings.Contains(bad.Error(), c.want) {
				t.Errorf("decoded %+v, %v, want %s", v, bad, c.want)
			}
		})
	}
	if _, bad := decodeInto[row](&pgq.Event{}); bad == nil || bad.Error() != `field "ev_data": is NULL, and must be a row` {
		t.Errorf("without data: %v", bad)
	}
}

func TestHandleDecodesRowsAndChanges(t *testing.T) {
	row, bad := decodeInto[pgq.Row](event("t", "a=1&b"))
	if want := (pgq.Row{"a": pgq.Text("1"), "b": {}}); bad != nil || !reflect.DeepEqual(row, want) {
		t.Errorf("%v, %v", row, bad)
	}
	change, bad := decodeInto[pgq.Change](event("R", ""))
	if want := (pgq.Change{Op: 'R', Table: "public.t", Row: pgq.Row{}}); bad != nil || !reflect.DeepEqual(change, want) {
		t.Errorf("%+v, %v", change, bad)
	}
	if _, bad := decodeInto[pgq.Change](event("t", "")); bad == nil || !strings.Contains(bad.Error(), "ev_type") {
		t.Errorf("an event of no trigger: %v", bad)
	}
	if _, bad := decodeInto[pgq.Row](event("t", "%")); bad == nil {
		t.Error("a broken row was decoded")
	}
}

// An event leaves nothing behind for the next one.
func TestHandleDecodesEachEventAfresh(t *testing.T) {
	type row struct{ A, B *string }
	decode := decoderOf[row](nil)()
	var first, second row
	if bad := decode(event("t", "a=1&b=2"), &first); bad != nil {
		t.Fatal(bad)
	}
	if bad := decode(event("t", "a=3&a"), &second); bad != nil || second.A != nil || second.B != nil || *first.A != "1" {
		t.Errorf("%v, %v after %v", second, bad, first)
	}
	decodeStrict := decoderOf[row]([]HandleOption{Strict})()
	_ = decodeStrict(event("t", "a=1&b=2"), &first)
	if bad := decodeStrict(event("t", "a=1"), &second); bad == nil {
		t.Error("a column of the event before counts as found")
	}
}

func TestHandleRefusesTypesThatCannotBeFilled(t *testing.T) {
	for name, c := range map[string]struct {
		make func()
		want string
	}{
		"no struct":    {func() { decoderOf[int](nil) }, "want a struct"},
		"no fields":    {func() { decoderOf[struct{ a int }](nil) }, "no exported field"},
		"a channel":    {func() { decoderOf[struct{ C chan int }](nil) }, "nothing is known of type chan int"},
		"a list of it": {func() { decoderOf[struct{ C []func() }](nil) }, "nothing is known of type []func()"},
		"an interface": {func() { decoderOf[struct{ C error }](nil) }, "nothing is known of type error"},
		"a range":      {func() { decoderOf[struct{ R pgtype.Range[pgtype.Int4] }](nil) }, "nothing is known of type pgtype.Range"},
		"a name twice": {func() {
			decoderOf[struct {
				A int `db:"x"`
				X int
			}](nil)
		}, `two fields have the column "x"`},
	} {
		func() {
			defer func() {
				if said, _ := recover().(string); !strings.Contains(said, c.want) {
					t.Errorf("%s: %q, want %q", name, said, c.want)
				}
			}()
			c.make()
			t.Errorf("%s is taken", name)
		}()
	}
}

func TestSnakeCase(t *testing.T) {
	for name, want := range map[string]string{
		"ID": "id", "UserID": "user_id", "HTTPCode": "http_code", "MkTemplate": "mk_template", "Extra1": "extra1", "A": "a", "AB": "ab", "Õun": "õun", "Is_OK": "is_ok",
	} {
		if got := snakeCase(name); got != want {
			t.Errorf("snakeCase(%s) = %s, want %s", name, got, want)
		}
	}
}

func BenchmarkHandleDecode(b *testing.B) {
	type mail struct {
		MkTemplate int64
		Username   string
		Email      *string
		MkLanguage *string
		Payload    *string
	}
	ev := event("I:", "mk_template=73&username=somebody&email=a.b.ee&mk_language&payload="+strings.Repeat("x", 100))
	decode := decoderOf[mail](nil)()
	b.ReportAllocs()
	for b.Loop() {
		var v mail
		if bad := decode(ev, &v); bad != nil {
			b.Fatal(bad)
		}
	}
}

// Whatever an event holds, a struct is filled or the error says which field is bad.
func FuzzHandleDecode(f *testing.F) {
	f.Add("I:id", "id=1&name=x&created_at=2026-11-30+12%3a00%3a00%2b00&http_code={1}")
	f.Add("t", `{"id":1,"where":{"X":1},"tags":["a",null],"numeric":1e5}`)
	f.Add("U", "id='1',raw=E'\\\\x00' where name='x'")
	decode := decoderOf[everyKind](nil)()
	f.Fuzz(func(t *testing.T, kind, data string) {
		var v everyKind
		if bad := decode(event(kind, data), &v); bad != nil && bad.name == "" && !strings.Contains(data, "=") && !strings.Contains(data, `""`) {
			t.Errorf("no field is named: %v", bad)
		}
	})
}
