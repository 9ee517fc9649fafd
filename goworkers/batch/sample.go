package batch

// The commented sample that --ini prints, made from the same tags that
// Decode reads, so that it cannot name a key that does not exist.

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Sample returns an ini file with every key of cfg (a struct or a pointer to
// one): first the required keys, open for filling in, then the others, commented
// out with their default. The environment goes before the file; see environment.
func Sample(service string, cfg any) string {
	v := reflect.ValueOf(cfg)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# A variable %sKEY of the environment goes before the key here.\n[%s]\n", envPrefix, service)
	all := fields(v)
	slices.SortStableFunc(all, func(a, b field) int {
		switch {
		case a.required == b.required:
			return 0
		case a.required:
			return -1
		}
		return 1
	})
	for _, f := range all {
		if f.unused != "" || f.old {
			continue
		}
		b.WriteByte('\n')
		if f.help != "" {
			fmt.Fprintf(&b, "# %s\n", f.help)
		}
		if len(f.choice) > 0 {
			fmt.Fprintf(&b, "# one of: %s\n", strings.Join(f.choice, ", "))
		}
		line := strings.TrimRight(fmt.Sprintf("%s = %s", f.key, f.def), " ")
		if !f.required {
			line = "#" + line
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}
