// SHOW VERSION.

package pooler

func showVersion(_ *Pooler, t *table) {
	t.columns = columns("version")
	t.add(Version)
}
