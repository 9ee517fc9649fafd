package hba

// auth_ident_file: which name in a certificate, or which system user, may be which
// database user.

import (
	"fmt"
	"os"

	"goworkers/internal/pooler/ini"
)

// IdentMaps is an ident file. The zero value has no map.
type IdentMaps struct {
	maps map[string][]identLine
}

type identLine struct {
	system, user string
	all          bool
}

// LoadIdent reads a file. The warnings tell of lines that are left out; the error is
// that of a file which cannot be read.
func LoadIdent(path string) (*IdentMaps, []ini.Warning, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("auth_ident_file: %w; set it to a file that the pooler may read", err)
	}
	m, w := ParseIdent(path, string(text))
	return m, w, nil
}

// ParseIdent reads a text as LoadIdent reads a file: lines of MAP SYSTEM-NAME USER, where
// the user all is every user.
func ParseIdent(path, text string) (*IdentMaps, []ini.Warning) {
	m := &IdentMaps{maps: map[string][]identLine{}}
	var warnings []ini.Warning
	eachLine(text, func(n int, fields [][]token, err error) {
		if err == nil && len(fields) != 3 {
			err = fmt.Errorf("not the three words MAP SYSTEM-NAME USER")
		}
		var words [3]token
		for i, f := range fields {
			if err == nil && len(f) != 1 {
				err = fmt.Errorf("word %d is a list", i+1)
			}
			if err == nil {
				words[i] = f[0]
			}
		}
		if err == nil && len(words[1].text) > 1 && words[1].text[0] == '/' && !words[1].quoted {
			err = fmt.Errorf("regular expressions are not supported (quote a name that starts with /)")
		}
		if err != nil {
			warnings = append(warnings, ini.Warning{File: path, Line: n, Text: err.Error() + "; the line is left out"})
			return
		}
		name := words[0].text
		m.maps[name] = append(m.maps[name], identLine{words[1].text, words[2].text, words[2].text == "all" && !words[2].quoted})
	})
	return m, warnings
}

// Has tells whether there is such a map.
func (m *IdentMaps) Has(name string) bool { return len(m.maps[name]) > 0 }

// Allows tells whether a system name may log in as user. Without a map (name "") both
// must be the same.
func (m *IdentMaps) Allows(name, system, user string) bool {
	if name == "" {
		return system == user
	}
	for _, l := range m.maps[name] {
		if l.system == system && (l.all || l.user == user) {
			return true
		}
	}
	return false
}
