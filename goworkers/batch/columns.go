package batch

// From an event's columns into the fields of a struct; see Handle.

import (
	"database/sql"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5/pgtype"

	"goworkers/pgq"
)

// columnError says what is wrong with an event, and in which of its fields or columns.
type columnError struct {
	name string
	err  error
}

func (e *columnError) Error() string { return fmt.Sprintf("field %q: %s", e.name, e.err) }
func (e *columnError) Unwrap() error { return e.err }

// decoderOf makes what decodes events into T: each call of the result gives one for the
// use of one goroutine.
func decoderOf[T any](options []HandleOption) func() func(ev *pgq.Event, v *T) *columnError {
	format := HandleOption(0)
	strict := false
	for _, option := range options {
		switch option {
		case Strict:
			strict = true
		case DataURL, DataJSON, DataSQL:
			format = option
		}
	}
	switch t := reflect.TypeFor[T](); {
	case t == reflect.TypeFor[pgq.Change]():
		return func() func(*pgq.Event, *T) *columnError {
			return func(ev *pgq.Event, v *T) *columnError {
				change, err := pgq.DecodeEvent(ev)
				if err != nil {
					return &columnError{"ev_data", err}
				}
				*any(v).(*pgq.Change) = change
				return nil
			}
		}
	case t == reflect.TypeFor[pgq.Row]():
		return func() func(*pgq.Event, *T) *columnError {
			return func(ev *pgq.Event, v *T) *columnError {
				row := pgq.Row{}
				err := eachColumn(ev, format, func(name string, value pgtype.Text) error {
					row[name] = value
					return nil
				})
				*any(v).(*pgq.Row) = row
				return err
			}
		}
	case t.Kind() != reflect.Struct:
		panic(fmt.Sprintf("batch: cannot decode events into %s: want a struct, pgq.Row or pgq.Change", t))
	default:
		columns := columnsOf(t)
		return func() func(*pgq.Event, *T) *columnError {
			f := filler{columns: columns, strict: strict, found: make([]bool, len(columns.list))}
			return func(ev *pgq.Event, v *T) *columnError {
				return f.fill(ev, format, reflect.ValueOf(v).Elem())
			}
		}
	}
}

// eachColumn gives the columns of an event to f, whose errors are *columnError.
func eachColumn(ev *pgq.Event, format HandleOption, f func(name string, value pgtype.Text) error) *columnError {
	if !ev.Data.Valid {
		return &columnError{"ev_data", errors.New("is NULL, and must be a row")}
	}
	data := ev.Data.String
	if format == 0 {
		switch kind := ev.Type.String; {
		case strings.HasPrefix(strings.TrimLeft(data, " \t\r\n"), "{"):
			format = DataJSON
		case ev.Extra1.Valid && (kind == "I" || kind == "U" || kind == "D"):
			format = DataSQL
		default:
			format = DataURL
		}
	}
	var row pgq.Row
	var err error
	switch format {
	case DataJSON:
		row, err = pgq.DecodeJSON(data)
	case DataSQL:
		var op byte
		if len(ev.Type.String) == 1 {
			op = ev.Type.String[0]
		}
		row, _, err = pgq.DecodeSQL(op, data)
	default:
		err = pgq.DecodeColumns(data, f)
	}
	for name, value := range row {
		if err = f(name, value); err != nil {
			break
		}
	}
	var bad *columnError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad):
		return bad
	}
	return &columnError{"ev_data", err}
}

// column is a field of a struct that events are decoded into.
type column struct {
	name     string
	index    []int // of the field
	nullable bool
	set      setter
}

// setter parses the text of a value that is not NULL.
type setter func(v reflect.Value, text string) error

type columns struct {
	list   []column
	byName map[string]int
}

// columnsOf looks at a struct; it panics on one that cannot be decoded into.
func columnsOf(t reflect.Type) columns {
	c := columns{byName: map[string]int{}}
	c.add(t, nil)
	if len(c.list) == 0 {
		panic(fmt.Sprintf("batch: cannot decode events into %s: it has no exported field", t))
	}
	return c
}

func (c *columns) add(t reflect.Type, at []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, tagged := columnName(f)
		if name == "-" {
			continue
		}
		index := append(slices.Clone(at), i)
		if f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct && !parsesItself(f.Type) {
			c.add(f.Type, index)
			continue
		}
		if !f.IsExported() {
			continue
		}
		if _, twice := c.byName[name]; twice {
			panic(fmt.Sprintf("batch: cannot decode events into %s: two fields have the column %q", t, name))
		}
		set := setterOf(f.Type)
		if set == nil {
			panic(fmt.Sprintf("batch: cannot decode events into %s.%s: nothing is known of type %s", t, f.Name, f.Type))
		}
		c.byName[name] = len(c.list)
		c.list = append(c.list, column{name: name, index: index, nullable: isNullable(f.Type), set: set})
	}
}

// columnName is the name that a tag gives, or that of the field in snake case.
func columnName(f reflect.StructField) (name string, tagged bool) {
	for _, tag := range []string{"db", "json"} {
		if name, _, _ := strings.Cut(f.Tag.Get(tag), ","); name != "" {
			return name, true
		}
	}
	return snakeCase(f.Name), false
}

// snakeCase writes UserID as user_id and HTTPCode as http_code.
func snakeCase(name string) string {
	letters := []rune(name)
	var b strings.Builder
	for i, c := range letters {
		if i > 0 && unicode.IsUpper(c) && (!unicode.IsUpper(letters[i-1]) && letters[i-1] != '_' ||
			unicode.IsUpper(letters[i-1]) && i+1 < len(letters) && unicode.IsLower(letters[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

var (
	scannerType     = reflect.TypeFor[sql.Scanner]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func parsesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(scannerType) || p.Implements(unmarshalerType)
}

// isNullable tells whether the zero value stands for NULL.
func isNullable(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer || reflect.PointerTo(t).Implements(scannerType)
}

// setterOf finds how text becomes a value of a type, or nil.
func setterOf(t reflect.Type) setter {
	p := reflect.PointerTo(t)
	switch {
	case t == reflect.TypeFor[time.Time]():
		return func(v reflect.Value, text string) error {
			at, err := parseTime(text)
			v.Set(reflect.ValueOf(at))
			return err
		}
	case t == reflect.TypeFor[time.Duration]():
		return func(v reflect.Value, text string) error {
			d, err := ParseDuration(text)
			v.SetInt(int64(d))
			return err
		}
	case p.Implements(scannerType):
		return func(v reflect.Value, text string) error {
			return typeFault(v.Addr().Interface().(sql.Scanner).Scan(text), t)
		}
	case p.Implements(unmarshalerType):
		return func(v reflect.Value, text string) error {
			return typeFault(v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)), t)
		}
	case strings.HasSuffix(t.PkgPath(), "pgx/v5/pgtype") && t.Kind() == reflect.Struct:
		return nil // ranges and arrays, which need to know more of their type
	}
	switch t.Kind() {
	case reflect.Pointer:
		set := setterOf(t.Elem())
		if set == nil {
			return nil
		}
		return func(v reflect.Value, text string) error {
			v.Set(reflect.New(t.Elem()))
			return set(v.Elem(), text)
		}
	case reflect.String:
		return func(v reflect.Value, text string) error { v.SetString(text); return nil }
	case reflect.Bool:
		return func(v reflect.Value, text string) error {
			switch strings.ToLower(text) {
			case "t", "true", "1":
				v.SetBool(true)
			case "f", "false", "0":
				v.SetBool(false)
			default:
				return errors.New("is not true or false")
			}
			return nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(v reflect.Value, text string) error {
			n, err := strconv.ParseInt(text, 10, t.Bits())
			v.SetInt(n)
			return numberFault(err, "whole number", t)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(v reflect.Value, text string) error {
			n, err := strconv.ParseUint(text, 10, t.Bits())
			v.SetUint(n)
			return numberFault(err, "whole number from 0 on", t)
		}
	case reflect.Float32, reflect.Float64:
		return func(v reflect.Value, text string) error {
			n, err := strconv.ParseFloat(text, t.Bits())
			v.SetFloat(n)
			return numberFault(err, "number", t)
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return setBytes
		}
		return sliceSetter(t)
	case reflect.Struct, reflect.Map, reflect.Interface:
		if t.Kind() == reflect.Interface && t.NumMethod() > 0 {
			return nil
		}
		return setJSON
	}
	return nil
}

// typeFault puts the error of a type that parses itself behind the value.
func typeFault(err error, t reflect.Type) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("is not a %s: %w", t, err)
}

func numberFault(err error, what string, t reflect.Type) error {
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("is too large for %s", t)
	case err != nil:
		return errors.New("is not a " + what)
	}
	return nil
}

func setBytes(v reflect.Value, text string) error {
	if digits, found := strings.CutPrefix(text, `\x`); found {
		if raw, err := hex.DecodeString(digits); err == nil {
			v.SetBytes(raw)
			return nil
		}
	}
	v.SetBytes([]byte(text))
	return nil
}

func setJSON(v reflect.Value, text string) error {
	if err := json.Unmarshal([]byte(text), v.Addr().Interface()); err != nil {
		return fmt.Errorf("is not the JSON that is wanted: %w", err)
	}
	return nil
}

// sliceSetter reads {1,2}, or [1,2].
func sliceSetter(t reflect.Type) setter {
	set := setterOf(t.Elem())
	if set == nil {
		return nil
	}
	return func(v reflect.Value, text string) error {
		if strings.HasPrefix(text, "[") && !strings.Contains(text, "]=") {
			return setJSON(v, text)
		}
		elements, err := pgq.ParseArray(text)
		if err != nil {
			return fmt.Errorf("is not a list: %w", err)
		}
		list := reflect.MakeSlice(t, len(elements), len(elements))
		for i, element := range elements {
			switch {
			case element.Valid:
				err = set(list.Index(i), element.String)
			case !isNullable(t.Elem()):
				err = errors.New("is NULL")
			}
			if err != nil {
				return fmt.Errorf("has an element %d that %w", i+1, err)
			}
		}
		v.Set(list)
		return nil
	}
}

// timeLayouts are the forms of the server with DateStyle ISO, and of JSON.
var timeLayouts = []string{
	"2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07:00:00",
	"2006-01-02 15:04:05", "2006-01-02",
}

// parseTime reads a time; one without a zone is in UTC.
func parseTime(text string) (time.Time, error) {
	spaced := text
	if len(text) > 10 && text[10] == 'T' {
		spaced = text[:10] + " " + text[11:]
	}
	for _, layout := range timeLayouts {
		if at, err := time.Parse(layout, spaced); err == nil {
			return at, nil
		}
	}
	return time.Time{}, errors.New("is not a time of the form 2006-01-02 15:04:05+00")
}

// filler decodes events into structs of one type, one at a time.
type filler struct {
	columns
	strict bool
	found  []bool // of the event at hand, by column
}

func (f *filler) fill(ev *pgq.Event, format HandleOption, v reflect.Value) *columnError {
	clear(f.found)
	if bad := eachColumn(ev, format, func(name string, value pgtype.Text) error {
		i, known := f.byName[name]
		if !known {
			if f.strict {
				return &columnError{name, errors.New("is not expected")}
			}
			return nil
		}
		f.found[i] = true
		return f.list[i].put(v, value)
	}); bad != nil {
		return bad
	}
	for i, found := range f.found {
		if !found && (f.strict || !f.list[i].nullable) {
			return &columnError{f.list[i].name, errors.New("is missing")}
		}
	}
	return nil
}

// put sets the field of a struct; errors are *columnError.
func (c *column) put(v reflect.Value, value pgtype.Text) error {
	field := v.FieldByIndex(c.index)
	if !value.Valid {
		field.SetZero() // of a column that comes twice the later counts
		if !c.nullable {
			return &columnError{c.name, errors.New("is NULL")}
		}
		return nil
	}
	if err := c.set(field, value.String); err != nil {
		const shown = 60
		text := value.String
		if len(text) > shown {
			text = text[:shown] + "…"
		}
		return &columnError{c.name, fmt.Errorf("%q %w", text, err)}
	}
	return nil
}
