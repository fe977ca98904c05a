package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// TestDocsCauses makes the table of causes from the list.
func TestDocsCauses(t *testing.T) {
	var table strings.Builder
	table.WriteString("| cause | what has happened | what to look at |\n|---|---|---|\n")
	for _, i := range redisstore.Causes() {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", i.Cause, i.Text, i.Cure)
	}
	docstest.PartIsCurrent(t, "docs/troubleshooting.md", "causes", table.String())
}
