// What the tags of commands tell: which session state comes and goes.
// Manual: "Message Formats", CommandComplete.

package pooler

import "goworkers/pgwire"

// tag looks at the tag of a command that a server has done.
func (s *server) tag(body []byte) {
	tag, err := pgwire.ParseCommandComplete(body)
	if err != nil || len(tag) == 0 {
		return
	}
	switch tag[0] {
	case 'D':
		switch string(tag) {
		case "DISCARD ALL", "DEALLOCATE ALL":
			s.discarded()
		}
	}
}
