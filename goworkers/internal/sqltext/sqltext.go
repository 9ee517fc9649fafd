// Package sqltext finds the pieces of SQL that have to be taken as a whole: texts and names
// in quotes, texts between dollar signs, and comments (manual: Lexical Structure). Each
// function takes a text that begins with the piece, and gives its length in bytes; closed is
// false when it has no end and so takes the rest of the text.
package sqltext

import "strings"

// Quoted is what stands in quotes of one kind. A doubled quote does not end it; with
// backslash, as in E'…', neither does one behind a backslash.
func Quoted(text string, backslash bool) (length int, closed bool) {
	for i := 1; i < len(text); i++ {
		switch {
		case backslash && text[i] == '\\':
			i++
		case text[i] != text[0]:
		case i+1 < len(text) && text[i+1] == text[0]:
			i++
		default:
			return i + 1, true
		}
	}
	return len(text), false
}

// Comment is a comment in slashes and stars, which may hold others.
func Comment(text string) (length int, closed bool) {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1, true
			}
		}
	}
	return len(text), false
}

// DollarQuoted is what stands between two of the same $tag$; 0 when the text does not
// begin with one.
func DollarQuoted(text string) (length int, closed bool) {
	tag := dollarTag(text)
	if tag == "" {
		return 0, false
	}
	end := strings.Index(text[len(tag):], tag)
	if end < 0 {
		return len(text), false
	}
	return end + 2*len(tag), true
}

func dollarTag(text string) string {
	if !strings.HasPrefix(text, "$") {
		return ""
	}
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '$':
			return text[:i+1]
		case !IsWord(text[i]) || i == 1 && '0' <= text[i] && text[i] <= '9':
			return ""
		}
	}
	return ""
}

// IsWord tells whether a byte can be part of a name or number.
func IsWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '$' || c >= 0x80
}
