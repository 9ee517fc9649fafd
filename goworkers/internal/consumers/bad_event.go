package consumers

// Events that cannot be done, though everything around them is in order.

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/pgq"
)

// eventError names the event that an error came of.
type eventError struct {
	ev  *pgq.Event
	err error
}

func (e *eventError) Error() string { return fmt.Sprintf("event %d: %v", e.ev.ID, e.err) }
func (e *eventError) Unwrap() error { return e.err }

// isDataError says whether the database refuses values: class 22 are data exceptions,
// 23 violated constraints, P0 what functions raise.
func isDataError(err error) bool {
	var server *pgconn.PgError
	if !errors.As(err, &server) || len(server.Code) != 5 {
		return false
	}
	switch server.Code[:2] {
	case "22", "23", "P0":
		return true
	}
	return false
}
