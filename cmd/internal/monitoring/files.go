package monitoring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A rule is an alert as Prometheus reads it.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

type group struct {
	Name  string `yaml:"name"`
	Rules []rule `yaml:"rules"`
}

type groups struct {
	Groups []group `yaml:"groups"`
}

func ruleGroups() groups {
	g := group{Name: "coatcheck"}
	for _, a := range Alerts() {
		r := rule{Alert: a.Name, Expr: a.Expr, Labels: map[string]string{"severity": string(a.Severity)},
			Annotations: map[string]string{"summary": a.Summary, "runbook_url": a.Runbook()}}
		if a.For > 0 {
			r.For = inPrometheus(a.For)
		}
		g.Rules = append(g.Rules, r)
	}
	return groups{[]group{g}}
}

// inPrometheus is a duration in Prometheus's notation, of which a week is the longest
// here.
func inPrometheus(d time.Duration) string {
	if day := 24 * time.Hour; d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

// Rules is the file of rules for a Prometheus without an operator.
func Rules() (string, error) { return asYAML("", ruleGroups()) }

// PrometheusRule is the manifest for the Prometheus operator.
func PrometheusRule() (string, error) {
	return asYAML("# Made by `make docs` from cmd/internal/monitoring. Each alert has an entry in docs/runbook.md.\n", struct {
		APIVersion string         `yaml:"apiVersion"`
		Kind       string         `yaml:"kind"`
		Metadata   map[string]any `yaml:"metadata"`
		Spec       groups         `yaml:"spec"`
	}{"monitoring.coreos.com/v1", "PrometheusRule", map[string]any{"name": "coatcheck", "labels": map[string]string{"app.kubernetes.io/name": "coatcheck"}}, ruleGroups()})
}

func asYAML(head string, v any) (string, error) {
	var text bytes.Buffer
	text.WriteString(head)
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	err := encoder.Encode(v)
	return text.String(), err
}

// Table is the alerts as a table of Markdown.
func Table() string {
	var text strings.Builder
	text.WriteString("| alert | when | for |\n|---|---|---|\n")
	for _, a := range Alerts() {
		lasting := "–"
		if a.For > 0 {
			lasting = inPrometheus(a.For)
		}
		fmt.Fprintf(&text, "| [%s](runbook.md#%s): %s | `%s` | %s |\n", a.Name, strings.ToLower(a.Name), a.Summary, strings.ReplaceAll(a.Expr, "|", `\|`), lasting)
	}
	return text.String()
}

// Entries is the runbook's entry of each alert, in Markdown.
func Entries() string {
	var text strings.Builder
	for i, a := range Alerts() {
		if i > 0 {
			text.WriteString("\n")
		}
		fmt.Fprintf(&text, "## %s\n\n**%s.** (%s)\n\n```\n%s\n```\n\n%s\n\n%s\n", a.Name, a.Summary, a.Severity, a.Expr, a.Means, a.Do)
	}
	return text.String()
}

// Dashboard is the dashboard as Grafana imports it.
func Dashboard() (string, error) {
	var panels []map[string]any
	for i, p := range Panels() {
		panels = append(panels, p.model(i))
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(map[string]any{
		"title": "Coatcheck", "uid": "coatcheck", "tags": []string{"coatcheck"}, "schemaVersion": 39, "editable": true,
		"description": "Made by `make docs` from cmd/internal/monitoring.", "timezone": "browser", "refresh": "30s",
		"time": map[string]string{"from": "now-1h", "to": "now"}, "panels": panels,
		"templating": map[string]any{"list": []map[string]any{
			{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
			{"name": "namespace", "type": "query", "label": "Namespace", "datasource": source, "query": "label_values(coatcheck_build_info, namespace)",
				"refresh": 2, "includeAll": true, "multi": true, "allValue": ".*", "current": map[string]any{"text": "All", "value": "$__all"}},
		}},
	})
	return text.String(), err
}

var source = map[string]string{"type": "prometheus", "uid": "${datasource}"}

// model is the panel as Grafana has it, the i-th of two columns.
func (p Panel) model(i int) map[string]any {
	var targets []map[string]any
	for n, q := range p.Queries {
		targets = append(targets, map[string]any{"refId": string(rune('A' + n)), "datasource": source, "expr": q.Expr, "legendFormat": q.Legend, "exemplar": p.Exemplars})
	}
	return map[string]any{
		"id": i + 1, "type": "timeseries", "title": p.Title, "description": p.About, "datasource": source, "targets": targets,
		"gridPos":     map[string]int{"x": 12 * (i % 2), "y": 8 * (i / 2), "w": 12, "h": 8},
		"fieldConfig": map[string]any{"defaults": map[string]any{"unit": p.Unit, "min": 0}, "overrides": []any{}},
	}
}
