package serve

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	dto "github.com/prometheus/client_model/go"

	"github.com/coatcheck/coatcheck/internal/docstest"
)

// docsMetrics holds the table in docs/operations.md to what a server with
// everything in use exports.
func docsMetrics(t *testing.T, exposition string) {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(exposition))
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| metric | type | labels | |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if family := families[name]; strings.HasPrefix(name, "coatcheck_") {
			fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(family.GetType().String()), labels(family), family.GetHelp())
		}
	}
	docstest.PartIsCurrent(t, "docs/operations.md", "metrics", table.String())
}

// labels lists a family's labels, with their values where these are few and not
// of the build.
func labels(family *dto.MetricFamily) string {
	values := make(map[string]map[string]bool)
	for _, m := range family.GetMetric() {
		for _, pair := range m.GetLabel() {
			if values[pair.GetName()] == nil {
				values[pair.GetName()] = make(map[string]bool)
			}
			values[pair.GetName()][pair.GetValue()] = true
		}
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text := "`" + name + "`"
		if n := len(values[name]); n > 1 && n < 10 {
			text += ": " + strings.Join(slices.Sorted(maps.Keys(values[name])), ", ")
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}
