// Rows as pgq.jsontriga writes them into events: JSON objects.

package pgq

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// DecodeJSON reads an event's data as jsontriga writes it. A string stands for its
// text and null for NULL; any other value stands for itself as JSON: 1.50, true, or an
// object in events of other producers. Of two columns of one name the later counts.
func DecodeJSON(data string) (Row, error) {
	row, err := decodeJSON(data)
	if err != nil {
		return nil, fmt.Errorf("decode json: %w", err)
	}
	return row, nil
}

func decodeJSON(data string) (Row, error) {
	if !utf8.ValidString(data) {
		return nil, errors.New("it is not UTF-8")
	}
	var columns map[string]json.RawMessage
	if err := json.Unmarshal([]byte(data), &columns); err != nil {
		return nil, err
	}
	if columns == nil {
		return nil, errors.New("it is null, and must be an object")
	}
	row := make(Row, len(columns))
	for name, raw := range columns {
		if name == "" { // no table has that, nor could a NULL under it be url-encoded
			return nil, errors.New("a column has no name")
		}
		value := Text(string(raw))
		switch {
		case value.String == "null":
			value = pgtype.Text{}
		case raw[0] == '"':
			if err := json.Unmarshal(raw, &value.String); err != nil {
				return nil, fmt.Errorf("in %q: %w", name, err)
			}
			// The package has this in the place of half a character.
			if strings.ContainsRune(value.String, utf8.RuneError) &&
				!strings.ContainsRune(string(raw), utf8.RuneError) && !strings.Contains(strings.ToLower(string(raw)), `\ufffd`) {
				return nil, fmt.Errorf("in %q: half of a surrogate pair", name)
			}
		}
		row[name] = value
	}
	return row, nil
}
