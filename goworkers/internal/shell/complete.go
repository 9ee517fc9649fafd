package shell

// Completion: what may stand at the cursor, from the table of commands and from what
// the database has now.

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// completeTimeout is how long the user may have to wait for a list.
const completeTimeout = 2 * time.Second

// sqlWords are the keywords that are offered.
var sqlWords = []string{"alter", "analyze", "and", "begin", "by", "commit", "copy", "count", "create", "delete", "desc", "distinct", "drop",
	"explain", "from", "grant", "group", "having", "in", "insert", "into", "is", "join", "left", "limit", "not", "null", "on", "or",
	"order", "revoke", "rollback", "select", "set", "show", "table", "truncate", "update", "using", "vacuum", "values", "where", "with"}

// complete is called when the user asks what may stand at pos: the candidates go
// between head and tail.
func (s *Session) complete(line string, pos int) (head string, candidates []string, tail string) {
	// pos counts runes.
	at := len(line)
	for i := range line {
		if utf8.RuneCountInString(line[:i]) == pos {
			at = i
			break
		}
	}
	start := strings.LastIndexFunc(line[:at], func(r rune) bool { return strings.ContainsRune(" \t\n,=();", r) }) + 1
	word := line[start:at]
	statements, rest := split(line[:start])
	if rest == "" && len(statements) > 0 && !strings.HasSuffix(strings.TrimSpace(line[:start]), ";") {
		rest = line[:start]
	}
	for _, candidate := range s.candidates(words(rest)) {
		if len(candidate) >= len(word) && strings.EqualFold(candidate[:len(word)], word) {
			candidates = append(candidates, candidate+" ")
		}
	}
	slices.Sort(candidates)
	return line[:start], slices.Compact(candidates), line[at:]
}

// candidates are what may stand behind some words.
func (s *Session) candidates(before []string) (list []string) {
	ours := false
	for i := range commands {
		c := &commands[i]
		verb := strings.Fields(c.verb)
		n := min(len(before), len(verb))
		if !slices.EqualFunc(before[:n], verb[:n], strings.EqualFold) {
			continue
		}
		if len(before) < len(verb) {
			if c.help != "" {
				list = append(list, verb[len(before)])
			}
			continue
		}
		ours = true
		list = append(list, s.behindVerb(c, before[len(verb):])...)
	}
	if ours {
		return list
	}
	last := ""
	if len(before) > 0 {
		last = strings.ToLower(before[len(before)-1])
	}
	switch last {
	case "from", "join", "into", "update", "table", "truncate", "copy", "vacuum", "analyze":
		return append(list, s.live(tableName)...)
	case "sequence":
		return append(list, s.live(sequenceName)...)
	}
	return append(append(list, sqlWords...), s.live(anything)...)
}

// behindVerb is what may stand behind a command's verb and the words after it.
func (s *Session) behindVerb(c *command, before []string) (list []string) {
	last := ""
	if len(before) > 0 {
		last = before[len(before)-1]
	}
	if last != "" {
		for _, o := range c.options {
			if strings.EqualFold(o.word, last) && (c.argName == "" || len(before) > 1 || c.optional) {
				return s.live(o.kind)
			}
		}
	}
	setting := c.settings != nil && (!c.set || slices.ContainsFunc(before, func(w string) bool { return strings.EqualFold(w, "set") }))
	if setting && last != "" && last != "," && !strings.EqualFold(last, "set") && len(before) >= 1 {
		if last == "=" {
			if name := before[max(len(before)-2, 0)]; strings.EqualFold(name, "queue") {
				return s.live(queueName)
			}
			return nil
		}
	}
	if setting {
		return c.settings
	}
	if c.argName != "" && len(before) == 0 {
		list = s.live(c.arg)
		if c.star {
			list = append(list, "*")
		}
		if !c.optional {
			return list
		}
	}
	for _, o := range c.options {
		if !slices.ContainsFunc(before, func(w string) bool { return strings.EqualFold(w, o.word) }) {
			list = append(list, o.word)
		}
	}
	for _, flag := range c.flags {
		list = append(list, strings.Fields(flag)[0])
	}
	if c.set {
		list = append(list, "set")
	}
	return list
}

const (
	queueNamesSQL    = `select queue_name from pgq.queue`
	consumerNamesSQL = `select co_name from pgq.consumer`
	batchesSQL       = `select c.co_name from pgq.subscription s join pgq.consumer c on c.co_id = s.sub_consumer where s.sub_batch is not null`
	relationsSQL     = `
		select case when pg_catalog.pg_table_is_visible(c.oid) then pg_catalog.quote_ident(c.relname) else c.oid::regclass::text end
		  from pg_catalog.pg_class c
		  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		 where c.relkind = any ($1) and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')`
	functionsSQL = `
		select distinct n.nspname || '.' || p.proname || '('
		  from pg_catalog.pg_proc p
		  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
		 where n.nspname in ('pgq', 'pgq_ext', 'pgq_coop') and not pg_catalog.starts_with(p.proname, '_')`
)

// live are the names of a kind that the database has now. Within a transaction none
// are asked for: an error would end it.
func (s *Session) live(k kind) []string {
	if k == extensionName {
		return extensions
	}
	if s.db.IsClosed() || s.db.PgConn().TxStatus() != 'I' {
		return nil
	}
	sql, args := "", []any(nil)
	switch k {
	case queueName:
		sql = queueNamesSQL
	case consumerName:
		sql = consumerNamesSQL
	case batchOrConsumer:
		sql = batchesSQL
	case tableName:
		sql, args = relationsSQL, []any{[]string{"r", "p", "v", "m", "f"}}
	case sequenceName:
		sql, args = relationsSQL, []any{[]string{"S"}}
	case anything:
		sql = functionsSQL
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
	defer cancel()
	rows, err := s.db.Query(ctx, sql, args...)
	if err != nil {
		return nil
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil // the user gets no list, and an error with the statement
	}
	return names
}
