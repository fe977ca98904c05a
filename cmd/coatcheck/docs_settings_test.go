package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

// TestDocsSettings: every key and variable that a page names is a setting.
func TestDocsSettings(t *testing.T) {
	known := make(map[string]bool)
	sections := make(map[string]bool)
	for _, k := range config.Keys() {
		known[k.Name], known[k.Variable] = true, true
		for i, c := range k.Name {
			if c == '.' {
				sections[k.Name[:i]], known[k.Name[:i]+".*"], known[k.Name[:i]] = true, true, true
			}
		}
	}
	known["COATCHECK_CONFIG"] = true
	for name, pages := range docstest.Mentions(t, "`([a-z]+(?:\\.[a-z_*]+)+)`") {
		section, _, _ := strings.Cut(name, ".")
		if sections[section] && !known[name] && !notSettings[name] {
			t.Errorf("%v: there is no key %s", pages, name)
		}
	}
	for name, pages := range docstest.Mentions(t, `\bCOATCHECK_[A-Z_]+`) {
		made := strings.Contains(name, "_PORT") || strings.Contains(name, "_SERVICE_") // by Kubernetes
		if !known[name] && !made && !slices.Contains([]string{"COATCHECK_", "COATCHECK_FULL"}, name) && !madeMistake(name) {
			t.Errorf("%v: there is no variable %s", pages, name)
		}
	}
}

// notSettings look like keys and are what the conditions of policies know.
var notSettings = map[string]bool{
	"session.user_id": true, "session.username": true, "session.roles": true, "session.age": true, "session.fields": true,
}

// madeMistake reports whether the list of mistakes misspells the name on purpose.
func madeMistake(name string) bool {
	for _, part := range mistakes {
		for _, m := range part.rows {
			if strings.Contains(m.env, name) {
				return true
			}
		}
	}
	return false
}
