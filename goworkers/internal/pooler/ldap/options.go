package ldap

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-ldap/ldap/v3"

	"goworkers/pgwire"
)

// Options are where and how a user is verified: what stands behind method ldap in an hba
// file, or in auth_ldap_options. They do not change, but for TLS before the first use.
type Options struct {
	// TLS are the settings of encrypted connections; ServerName is set for each server.
	// Default: what ldap.conf and the environment say, see SystemTLS.
	TLS *tls.Config

	servers  []string // host:port, tried in order
	ldaps    bool
	startTLS bool

	// The user's DN is put together, with these around his name.
	prefix, suffix string
	isDN           bool // with a name between them they are a DN

	// Or, when there is a base, it is looked for.
	base         string
	scope        int
	filter       string // with $username
	bindDN       string // "": anonymously
	bindPassword pgwire.Secret

	systemTLS func() (*tls.Config, error) // once
}

// userPlace is what stands for the name in a filter.
const userPlace = "$username"

var known = []string{
	"ldapserver", "ldapport", "ldapscheme", "ldaptls", "ldapprefix", "ldapsuffix", "ldapbasedn", "ldapbinddn",
	"ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter", "ldapurl",
}

// isOption is what may be shown of a word that is no option: it might be the rest of a
// password that wants quotes.
var isOption = regexp.MustCompile(`^ldap[a-z]{1,20}$`)

var isAttribute = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.;-]*$`)

// Parse reads the value of auth_ldap_options: KEY=VALUE, parted by blanks; quotes keep
// blanks together, a doubled one in them is a quote.
func Parse(text string) (*Options, error) {
	var words []string
	var b strings.Builder
	inQuotes, inWord := false, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		blank := c == ' ' || c >= '\t' && c <= '\r'
		switch {
		case c == '"' && inQuotes && i+1 < len(text) && text[i+1] == '"':
			b.WriteByte(c)
			i++
		case c == '"':
			inQuotes, inWord = !inQuotes, true
		case blank && !inQuotes:
			if inWord {
				words = append(words, b.String())
				b.Reset()
			}
			inWord = false
		default:
			b.WriteByte(c)
			inWord = true
		}
	}
	if inQuotes {
		return nil, errors.New("a quote among the LDAP options is not closed")
	}
	if inWord {
		words = append(words, b.String())
	}
	return ParseWords(words)
}

// ParseWords reads options that are parted already, as package hba gives them. They have
// the names and meanings that PostgreSQL's manual gives them under "LDAP Authentication".
// The error says what is unknown, wrong, missing or contradicts what, and holds no value
// that might be secret.
func ParseWords(words []string) (*Options, error) {
	given := map[string]string{}
	for i, word := range words {
		key, value, ok := strings.Cut(word, "=")
		switch {
		case !ok || !isOption.MatchString(key):
			return nil, fmt.Errorf("LDAP option %d is not NAME=VALUE with one of %s (quote values with blanks)", i+1, strings.Join(known, ", "))
		case !slices.Contains(known, key):
			return nil, fmt.Errorf("unknown LDAP option %s (use %s)", key, strings.Join(known, ", "))
		case strings.ContainsRune(value, 0):
			return nil, fmt.Errorf("%s has a zero byte", key)
		}
		if _, had := given[key]; had {
			return nil, fmt.Errorf("%s is given twice", key)
		}
		given[key] = value
	}
	// An empty value means the same as none.
	for key, value := range given {
		if value == "" {
			delete(given, key)
		}
	}
	o := &Options{scope: ldap.ScopeWholeSubtree, systemTLS: sync.OnceValues(SystemTLS)}
	if text, ok := given["ldapurl"]; ok {
		if err := o.takeURL(text, given); err != nil {
			return nil, err
		}
	}
	if err := o.takeServers(given); err != nil {
		return nil, err
	}
	if err := o.takeMode(given); err != nil {
		return nil, err
	}
	return o, nil
}

// takeURL spreads the parts of an LDAP URL (RFC 4516) over the other options.
func (o *Options) takeURL(text string, given map[string]string) error {
	u, err := url.Parse(text)
	// Its error would show the whole.
	if err != nil || u.Opaque != "" || u.Fragment != "" || u.User != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" {
		return errors.New("ldapurl is not ldap[s]://HOST[:PORT]/BASEDN[?ATTRIBUTE[?SCOPE[?FILTER]]]")
	}
	parts := make([]string, 4)
	if fields := strings.Split(u.RawQuery, "?"); len(fields) > len(parts) {
		return errors.New("ldapurl has more than attribute, scope and filter behind question marks")
	} else {
		for i, f := range fields {
			if parts[i], err = url.PathUnescape(f); err != nil {
				return errors.New("ldapurl has a % that stands for no byte")
			}
		}
	}
	if parts[3] != "" {
		return errors.New("ldapurl has extensions, which are not supported")
	}
	for _, part := range []struct{ key, value string }{
		{"ldapserver", u.Hostname()}, {"ldapport", u.Port()}, {"ldapscheme", u.Scheme},
		{"ldapbasedn", strings.TrimPrefix(u.Path, "/")}, {"ldapsearchattribute", parts[0]}, {"ldapsearchfilter", parts[2]},
	} {
		if part.value == "" {
			continue
		}
		if strings.ContainsRune(part.value, 0) {
			return errors.New("ldapurl has a zero byte")
		}
		if _, had := given[part.key]; had {
			return fmt.Errorf("%s is given twice: ldapurl has it, too", part.key)
		}
		given[part.key] = part.value
	}
	switch strings.ToLower(parts[1]) {
	case "", "base":
		o.scope = ldap.ScopeBaseObject // RFC 4516's default
	case "one":
		o.scope = ldap.ScopeSingleLevel
	case "sub":
		o.scope = ldap.ScopeWholeSubtree
	default:
		return errors.New("the scope in ldapurl is none of base, one, sub")
	}
	return nil
}

// takeServers reads whom to connect to, and how.
func (o *Options) takeServers(given map[string]string) error {
	switch given["ldapscheme"] {
	case "", "ldap":
	case "ldaps":
		o.ldaps = true
	default:
		return errors.New("ldapscheme is neither ldap nor ldaps")
	}
	switch given["ldaptls"] {
	case "", "0":
	case "1":
		o.startTLS = true
	default:
		return errors.New("ldaptls is neither 0 nor 1")
	}
	if o.ldaps && o.startTLS {
		return errors.New("ldaptls=1 begins encryption on a connection that ldapscheme=ldaps encrypts already; give one of them")
	}
	port := 389
	if o.ldaps {
		port = 636
	}
	if text, ok := given["ldapport"]; ok {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return errors.New("ldapport is not a number from 1 to 65535")
		}
		port = int(n)
	}
	for _, host := range strings.Fields(given["ldapserver"]) {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		o.servers = append(o.servers, net.JoinHostPort(host, strconv.Itoa(port)))
	}
	if len(o.servers) == 0 {
		return errors.New("no LDAP server: give ldapserver, or a host in ldapurl")
	}
	return nil
}

// takeMode reads how the user's DN comes about.
func (o *Options) takeMode(given map[string]string) error {
	o.prefix, o.suffix, o.base = given["ldapprefix"], given["ldapsuffix"], given["ldapbasedn"]
	simple := o.prefix != "" || o.suffix != ""
	if simple {
		for _, key := range []string{"ldapbasedn", "ldapbinddn", "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter"} {
			if given[key] != "" {
				return fmt.Errorf("%s is for looking for the user, but with ldapprefix or ldapsuffix nothing is looked for; give one or the other", key)
			}
		}
		o.isDN = strings.Contains(o.prefix+o.suffix, "=")
		if o.isDN {
			if _, err := ldap.ParseDN(o.prefix + "x" + o.suffix); err != nil {
				return errors.New("ldapprefix, a name and ldapsuffix together are not a DN")
			}
		}
		return nil
	}
	if o.base == "" {
		return errors.New("nothing says how a user is found: give ldapprefix or ldapsuffix, or ldapbasedn to look for the user")
	}
	if _, err := ldap.ParseDN(o.base); err != nil {
		return errors.New("ldapbasedn is not a DN")
	}
	o.bindDN, o.bindPassword = given["ldapbinddn"], pgwire.NewSecret(given["ldapbindpasswd"])
	if (o.bindDN == "") != (o.bindPassword.Reveal() == "") {
		return errors.New("ldapbinddn and ldapbindpasswd go together; without both the search is anonymous")
	}
	attribute, filter := given["ldapsearchattribute"], given["ldapsearchfilter"]
	switch {
	case attribute != "" && filter != "":
		return errors.New("ldapsearchattribute and ldapsearchfilter both say what to look for; give one of them")
	case filter != "":
		if !strings.Contains(filter, userPlace) {
			return fmt.Errorf("ldapsearchfilter has no %s, so that it would find the same entry for everybody", userPlace)
		}
		o.filter = filter
	default:
		if attribute == "" {
			attribute = "uid"
		}
		if !isAttribute.MatchString(attribute) {
			return errors.New("ldapsearchattribute is not the name of an attribute")
		}
		o.filter = "(" + attribute + "=" + userPlace + ")"
	}
	if _, err := ldap.CompileFilter(o.filterFor("x")); err != nil {
		return errors.New("ldapsearchfilter is not a filter like (uid=$username)")
	}
	return nil
}

// filterFor is the filter that finds a user (RFC 4515).
func (o *Options) filterFor(user string) string {
	return strings.ReplaceAll(o.filter, userPlace, ldap.EscapeFilter(user))
}

// nameFor is what a user binds as when nothing is looked for; not every name can.
func (o *Options) nameFor(user string) (string, error) {
	if o.isDN {
		return o.prefix + ldap.EscapeDN(user) + o.suffix, nil // RFC 4514
	}
	// DOMAIN\USER and USER@DOMAIN know no escapes, and servers guess what is meant.
	if strings.ContainsAny(user, `,+"\<>;=@/`) {
		return "", refused("user %q has characters that would mean something else beside ldapprefix and ldapsuffix", user)
	}
	return o.prefix + user + o.suffix, nil
}

// String tells the options without the password.
func (o Options) String() string {
	tell := "LDAP servers " + strings.Join(o.servers, " ")
	if o.base == "" {
		return tell + ", user " + strconv.Quote(o.prefix+"NAME"+o.suffix)
	}
	return tell + ", search " + strconv.Quote(o.filter) + " below " + strconv.Quote(o.base)
}

// GoString tells the same.
func (o Options) GoString() string { return o.String() }
