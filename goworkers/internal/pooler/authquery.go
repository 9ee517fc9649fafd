// auth_query: the secrets of users that auth_file does not have are asked for at the
// server, over the pool of auth_user.

package pooler

import (
	"errors"
	"fmt"

	"goworkers/internal/pooler/hba"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// authQuery is one question; in its pool it stands where a client would. The server's
// parameters stay what they are: a client's own must not bend the question.
type authQuery struct {
	w     *worker
	pl    *dbPool
	pc    pool.Client
	srv   *server
	query string
	name  string
	done  func(answer) // runs in the pool's loop

	columns int
	answer
}

// answer is what came of a question.
type answer struct {
	rows   int
	secret *string       // nil: NULL
	err    error         // of the query
	failed *pool.Failure // the pool had no server for it
}

// databaseNamed is what the configuration says of a database, which may still have to
// be made from the entry *; nil if there is none.
func (p *Pooler) databaseNamed(name string) *ini.Database {
	if db := p.databases[name]; db != nil {
		return db.Database
	}
	return p.cfg.Databases[ini.AutoName]
}

// authUser is the user who asks for the secrets of a database's users, or "".
func (p *Pooler) authUser(dbName string) string {
	if db := p.databaseNamed(dbName); dbName != consoleName && db != nil && db.AuthUser != "" {
		return db.AuthUser
	}
	return p.set.AuthUser
}

// askServer asks for the user's secret and then begins the exchange.
func (c *client) askServer(authUser string, method authMethod, rule *hba.Rule) {
	p, login := c.w.Pooler, c.login
	in, query := p.set.AuthDBName, p.set.AuthQuery
	if db := p.databaseNamed(login.dbName); db != nil && login.dbName != consoleName {
		if db.AuthDBName != "" {
			in = db.AuthDBName
		}
		if db.AuthQuery != "" {
			query = db.AuthQuery
		}
	}
	if in == "" {
		in = login.dbName
	}
	var db *database
	if in == consoleName {
		c.about().Error("auth_query cannot run in the console's database: set auth_dbname")
	} else if db = p.findDatabase(in); db == nil && in == login.dbName {
		// An unknown database is told after the exchange, as always.
		c.begin(method, rule)
		return
	} else if db == nil {
		c.about().Errorf("auth_dbname = %s: there is no such database in [databases]", in)
	} else if db.disabled {
		c.about().Errorf("auth_query: database %s is disabled", in)
	}
	if db == nil || db.disabled {
		c.w.failClient(c, "", "bouncer config error")
		return
	}
	// Also where clients are another user on the server, auth_user is who asks.
	pl := p.poolAs(db, authUser, p.userNamed(authUser))
	c.phase = phaseBusy
	main := c.w
	q := &authQuery{w: pl.w, pl: pl, query: query, name: login.user}
	q.pc.Owner = q
	q.done = func(a answer) {
		main.loop.Post(func() { c.serverAnswered(a, method, rule) })
	}
	login.question = q
	pl.w.loop.Post(func() {
		now := pl.w.loop.Now()
		pl.AddClient(&q.pc, now)
		if ps := pl.Request(&q.pc, now); ps != nil {
			q.linked(ps.Owner.(*server))
		}
		pl.w.run()
	})
}

// serverAnswered goes on with a login whose user's secret was asked for.
func (c *client) serverAnswered(a answer, method authMethod, rule *hba.Rule) {
	if c.fd < 0 || c.phase != phaseBusy {
		return
	}
	c.login.question = nil
	switch {
	case a.failed != nil:
		c.w.failClient(c, a.failed.Code, a.failed.Message)
	case a.err != nil:
		c.about().Error("auth_query: " + a.err.Error())
		c.w.failClient(c, "", "bouncer config error")
	case a.rows == 0:
		c.w.failClient(c, "", "no such user")
	default:
		if a.secret != nil {
			c.login.creds = &credentials{secret: pgwire.NewSecret(*a.secret)}
		} else if method.needsNoSecret() {
			c.login.creds = &credentials{}
		}
		c.begin(method, rule)
		if c.fd >= 0 && c.phase == phaseAuth {
			c.resume()
		}
	}
	c.w.run()
}

// linked runs the query: an extended one with the name as its parameter.
func (q *authQuery) linked(s *server) {
	q.srv, s.asks = s, q
	s.phase = serverAuthQuery
	out := pgwire.AppendParse(q.w.scratch[:0], nil, []byte(q.query), nil)
	out = pgwire.AppendBind(out, nil, nil, [][]byte{[]byte(q.name)})
	out = pgwire.AppendDescribe(out, pgwire.TargetPortal, nil)
	out = pgwire.AppendExecute(out, nil, 0)
	q.w.scratch = pgwire.AppendSync(out)
	s.write(q.w.scratch)
}

// heard takes a message of the answer.
func (q *authQuery) heard(typ byte, body []byte) {
	switch typ {
	case pgwire.MsgRowDescription:
		columns, err := pgwire.ParseRowDescription(body)
		if q.columns = len(columns); err == nil && len(columns) != 2 {
			err = fmt.Errorf("gives %d columns: it must give name and secret", len(columns))
		}
		q.fail(err)
	case pgwire.MsgDataRow:
		values, err := pgwire.ParseDataRow(nil, body)
		q.fail(err)
		if err == nil && q.rows == 0 && len(values) == 2 && values[1] != nil {
			text := string(values[1])
			q.secret = &text
		}
		q.rows++
	case pgwire.MsgErrorResponse:
		rep, err := pgwire.ParseReport(body)
		if err == nil {
			err = errors.New(rep.Message + " (SQLSTATE " + rep.Code + ")")
		}
		q.fail(err)
	}
}

func (q *authQuery) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

// end hands the answer in and the server back; clean says that another may have it.
func (q *authQuery) end(clean bool) {
	s := q.srv
	q.srv, s.asks = nil, nil
	if q.err == nil && q.columns != 2 {
		q.err = errors.New("gives no rows that could be read: it must be a SELECT of name and secret")
	}
	now := q.w.loop.Now()
	s.phase = serverForward
	q.pl.ClientGone(&q.pc, clean, now)
	q.done(q.answer)
}

// abandon is for when the client has gone. A question that waits for a server is taken
// back; one that was asked is left to its end, so that the server stays in order.
func (q *authQuery) abandon() {
	q.w.loop.Post(func() {
		if q.srv == nil {
			q.pl.ClientGone(&q.pc, true, q.w.loop.Now())
			q.w.run()
		}
	})
}

// dropped: the pool has no server for the question.
func (q *authQuery) dropped(why pool.Failure) {
	if q.srv != nil {
		q.srv.asks, q.srv = nil, nil
	}
	q.done(answer{failed: &why})
}
