package extauthz

import (
	"os"
	"strings"
	"testing"
)

// TestReadme: the README tells of every reason, in the verdict table and, but
// for the one that needs no cure, among the troubles.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	verdicts, troubles, ok := strings.Cut(string(text), "## Troubleshooting")
	if !ok {
		t.Fatal("the README has no section Troubleshooting")
	}
	for _, reason := range Reasons() {
		for place, section := range map[string]string{"verdicts": verdicts, "troubles": troubles} {
			if !strings.Contains(section, "`"+string(reason)+"`") {
				t.Errorf("the README does not tell of %s among the %s", reason, place)
			}
		}
	}
}
