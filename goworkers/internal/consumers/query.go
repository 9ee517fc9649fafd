package consumers

// Statements of the ini file with placeholders: %(name)s stands for a value, which
// goes to the server as a parameter and never becomes part of the text.

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"goworkers/batch"
	"goworkers/internal/sqltext"
)

// query is a statement as the server gets it.
type query struct {
	key     string   // of the ini file
	sql     string   // with $1, $2 … for the placeholders
	names   []string // that $1, $2 … stand for; a name may come twice
	several bool     // it is more than one statement
}

// parseQuery reads the statement under a key. %(name)s is a placeholder, also written
// %%(name)s as in files of SkyTools 3; another %% is a percent sign. Each placeholder
// is a parameter of its own, so that one value may be a number here and a text there.
func parseQuery(key, text string) (*query, error) {
	q := &query{key: key}
	var out strings.Builder
	ended := false // a semicolon was seen
	for i := 0; i < len(text); {
		rest := text[i:]
		name, length := placeholder(rest)
		switch {
		case length > 0:
			if i > 0 && sqltext.IsWord(text[i-1]) {
				out.WriteByte(' ') // a$1 would be a name
			}
			q.names = append(q.names, name)
			fmt.Fprintf(&out, "$%d", len(q.names))
			if i+length < len(text) && sqltext.IsWord(text[i+length]) {
				out.WriteByte(' ')
			}
		case strings.HasPrefix(rest, "%("):
			return nil, fmt.Errorf("has %q, which is no placeholder; write %%(name)s, or %%%%( for a percent sign before a parenthesis", clip(rest))
		case strings.HasPrefix(rest, "%%"):
			length = 2
			out.WriteByte('%')
		case rest[0] == '$' && len(rest) > 1 && isDigit(rest[1]) && (i == 0 || !sqltext.IsWord(text[i-1])):
			return nil, fmt.Errorf("has %q; write %%(name)s where a value shall stand", clip(rest))
		default:
			var opaque, comment bool
			length, opaque, comment = lexeme(text, i)
			part := rest[:length]
			if opaque && !comment {
				if name, at := placeholderIn(part); at >= 0 {
					return nil, fmt.Errorf("has %%(%s)s inside of quotes; take the quotes off: the value comes as a parameter, which is never quoted", name)
				}
				part = strings.ReplaceAll(part, "%%", "%")
			}
			out.WriteString(part)
			switch {
			case comment || strings.TrimSpace(part) == "":
				i += length
				continue
			case part == ";":
				ended = true
				i += length
				continue
			}
		}
		q.several = q.several || ended
		i += length
	}
	q.sql = strings.TrimSpace(out.String())
	if q.sql == "" {
		return nil, errors.New("is empty; write an SQL statement")
	}
	return q, nil
}

// parseOne is parseQuery for keys that hold one statement.
func parseOne(key, text string) (*query, error) {
	q, err := parseQuery(key, text)
	if err == nil && q.several {
		return nil, errors.New("is more than one statement; write a function or procedure that does all of it, and call that")
	}
	return q, err
}

// placeholder says which placeholder the text begins with, and how long that is: 0
// when it does not begin with one.
func placeholder(text string) (name string, length int) {
	mark := "%("
	if strings.HasPrefix(text, "%%(") {
		mark = "%%("
	}
	after, found := strings.CutPrefix(text, mark)
	if !found {
		return "", 0
	}
	name, after, found = strings.Cut(after, ")")
	if !found || name == "" || !strings.HasPrefix(after, "s") || strings.ContainsAny(name, "(\n") {
		return "", 0
	}
	return name, len(mark) + len(name) + len(")s")
}

// placeholderIn finds the first placeholder anywhere in the text.
func placeholderIn(text string) (name string, at int) {
	for at = range len(text) {
		if name, length := placeholder(text[at:]); length > 0 {
			return name, at
		}
	}
	return "", -1
}

// lexeme says how long the piece of SQL at text[i:] is that has to be taken as a whole.
// Opaque is one with quotes around it, or a comment.
func lexeme(text string, i int) (length int, opaque, comment bool) {
	rest := text[i:]
	switch {
	case rest[0] == '\'':
		// E'…' has backslashes
		escapes := i > 0 && (text[i-1] == 'e' || text[i-1] == 'E') && (i == 1 || !sqltext.IsWord(text[i-2]))
		length, _ = sqltext.Quoted(rest, escapes)
		return length, true, false
	case rest[0] == '"':
		length, _ = sqltext.Quoted(rest, false)
		return length, true, false
	case strings.HasPrefix(rest, "--"):
		if end := strings.IndexByte(rest, '\n'); end >= 0 {
			return end, true, true
		}
		return len(rest), true, true
	case strings.HasPrefix(rest, "/*"):
		length, _ = sqltext.Comment(rest)
		return length, true, true
	case rest[0] == '$' && (i == 0 || !sqltext.IsWord(text[i-1])):
		if length, _ = sqltext.DollarQuoted(rest); length > 0 {
			return length, true, false
		}
	}
	return 1, false, false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// clip shortens what an error shows.
func clip(text string) string {
	const shown = 30
	if len(text) > shown {
		return text[:shown] + "…"
	}
	return text
}

// missingField is a name that a statement needs a value for, and that has none.
type missingField struct {
	key, name string
	have      string // what is there
}

func (e *missingField) Error() string {
	return fmt.Sprintf("%s needs the field %q, and there is none of that name (%s)", e.key, e.name, e.have)
}

// args are the parameters, all as text: the server makes of it what the statement
// wants. value says what a name stands for, and have what names there are.
func (q *query) args(value func(name string) (_ pgtype.Text, found bool), have func() string) ([][]byte, error) {
	args := make([][]byte, len(q.names))
	for i, name := range q.names {
		v, found := value(name)
		if !found {
			return nil, &missingField{key: q.key, name: name, have: have()}
		}
		if v.Valid {
			args[i] = []byte(v.String)
			if args[i] == nil {
				args[i] = []byte{} // nil is NULL
			}
		}
	}
	return args, nil
}

// check asks the server whether it can do the statement. What it refuses is an error
// that ends a job at its start.
func (q *query) check(ctx context.Context, conn *pgconn.PgConn, cfg *batch.JobConfig) error {
	_, err := conn.Prepare(ctx, "", q.sql, nil)
	if err == nil {
		return nil
	}
	var server *pgconn.PgError
	if !errors.As(err, &server) || batch.IsConnectionLost(err) {
		return fmt.Errorf("%s: check the statement: %w", cfg.Key(q.key), err)
	}
	hint := ""
	if server.Hint != "" {
		hint = "; " + strings.TrimSuffix(server.Hint, ".")
	}
	return batch.SetupError(fmt.Errorf("%s: the server refuses the statement: %w%s%s; correct it, or the database", cfg.Key(q.key), err, q.legend(), hint))
}

// runAll has the server read the statement once and run it with each of the n sets of
// parameters, up to one that fails. It belongs into a transaction: what was done stays
// when a later one fails. result reads what comes of the i-th. After an error, failed is
// the number of the set, or -1 when it was none of them.
func (q *query) runAll(ctx context.Context, conn *pgconn.PgConn, n int, args func(i int) [][]byte, result func(i int, r *pgconn.ResultReader) error) (failed int, err error) {
	p := conn.StartPipeline(ctx)
	p.SendPrepare("", q.sql, nil)
	for i := range n {
		p.SendQueryPrepared("", args(i), nil, nil)
	}
	if err := p.Sync(); err != nil {
		return -1, err
	}
	failed = -1
	if _, err = p.GetResults(); err == nil {
		for i := range n {
			if err = resultOf(p, func(r *pgconn.ResultReader) error { return result(i, r) }); err != nil {
				failed = i
				break
			}
		}
	}
	if closed := p.Close(); err == nil {
		err = closed
	}
	return failed, err
}

// resultOf reads what comes of one statement of a pipeline.
func resultOf(p *pgconn.Pipeline, read func(r *pgconn.ResultReader) error) error {
	results, err := p.GetResults()
	if err != nil {
		return err
	}
	r, ok := results.(*pgconn.ResultReader)
	if !ok {
		return fmt.Errorf("no result of the statement came, but a %T", results)
	}
	return read(r)
}

// legend says what $1, $2 … in the server's messages are.
func (q *query) legend() string {
	if len(q.names) == 0 {
		return ""
	}
	parts := make([]string, len(q.names))
	for i, name := range q.names {
		parts[i] = fmt.Sprintf("$%d is %%(%s)s", i+1, name)
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
