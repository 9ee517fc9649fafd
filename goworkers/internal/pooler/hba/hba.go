// Package hba reads auth_hba_file and auth_ident_file: who may log in from where, and
// how they must prove who they are.
//
// The model: rules stand in an order, the first that fits a connection decides, and when
// none fits the connection is refused. The files have PostgreSQL's format (pg_hba.conf,
// pg_ident.conf), of which the pooler has what it can do itself: no groups of roles, no
// regular expressions, no names of hosts. A line that cannot be read is left out with a
// warning, as the rest must go on working; who is to be kept out for certain is kept out
// by there being no rule that lets him in.
package hba

import (
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/ldap"
)

// Method is how a client proves who it is.
type Method uint8

// The methods.
const (
	Reject Method = iota
	Trust
	MD5
	Password
	SCRAM
	Peer
	Cert
	LDAP
)

var methods = []string{"reject", "trust", "md5", "password", "scram-sha-256", "peer", "cert", "ldap"}

func (m Method) String() string { return methods[m] }

// Conn is what the rules ask of a connection.
type Conn struct {
	Database    string
	User        string
	Addr        netip.Addr // the zero Addr: unix socket
	TLS         bool
	Replication bool // a physical replication connection, which names no database
}

// kind is the first word of a rule.
type kind uint8

const (
	local kind = iota
	host
	hostSSL
	hostNoSSL
)

var kinds = []string{"local", "host", "hostssl", "hostnossl"}

// Rule is one line.
type Rule struct {
	Line   int
	Method Method
	Map    string        // name of an ident map, or ""
	LDAP   *ldap.Options // of method ldap

	kind      kind
	databases names
	users     names
	any       bool // address all
	network   netip.Prefix
}

// names is the second or third word of a rule.
type names struct {
	all, sameUser, replication bool

	list []string
}

// Rules is an hba file. The zero value refuses everybody.
type Rules struct {
	rules []Rule
}

// Load reads a file. The warnings tell of lines that are left out; the error is that of
// a file which cannot be read.
func Load(path string) (*Rules, []ini.Warning, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("auth_hba_file: %w; set it to a file that the pooler may read", err)
	}
	r, w := Parse(path, string(text))
	return r, w, nil
}

// Parse reads a text as Load reads a file. Names given as @file are looked for beside
// path.
func Parse(path, text string) (*Rules, []ini.Warning) {
	r := &Rules{}
	var warnings []ini.Warning
	eachLine(text, func(n int, fields [][]token, err error) {
		var rule Rule
		if err == nil {
			rule, err = parseRule(filepath.Dir(path), fields)
		}
		if err != nil {
			warnings = append(warnings, ini.Warning{File: path, Line: n, Text: err.Error() + "; the line is left out"})
			return
		}
		rule.Line = n
		r.rules = append(r.rules, rule)
	})
	return r, warnings
}

// Match returns the first rule that fits, or nil: then the connection is refused.
func (r *Rules) Match(c Conn) *Rule {
	addr := c.Addr.Unmap()
	for i := range r.rules {
		if rule := &r.rules[i]; rule.fits(c, addr) {
			return rule
		}
	}
	return nil
}

func (r *Rule) fits(c Conn, addr netip.Addr) bool {
	if addr.IsValid() == (r.kind == local) {
		return false
	}
	if r.kind == hostSSL && !c.TLS || r.kind == hostNoSSL && c.TLS {
		return false
	}
	if r.kind != local && !r.any && !r.network.Contains(addr.WithZone("")) {
		return false
	}
	if c.Replication {
		// As in PostgreSQL, all databases does not mean replication.
		if !r.databases.replication {
			return false
		}
	} else if !r.databases.all && !(r.databases.sameUser && c.Database == c.User) && !slices.Contains(r.databases.list, c.Database) {
		return false
	}
	return r.users.all || slices.Contains(r.users.list, c.User)
}

func parseRule(dir string, fields [][]token) (Rule, error) {
	var r Rule
	next := func(what string) ([]token, error) {
		if len(fields) == 0 {
			return nil, fmt.Errorf("ends before the %s", what)
		}
		f := fields[0]
		fields = fields[1:]
		return f, nil
	}
	one := func(what string) (string, error) {
		f, err := next(what)
		if err == nil && len(f) != 1 {
			err = fmt.Errorf("%s is a list", what)
		}
		if err != nil {
			return "", err
		}
		return f[0].text, nil
	}

	word, err := one("kind of connection")
	if err != nil {
		return r, err
	}
	i := slices.Index(kinds, word)
	if i < 0 {
		return r, fmt.Errorf("unknown kind of connection %q (use one of %s)", word, strings.Join(kinds, ", "))
	}
	r.kind = kind(i)
	f, err := next("database")
	if err != nil {
		return r, err
	}
	if r.databases, err = parseNames(dir, f, true, 0); err != nil {
		return r, err
	}
	if f, err = next("user"); err != nil {
		return r, err
	}
	if r.users, err = parseNames(dir, f, false, 0); err != nil {
		return r, err
	}
	if r.kind != local {
		if word, err = one("address"); err != nil {
			return r, err
		}
		switch {
		case word == "all":
			r.any = true
		case strings.Contains(word, "/"):
			if r.network, err = netip.ParsePrefix(word); err != nil {
				return r, fmt.Errorf("%q is not ADDRESS/BITS", word)
			}
		default:
			addr, err := netip.ParseAddr(word)
			if err != nil {
				return r, fmt.Errorf("%q is no address (names of hosts are not supported)", word)
			}
			mask, err := one("mask of the address")
			if err != nil {
				return r, err
			}
			if r.network, err = maskedPrefix(addr, mask); err != nil {
				return r, err
			}
		}
		if !r.any {
			if r.network.Addr().Zone() != "" || r.network.Addr().Is4In6() {
				return r, fmt.Errorf("address %s is not in its plain form", r.network.Addr())
			}
			r.network = r.network.Masked()
		}
	}
	if word, err = one("method"); err != nil {
		return r, err
	}
	if i = slices.Index(methods, word); i < 0 {
		return r, fmt.Errorf("unknown method %q (use one of %s)", word, strings.Join(methods, ", "))
	}
	r.Method = Method(i)
	if r.Method == Peer && r.kind != local {
		return r, fmt.Errorf("method peer is for local connections")
	}
	if r.Method == Cert && r.kind != hostSSL {
		return r, fmt.Errorf("method cert is for hostssl connections")
	}
	var directory []string
	for _, f := range fields {
		for _, option := range f {
			// An option is not shown: it may hold a password.
			key, value, ok := strings.Cut(option.text, "=")
			if !ok || key == "" {
				return r, fmt.Errorf("an option behind the method is not KEY=VALUE")
			}
			switch {
			case key == "map" && (r.Method == Peer || r.Method == Cert):
				r.Map = value
			case strings.HasPrefix(key, "ldap") && r.Method == LDAP:
				directory = append(directory, option.text)
			default:
				// Never to be passed over: clientcert=verify-full, say, keeps people out.
				return r, fmt.Errorf("method %s has no option %q", r.Method, key)
			}
		}
	}
	if r.Method == LDAP {
		if r.LDAP, err = ldap.ParseWords(directory); err != nil {
			return r, err
		}
	}
	return r, nil
}

// parseNames reads a list of databases or users. Words lose their meaning in quotes.
func parseNames(dir string, field []token, databases bool, depth int) (names, error) {
	var n names
	for _, t := range field {
		switch {
		case t.quoted:
			n.list = append(n.list, t.text)
		case t.text == "all":
			n.all = true
		case databases && t.text == "sameuser":
			n.sameUser = true
		case databases && t.text == "replication":
			n.replication = true
		case databases && (t.text == "samerole" || t.text == "samegroup"), strings.HasPrefix(t.text, "+"):
			return n, fmt.Errorf("%q asks for groups of roles, which a pooler does not know", t.text)
		case strings.HasPrefix(t.text, "/"):
			return n, fmt.Errorf("regular expressions are not supported (quote a name that starts with /)")
		case strings.HasPrefix(t.text, "@"):
			sub, err := namesFromFile(dir, t.text[1:], databases, depth)
			if err != nil {
				return n, err
			}
			n.all = n.all || sub.all
			n.sameUser = n.sameUser || sub.sameUser
			n.replication = n.replication || sub.replication
			n.list = append(n.list, sub.list...)
		default:
			n.list = append(n.list, t.text)
		}
	}
	return n, nil
}

// maxNested is how deep files of names may name files of names.
const maxNested = 10

func namesFromFile(dir, file string, databases bool, depth int) (n names, err error) {
	if depth == maxNested {
		return n, fmt.Errorf("files of names nested deeper than %d", maxNested)
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return n, err
	}
	var all []token
	eachLine(string(text), func(line int, fields [][]token, e error) {
		if e != nil && err == nil {
			err = fmt.Errorf("%s:%d: %w", file, line, e)
		}
		all = append(all, slices.Concat(fields...)...)
	})
	if err != nil {
		return n, err
	}
	return parseNames(filepath.Dir(file), all, databases, depth+1)
}

// maskedPrefix makes a network of an address and a mask such as 255.255.255.0.
func maskedPrefix(addr netip.Addr, mask string) (netip.Prefix, error) {
	m, err := netip.ParseAddr(mask)
	if err != nil || m.BitLen() != addr.BitLen() {
		return netip.Prefix{}, fmt.Errorf("%q is no mask for the address %s", mask, addr)
	}
	ones, ended := 0, false
	for _, b := range m.AsSlice() {
		n := bits.LeadingZeros8(^b)
		if ended && b != 0 || b<<n != 0 {
			return netip.Prefix{}, fmt.Errorf("mask %s has gaps", mask)
		}
		ones += n
		ended = ended || n < 8
	}
	return netip.PrefixFrom(addr, ones), nil
}
