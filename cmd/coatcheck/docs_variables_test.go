package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

// TestDocsVariables: every variable that a page names is read, or made by Kubernetes,
// or a mistake on purpose.
func TestDocsVariables(t *testing.T) {
	known := []string{"COATCHECK_", "COATCHECK_CONFIG", "COATCHECK_FULL"}
	for _, k := range config.Keys() {
		known = append(known, k.Variable)
	}
	for _, part := range mistakes {
		for _, m := range part.rows {
			name, _, _ := strings.Cut(m.env, "=")
			known = append(known, name)
		}
	}
	for name, pages := range docstest.Mentions(t, `\bCOATCHECK_[A-Z_]*`) {
		kubernetes := strings.HasPrefix(name, "COATCHECK_PORT") || strings.HasPrefix(name, "COATCHECK_SERVICE_")
		if !kubernetes && !slices.Contains(known, name) {
			t.Errorf("%v: there is no variable %s", pages, name)
		}
	}
}
