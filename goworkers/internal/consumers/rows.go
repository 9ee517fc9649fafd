package consumers

// Rows of events on their way into COPY: from logutriga's url-encoding straight into
// COPY's text format, without anything in between.

import (
	"fmt"
	"strings"
)

// field is one column of an event's row, as it stands in the event.
type field struct {
	name, value string // url-encoded
	null        bool
}

// splitRow appends the columns of an event's data; nothing is decoded or copied.
func splitRow(to []field, data string) []field {
	for rest := data; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		to = append(to, field{name: name, value: value, null: !found})
	}
	return to
}

// appendCopy appends a url-encoded value as COPY's text format has it (manual: COPY,
// "Text Format").
func appendCopy(to []byte, encoded string) ([]byte, error) {
	// What needs neither decoding nor escaping, which is nearly all, goes in runs.
	begin := 0
	for i := 0; i < len(encoded); i++ {
		c := encoded[i]
		if plain[c] {
			continue
		}
		to = append(to, encoded[begin:i]...)
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 >= len(encoded) {
				return nil, fmt.Errorf("%q is no escape: two hex digits must follow the %%", encoded[i:])
			}
			high, low := hexDigits[encoded[i+1]], hexDigits[encoded[i+2]]
			if high > 15 || low > 15 {
				return nil, fmt.Errorf("%q is no escape: two hex digits must follow the %%", encoded[i:i+3])
			}
			c = high<<4 | low
			i += 2
		}
		begin = i + 1
		switch c {
		case '\\':
			to = append(to, '\\', '\\')
		case '\t':
			to = append(to, '\\', 't')
		case '\n':
			to = append(to, '\\', 'n')
		case '\r':
			to = append(to, '\\', 'r')
		default:
			to = append(to, c)
		}
	}
	return append(to, encoded[begin:]...), nil
}

// copyNull is a NULL in COPY's text format.
const copyNull = `\N`

// plain are the bytes that mean themselves in both formats.
var plain = func() (set [256]bool) {
	for c := range set {
		set[c] = !strings.ContainsRune("+%\\\t\n\r", rune(c))
	}
	return set
}()

// hexDigits are the values of hex digits; 255 is none.
var hexDigits = func() (values [256]byte) {
	for c := range values {
		values[c] = 255
	}
	for i, c := range []byte("0123456789abcdef") {
		values[c] = byte(i)
		values[strings.ToUpper(string(c))[0]] = byte(i)
	}
	return values
}()
