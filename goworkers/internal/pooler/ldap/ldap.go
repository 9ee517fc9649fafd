// Package ldap has an LDAP server say whether a user has given the right password.
//
// The model: the server decides, by a simple bind with the user's DN and password (RFC
// 4513). The DN is put together from the name (simple bind), or looked for under an
// account of the pooler's own (search and bind). Nothing is kept: each Verify makes a
// connection and closes it. It is slow, so it runs in Workers, of which there are few,
// and for which not more than so many may wait.
//
// What must never happen: a bind without a password, which servers answer with success
// without looking (it is refused before it is sent); a name that changes what is looked
// for or bound as (it is escaped, or refused where there are no escapes); a password on
// a connection that was to be encrypted and is not.
package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// serverTimeout is how long one server may take for everything.
const serverTimeout = 10 * time.Second

// An answer has no attributes; what is longer than this is none.
const maxAnswer = 1 << 20

func init() { ber.MaxPacketLengthBytes = maxAnswer }

// ErrRefused is in the error of a user who is not let in: there is no such user, or the
// password is wrong. What else the error says is for the log, not for the client.
var ErrRefused = errors.New("refused by LDAP")

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// Trouble is the error of a server that could not decide.
type Trouble struct {
	Server string // host:port
	Doing  string // what was tried
	Err    error
}

func (t *Trouble) Error() string {
	return fmt.Sprintf("LDAP server %s: %s: %v", t.Server, t.Doing, t.Err)
}

func (t *Trouble) Unwrap() error { return t.Err }

// Verify asks whether a user has this password. Nil: yes. An error with ErrRefused: no.
// Any other: none of the servers could say; it holds a *Trouble for each. The servers are
// tried in order until one decides; each has 10 s, or an equal share of what is left
// until the deadline of ctx. Verify returns soon after ctx is done. It may be called by
// many goroutines.
func (o *Options) Verify(ctx context.Context, user, password string) error {
	switch {
	case !validName(user):
		return refused("%q cannot be the name of a user", user)
	case password == "":
		return refused("user %q gave no password", user)
	}
	if o.base == "" {
		if _, err := o.nameFor(user); err != nil {
			return err
		}
	}
	var trouble error
	for i, server := range o.servers {
		limit := serverTimeout
		if end, ok := ctx.Deadline(); ok {
			limit = min(limit, max(0, time.Until(end)/time.Duration(len(o.servers)-i)))
		}
		err := o.verifyAt(ctx, limit, server, user, password)
		if err == nil || errors.Is(err, ErrRefused) {
			return err
		}
		if trouble == nil {
			trouble = err
		} else {
			trouble = fmt.Errorf("%w; %w", trouble, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return trouble
}

// validName tells whether LDAP has a way to say the name.
func validName(user string) bool {
	return user != "" && utf8.ValidString(user) && !strings.ContainsRune(user, 0)
}

// verifyAt asks one server.
func (o *Options) verifyAt(ctx context.Context, limit time.Duration, server, user, password string) error {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	trouble := func(doing string, err error) error {
		switch {
		case errors.Is(parent.Err(), context.Canceled):
			err = parent.Err()
		case ctx.Err() != nil:
			err = fmt.Errorf("no answer within %v", limit.Round(time.Millisecond))
		}
		return &Trouble{server, doing, err}
	}
	var d net.Dialer
	socket, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return trouble("connect", err)
	}
	defer socket.Close()
	// The library does not know contexts; without its socket it gives up.
	defer context.AfterFunc(ctx, func() { socket.Close() })()

	var settings *tls.Config
	if o.ldaps || o.startTLS {
		if settings, err = o.tlsFor(server); err != nil {
			return trouble("read the settings of TLS", err)
		}
	}
	stream := socket
	if o.ldaps {
		encrypted := tls.Client(socket, settings)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return trouble("encrypt the connection", err)
		}
		stream = encrypted
	}
	conn := ldap.NewConn(stream, o.ldaps)
	conn.Start()
	// Closed first, the socket holds up nobody who writes to it.
	defer func() { socket.Close(); conn.Close() }()
	if o.startTLS {
		if err := conn.StartTLS(settings); err != nil {
			return trouble("encrypt the connection", err)
		}
	}
	name := ""
	if o.base == "" {
		name, err = o.nameFor(user)
	} else {
		var doing string
		if name, doing, err = o.search(conn, user); err != nil && !errors.Is(err, ErrRefused) {
			return trouble(doing, err)
		}
	}
	if err != nil {
		return err
	}
	if err := conn.Bind(name, password); err != nil {
		if saysNo(err) {
			return refused("user %q cannot bind as %q: %s", user, name, ldap.LDAPResultCodeMap[err.(*ldap.Error).ResultCode])
		}
		return trouble(fmt.Sprintf("bind as %q", name), err)
	}
	return nil
}

// search finds the DN of a user.
func (o *Options) search(conn *ldap.Conn, user string) (name, doing string, err error) {
	if o.bindDN != "" {
		if err := conn.Bind(o.bindDN, o.bindPassword.Reveal()); err != nil {
			return "", "bind as ldapbinddn", err
		}
	}
	doing = "search below " + o.base
	// Two are as bad as many. Attributes are not asked for: "1.1" is none.
	found, err := conn.Search(ldap.NewSearchRequest(o.base, o.scope, ldap.NeverDerefAliases, 2, int(serverTimeout/time.Second), false,
		o.filterFor(user), []string{"1.1"}, nil))
	if err != nil && !(found != nil && len(found.Entries) > 1 && ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded)) {
		return "", doing, err
	}
	switch n := len(found.Entries); {
	case n == 0:
		return "", doing, refused("user %q is not below %q", user, o.base)
	case n > 1:
		return "", doing, refused("user %q is not one entry below %q, but several", user, o.base)
	case found.Entries[0].DN == "":
		return "", doing, errors.New("the server found an entry without a name")
	}
	return found.Entries[0].DN, doing, nil
}

// saysNo tells whether a bind failed because of who bound.
func saysNo(err error) bool {
	return ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication,
		ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultUnwillingToPerform,
		ldap.LDAPResultConstraintViolation, ldap.LDAPResultInsufficientAccessRights)
}

// tlsFor makes the settings for one server.
func (o *Options) tlsFor(server string) (*tls.Config, error) {
	settings := o.TLS
	if settings == nil {
		var err error
		if settings, err = o.systemTLS(); err != nil {
			return nil, err
		}
	}
	settings = settings.Clone()
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	settings.ServerName = host
	return settings, nil
}

// SystemTLS reads how LDAP servers are to be trusted from where the LDAP library of the
// system does: TLS_CACERT (a file of certificates; default: those of the system) and
// TLS_REQCERT (with never and allow certificates are not checked) of ldap.conf(5), which
// is $LDAPCONF or in /etc; LDAPTLS_CACERT and LDAPTLS_REQCERT have precedence. The error
// names the file that cannot be used.
func SystemTLS() (*tls.Config, error) {
	values := map[string]string{}
	paths := []string{"/etc/ldap/ldap.conf", "/etc/openldap/ldap.conf"}
	if path := os.Getenv("LDAPCONF"); path != "" {
		paths = []string{path}
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 2 && !strings.HasPrefix(f[0], "#") {
				values[strings.ToUpper(f[0])] = f[1]
			}
		}
		break
	}
	for _, key := range []string{"TLS_CACERT", "TLS_REQCERT"} {
		if v := os.Getenv("LDAP" + key); v != "" {
			values[key] = v
		}
	}
	c := &tls.Config{}
	switch strings.ToLower(values["TLS_REQCERT"]) {
	case "never", "allow":
		c.InsecureSkipVerify = true
	}
	if path := values["TLS_CACERT"]; path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("TLS_CACERT of ldap.conf: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("TLS_CACERT of ldap.conf: %s has no certificates", path)
		}
	}
	return c, nil
}
