package login

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/coatcheck/coatcheck/internal/docstest"
)

// TestDocsCodes: the table of refusals in docs/login.md has every code and no other,
// but for "cancelled": its client has left.
func TestDocsCodes(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := matches(t, `(?m)^\t\w+ +code = "(\w+)"`, sources...)
	documented := matches(t, "(?m)^\\| .* \\| [45].* \\| `(\\w+)` \\|$", filepath.Join(docstest.Root, "docs", "login.md"))
	if documented = append(documented, "cancelled"); len(declared) < 10 {
		t.Fatalf("found the codes %q", declared)
	}
	slices.Sort(documented)
	if !slices.Equal(documented, declared) {
		t.Errorf("docs/login.md has the codes\n%q\nand login\n%q", documented, declared)
	}
}

// matches returns what a pattern's group matches in files, sorted.
func matches(t *testing.T, pattern string, files ...string) []string {
	t.Helper()
	found := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			found[match[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
