// auth_type = ldap: a directory verifies the password. It is asked by a few goroutines,
// whose queue is bounded.

package pooler

import (
	"context"
	"errors"

	"goworkers/internal/pooler/ldap"
	"goworkers/pgwire"
)

const (
	ldapWorkers = 10
	ldapQueue   = 1000
)

// askDirectory has the password that the client has sent verified. The client is not
// read meanwhile.
func (c *client) askDirectory(body []byte) {
	w, login := c.w, c.login
	password, err := pgwire.ParsePassword(body)
	if err != nil {
		w.failClient(c, "", "bad password packet")
		return
	}
	options := login.ldap
	c.phase = phaseBusy
	ok := w.directories.Submit(func(ctx context.Context) {
		err := options.Verify(ctx, login.user, password)
		w.loop.Post(func() { c.directoryAnswered(password, err) })
	})
	if !ok {
		c.about().Warn("too many logins wait for the LDAP server")
		w.failClient(c, "", "LDAP authentication failed")
	}
}

func (c *client) directoryAnswered(password string, err error) {
	if c.fd < 0 || c.phase != phaseBusy {
		return
	}
	if err != nil {
		if !errors.Is(err, ldap.ErrRefused) {
			c.about().Warn("LDAP: " + err.Error())
		}
		c.w.failClient(c, "", "LDAP authentication failed")
		return
	}
	// Servers may want the same password.
	if c.login.creds == nil || c.login.creds.secret.Kind() == pgwire.SecretNone {
		c.login.creds, c.login.from = &credentials{secret: pgwire.NewSecret(password)}, nil
	}
	c.login.auth.Method = pgwire.MethodTrust
	c.phase = phaseAuth
	c.authStep(c.login.auth.Begin(nil))
	if c.fd >= 0 {
		c.resume()
	}
	c.w.run()
}
