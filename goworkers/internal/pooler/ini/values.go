package ini

// Types of values: how each is read and shown.

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"goworkers/pgwire"
)

// Opt is a value that an entry may leave to the wider setting.
type Opt[T any] struct {
	Value T
	Set   bool
}

// Or is the value, or def if none was given.
func (o Opt[T]) Or(def T) T {
	if o.Set {
		return o.Value
	}
	return def
}

// PoolMode tells when a server connection comes back to its pool.
type PoolMode uint8

// The pool modes.
const (
	PoolSession PoolMode = iota
	PoolTransaction
	PoolStatement
)

var poolModes = []string{"session", "transaction", "statement"}

func (m PoolMode) String() string { return poolModes[m] }

// AuthType tells how clients prove who they are.
type AuthType uint8

// The authentication types.
const (
	AuthMD5 AuthType = iota
	AuthAny
	AuthTrust
	AuthPlain
	AuthSCRAM
	AuthCert
	AuthHBA
	AuthLDAP
	AuthPAM
)

var authTypes = []string{"md5", "any", "trust", "plain", "scram-sha-256", "cert", "hba", "ldap", "pam"}

func (a AuthType) String() string { return authTypes[a] }

// SSLMode tells what TLS is wanted.
type SSLMode uint8

// The TLS modes.
const (
	SSLDisable SSLMode = iota
	SSLAllow
	SSLPrefer
	SSLRequire
	SSLVerifyCA
	SSLVerifyFull
)

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

func (m SSLMode) String() string { return sslModes[m] }

// Balance tells how a host is chosen from a list.
type Balance uint8

// The ways to choose.
const (
	BalanceRoundRobin Balance = iota
	BalanceDisable            // stay with a host until it fails
)

var balances = []string{"round-robin", "disable"}

func (b Balance) String() string { return balances[b] }

// SessionAttrs tells which servers of a list of hosts will do.
type SessionAttrs uint8

// The kinds of servers, as libpq names them.
const (
	AttrsAny SessionAttrs = iota
	AttrsReadWrite
	AttrsReadOnly
	AttrsPrimary
	AttrsStandby
	AttrsPreferStandby
)

var sessionAttrs = []string{"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}

func (a SessionAttrs) String() string { return sessionAttrs[a] }

// LeakGuard tells what happens when a client leaves session state on a server that
// others get.
type LeakGuard uint8

// The answers to a leak.
const (
	LeakIgnore LeakGuard = iota
	LeakLog
	LeakReset // run server_reset_query
	LeakClose // close the server
)

var leakGuards = []string{"ignore", "log", "reset", "close"}

func (g LeakGuard) String() string { return leakGuards[g] }

// LogFormat is the form of the log's lines.
type LogFormat uint8

// The forms.
const (
	LogText LogFormat = iota
	LogJSON
)

var logFormats = []string{"text", "json"}

func (f LogFormat) String() string { return logFormats[f] }

// maxSeconds bounds times: some thirty years.
const maxSeconds = 1e9

// bounds of a number; both zero means 0 to MaxInt32.
type bounds struct {
	min, max int
}

// problem is what is wrong with a value, and what to do.
type problem struct {
	what, fix string
}

// assign reads text into the field that at points to.
func assign(at any, text string, b bounds) *problem {
	switch p := at.(type) {
	case *string:
		*p = text
	case *pgwire.Secret:
		if len(text) > pgwire.MaxSecretSize {
			return &problem{fmt.Sprintf("longer than %d bytes", pgwire.MaxSecretSize), "give a shorter secret"}
		}
		*p = pgwire.NewSecret(text)
	case *[]string:
		*p = splitList(text)
	case *bool:
		switch strings.ToLower(text) {
		case "1", "on", "true", "yes":
			*p = true
		case "0", "off", "false", "no":
			*p = false
		default:
			return &problem{"not a yes or no", "use 1 or 0"}
		}
	case *int:
		if b == (bounds{}) {
			b.max = math.MaxInt32
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return &problem{"not a whole number", fmt.Sprintf("give a number from %d to %d", b.min, b.max)}
		}
		if n < b.min || n > b.max {
			return &problem{"out of range", fmt.Sprintf("give a number from %d to %d", b.min, b.max)}
		}
		*p = n
	case *time.Duration:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) {
			return &problem{"not a time", "give seconds without a unit, fractions allowed: 0.5"}
		}
		if f < 0 || f > maxSeconds {
			return &problem{"out of range", fmt.Sprintf("give seconds from 0 to %.0f", maxSeconds)}
		}
		*p = time.Duration(math.Round(f * float64(time.Second)))
	case *os.FileMode:
		n, err := strconv.ParseUint(text, 8, 32)
		if err != nil || n > 0o777 {
			return &problem{"not an octal file mode", "give one from 0000 to 0777"}
		}
		*p = os.FileMode(n)
	case *PoolMode:
		return choose(p, text, poolModes)
	case *AuthType:
		return choose(p, text, authTypes)
	case *SSLMode:
		return choose(p, text, sslModes)
	case *Balance:
		return choose(p, text, balances)
	case *LeakGuard:
		return choose(p, text, leakGuards)
	case *LogFormat:
		return choose(p, text, logFormats)
	case *SessionAttrs:
		return choose(p, text, sessionAttrs)
	case *Opt[int]:
		p.Set = true
		return assign(&p.Value, text, b)
	case *Opt[time.Duration]:
		p.Set = true
		return assign(&p.Value, text, b)
	case *Opt[PoolMode]:
		p.Set = true
		return assign(&p.Value, text, b)
	case *Opt[Balance]:
		p.Set = true
		return assign(&p.Value, text, b)
	default:
		panic(fmt.Sprintf("configuration table has a field of type %T", at))
	}
	return nil
}

func choose[T ~uint8](p *T, text string, names []string) *problem {
	for i, name := range names {
		if strings.EqualFold(name, text) {
			*p = T(i)
			return nil
		}
	}
	return &problem{"unknown value", "use one of " + strings.Join(names, ", ")}
}

// show is the text that assign reads as the same value.
func show(at any) string {
	switch p := at.(type) {
	case *string:
		return *p
	case *pgwire.Secret:
		if p.Kind() == pgwire.SecretNone {
			return ""
		}
		return p.String()
	case *[]string:
		return strings.Join(*p, ", ")
	case *bool:
		if *p {
			return "1"
		}
		return "0"
	case *int:
		return strconv.Itoa(*p)
	case *time.Duration:
		return strconv.FormatFloat(p.Seconds(), 'f', -1, 64)
	case *os.FileMode:
		return fmt.Sprintf("%04o", uint32(*p))
	case fmt.Stringer:
		return p.String()
	}
	panic(fmt.Sprintf("configuration table has a field of type %T", at))
}

// splitList parts a comma list; empty parts vanish.
func splitList(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// nearest is the known name closest to name, or "" when none is close.
func nearest(name string, known []string) string {
	best, bestDistance := "", 1+max(2, len(name)/3)
	name = strings.ToLower(name)
	for _, k := range known {
		if d := distance(name, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the single-character edits that lead from a to b.
func distance(a, b string) int {
	if len(a) > 64 {
		a = a[:64]
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
