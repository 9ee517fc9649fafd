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
const maxTracked = 16

// The parameters that are always tracked, spelled as the server reports them.
var baseTracked = []string{"client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name"}

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

// varSet holds the values of the tracked parameters; "" = not known.
type varSet [maxTracked]string

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
// when they agree.
func (t tracked) appendChanges(dst []byte, client, server vars) []byte {
	if client == server {
		return dst
	}
	c, s := client.Value(), server.Value()
	var sql strings.Builder
	for i, name := range t {
		if c[i] == "" && (s[i] == "" || name != "application_name") || strings.EqualFold(c[i], s[i]) {
			continue
		}
		value := quoteLiteral(c[i])
		if strings.EqualFold(name, "search_path") {
			// A list: quoted, it would be one name.
			value = c[i]
		}
		fmt.Fprintf(&sql, "SET %s=%s;", name, value)
	}
	if sql.Len() == 0 {
		return dst
	}
	return pgwire.AppendQuery(dst, sql.String())
}

// quoteLiteral quotes a value whatever standard_conforming_strings says.
func quoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
