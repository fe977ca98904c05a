package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

// notKeys are written like keys: variables of conditions, a template, and the typing
// error that is shown as one.
var notKeys = map[string]bool{
	"session.user_id": true, "session.username": true, "session.roles": true, "session.age": true,
	"login.html": true, "redis.adresses": true,
}

// TestDocsKeys: the keys in sections that a page names exist.
func TestDocsKeys(t *testing.T) {
	known, sections := maps.Clone(notKeys), map[string]bool{}
	for _, k := range config.Keys() {
		for section := k.Name; section != ""; {
			known[section] = true
			section = section[:max(0, strings.LastIndex(section, "."))]
		}
		section, _, _ := strings.Cut(k.Name, ".")
		sections[section] = true
	}
	pages, err := filepath.Glob(filepath.Join(docstest.Root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile("`(([a-z]+)(?:\\.[a-z_0-9]+)+)[`:]")
	for _, page := range append(pages, filepath.Join(docstest.Root, "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range key.FindAllStringSubmatch(string(text), -1) {
			if name := found[1]; sections[found[2]] && !known[name] {
				t.Errorf("%s names %s, which is not a key", filepath.Base(page), name)
			}
		}
	}
}
