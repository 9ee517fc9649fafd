package ini

// The commented sample that --ini prints, made from the table.

import (
	"fmt"
	"io"
	"strings"
)

// WriteSample writes a complete configuration file in which everything is commented
// out and stands at its default.
func WriteSample(w io.Writer) error {
	var b strings.Builder
	b.WriteString(";; Configuration of the pooler. What is commented out shows the default.\n")
	b.WriteString(";; %include FILE reads another file here.\n\n")
	b.WriteString("[databases]\n;; NAME = key=value ...; the name * serves every database without a line of its own.\n")
	sampleKeys(&b, databaseKeys)
	b.WriteString(";app = host=127.0.0.1 port=5432 dbname=app pool_size=10\n;* = host=127.0.0.1\n\n")
	b.WriteString("[users]\n;; NAME = key=value ...; wins over the database's value.\n")
	sampleKeys(&b, userKeys)
	b.WriteString(";report = pool_mode=session query_timeout=600\n\n")
	b.WriteString("[peers]\n;; NUMBER = key=value ...; other poolers behind the same address, for cancel requests.\n")
	sampleKeys(&b, peerKeys)
	b.WriteString(";1 = host=/tmp/pooler1\n\n[pgbouncer]\n")

	group := ""
	for _, s := range rows {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&b, "\n;;; %s\n", group)
		}
		notes := ""
		if !s.Reloadable {
			notes += " (restart)"
		}
		fmt.Fprintf(&b, "\n;; %s%s\n;%s = %s\n", s.Doc, notes, s.Name, s.Default)
	}
	_, err := io.WriteString(w, strings.ReplaceAll(b.String(), "= \n", "=\n"))
	return err
}

func sampleKeys[T any](b *strings.Builder, keys []key[T]) {
	for _, k := range keys {
		fmt.Fprintf(b, ";;   %-25s %s\n", k.name, k.doc)
	}
}
