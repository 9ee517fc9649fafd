// Snapshots of the server: which transactions it saw as done.

package pgq

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is a txid_snapshot or pg_snapshot, as pgq.tick keeps one for each tick.
type Snapshot struct {
	XMin int64   // all transactions before this one were done
	XMax int64   // none from this one on was
	XIP  []int64 // those between that were under way, in order
}

// ParseSnapshot reads the text form, xmin:xmax:xip,xip.
func ParseSnapshot(text string) (Snapshot, error) {
	fault := func(what string) (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("parse snapshot %s: %s", excerpt(text), what)
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return fault("want xmin:xmax:list")
	}
	var s Snapshot
	var ok bool
	if s.XMin, ok = parseTxID(parts[0]); !ok {
		return fault("xmin is not a transaction id")
	}
	if s.XMax, ok = parseTxID(parts[1]); !ok || s.XMax < s.XMin {
		return fault("xmax is not a transaction id from xmin on")
	}
	if parts[2] == "" {
		return s, nil
	}
	for _, part := range strings.Split(parts[2], ",") {
		id, ok := parseTxID(part)
		if !ok || id < s.XMin || id >= s.XMax {
			return fault(fmt.Sprintf("%s is not a transaction id between xmin and xmax", excerpt(part)))
		}
		if n := len(s.XIP); n > 0 && id < s.XIP[n-1] {
			return fault("its list is not in order")
		}
		s.XIP = append(s.XIP, id)
	}
	s.XIP = slices.Compact(s.XIP)
	return s, nil
}

// parseTxID reads digits only: neither sign nor 0 stands in a snapshot.
func parseTxID(text string) (int64, bool) {
	if text == "" || text[0] < '0' || text[0] > '9' {
		return 0, false
	}
	id, err := strconv.ParseInt(text, 10, 64)
	return id, err == nil && id > 0
}

// Contains tells whether the transaction was done when the snapshot was taken, so that
// its effects are seen. It asks nobody whether it committed.
func (s Snapshot) Contains(txid int64) bool {
	if txid < s.XMin || txid >= s.XMax {
		return txid < s.XMin
	}
	_, running := slices.BinarySearch(s.XIP, txid)
	return !running
}

func (s Snapshot) String() string {
	out := strconv.AppendInt(nil, s.XMin, 10)
	out = append(out, ':')
	out = strconv.AppendInt(out, s.XMax, 10)
	out = append(out, ':')
	for i, id := range s.XIP {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, id, 10)
	}
	return string(out)
}
