package cli

// pgqadm shell: the interactive console.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"goworkers/batch"
	"goworkers/internal/shell"
)

// historyEnv names another file for the history; empty is none.
const historyEnv = "PGQADM_HISTORY"

// historyFile is where the history is kept, or "".
func historyFile() string {
	if path, set := os.LookupEnv(historyEnv); set {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".pgqadm_history")
}

func adminShell(ctx context.Context, a *admin) error {
	text, given := a.values["c"]
	file := a.values["f"]
	if given && file != "" {
		return batch.Usagef("shell: give -c or -f, not both")
	}
	session, err := shell.New(ctx, shell.Config{
		DSN: a.dsn, Application: a.job, Program: "pgqadm", Version: Version, Queue: a.values["Q"],
		In: os.Stdin, Out: a.out, Err: a.err, History: historyFile(),
	})
	if err != nil {
		return fmt.Errorf("%s: [%s] db: %w", a.ini, pgqadmSection, err)
	}
	defer session.Close()
	if file != "" {
		data, err := readScript(file)
		if err != nil {
			return err
		}
		text, given = string(data), true
	}
	if !given {
		return session.Run(ctx)
	}
	err = session.Script(ctx, text)
	var at *shell.ScriptError
	if file != "" && errors.As(err, &at) {
		return fmt.Errorf("%s:%d: %w", file, at.Line, serverError(at.Err))
	}
	return serverError(err)
}

// readScript reads a file, or standard input for -.
func readScript(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(path)
}
