package policyfile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/extauthz"
)

// TestLargeFile: to read many rules, each of which a client could get around, takes
// a bounded time, since a reload happens beside checks.
func TestLargeFile(t *testing.T) {
	var text strings.Builder
	text.WriteString("default_policy: p\npolicies:\n- name: p\n- {name: staff, any_role: [staff]}\nrules:\n")
	for i := range rounds(5000) {
		fmt.Fprintf(&text, "- {hosts: [s%d.example, '*.t%d.example'], path_template: '/api/area-%d/{id}', methods: [GET, POST], policy: staff}\n", i%50, i%50, i)
	}
	start := time.Now()
	f, err := Parse([]byte(text.String()), extauthz.Config{})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	t.Logf("%v, %d warnings", took, len(f.Warnings))
	if want := (enoughWarnings + 1) * len(bypasses); len(f.Warnings) != want || took > 30*time.Second {
		t.Errorf("%v, %d warnings, want %d", took, len(f.Warnings), want)
	}
}
