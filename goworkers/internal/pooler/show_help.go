// SHOW HELP.

package pooler

import "goworkers/pgwire"

const helpText = `
	SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
	SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
	SHOW PEERS|PEER_POOLS
	SHOW SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
	SHOW DNS_HOSTS|DNS_ZONES
	SHOW FDS
	SET key = arg
	RELOAD
	PAUSE [<db>]
	RESUME [<db>]
	SUSPEND
	DISABLE <db>
	ENABLE <db>
	RECONNECT [<db>]
	KILL [<db>]
	KILL_CLIENT <client_id>
	SHUTDOWN
	SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS
	WAIT_CLOSE [<db>]`

// helpNotice is the answer to SHOW HELP: no rows, but a notice.
func helpNotice() []byte {
	return pgwire.AppendNoticeResponse(nil, &pgwire.Report{
		Severity: pgwire.SeverityNotice, Code: "00000", Message: "Console usage", Detail: helpText,
	})
}
