// SHOW HELP.

package pooler

import "goworkers/pgwire"

const helpText = `
	SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
	SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
	SHOW LISTS|STATE|DNS_HOSTS
	SET key = arg
	RELOAD
	PAUSE [<db>]
	RESUME [<db>]
	DISABLE <db>
	ENABLE <db>
	RECONNECT [<db>]
	KILL [<db>]
	KILL_CLIENT <client_id>
	WAIT_CLOSE [<db>]
	SHUTDOWN
	SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS`

// helpNotice is the answer to SHOW HELP: no rows, but a notice.
func helpNotice() []byte {
	return pgwire.AppendNoticeResponse(nil, &pgwire.Report{
		Severity: pgwire.SeverityNotice, Code: "00000", Message: "Console usage", Detail: helpText,
	})
}
