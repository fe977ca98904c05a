package extauthz

import (
	"os"
	"strings"
	"testing"
)

// TestReadme: the README tells of every reason among the verdicts, and
// docs/troubleshooting.md of the cause and cure of each.
func TestReadme(t *testing.T) {
	for _, page := range []string{"../README.md", "../docs/troubleshooting.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, reason := range Reasons() {
			if !strings.Contains(string(text), "`"+string(reason)+"`") {
				t.Errorf("%s does not tell of %s", page, reason)
			}
		}
	}
}
