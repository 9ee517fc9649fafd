package batch

// One section of a SkyTools ini file: reading it, expanding %(name)s, and the
// errors that tell the operator what to change. Filling structs from it is in
// decode.go.

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"gopkg.in/ini.v1"
)

// LoadOptions says what besides the file goes into a Section.
type LoadOptions struct {
	// Env is an environment as os.Environ gives it. The variable SKYTOOLS_KEY wins
	// over the key in the file; see environment. Default: none.
	Env []string
	// Set holds values from the command line (--set key=value); they win over
	// environment and file. Default: none.
	Set map[string]string
	// Default stands in for what the section lacks. Default: nothing but [DEFAULT].
	Default *Section
}

// Section is one section of a SkyTools ini file, as the operator wrote it.
// Values expand when they are read: %(name)s is another key of the section or
// one of job_name, config_name, service_name, host_name, config_dir, config_file; %% is a
// percent sign. With config_format = 2 that is ${name}, also ${section:name}, and $$ is a
// dollar sign. Keys of [DEFAULT] stand in for what the section lacks.
//
// A Section is read-only after Load and safe for concurrent use.
type Section struct {
	path   string
	name   string
	values map[string]string // by lower-case key: [DEFAULT], section, environment, Set
	own    map[string]bool   // keys that must be known: section and Set
	env    map[string]bool   // keys of the environment
	set    map[string]bool   // keys of Set
	base   map[string]string // what only expansion sees: host_name, config_dir …
	others []string          // sections beside it
	// sibling reads another section of the file, with the same environment.
	sibling func(name string) (*Section, error)
}

// Problem is one thing wrong in a configuration.
type Problem struct {
	File    string
	Section string // "" when the file itself is wrong
	Key     string // "" when the section itself is wrong
	Value   string // as shown to people; secrets are masked
	Source  string // of the value when it is not from the file: --set, or a variable
	What    string // what is wrong and what to do
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	b.WriteString(":")
	if p.Section != "" {
		fmt.Fprintf(&b, " [%s]", p.Section)
	}
	if p.Key != "" {
		fmt.Fprintf(&b, " %s", p.Key)
		if p.Value != "" {
			fmt.Fprintf(&b, " = %q", p.Value)
		}
		b.WriteString(origin(p.Source))
	}
	if p.Section != "" || p.Key != "" {
		b.WriteString(":")
	}
	b.WriteString(" " + p.What)
	return b.String()
}

// origin tells where a value is from that is not from the file.
func origin(source string) string {
	if source == "" {
		return ""
	}
	return " (from " + source + ")"
}

// ConfigError holds everything that is wrong in a configuration, so that one
// run shows the operator all of it. It counts as misuse: exit code 2.
type ConfigError struct {
	Problems []Problem
}

func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func configError(path, section, what string) *ConfigError {
	return &ConfigError{Problems: []Problem{{File: path, Section: section, What: what}}}
}

// Load reads one section of an ini file. Every error is a *ConfigError.
func Load(path, section string, opts LoadOptions) (*Section, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return parse(path, data, section, opts)
}

// Sections lists the sections of an ini file, but for [DEFAULT]. Every error is a
// *ConfigError.
func Sections(path string) ([]string, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	file, err := parseFile(path, data)
	if err != nil {
		return nil, err
	}
	return sections(file), nil
}

func sections(file *ini.File) []string {
	return slices.DeleteFunc(file.SectionStrings(), func(name string) bool { return name == ini.DefaultSection })
}

func read(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, configError(path, "", fmt.Sprintf("cannot read the configuration file: %v; give the path of an ini file", baseError(err)))
	}
	return data, nil
}

func parseFile(path string, data []byte) (*ini.File, error) {
	file, err := ini.LoadSources(ini.LoadOptions{
		InsensitiveKeys:            true,
		IgnoreContinuation:         true, // lines go on by indentation, not by backslash
		IgnoreInlineComment:        true, // see stripComment
		AllowPythonMultilineValues: true,
		PreserveSurroundedQuote:    true,
		ReaderBufferSize:           max(4096, len(data)+1),
	}, data)
	if err != nil {
		where, what := syntaxFault(data, err)
		return nil, configError(path+where, "", fmt.Sprintf("not an ini file: %s; write [section] and key = value lines", what))
	}
	return file, nil
}

func parse(path string, data []byte, section string, opts LoadOptions) (*Section, error) {
	file, err := parseFile(path, data)
	if err != nil {
		return nil, err
	}
	if !file.HasSection(section) {
		found := "the file has no sections"
		if have := sections(file); len(have) > 0 {
			found = "the file has [" + strings.Join(have, "], [") + "]"
		}
		return nil, configError(path, section, fmt.Sprintf("section not found; %s; --ini prints a sample", found))
	}

	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	s := &Section{
		path:   path,
		name:   section,
		values: map[string]string{},
		own:    map[string]bool{},
		env:    map[string]bool{},
		set:    map[string]bool{},
		base: map[string]string{
			"job_name":     strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)),
			"config_name":  strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)),
			"service_name": section,
			"host_name":    host,
			"config_dir":   filepath.Dir(abs),
			"config_file":  abs,
		},
	}
	s.sibling = func(name string) (*Section, error) { return parse(path, data, name, LoadOptions{Env: opts.Env}) }
	for _, name := range file.SectionStrings() {
		if name != ini.DefaultSection && name != section {
			s.others = append(s.others, name)
		}
	}
	for _, name := range []string{ini.DefaultSection, section} {
		if name == section && opts.Default != nil {
			maps.Copy(s.values, opts.Default.values)
		}
		for _, key := range file.Section(name).Keys() {
			s.values[key.Name()] = joinLines(key.Value())
			if name == section {
				s.own[key.Name()] = true
			}
		}
	}
	for key, value := range environment(opts.Env) {
		s.values[key] = value
		s.env[key] = true
	}
	for key, value := range opts.Set {
		key = strings.ToLower(key)
		s.values[key] = value
		s.own[key], s.set[key] = true, true
	}
	return s, nil
}

// syntaxFault says where the text is no ini file, as ":LINE" if that is known, and
// what is wrong, without bytes that a terminal would obey.
func syntaxFault(data []byte, err error) (where, what string) {
	const shown = 60 // of the line, in bytes
	what, line, found := strings.Cut(err.Error(), ": ")
	if !found {
		return "", fmt.Sprintf("%.*q", shown, what)
	}
	line = strings.TrimSpace(line)
	for i, text := range strings.Split(string(data), "\n") {
		if strings.TrimSpace(text) == line {
			where = fmt.Sprintf(":%d", i+1)
			break
		}
	}
	if len(line) > shown {
		return where, fmt.Sprintf("%s: %q…", what, line[:shown])
	}
	return where, fmt.Sprintf("%s: %q", what, line)
}

// joinLines takes the indentation off continuation lines.
func joinLines(value string) string {
	lines := strings.Split(value, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// Path is the file that the section was read from, as given to Load.
func (s *Section) Path() string { return s.path }

// Name is the name of the section, which is the name of the service.
func (s *Section) Name() string { return s.name }

// Keys lists the keys of the section and of Set in order; for families of
// keys that no struct can name.
func (s *Section) Keys() []string {
	keys := make([]string, 0, len(s.own))
	for key := range s.own {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// Others lists the names of the file's other sections, for families of sections.
func (s *Section) Others() []string { return s.others }

// Get returns the expanded value of one key, and whether the key is there.
func (s *Section) Get(key string) (value string, ok bool, err error) {
	raw, ok := s.values[strings.ToLower(key)]
	if !ok {
		return "", false, nil
	}
	value, err = s.expand(stripComment(raw))
	if err != nil {
		return "", true, &ConfigError{Problems: []Problem{s.problem(key, raw, err.Error())}}
	}
	return value, true, nil
}

func (s *Section) problem(key, value, what string) Problem {
	return Problem{File: s.path, Section: s.name, Key: key, Value: value, Source: s.source(key), What: what}
}

// Where a value is from; the higher wins.
const (
	rankNone = iota
	rankDefault
	rankSection
	rankEnv
	rankSet
)

func (s *Section) rank(key string) int {
	_, there := s.values[key]
	switch {
	case s.set[key]:
		return rankSet
	case s.env[key]:
		return rankEnv
	case s.own[key]:
		return rankSection
	case there:
		return rankDefault
	}
	return rankNone
}

// source names where a value is from when it is not from the file.
func (s *Section) source(key string) string {
	switch s.rank(key) {
	case rankSet:
		return "--set"
	case rankEnv:
		return envPrefix + strings.ToUpper(key)
	}
	return ""
}

// stripComment cuts a comment that begins with a semicolon after white space,
// as the Python 2 tools did; a # begins a comment only at the start of a line.
func stripComment(value string) string {
	for _, mark := range []string{" ;", "\t;"} {
		if i := strings.Index(value, mark); i >= 0 && !strings.Contains(value[:i], "\n") {
			rest := ""
			if nl := strings.IndexByte(value, '\n'); nl >= 0 {
				rest = value[nl:]
			}
			value = strings.TrimSpace(value[:i]) + rest
		}
	}
	return value
}

const expandDepthMax = 10

// interpolation is how a value names another one: %(name)s, or ${name}.
type interpolation struct {
	sign        byte // doubled, it stands for itself
	open, close string
}

var interpolations = map[string]interpolation{
	"1": {'%', "(", ")s"},
	"2": {'$', "{", "}"},
}

// of names a value.
func (i interpolation) of(name string) string { return string(i.sign) + i.open + name + i.close }

func (s *Section) interpolation() interpolation {
	if how, known := interpolations[s.values["config_format"]]; known {
		return how
	}
	return interpolations["1"]
}

// expand replaces names of other values by these, and a doubled sign by one.
func (s *Section) expand(value string) (string, error) {
	return s.expandDepth(value, 0)
}

func (s *Section) expandDepth(value string, depth int) (string, error) {
	how := s.interpolation()
	if depth > expandDepthMax {
		return "", errors.New(how.of("…") + " refers to itself; break the circle")
	}
	twice := string([]byte{how.sign, how.sign})
	var b strings.Builder
	for {
		i := strings.IndexByte(value, how.sign)
		if i < 0 {
			b.WriteString(value)
			return b.String(), nil
		}
		b.WriteString(value[:i])
		value = value[i+1:]
		switch {
		case strings.HasPrefix(value, twice[:1]):
			b.WriteByte(how.sign)
			value = value[1:]
		case strings.HasPrefix(value, how.open):
			word, rest, found := strings.Cut(value[len(how.open):], how.close)
			if !found {
				return "", fmt.Errorf("%c%s without %s; write %s, or %s for a single %c", how.sign, how.open, how.close, how.of("name"), twice, how.sign)
			}
			value = rest
			inner, err := s.value(strings.ToLower(word), depth+1)
			if errors.Is(err, errNoKey) {
				err = fmt.Errorf("%s is not a key of the section; add it, or write %s for a single %c", how.of(strings.ToLower(word)), twice, how.sign)
			}
			if err != nil {
				return "", err
			}
			b.WriteString(inner)
		default:
			b.WriteByte(how.sign)
		}
	}
}

var errNoKey = errors.New("there is no such key")

// value is what a name in another value stands for.
func (s *Section) value(name string, depth int) (string, error) {
	section, key, elsewhere := strings.Cut(name, ":")
	if elsewhere && s.values["config_format"] == "2" {
		other, err := s.sibling(section)
		if err != nil {
			return "", errNoKey
		}
		other.values["config_format"] = "2" // of the whole file
		return other.value(key, depth)
	}
	raw, ok := s.values[name]
	if !ok {
		raw, ok = s.base[name]
	}
	if !ok {
		return "", errNoKey
	}
	return s.expandDepth(stripComment(raw), depth)
}
