package batch

// Errors that are no alarm at first: exception_quiet, exception_grace and
// exception_reset.

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Quiet says which errors are told as warnings at first. Grace begins with the first
// error, of whatever class, after Reset without any; so what comes and heals all the
// time becomes an alarm, too. An error of the Classes is told as a warning within
// Grace, and as an error when it is still there, or there again, after it.
type Quiet struct {
	// Classes names the errors: a SQLSTATE (57P01), its first two characters (08), or
	// what Python calls them (psycopg2.OperationalError). Default: none.
	Classes []string
	// Grace is how long they are no alarm.
	Grace time.Duration
	// Reset is how long no error may come before Grace begins anew.
	Reset time.Duration
}

// errorClass is a set of errors.
type errorClass struct {
	states []string // beginnings of SQLSTATEs
	lost   bool     // no connection, and no SQLSTATE that says why
	system bool     // files and sockets
	late   bool     // time is over
	any    bool
}

// The classes of psycopg2 by the SQLSTATEs that its manual lists for them, and those
// of Python that a job's errors may have; in lower case.
var (
	operational = errorClass{lost: true, states: []string{"08", "26", "27", "28", "34", "40", "53", "54", "55", "57", "58", "F0", "HV"}}
	system      = errorClass{system: true}
	database    = errorClass{lost: true, states: []string{""}}

	pythonClasses = map[string]errorClass{
		"exception": {any: true}, "standarderror": {any: true}, "baseexception": {any: true},
		"error": database, "databaseerror": database, "operationalerror": operational,
		"interfaceerror":           {lost: true},
		"programmingerror":         {states: []string{"03", "20", "21", "3D", "3F", "42", "44"}},
		"dataerror":                {states: []string{"22"}},
		"integrityerror":           {states: []string{"23"}},
		"internalerror":            {states: []string{"24", "25", "2B", "2D", "2F", "38", "39", "3B", "P0", "XX"}},
		"notsupportederror":        {states: []string{"0A"}},
		"transactionrollbackerror": {states: []string{"40"}},
		"querycancelederror":       {states: []string{"57014"}},
		"querycanceled":            {states: []string{"57014"}},
		"adminshutdown":            {states: []string{"57P01"}},
		"crashshutdown":            {states: []string{"57P02"}},
		"cannotconnectnow":         {states: []string{"57P03"}},
		"toomanyconnections":       {states: []string{"53300"}},
		"deadlockdetected":         {states: []string{"40P01"}},
		"serializationfailure":     {states: []string{"40001"}},
		"locknotavailable":         {states: []string{"55P03"}},
		"readonlysqltransaction":   {states: []string{"25006"}},
		"oserror":                  system, "ioerror": system, "environmenterror": system, "socket.error": system,
		"connectionerror": {lost: true, system: true},
		"timeouterror":    {late: true}, "socket.timeout": {late: true},
	}
)

var sqlstateRE = regexp.MustCompile(`^([0-9A-Z]{2}|[0-9A-Z]{5})$`)

// classNamed finds a class; the module before a name does not matter, as long as the
// rest is clear.
func classNamed(name string) (errorClass, bool) {
	lower := strings.ToLower(name)
	if class, found := pythonClasses[lower]; found {
		return class, true
	}
	if class, found := pythonClasses[lower[strings.LastIndexByte(lower, '.')+1:]]; found {
		return class, true
	}
	if sqlstateRE.MatchString(name) {
		return errorClass{states: []string{name}}, true
	}
	return errorClass{}, false
}

func (c errorClass) has(err error) bool {
	if c.any {
		return true
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return slices.ContainsFunc(c.states, func(state string) bool { return strings.HasPrefix(server.Code, state) })
	}
	var unreachable *ConnectError
	var path *fs.PathError
	var network *net.OpError
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case c.lost && (IsConnectionLost(err) || errors.As(err, &unreachable)):
		return true
	case c.system && (errors.As(err, &path) || errors.As(err, &network) || errors.As(err, &errno)):
		return true
	case c.late:
		return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
	}
	return false
}

// covers tells whether an error is of one of the classes.
func (q Quiet) covers(err error) bool {
	return slices.ContainsFunc(q.Classes, func(name string) bool {
		class, known := classNamed(name)
		return known && class.has(err)
	})
}
