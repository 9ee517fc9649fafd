package differ

// testdata/DIFFERENCES.txt: what is known to differ, and from which lines one sees it.

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const listPath = "testdata/DIFFERENCES.txt"

// TestDifferencesAreListed shows that each listed difference exists in the goldens, that
// no golden is left over, and that the list for readers is what the conversations say.
// It runs after the goldens are written.
func TestDifferencesAreListed(t *testing.T) {
	expected := map[string]bool{}
	byProduct := map[string][]string{}
	for _, conv := range conversations(t) {
		expected[goldenPath(conv.name, "")] = true
		agreed, err := readGolden(conv.name, "")
		if err != nil {
			t.Error(err)
			continue
		}
		if strings.Contains(agreed.text, "\n  !! ") {
			t.Errorf("%s: PgBouncer's own play has not come to its end", conv.name)
		}
		for product, reasons := range conv.differs {
			expected[goldenPath(conv.name, product)] = true
			own, err := readGolden(conv.name, product)
			if err != nil {
				t.Error(err)
				continue
			}
			diff := lineDiff(agreed.text, own.text)
			if diff == "" {
				t.Errorf("%s: %s does not differ any more; take the line \"differs\" away", conv.name, product)
			}
			text := conv.name + ": " + conv.title + "\n"
			for _, reason := range reasons {
				text += "  It " + reason + ".\n"
			}
			for line := range strings.Lines(diff) {
				text += "    " + line
			}
			byProduct[product] = append(byProduct[product], text)
		}
	}
	entries, err := os.ReadDir("testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if path := "testdata/golden/" + e.Name(); !expected[path] {
			t.Errorf("%s belongs to no conversation", path)
		}
	}
	want := listText(byProduct)
	if *update {
		if err := os.WriteFile(listPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(listPath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := lineDiff(want, string(got)); diff != "" {
		t.Errorf("%s is not what the conversations say; -update writes it:\n%s", listPath, diff)
	}
}

func listText(byProduct map[string][]string) string {
	var b strings.Builder
	b.WriteString(`What clients see that is not as with the newest PgBouncer, product by product: ours
("pooler"), then older PgBouncers. All else in testdata/conversations is the same.

Each entry has the name of the conversation and what it is about, what the product does
and why, and under the step of the conversation ("c1" being a client, "a" one on the
console) the lines that differ: - is what PgBouncer sends, + what the product sends. The
test writes this file; the reasons stand in the conversations.
`)
	var products []string
	for p := range byProduct {
		products = append(products, p)
	}
	// Ours first: that is what a reader comes for.
	slices.SortFunc(products, func(a, c string) int {
		if (a == ours) != (c == ours) {
			if a == ours {
				return -1
			}
			return 1
		}
		return strings.Compare(a, c)
	})
	for _, p := range products {
		fmt.Fprintf(&b, "\n== %s ==\n\n%s", p, strings.Join(byProduct[p], "\n"))
	}
	return b.String()
}

// lineDiff is empty for equal texts, else the lines that go (-) and come (+), with the
// step before each group.
func lineDiff(a, b string) string {
	if a == b {
		return ""
	}
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	// common[i][j] is the length of the longest common subsequence of x[i:] and y[j:].
	common := make([][]int, len(x)+1)
	for i := range common {
		common[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out strings.Builder
	step, shown := "", ""
	emit := func(sign, line string) {
		if shown != step {
			out.WriteString("  " + step + "\n")
			shown = step
		}
		out.WriteString(sign + " " + line + "\n")
	}
	i, j := 0, 0
	for i < len(x) || j < len(y) {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			if !strings.HasPrefix(x[i], "  ") {
				step = x[i]
			}
			i++
			j++
		case i < len(x) && (j == len(y) || common[i+1][j] >= common[i][j+1]):
			emit("-", x[i])
			i++
		default:
			emit("+", y[j])
			j++
		}
	}
	return out.String()
}
