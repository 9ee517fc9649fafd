// Arrays of one dimension in their text form, as columns of array types have it in
// events.

package pgq

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

var errNested = errors.New("it has several dimensions, and only one can be read")

// ParseArray reads an array of a type whose delimiter is the comma (all but box):
// {1,NULL,"a, b"}. Bounds that stand before it, [0:1]={a,b}, must fit and are forgotten.
// One of several dimensions is refused.
func ParseArray(text string) ([]pgtype.Text, error) {
	list, err := parseArray(text)
	if err != nil {
		return nil, fmt.Errorf("parse array %s: %w", excerpt(text), err)
	}
	return list, nil
}

func parseArray(text string) ([]pgtype.Text, error) {
	rest := strings.TrimLeft(text, arraySpace)
	want := -1
	if strings.HasPrefix(rest, "[") {
		var err error
		if want, rest, err = cutBounds(rest[1:]); err != nil {
			return nil, err
		}
	}
	if !strings.HasPrefix(rest, "{") {
		return nil, errors.New("it does not begin with {")
	}
	list := []pgtype.Text{}
	rest = strings.TrimLeft(rest[1:], arraySpace)
	if strings.HasPrefix(rest, "}") && want < 0 {
		return list, endOfArray(rest[1:])
	}
	for {
		element, after, err := cutElement(rest)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", len(list)+1, err)
		}
		list = append(list, element)
		if after[0] == '}' {
			if want >= 0 && want != len(list) {
				return nil, fmt.Errorf("its bounds are those of %d elements, and it has %d", want, len(list))
			}
			return list, endOfArray(after[1:])
		}
		rest = after[1:]
	}
}

const arraySpace = " \t\n\r\v\f"

func endOfArray(rest string) error {
	if strings.Trim(rest, arraySpace) != "" {
		return fmt.Errorf("%s follows its end", excerpt(rest))
	}
	return nil
}

// cutBounds reads "0:1]=" and returns how many elements these bounds have.
func cutBounds(text string) (n int, rest string, err error) {
	bounds, rest, found := strings.Cut(text, "]")
	lower, upper, both := strings.Cut(bounds, ":")
	if !both {
		lower, upper = "1", bounds
	}
	low, lowErr := strconv.ParseInt(lower, 10, 32)
	high, highErr := strconv.ParseInt(upper, 10, 32)
	rest = strings.TrimLeft(rest, arraySpace)
	switch {
	case !found || lowErr != nil || highErr != nil:
		return 0, "", errors.New("its bounds are not of the form [1:2]")
	case strings.HasPrefix(rest, "["):
		return 0, "", errNested
	case !strings.HasPrefix(rest, "="):
		return 0, "", errors.New("no = follows its bounds")
	case high < low:
		return 0, "", fmt.Errorf("its upper bound %d is below its lower one", high)
	}
	return int(high - low + 1), strings.TrimLeft(rest[1:], arraySpace), nil
}

// cutElement reads one element; rest begins with the comma or brace behind it.
func cutElement(text string) (element pgtype.Text, rest string, err error) {
	text = strings.TrimLeft(text, arraySpace)
	if strings.HasPrefix(text, "{") {
		return element, "", errNested
	}
	var value []byte
	if strings.HasPrefix(text, `"`) {
		i := 1
		for ; i < len(text) && text[i] != '"'; i++ {
			if text[i] == '\\' {
				i++
			}
			if i < len(text) {
				value = append(value, text[i])
			}
		}
		if i >= len(text) {
			return element, "", errors.New("its quotes are not closed")
		}
		rest = strings.TrimLeft(text[i+1:], arraySpace)
		if rest == "" || rest[0] != ',' && rest[0] != '}' {
			return element, "", errors.New("something follows its quotes")
		}
		return Text(string(value)), rest, nil
	}
	escaped := false
	keep := 0 // of value; blanks at the end go
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == ',' || c == '}':
			value = value[:keep]
			if len(value) == 0 {
				return element, "", errors.New(`it is empty; an empty text is written ""`)
			}
			if !escaped && strings.EqualFold(string(value), "null") {
				return element, text[i:], nil
			}
			return Text(string(value)), text[i:], nil
		case c == '"' || c == '{':
			return element, "", fmt.Errorf("%q stands in the middle of it", c)
		case c == '\\':
			escaped = true
			if i++; i == len(text) {
				return element, "", errors.New("it ends with a backslash")
			}
			value = append(value, text[i])
			keep = len(value)
		default:
			value = append(value, c)
			if !strings.ContainsRune(arraySpace, rune(c)) {
				keep = len(value)
			}
		}
	}
	return element, "", errors.New("no } ends the array")
}

// MakeArray writes an array as the server does.
func MakeArray(list []pgtype.Text) string {
	out := []byte{'{'}
	for i, element := range list {
		if i > 0 {
			out = append(out, ',')
		}
		s := element.String
		switch {
		case !element.Valid:
			out = append(out, "NULL"...)
		case s == "" || strings.EqualFold(s, "null") || strings.ContainsAny(s, `{},"\`+arraySpace):
			out = append(out, '"')
			for j := range len(s) {
				if s[j] == '"' || s[j] == '\\' {
					out = append(out, '\\')
				}
				out = append(out, s[j])
			}
			out = append(out, '"')
		default:
			out = append(out, s...)
		}
	}
	return string(append(out, '}'))
}
