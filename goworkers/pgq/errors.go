// Questions about errors, answered by SQLSTATE and never by text. Ours are listed
// in extensions/README.md.

package pgq

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	codeQueueNotFound     = "PGQ01"
	codeNotSubscribed     = "PGQ02"
	codeBatchNotFound     = "PGQ03"
	codeEventNotFound     = "PGQ04"
	codeTickNotFound      = "PGQ05"
	codeForbidden         = "PGQ06"
	codeConsumersAttached = "PGQ08"
	codeQueueBroken       = "PGQ09"
	codeInvalidSchemaName = "3F000"
	codeUndefinedFunction = "42883"
	codeUndefinedTable    = "42P01"
)

// IsQueueNotFound tells whether the queue named in a call does not exist.
func IsQueueNotFound(err error) bool { return hasCode(err, codeQueueNotFound) }

// IsNotSubscribed tells whether the consumer named in a call is not registered on
// the queue.
func IsNotSubscribed(err error) bool { return hasCode(err, codeNotSubscribed) }

// IsBatchNotFound tells whether the batch named in a call is not open: it was
// finished, or its consumer was unregistered or moved.
func IsBatchNotFound(err error) bool { return hasCode(err, codeBatchNotFound) }

// IsTickNotFound tells whether the tick that a consumer is at, or should be moved
// to, does not exist: it never did, or the queue was rotated past it.
func IsTickNotFound(err error) bool { return hasCode(err, codeTickNotFound) }

// IsEventNotFound tells whether the event named in a call is not in its batch, or not
// among the dead ones.
func IsEventNotFound(err error) bool { return hasCode(err, codeEventNotFound) }

// IsForbidden tells whether the queue's parameters forbid the call: inserts are
// disabled, the ticker is paused or external.
func IsForbidden(err error) bool { return hasCode(err, codeForbidden) }

// HasConsumers tells whether a queue could not be dropped for the consumers on it.
func HasConsumers(err error) bool { return hasCode(err, codeConsumersAttached) }

// IsQueueBroken tells whether the queue's state makes no sense on this server, as
// after a restore into another one; RebaseQueue may mend it.
func IsQueueBroken(err error) bool { return hasCode(err, codeQueueBroken) }

// IsNotInstalled tells whether the database lacks the extension, or has one that
// lacks the function.
func IsNotInstalled(err error) bool {
	return hasCode(err, codeInvalidSchemaName) || hasCode(err, codeUndefinedFunction) || hasCode(err, codeUndefinedTable)
}

func hasCode(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}

// wrap says what was tried; nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}
