// Tracked parameters: what a client has set of them follows it from server to server.

package pooler

import (
	"fmt"
	"slices"
	"strings"
	"unique"

	"goworkers/pgwire"
)

// maxTracked bounds track_extra_parameters.
const maxTracked = 18

// The parameters that are always tracked, spelled as servers report them. Those that are
// about rights are among them so that no client goes on with what another has taken on.
var baseTracked = []string{
	"DateStyle", "client_encoding", "TimeZone", "standard_conforming_strings", "application_name",
	"default_transaction_read_only", "session_authorization",
}

// firstTracked of baseTracked come first in a welcome; the rest is in alphabetical order.
const firstTracked = 5

// tracked is the list of tracked parameters, fixed at start.
type tracked []string

func newTracked(extra []string) (tracked, error) {
	t := tracked(slices.Clone(baseTracked))
	for _, name := range extra {
		if name = strings.TrimSpace(name); name != "" && t.index(name) < 0 {
			t = append(t, name)
		}
	}
	if len(t) > maxTracked {
		return nil, fmt.Errorf("track_extra_parameters names %d parameters: at most %d are possible", len(t)-len(baseTracked), maxTracked-len(baseTracked))
	}
	slices.SortStableFunc(t[firstTracked:], func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return t, nil
}

func (t tracked) index(name string) int {
	for i, n := range t {
		if strings.EqualFold(n, name) {
			return i
		}
	}
	return -1
}

// varSet holds the values of the tracked parameters; "" = not known, which for one that
// servers do not report means the default.
type varSet [maxTracked]string

// toldSet says of each tracked parameter whether a server has told its value.
type toldSet uint32

func (r toldSet) has(i int) bool { return r>>i&1 != 0 }

// unsureValue is the value of a parameter that a server has but does not report.
const unsureValue = "\x00"

// vars is a varSet that all who have the same values share: eight bytes in each
// connection, and equal sets are found equal by comparing them.
type vars = unique.Handle[varSet]

var noVars = uniqueVars(varSet{})

func uniqueVars(set varSet) vars { return unique.Make(set) }

// withVar gives vs with one value changed.
func withVar(vs vars, i int, value string) vars {
	set := vs.Value()
	if set[i] == value {
		return vs
	}
	set[i] = value
	return unique.Make(set)
}

// appendChanges appends the Query that brings a server to a client's values; nothing
// when they agree. told are the parameters that the server reports.
func (t tracked) appendChanges(dst []byte, client, server vars, told toldSet) []byte {
	if client == server {
		return dst
	}
	c, s := client.Value(), server.Value()
	var sql strings.Builder
	for i, name := range t {
		switch {
		case sameValue(name, c[i], s[i]):
		case c[i] == "" && !(told.has(i) && mayBeEmpty(name)):
			fmt.Fprintf(&sql, "SET %s TO DEFAULT;", name)
		case c[i] != "" && strings.EqualFold(name, "search_path"):
			// A list: quoted, it would be one name.
			fmt.Fprintf(&sql, "SET %s=%s;", name, c[i])
		default:
			fmt.Fprintf(&sql, "SET %s=%s;", name, quoteLiteral(c[i]))
		}
	}
	if sql.Len() == 0 {
		return dst
	}
	return pgwire.AppendQuery(dst, sql.String())
}

// sameValue tells whether two spellings mean the same.
func sameValue(name, a, b string) bool {
	if strings.EqualFold(name, "session_authorization") {
		return a == b
	}
	return strings.EqualFold(a, b)
}

// mayBeEmpty tells that "" is a value of a parameter.
func mayBeEmpty(name string) bool {
	return name == "application_name" || strings.EqualFold(name, "search_path")
}

// settle gives the values of a client and of its server once the server has taken the
// client's over: of what the server reports its spelling holds, of the rest the client's.
func (t tracked) settle(client, server vars, told toldSet) (vars, vars) {
	c, s := client.Value(), server.Value()
	for i := range t {
		// A value that was not known and was right already is not reported.
		if told.has(i) && s[i] != unsureValue {
			c[i] = s[i]
		} else {
			s[i] = c[i]
		}
	}
	return uniqueVars(c), uniqueVars(s)
}

// forget gives a server's values once it has been told to RESET something, which
// puts unsureValue, or everything, which puts "", for what it does not report.
func (t tracked) forget(server vars, told toldSet, value string) vars {
	s := server.Value()
	for i := range t {
		if !told.has(i) && s[i] != "" {
			s[i] = value
		}
	}
	return uniqueVars(s)
}

// quoteLiteral quotes a value whatever standard_conforming_strings says.
func quoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
