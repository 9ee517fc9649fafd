package batch

// Keys from the environment.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const envPrefix = "SKYTOOLS_"

// environment picks from an environment the values of keys: SKYTOOLS_SRC_DB is the
// key src_db. They expand like those of the file, and an empty one empties its key.
// Precedence: [DEFAULT], the section, the environment, --set and -v or -q.
//
// An environment may serve many programs, so a variable whose key the section cannot
// have is left alone; but one that is a slip away from such a key is an error.
func environment(environ []string) map[string]string {
	keys := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if key, ours := strings.CutPrefix(name, envPrefix); ours && key != "" && name != daemonEnv && key == strings.ToUpper(key) {
			keys[strings.ToLower(key)] = value
		}
	}
	return keys
}

// slips finds the variables whose names were most likely mistyped.
func (s *Section) slips(known map[string]bool) []Problem {
	var problems []Problem
	for _, key := range slices.Sorted(maps.Keys(s.env)) {
		if known[key] || s.referred(key) || s.own[key] {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(known)) {
			if oneSlip(key, name) {
				problems = append(problems, Problem{File: s.path, Section: s.name, Key: name,
					What: fmt.Sprintf("%[1]s%[2]s of the environment is no key; did you mean %[1]s%[3]s? Unset or rename it",
						envPrefix, strings.ToUpper(key), strings.ToUpper(name))})
				break
			}
		}
	}
	return problems
}

// shortestSlip is the length of names below which they resemble each other by chance.
const shortestSlip = 6

// oneSlip tells whether two words differ by one letter, more, less or another, or by
// two neighbours that have changed places.
func oneSlip(a, b string) bool {
	if max(len(a), len(b)) < shortestSlip {
		return false
	}
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	switch {
	case len(a) == 2 && len(b) == 2:
		return a[0] == b[1] && a[1] == b[0]
	default:
		return max(len(a), len(b)) == 1
	}
}
