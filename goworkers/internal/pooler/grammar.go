// The console's language: `NAME [argument]` and `SET name = value`, one command a query.
// Names may stand in double quotes, values in quotes of either kind.

package pooler

import "strings"

// command is one command of the console. Its name is in lower case; an empty one is
// that of an empty query. arg is the word behind it, as it was written, and for SET the
// name of the setting in lower case.
type command struct{ name, arg, value string }

const (
	blanks = " \t\r\n"
	ends   = blanks + ";='\""
)

// parseCommand reads a command; it reports false for anything else.
func parseCommand(sql string) (cmd command, ok bool) {
	rest := strings.Trim(sql, blanks+";")
	// Some drivers send a mere comment to see whether the connection lives.
	if rest == "" || strings.HasPrefix(rest, "--") && !strings.Contains(rest, "\n") {
		return command{}, true
	}
	cmd.name, rest = bareWord(rest)
	if cmd.name = strings.ToLower(cmd.name); cmd.name == "" {
		return cmd, false
	}
	if cmd.name != "set" {
		if rest == "" {
			return cmd, true
		}
		if strings.IndexByte(blanks, rest[0]) < 0 {
			return cmd, false
		}
		rest = strings.TrimLeft(rest, blanks)
		if rest[0] == '\'' {
			return cmd, false // a name stands in double quotes
		}
		cmd.arg, rest, ok = anyWord(rest)
		return cmd, ok && rest == ""
	}
	cmd.arg, rest = bareWord(strings.TrimLeft(rest, blanks))
	cmd.arg = strings.ToLower(cmd.arg)
	after := strings.TrimLeft(rest, blanks)
	switch {
	case cmd.arg == "" || after == "":
		return cmd, false
	case after[0] == '=':
		rest = after[1:]
	case len(after) > 2 && len(after) < len(rest) && strings.EqualFold(after[:2], "to") && strings.IndexByte(blanks+"'\"", after[2]) >= 0:
		rest = after[2:]
	default:
		return cmd, false
	}
	cmd.value, rest, ok = anyWord(strings.TrimLeft(rest, blanks))
	return cmd, ok && rest == ""
}

// bareWord takes a word without quotes off the front.
func bareWord(s string) (word, rest string) {
	if end := strings.IndexAny(s, ends); end >= 0 {
		return s[:end], s[end:]
	}
	return s, ""
}

// anyWord takes a word off the front that may stand in quotes of either kind, which are
// doubled within. It reports false when there is none.
func anyWord(s string) (word, rest string, ok bool) {
	if s == "" || s[0] != '\'' && s[0] != '"' {
		word, rest = bareWord(s)
		return word, rest, word != ""
	}
	quote := s[:1]
	var b strings.Builder
	for s = s[1:]; ; s = s[1:] {
		end := strings.Index(s, quote)
		if end < 0 {
			return "", "", false
		}
		b.WriteString(s[:end])
		if s = s[end+1:]; !strings.HasPrefix(s, quote) {
			return b.String(), s, true
		}
		b.WriteString(quote)
	}
}
