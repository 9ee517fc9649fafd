package batch

// Errors that decide the exit code.

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/pgq"
)

// UsageError is a mistake of the caller, not of the world: exit code 2, and
// no use in trying again.
type UsageError struct {
	Message string
}

func (e *UsageError) Error() string { return e.Message }

// Usagef builds a UsageError.
func Usagef(format string, args ...any) error {
	return &UsageError{Message: fmt.Sprintf(format, args...)}
}

// ErrTerminated ends a job that got SIGTERM: what was under way was undone.
var ErrTerminated = errors.New("terminated by SIGTERM")

// errTooOld is a queue database with a schema that cannot be read.
var errTooOld = errors.New("too old")

// SetupError marks an error that lies in how the job or its databases were set up, as a
// statement in the ini file that the server refuses. At the start it ends the job; later
// it is logged, and the work tried again, as after other errors.
func SetupError(err error) error { return &setupError{err} }

type setupError struct{ error }

func (e *setupError) Unwrap() error { return e.error }

// isSetup tells whether an error lies in how databases were set up or named, so
// that waiting does not mend it: no such database or queue, no access, the
// extension missing or too old. A server that is not there is none: it may come.
func isSetup(err error) bool {
	var setup *setupError
	if errors.As(err, &setup) || errors.Is(err, errTooOld) || pgq.IsNotInstalled(err) || pgq.IsQueueNotFound(err) {
		return true
	}
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return false
	}
	switch server.Code {
	case "3D000", "28000", "28P01": // no such database; no access; wrong password
		return true
	}
	return false
}

// ExitCode turns the result of a program into its exit status: 0 done,
// 1 failed, 2 misuse.
func ExitCode(err error) int {
	var usage *UsageError
	var config *ConfigError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage), errors.As(err, &config):
		return 2
	}
	return 1
}
