package shell

// The history of an interactive session: a file of the user's own, of bounded size,
// without passwords.

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	historyLines = 1000    // that are kept
	historyBytes = 1 << 20 // that are kept at most
	historyMode  = 0o600
)

// secret finds what may hold a password.
var secret = regexp.MustCompile(`(?i)passw|passfile|passphrase|\bscram-|://[^/\s]*:[^/\s]*@`)

type history struct {
	path string // "" keeps none
}

// load returns the lines that are kept, the oldest first, and cuts the file down to
// them. A file that others may read is closed to them.
func (h history) load() ([]string, error) {
	if h.path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(h.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the history: %w", err)
	}
	kept := data
	if len(kept) > historyBytes {
		kept = kept[len(kept)-historyBytes:]
		kept = kept[bytes.IndexByte(kept, '\n')+1:]
	}
	lines := strings.FieldsFunc(string(kept), func(r rune) bool { return r == '\n' })
	if len(lines) > historyLines {
		lines = lines[len(lines)-historyLines:]
	}
	if text := strings.Join(lines, "\n") + "\n"; len(lines) > 0 && text != string(data) {
		if err := h.rewrite(text); err != nil {
			return lines, err
		}
	}
	if err := os.Chmod(h.path, historyMode); err != nil {
		return lines, fmt.Errorf("close the history to others: %w", err)
	}
	return lines, nil
}

// rewrite replaces the file in one step, so that no end of the program cuts it short.
func (h history) rewrite(text string) error {
	f, err := os.CreateTemp(filepath.Dir(h.path), filepath.Base(h.path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("shorten the history: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), h.path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("shorten the history: %w", err)
	}
	return nil
}

// add keeps a statement as one line, and returns that line; "" when nothing is to be
// kept of it. A shell that ends hard loses nothing.
func (h history) add(statement string) (string, error) {
	line := strings.TrimSpace(strings.Join(strings.FieldsFunc(statement, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
	if line == "" || secret.MatchString(line) {
		return "", nil
	}
	if h.path == "" {
		return line, nil
	}
	f, err := os.OpenFile(h.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, historyMode)
	if err != nil {
		return line, fmt.Errorf("write the history: %w", err)
	}
	_, err = f.WriteString(line + "\n")
	return line, errors.Join(err, f.Close())
}
