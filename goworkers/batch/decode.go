package batch

// Section.Decode: from an ini section into a struct, all faults at once.

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ConnString is a libpq connection string. It prints itself without the
// password; convert it to string to connect.
type ConnString string

var (
	passwordRE = regexp.MustCompile(`(?is)(password\s*=\s*)('(?:[^'\\]|\\.)*'|'.*|[^\s&]*)`)
	urlPassRE  = regexp.MustCompile(`(://[^:/@\s]*:)[^@\s]*@`)
)

func (c ConnString) String() string {
	s := passwordRE.ReplaceAllString(string(c), "${1}***")
	return urlPassRE.ReplaceAllString(s, "${1}***@")
}

// Check says what is wrong with the form of the connection string; the empty
// one is right, it leaves everything to the environment.
func (c ConnString) Check() error {
	if c == "" {
		return nil
	}
	if _, err := pgconn.ParseConfig(string(c)); err != nil {
		return fmt.Errorf("is not a connection string (%s); write for example dbname=mydb host=127.0.0.1 port=5432", connStringFault(err))
	}
	return nil
}

// Size is a number of bytes; in the file 10485760, 10MB or 10MiB.
type Size int64

// field is what the tags of one struct field say.
type field struct {
	key, alias, def, help string
	min                   string
	choice                []string
	required, path        bool
	secret, raw, old      bool
	unused                string
	value                 reflect.Value
	depth                 int // of embedding
}

// fields lists the tagged fields of a struct in order, embedded structs
// flattened; a key of an embedded struct gives way to the same key outside.
// It panics on a struct that cannot be configured: that is a mistake of the
// program, not of its user.
func fields(v reflect.Value) []field {
	all := flatten(v, 0)
	depth := map[string]int{}
	for _, f := range all {
		if d, ok := depth[f.key]; !ok || f.depth < d {
			depth[f.key] = f.depth
		}
	}
	all = slices.DeleteFunc(all, func(f field) bool { return f.depth > depth[f.key] })
	if v.CanAddr() {
		if d, ok := v.Addr().Interface().(Defaulter); ok {
			defaults := d.Defaults()
			for i := range all {
				if def, found := defaults[all[i].key]; found {
					all[i].def = def
				}
			}
		}
	}
	return all
}

func flatten(v reflect.Value, depth int) []field {
	var all []field
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("ini")
		if key == "" && f.Anonymous && f.Type.Kind() == reflect.Struct {
			all = append(all, flatten(v.Field(i), depth+1)...)
			continue
		}
		if key == "" || key == "-" {
			continue
		}
		if !f.IsExported() {
			panic(fmt.Sprintf("batch: field %s.%s has an ini tag but is not exported", t, f.Name))
		}
		var choice []string
		if c := f.Tag.Get("choice"); c != "" {
			choice = strings.Split(c, ",")
		}
		all = append(all, field{
			key:      key,
			alias:    f.Tag.Get("alias"),
			def:      f.Tag.Get("default"),
			help:     f.Tag.Get("help"),
			min:      f.Tag.Get("min"),
			choice:   choice,
			required: f.Tag.Get("required") == "true",
			path:     f.Tag.Get("path") == "true",
			secret:   f.Tag.Get("secret") == "true",
			raw:      f.Tag.Get("raw") == "true",
			old:      f.Tag.Get("old") == "true",
			unused:   f.Tag.Get("unused"),
			value:    v.Field(i),
			depth:    depth,
		})
	}
	return all
}

// Decode fills the struct that dst points to. The tags of its fields say how:
//
//	ini:"loop_delay"        the key; a field without it is left alone
//	default:"1"             what stands when the key is missing; expands like a value
//	required:"true"         the key must be there and not empty
//	alias:"pgq_queue_name"  an older name of the key
//	choice:"text,json"      the only values allowed
//	min:"0"                 the smallest number or time span allowed
//	path:"true"             ~ and ~user at the start become a home directory
//	raw:"true"              %(name)s stays as written, for the program to fill
//	secret:"true"           the value is masked in messages
//	unused:"why"            accepted since old files have it; a warning says why. Such a
//	                        key may end in *: all keys that begin so
//	old:"true"              an old file's word for something else; not in the sample
//	help:"…"                the comment in the sample
//
// Types: string, int, int64, float64, bool (1/0, yes/no, on/off, true/false),
// time.Duration (a plain number is seconds; 500ms, 10min, 1h 30min, 01:30:00),
// Size, ConnString, []string (comma separated), and types made of these.
// Embedded structs are flattened; where a key stands in both, the outer field
// has it and the embedded one is left alone. The error is a *ConfigError with every
// problem found: unknown keys, wrong types, missing keys.
func (s *Section) Decode(dst any) error {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("batch: Decode needs a pointer to a struct, got %T", dst))
	}
	var problems []Problem
	known := map[string]bool{"job_name": true}
	all := fields(v.Elem())
	for _, f := range all {
		known[f.key] = true
		if f.alias != "" {
			known[f.alias] = true
		}
		for _, key := range s.family(f.key) {
			known[key] = true
		}
		if p := s.decodeField(f); p != nil {
			problems = append(problems, *p)
		}
	}
	problems = append(problems, s.slips(known)...)
	for _, key := range s.Keys() {
		if known[key] || s.referred(key) {
			continue
		}
		what := "unknown key; --ini lists the keys that exist"
		if near := nearest(key, known); near != "" {
			what = fmt.Sprintf("unknown key; did you mean %q?", near)
		}
		problems = append(problems, s.problem(key, ConnString(s.values[key]).String(), what))
	}
	if len(problems) > 0 {
		return &ConfigError{Problems: problems}
	}
	return nil
}

// family is the section's keys that a pattern NAME* stands for.
func (s *Section) family(pattern string) []string {
	prefix, found := strings.CutSuffix(pattern, "*")
	if !found {
		return nil
	}
	return slices.DeleteFunc(s.Keys(), func(key string) bool { return !strings.HasPrefix(key, prefix) })
}

// referred says whether another value of the section expands the key: a file
// may define such words for its own use.
func (s *Section) referred(key string) bool {
	for _, value := range s.values {
		if strings.Contains(strings.ToLower(value), s.interpolation().of(key)) {
			return true
		}
	}
	return false
}

// Warnings names the keys that are set but have no effect any more, or another one
// than somebody may think.
func (s *Section) Warnings(dst any) []string {
	var list []string
	for _, f := range fields(reflect.ValueOf(dst).Elem()) {
		if f.unused == "" {
			continue
		}
		for _, key := range append(s.family(f.key), f.key) {
			if s.rank(key) > rankDefault {
				list = append(list, s.problem(key, s.values[key], "has no effect: "+f.unused).String())
			}
		}
	}
	if c, ok := dst.(Config); ok {
		for _, p := range c.Common().warnings() {
			list = append(list, s.problem(p.Key, s.values[p.Key], p.What).String())
		}
	}
	return list
}

func (s *Section) decodeField(f field) *Problem {
	key, both := s.spelling(f)
	if both {
		p := s.problem(f.alias, ConnString(s.values[f.alias]).String(), fmt.Sprintf("is the older name of %s, which is set too; keep one of them", f.key))
		return &p
	}
	raw, ok := s.values[key]
	if !ok {
		raw = f.def
		if raw == "" && key == "job_name" {
			raw = s.base["job_name"]
		}
	}
	value := raw
	fault := func(what string) *Problem {
		shown := ConnString(value).String()
		if f.secret {
			shown = "***"
			if isConnString(f.value) {
				shown = ConnString(value).String()
			}
		}
		p := s.problem(key, shown, what)
		return &p
	}
	if !f.raw {
		expanded, err := s.expand(stripComment(raw))
		if err != nil {
			return fault(err.Error())
		}
		value = expanded
	}
	if value == "" && f.required {
		if ok {
			return fault("is empty; give " + describe(f))
		}
		return fault(fmt.Sprintf("is missing; add %s = … (%s)", f.key, describe(f)))
	}
	if f.path {
		expanded, err := expandHome(value)
		if err != nil {
			return fault(err.Error())
		}
		value = expanded
	}
	if len(f.choice) > 0 && value != "" {
		found := false
		for _, c := range f.choice {
			found = found || c == value
		}
		if !found {
			return fault("must be one of " + strings.Join(f.choice, ", "))
		}
	}
	if err := setValue(f.value, value); err != nil {
		return fault(err.Error())
	}
	if below(f) {
		return fault(fmt.Sprintf("is too small; write %s or more", f.min))
	}
	return nil
}

// below says whether the field's number is smaller than its tag allows.
func below(f field) bool {
	if f.min == "" {
		return false
	}
	least := reflect.New(f.value.Type()).Elem()
	if err := setValue(least, f.min); err != nil {
		panic(fmt.Sprintf("batch: min of %s: %v", f.key, err))
	}
	if least.CanFloat() {
		return f.value.Float() < least.Float()
	}
	return f.value.Int() < least.Int()
}

// spelling is the key that a field is set by: its own, or its older name. Set
// goes before the environment, that before the section, the section before
// [DEFAULT]; both says that the two stand side by side and neither can be said to be
// meant.
func (s *Section) spelling(f field) (key string, both bool) {
	if f.alias == "" || f.alias == f.key {
		return f.key, false
	}
	now, old := s.rank(f.key), s.rank(f.alias)
	if old > now {
		return f.alias, false
	}
	return f.key, old == now && old > 0
}

func describe(f field) string {
	if f.help != "" {
		return f.help
	}
	return "a value"
}

func isConnString(v reflect.Value) bool { return v.Type() == reflect.TypeFor[ConnString]() }

// setValue parses text into a field; the error says what is wrong with it.
func setValue(v reflect.Value, text string) error {
	switch v.Type() {
	case reflect.TypeFor[time.Duration]():
		d, err := ParseDuration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(d))
		return nil
	case reflect.TypeFor[Size]():
		n, err := parseSize(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(n))
		return nil
	case reflect.TypeFor[ConnString]():
		if err := ConnString(text).Check(); err != nil {
			return err
		}
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int, reflect.Int64:
		if text == "" {
			v.SetInt(0)
			return nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("is not a whole number")
		}
		v.SetInt(n)
	case reflect.Float64:
		if text == "" {
			v.SetFloat(0)
			return nil
		}
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("is not a number")
		}
		v.SetFloat(n)
	case reflect.Bool:
		switch strings.ToLower(text) {
		case "1", "yes", "on", "true":
			v.SetBool(true)
		case "0", "no", "off", "false", "":
			v.SetBool(false)
		default:
			return fmt.Errorf("is not yes or no; write 1 or 0")
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.String {
			panic(fmt.Sprintf("batch: cannot decode into %s", v.Type()))
		}
		list := reflect.MakeSlice(v.Type(), 0, 0)
		for _, item := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
			if item = strings.TrimSpace(item); item != "" {
				list = reflect.Append(list, reflect.ValueOf(item).Convert(v.Type().Elem()))
			}
		}
		v.Set(list)
	default:
		panic(fmt.Sprintf("batch: cannot decode into %s", v.Type()))
	}
	return nil
}

// connStringFault takes the repeated connection string off pgconn's message.
func connStringFault(err error) string {
	text := err.Error()
	if i := strings.Index(text, "`: "); i >= 0 {
		text = text[i+len("`: "):]
	}
	return text
}

// units of ParseDuration, by the names that PostgreSQL intervals use.
var units = map[string]time.Duration{
	"us": time.Microsecond, "ms": time.Millisecond,
	"s": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "mins": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
}

var durationPart = regexp.MustCompile(`^\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]+)`)

// ParseDuration reads a time span as people write it in ini files: a plain
// number is seconds (0.1, -1), else numbers with units (500ms, 10min,
// 1 hour 30 min, 2 days) or 01:30:00. Empty is 0.
func ParseDuration(text string) (time.Duration, error) {
	fault := fmt.Errorf("is not a time span; write seconds (0.5) or a number with a unit (500ms, 10min, 1h)")
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" {
		return 0, nil
	}
	const most = float64(1<<63 - 1)
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if n != n || n*float64(time.Second) >= most || n*float64(time.Second) <= -most {
			return 0, fault
		}
		return time.Duration(n * float64(time.Second)), nil
	}
	if parts := strings.Split(text, ":"); len(parts) == 2 || len(parts) == 3 {
		total, scale := 0.0, float64(time.Hour)
		for _, part := range parts {
			n, err := strconv.ParseFloat(part, 64)
			if err != nil || !(n >= 0) {
				return 0, fault
			}
			total += n * scale
			scale /= 60
		}
		if total >= most {
			return 0, fault
		}
		return time.Duration(total), nil
	}
	total := 0.0
	for text != "" {
		m := durationPart.FindStringSubmatch(text)
		if m == nil {
			return 0, fault
		}
		unit, ok := units[m[2]]
		n, err := strconv.ParseFloat(m[1], 64)
		if !ok || err != nil {
			return 0, fault
		}
		total += n * float64(unit)
		text = strings.TrimSpace(text[len(m[0]):])
	}
	if total >= most {
		return 0, fault
	}
	return time.Duration(total), nil
}

var sizeRE = regexp.MustCompile(`^([0-9]{1,12})\s*([kmgt]?)(i?b)?$`)

func parseSize(text string) (Size, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" {
		return 0, nil
	}
	m := sizeRE.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("is not a size; write bytes or a number with a unit (64kB, 10MB)")
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]uint{"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[m[2]]
	if err != nil || n > (1<<62)>>shift {
		return 0, fmt.Errorf("is not a size; write bytes or a number with a unit (64kB, 10MB)")
	}
	return Size(n << shift), nil
}

// expandHome replaces ~ or ~user at the start of a path.
func expandHome(path string) (string, error) {
	if !strings.HasPrefix(path, "~") {
		return path, nil
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	var home string
	if name == "" {
		var err error
		if home, err = os.UserHomeDir(); err != nil {
			return "", fmt.Errorf("has ~, but HOME is not set; write the whole path")
		}
	} else {
		u, err := user.Lookup(name)
		if err != nil {
			return "", fmt.Errorf("has ~%s, but there is no such user; write the whole path", name)
		}
		home = u.HomeDir
	}
	return filepath.Join(home, rest), nil
}

// nearest finds the known key that a mistyped one most likely means.
func nearest(key string, known map[string]bool) string {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	sort.Strings(names)
	best, bestDistance := "", len(key)/3+1
	for _, name := range names {
		if d := editDistance(key, name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
