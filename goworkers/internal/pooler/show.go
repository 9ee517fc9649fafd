// What SHOW has in common: tables, and which there are.

package pooler

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"goworkers/pgwire"
)

// driverParams are what drivers ask for when they connect.
var driverParams = map[string]string{
	"client_encoding": "UTF-8", "default_transaction_isolation": "read committed",
	"standard_conforming_strings": "on", "datestyle": "ISO", "timezone": "GMT", "extra_float_digits": "2",
}

// table is the result of a SHOW.
type table struct {
	columns []pgwire.Column
	rows    [][][]byte
}

// columns makes columns from words like `name` (text), `port:i`, `ttl:q`, `n:n`.
func columns(text string) []pgwire.Column {
	var list []pgwire.Column
	for _, f := range strings.Fields(text) {
		name, typ, _ := strings.Cut(f, ":")
		oid := map[string]uint32{"": pgwire.OIDText, "i": pgwire.OIDInt4, "q": pgwire.OIDInt8, "n": pgwire.OIDNumeric, "b": pgwire.OIDBytea}[typ]
		list = append(list, pgwire.Column{Name: name, OID: oid})
	}
	return list
}

// add adds a row; nil is NULL.
func (t *table) add(values ...any) {
	row := make([][]byte, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case nil:
		case string:
			row[i] = []byte(v)
		case bool:
			row[i] = []byte("0")
			if v {
				row[i] = []byte("1")
			}
		case time.Time:
			row[i] = v.UTC().AppendFormat(nil, "2006-01-02 15:04:05 UTC")
		default:
			row[i] = fmt.Append(nil, v)
		}
	}
	t.rows = append(t.rows, row)
}

// sort orders the rows by their first columns.
func (t *table) sort(by int) {
	slices.SortStableFunc(t.rows, func(a, b [][]byte) int {
		for i := range by {
			if d := slices.Compare(a[i], b[i]); d != 0 {
				return d
			}
		}
		return 0
	})
}

// sortByNumber orders the rows by a column of numbers.
func (t *table) sortByNumber(column int) {
	slices.SortStableFunc(t.rows, func(a, b [][]byte) int {
		x, _ := strconv.ParseUint(string(a[column]), 10, 64)
		y, _ := strconv.ParseUint(string(b[column]), 10, 64)
		return cmp.Compare(x, y)
	})
}

// shows are the results that can be asked for. Each has a file of its own.
var shows map[string]func(p *Pooler, t *table)

func init() {
	shows = map[string]func(p *Pooler, t *table){
		"version": showVersion, "databases": showDatabases, "pools": showPools, "clients": showClients, "servers": showServers,
		"stats": showStats, "stats_totals": showStatsTotals, "stats_averages": showStatsAverages, "totals": showTotals,
		"users": showUsers, "lists": showLists, "config": showConfig, "state": showState, "dns_hosts": showDNSHosts,
		"peers": showPeers, "peer_pools": showPeerPools, "sockets": showSockets, "active_sockets": showActiveSockets,
		"mem": showMem, "dns_zones": showDNSZones,
	}
}

func (k *console) show(what string, invalid error) error {
	k.tag = "SHOW"
	switch what {
	case "help":
		k.send(helpNotice())
		return nil
	case "fds", wordFDs:
		return k.showFDs(what == wordFDs)
	}
	var t table
	if value, ok := driverParams[what]; ok {
		t.columns = columns(what)
		t.add(value)
	} else if f := shows[what]; f != nil {
		f(k.p(), &t)
	} else {
		return invalid
	}
	out := pgwire.AppendRowDescription(nil, t.columns)
	for _, row := range t.rows {
		out = pgwire.AppendDataRow(out, row)
	}
	k.send(out)
	return nil
}
