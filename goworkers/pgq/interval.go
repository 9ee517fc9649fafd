// Intervals as durations. PostgreSQL's months and days have no fixed length; they
// count as it counts them itself for age in seconds: 30 days and 24 hours.

package pgq

import (
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

const (
	day   = 24 * time.Hour
	month = 30 * day
)

// interval scans an interval that is not NULL into the duration behind it.
type interval time.Duration

func (d *interval) ScanInterval(v pgtype.Interval) error {
	if !v.Valid {
		return fmt.Errorf("an interval is NULL where none may be")
	}
	*d = interval(duration(v))
	return nil
}

// nullInterval scans an interval into a pointer that is nil for NULL.
type nullInterval struct{ into **time.Duration }

func optional(into **time.Duration) *nullInterval { return &nullInterval{into} }

func (n *nullInterval) ScanInterval(v pgtype.Interval) error {
	*n.into = nil
	if v.Valid {
		d := duration(v)
		*n.into = &d
	}
	return nil
}

func duration(v pgtype.Interval) time.Duration {
	return time.Duration(v.Months)*month + time.Duration(v.Days)*day + time.Duration(v.Microseconds)*time.Microsecond
}

// What is infinite on the server is here the first or the last time that one can be
// written as.
var (
	firstTime time.Time
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// moment scans a time.
type moment struct{ into *time.Time }

func (m *moment) ScanTimestamptz(v pgtype.Timestamptz) error {
	switch {
	case !v.Valid:
		return fmt.Errorf("a time is NULL where none may be")
	case v.InfinityModifier == pgtype.NegativeInfinity:
		*m.into = firstTime
	case v.InfinityModifier == pgtype.Infinity:
		*m.into = lastTime
	default:
		*m.into = v.Time
	}
	return nil
}

// nullMoment scans a time into a pointer that is nil for NULL.
type nullMoment struct{ into **time.Time }

func (m *nullMoment) ScanTimestamptz(v pgtype.Timestamptz) error {
	*m.into = nil
	if !v.Valid {
		return nil
	}
	var at time.Time
	*m.into = &at
	return (&moment{&at}).ScanTimestamptz(v)
}

// asInterval makes an interval argument; a zero duration is NULL.
func asInterval(d time.Duration) pgtype.Interval {
	return pgtype.Interval{Microseconds: d.Microseconds(), Valid: d != 0}
}

// seconds writes a duration as the server reads an interval.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

// quoted names a value that may be NULL.
func quoted(value *string) string {
	if value == nil {
		return "NULL"
	}
	return strconv.Quote(*value)
}
