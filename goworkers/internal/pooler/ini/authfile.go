package ini

// auth_file: the users and their secrets.

import (
	"fmt"
	"os"
	"strings"

	"goworkers/pgwire"
)

// AuthFile is an auth_file that is read again when it changes on disk.
type AuthFile struct {
	path string
	last os.FileInfo // of what was read
}

// NewAuthFile names a file; nothing is read yet.
func NewAuthFile(path string) *AuthFile { return &AuthFile{path: path} }

// Load reads the file if it is another than the last time, and tells so; users are nil
// if it is not. Lines that are wrong are left out, each with a warning: whoever stands
// there cannot log in. The error tells that the file cannot be read; the users known so
// far then stay what they are.
func (a *AuthFile) Load() (users map[string]pgwire.Secret, changed bool, warnings []Warning, err error) {
	info, err := os.Stat(a.path)
	if err != nil {
		return nil, false, nil, fmt.Errorf("auth_file: %w; set auth_file to a file that the pooler may read", err)
	}
	if l := a.last; l != nil && os.SameFile(l, info) && l.Size() == info.Size() && l.ModTime().Equal(info.ModTime()) {
		return nil, false, nil, nil
	}
	text, err := os.ReadFile(a.path)
	if err != nil {
		return nil, false, nil, fmt.Errorf("auth_file: %w; set auth_file to a file that the pooler may read", err)
	}
	a.last = info
	users, warnings = ParseAuthFile(a.path, string(text))
	return users, true, warnings, nil
}

// ParseAuthFile reads lines of "name" "secret", in which a doubled quote is one; what
// follows is ignored, as are empty lines and those that start with a semicolon. An empty
// secret is the secret of kind none: the user is known, the secret is not. name stands
// for the file in warnings.
func ParseAuthFile(name, text string) (map[string]pgwire.Secret, []Warning) {
	users := map[string]pgwire.Secret{}
	lines := map[string]int{}
	var warnings []Warning
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == ';' {
			continue
		}
		warn := func(what string) {
			warnings = append(warnings, Warning{name, n, what + "; the line is left out"})
		}
		user, secret, ok := splitAuthLine(line)
		switch {
		case !ok:
			warn(`not "name" "secret"`)
		case user == "" || len(user) > maxNameSize:
			warn(fmt.Sprintf("name of %d bytes, allowed are 1 to %d", len(user), maxNameSize))
		case len(secret) > pgwire.MaxSecretSize:
			warn(fmt.Sprintf("secret of %d bytes, allowed are up to %d", len(secret), pgwire.MaxSecretSize))
		case strings.IndexByte(user, 0) >= 0 || strings.IndexByte(secret, 0) >= 0:
			warn("a zero byte")
		default:
			if first, twice := lines[user]; twice {
				warnings = append(warnings, Warning{name, n, fmt.Sprintf("user %q stands in line %d too; this line counts", user, first)})
			}
			lines[user] = n
			users[user] = pgwire.NewSecret(secret)
		}
	}
	return users, warnings
}

func splitAuthLine(line string) (user, secret string, ok bool) {
	if line[0] != '"' {
		return "", "", false
	}
	user, rest, ok := unquote(line)
	rest = strings.TrimLeft(rest, " \t")
	if !ok || rest == "" || rest[0] != '"' {
		return "", "", false
	}
	secret, rest, ok = unquote(rest)
	return user, secret, ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t')
}
