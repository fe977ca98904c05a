package policyfile

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/extauthz/condition"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

func permissions(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docstest.Root, "docs", "permissions.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestExamples runs every policy file of docs/permissions.md, whose tests prove
// what the page says of it.
func TestExamples(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(# policies.yaml.*?)```").FindAllStringSubmatch(permissions(t), -1)
	policies, proven := 0, 0
	for _, block := range blocks {
		f, err := Try("docs/permissions.md", []byte(block[1]), extauthz.Config{})
		if err != nil {
			t.Errorf("%v\nin\n%s", err, block[1])
			continue
		}
		if len(f.Tests) < 3 || len(f.Warnings) > 0 {
			t.Errorf("%d tests, warnings %q, in\n%s", len(f.Tests), f.Warnings, block[1])
		}
		policies, proven = policies+len(f.Policies.Policies), proven+len(f.Tests)
	}
	if len(blocks) < 4 || policies < 12 || proven < 20 {
		t.Errorf("%d files, %d policies, %d tests", len(blocks), policies, proven)
	}
}

// TestVariables: what the page says that conditions can read is read by one.
func TestVariables(t *testing.T) {
	_, section, _ := strings.Cut(permissions(t), "| variable | |\n")
	section, _, _ = strings.Cut(section, "\n\n")
	named := regexp.MustCompile("`((session|request|source)\\.[^`]+)`").FindAllStringSubmatch(section, -1)
	for _, variable := range named {
		if _, err := condition.Compile(variable[1] + " == " + variable[1]); err != nil {
			t.Errorf("%s: %v", variable[1], err)
		}
	}
	if len(named) < 12 {
		t.Errorf("%d variables", len(named))
	}
}
