package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/monitoring"
	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/internal/testtools"
)

// TestDocsAlerts makes everything that names alerts from the one list of them, and
// promtool finds no fault with the rules.
func TestDocsAlerts(t *testing.T) {
	docstest.PartIsCurrent(t, "docs/operations.md", "alerts", monitoring.Table())
	docstest.PartIsCurrent(t, "docs/runbook.md", "runbook", monitoring.Entries())
	for path, made := range map[string]func() (string, error){
		"k8s/components/monitoring/alerts.yaml":    monitoring.PrometheusRule,
		"k8s/components/monitoring/dashboard.json": monitoring.Dashboard,
	} {
		text, err := made()
		if err != nil {
			t.Fatal(err)
		}
		docstest.IsCurrent(t, path, text)
	}
	rules, err := monitoring.Rules()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	tool, err := testtools.Program("promtool", "PROMTOOL")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), tool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
	for _, a := range monitoring.Alerts() {
		if a.Summary == "" || a.Means == "" || a.Do == "" || a.Severity == "" {
			t.Errorf("%s says too little", a.Name)
		}
	}
}

// TestDocsMetricsMentions: pages name only metrics that the table has.
func TestDocsMetricsMentions(t *testing.T) {
	exported := docstest.Mentions(t, "(?m)^\\| `(coatcheck_[a-z_]+)` \\| (?:counter|gauge|histogram) ")
	for name, pages := range docstest.Mentions(t, `\bcoatcheck_[a-z_]+`) {
		if exported[strings.TrimSuffix(name, "_bucket")] == nil && !strings.HasSuffix(name, "_") {
			t.Errorf("%s in %v is no metric", name, pages)
		}
	}
}

// TestDocsMetricsAreWatched: alerts and panels name no metric that is not exported, and
// the dashboard shows every one that is.
func TestDocsMetricsAreWatched(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(docstest.Root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "<!-- metrics -->")
	table, _, _ := strings.Cut(rest, "<!-- /metrics -->")
	metric := regexp.MustCompile(`coatcheck_[a-z_]+`)
	exported := make(map[string]bool) // whether a panel shows it
	for _, row := range regexp.MustCompile("(?m)^\\| `(coatcheck_[a-z_]+)` \\| (\\w+)").FindAllStringSubmatch(table, -1) {
		if exported[row[1]] = false; row[2] == "histogram" {
			delete(exported, row[1])
			exported[row[1]+"_bucket"] = false
		}
	}
	for _, panel := range monitoring.Panels() {
		for _, q := range panel.Queries {
			for _, name := range metric.FindAllString(q.Expr, -1) {
				if _, ok := exported[name]; !ok {
					t.Errorf("the panel %s names %s", panel.Title, name)
				}
				exported[name] = true
			}
		}
	}
	for _, a := range monitoring.Alerts() {
		for _, name := range metric.FindAllString(a.Expr, -1) {
			if _, ok := exported[name]; !ok {
				t.Errorf("the alert %s names %s", a.Name, name)
			}
		}
	}
	for name, shown := range exported {
		if !shown {
			t.Errorf("no panel shows %s", name)
		}
	}
}
