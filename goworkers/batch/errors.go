package batch

// Errors that decide the exit code.

import (
	"errors"
	"fmt"
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
