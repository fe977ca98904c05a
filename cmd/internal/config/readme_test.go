package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestReadme: the table in the README is made of the keys themselves.
func TestReadme(t *testing.T) {
	var table strings.Builder
	table.WriteString("| key | default | |\n|---|---|---|\n")
	for _, k := range new(Config).keys() {
		fallback := fmt.Sprint(k.value.fallback)
		if fallback == "" || fallback == "[]" {
			fallback = "–"
		} else {
			fallback = "`" + fallback + "`"
		}
		usage := k.usage
		if k.secret {
			usage += "; no flag"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", k.name, fallback, usage)
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), table.String()) {
		t.Errorf("README.md must hold this table:\n%s", table.String())
	}
}
