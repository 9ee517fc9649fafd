package ini

// Config: a configuration as a whole, how it is loaded, reloaded, shown and set.

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Config is what a file says.
type Config struct {
	Settings

	// Path is the file that was read, ConfFile the one that the next reload reads.
	Path string

	Databases map[string]*Database // AutoName is the template
	Users     map[string]*User
	Peers     map[int]*Peer

	warnings []Warning
	errs     []error
	lines    map[string]place // where a setting was set
}

// Warning is something that is not wrong, but that an operator should know.
type Warning struct {
	File string
	Line int
	Text string
}

func (w Warning) String() string { return oneLine(place{w.File, w.Line}.String() + ": " + w.Text) }

const mainSection = "pgbouncer"

// Default is the configuration of an empty file.
func Default() *Config {
	c := &Config{
		Databases: map[string]*Database{},
		Users:     map[string]*User{},
		Peers:     map[int]*Peer{},
		lines:     map[string]place{},
	}
	for _, s := range rows {
		if p := assign(s.at(&c.Settings), s.Default, s.bounds); p != nil {
			panic("default of " + s.Name + ": " + p.what)
		}
	}
	return c
}

// Load reads a file. The error joins all that is wrong, an *Error each; the Config is
// never nil and then holds what could be read, as a reload wants it.
func Load(path string) (*Config, []Warning, error) {
	c := Default()
	c.Path, c.ConfFile = path, path
	c.read(func(l *lexer) { l.load(path, place{}, 0) })
	return c, c.warnings, errors.Join(c.errs...)
}

// Parse reads a text as Load reads a file; name stands for the file in messages.
func Parse(name, text string) (*Config, []Warning, error) {
	c := Default()
	c.Path, c.ConfFile = name, name
	c.read(func(l *lexer) { l.scan(name, text, 0) })
	return c, c.warnings, errors.Join(c.errs...)
}

// Reload reads the file that ConfFile names, for a pooler that runs on c. The Config
// that it returns is to be used even when there is an error: then it has what could be
// read, and all databases, users and peers of c that the file does not change. Settings
// that need a restart keep c's value, with a warning when the file has another.
func (c *Config) Reload() (*Config, []Warning, error) {
	path := c.ConfFile
	next, _, err := Load(path)
	if err != nil {
		for _, s := range rows {
			// What the file did not manage to say stays as it was.
			if _, said := next.lines[s.Name]; !said {
				copySetting(s, &next.Settings, &c.Settings)
			}
		}
		keep(next.Databases, c.Databases)
		keep(next.Users, c.Users)
		keep(next.Peers, c.Peers)
	}
	for _, s := range rows {
		if s.Reloadable {
			continue
		}
		was, is := show(s.at(&c.Settings)), show(s.at(&next.Settings))
		if was != is && err == nil {
			next.warn(next.lines[s.Name], mainSection, s.Name,
				fmt.Sprintf("%s needs a restart to become effective; it stays %q", shown(is), was))
		}
		copySetting(s, &next.Settings, &c.Settings)
	}
	for name, d := range next.Databases {
		if was := c.Databases[name]; was != nil && was.User != "" && d.User == "" {
			next.warn(place{d.File, d.Line}, "databases", name,
				"user= cannot be dropped while running; it stays until a restart")
			d.User = was.User
		}
	}
	return next, next.warnings, err
}

func copySetting(s Setting, to, from *Settings) {
	reflect.ValueOf(s.at(to)).Elem().Set(reflect.ValueOf(s.at(from)).Elem())
}

func keep[K comparable, V any](into, from map[K]V) {
	for k, v := range from {
		if _, ok := into[k]; !ok {
			into[k] = v
		}
	}
}

// Set changes one setting, as the console's SET does.
func (c *Config) Set(name, value string) ([]Warning, error) {
	s, ok := lookup(name)
	if !ok {
		return nil, fmt.Errorf("unknown setting %s; %s", shown(name), unknownFix(name, settingNames()))
	}
	if !s.Reloadable {
		return nil, fmt.Errorf("setting %s cannot be changed while running; change the file and restart", s.Name)
	}
	if strings.IndexByte(value, 0) >= 0 {
		return nil, fmt.Errorf("%s: a zero byte; write plain text", s.Name)
	}
	next := *c
	next.warnings, next.errs = nil, nil
	at := place{file: "SET"}
	if p := next.apply(s, at, value); p != nil {
		return nil, fmt.Errorf("%s = %s: %s; %s", s.Name, shown(s.printable(value)), p.what, p.fix)
	}
	if next.check(); len(next.errs) > 0 {
		e := next.errs[0].(*Error)
		return nil, fmt.Errorf("%s: %s; %s", e.Key, e.Problem, e.Fix)
	}
	c.Settings = next.Settings
	return next.warnings, nil
}

// Row is a line of SHOW CONFIG.
type Row struct {
	Key, Value, Default string
	Changeable          bool
}

// Rows are all settings, sorted by name.
func (c *Config) Rows() []Row {
	var out []Row
	for _, s := range AllSettings() {
		out = append(out, Row{s.Name, s.printable(show(s.at(&c.Settings))), s.Default, s.Reloadable})
	}
	return out
}

// Hidden stands for a value that holds secrets, where values are shown.
const Hidden = "<secret>"

// printable hides a value that holds secrets.
func (s Setting) printable(value string) string {
	if s.secret && value != "" {
		return Hidden
	}
	return value
}

func settingNames() []string {
	names := make([]string, len(rows))
	for i, s := range rows {
		names[i] = s.Name
	}
	return names
}

func (c *Config) warn(at place, section, key, text string) {
	c.warnings = append(c.warnings, Warning{at.file, at.line, fmt.Sprintf("[%s] %s: %s", section, key, text)})
}

func (c *Config) fail(e entry, value string, p problem) {
	c.errs = append(c.errs, &Error{e.file, e.line, e.section, e.key, value, p.what, p.fix})
}

// sections and what reads an entry of each.
var sections = map[string]func(*Config, entry){
	mainSection: (*Config).readSetting,
	"databases": (*Config).readDatabase,
	"users":     (*Config).readUser,
	"peers":     (*Config).readPeer,
}

func (c *Config) read(scan func(*lexer)) {
	l := &lexer{report: func(e *Error) { c.errs = append(c.errs, e) }}
	known := []string{mainSection, "databases", "users", "peers"}
	l.enter = func(at place, name string) {
		if sections[name] == nil {
			c.errs = append(c.errs, &Error{File: at.file, Line: at.line,
				Problem: "unknown section [" + shown(name) + "]", Fix: unknownFix(name, known)})
		}
	}
	l.emit = func(e entry) {
		if e.section == "" {
			c.fail(e, "", problem{"key before the first section", "put a line [pgbouncer] before it"})
		} else if read := sections[e.section]; read != nil {
			read(c, e)
		}
	}
	scan(l)
	c.check()
}

func (c *Config) readSetting(e entry) {
	s, ok := lookup(e.key)
	if !ok {
		c.fail(e, "", problem{"unknown setting", unknownFix(e.key, settingNames())})
		return
	}
	if first, twice := c.lines[s.Name]; twice {
		c.warn(e.place, e.section, s.Name, "set before at "+first.String()+"; this line counts")
	}
	if p := c.apply(s, e.place, e.value); p != nil {
		c.fail(e, s.printable(e.value), *p)
		return
	}
	c.lines[s.Name] = e.place
}

// apply sets a setting if the value is good, and warns if that changes nothing.
func (c *Config) apply(s Setting, at place, value string) *problem {
	if s.Name == "auth_type" && strings.EqualFold(value, "crypt") {
		c.warn(at, mainSection, s.Name, "crypt is spoken by no client since PostgreSQL 8.4 and means md5")
		value = AuthMD5.String()
	}
	scratch := c.Settings
	if p := assign(s.at(&scratch), value, s.bounds); p != nil {
		return p
	}
	c.Settings = scratch
	return nil
}

func (c *Config) readDatabase(e entry) {
	if p := checkName(e.key); p != nil {
		c.fail(e, "", *p)
		return
	}
	if e.key == ConsoleName {
		c.fail(e, "", problem{"the name is the console's", "choose another name for the entry"})
		return
	}
	d := &Database{Name: e.key, File: e.file, Line: e.line, Port: 5432}
	if e.key != AutoName {
		d.DBName = e.key
	}
	before := len(c.errs)
	fill(c, e, databaseKeys, d)
	if d.Host != "" {
		for host := range strings.SplitSeq(d.Host, ",") {
			if host = strings.TrimSpace(host); host == "" {
				c.fail(e, "host="+d.Host, problem{"empty name in the list of hosts", "part hosts by single commas"})
				break
			}
			d.Hosts = append(d.Hosts, host)
		}
	}
	if len(c.errs) > before {
		return
	}
	if was := c.Databases[e.key]; was != nil {
		c.warn(e.place, e.section, e.key, "stands at "+place{was.File, was.Line}.String()+" too; this line counts")
	}
	c.Databases[e.key] = d
}

func (c *Config) readUser(e entry) {
	if p := checkName(e.key); p != nil {
		c.fail(e, "", *p)
		return
	}
	u := &User{Name: e.key, File: e.file, Line: e.line}
	before := len(c.errs)
	fill(c, e, userKeys, u)
	if len(c.errs) > before {
		return
	}
	if was := c.Users[e.key]; was != nil {
		c.warn(e.place, e.section, e.key, "stands at "+place{was.File, was.Line}.String()+" too; this line counts")
	}
	c.Users[e.key] = u
}

func (c *Config) readPeer(e entry) {
	id, err := strconv.Atoi(e.key)
	if err != nil || id < 1 || id > maxPeerID {
		c.fail(e, "", problem{"not a peer id", fmt.Sprintf("give a number from 1 to %d", maxPeerID)})
		return
	}
	p := &Peer{ID: id, File: e.file, Line: e.line, Port: 6432}
	before := len(c.errs)
	fill(c, e, peerKeys, p)
	if p.Host == "" && len(c.errs) == before {
		c.fail(e, "", problem{"no host", "add host=NAME"})
	}
	if len(c.errs) > before {
		return
	}
	if was := c.Peers[id]; was != nil {
		c.warn(e.place, e.section, e.key, "stands at "+place{was.File, was.Line}.String()+" too; this line counts")
	}
	c.Peers[id] = p
}

// check looks at settings that need one another.
func (c *Config) check() {
	fail := func(name, what, fix string) {
		at := c.lines[name]
		if at.file == "" {
			at.file = c.Path
		}
		c.errs = append(c.errs, &Error{at.file, at.line, mainSection, name, "", what, fix})
	}
	if c.AuthType == AuthHBA && c.AuthHBAFile == "" {
		fail("auth_type", "hba without a file", "set auth_hba_file")
	}
	if c.ClientTLS.SSLMode != SSLDisable && (c.ClientTLS.KeyFile == "" || c.ClientTLS.CertFile == "") {
		fail("client_tls_sslmode", "TLS with clients needs a key and a certificate", "set client_tls_key_file and client_tls_cert_file")
	}
	if c.ClientTLS.SSLMode >= SSLVerifyCA && c.ClientTLS.CAFile == "" {
		fail("client_tls_sslmode", c.ClientTLS.SSLMode.String()+" without certificates to check against", "set client_tls_ca_file")
	}
	if (c.ServerTLS.KeyFile == "") != (c.ServerTLS.CertFile == "") {
		fail("server_tls_key_file", "a key and a certificate go together", "set server_tls_key_file and server_tls_cert_file, or neither")
	}
	if len(c.ListenAddr) == 0 && c.UnixSocketDir == "" {
		fail("listen_addr", "nothing to listen on", "set listen_addr or unix_socket_dir")
	}
	if len(c.Peers) > 0 && c.PeerID == 0 {
		c.warn(place{file: c.Path}, mainSection, "peer_id", "not set, so the entries of [peers] are not used")
	}
}
