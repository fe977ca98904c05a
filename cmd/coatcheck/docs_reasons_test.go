package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

// TestDocsReasons makes the tables of reasons from the one in extauthz.
func TestDocsReasons(t *testing.T) {
	var short, long strings.Builder
	short.WriteString("| reason | answer | |\n|---|---|---|\n")
	long.WriteString("| reason | answer | cause | cure |\n|---|---|---|---|\n")
	var faults []string
	for _, i := range extauthz.Reasons() {
		reason := "`" + string(i.Reason) + "`"
		if i.Fault {
			faults = append(faults, reason)
			reason += " \\*"
		}
		fmt.Fprintf(&short, "| %s | %s | %s |\n", reason, answerTo(i), i.Cause)
		fmt.Fprintf(&long, "| %s | %s | %s | %s |\n", reason, answerTo(i), i.Cause, i.Cure)
	}
	docstest.PartIsCurrent(t, "docs/permissions.md", "reasons", short.String())
	docstest.PartIsCurrent(t, "docs/troubleshooting.md", "reasons", long.String())
	docstest.PartIsCurrent(t, "docs/operations.md", "faults", "\\* "+strings.Join(faults, ", ")+".\n")
}

func answerTo(i extauthz.ReasonInfo) string {
	switch i.Status() {
	case 0:
		return "upstream"
	case 401:
		return "401 or 302"
	}
	return fmt.Sprint(i.Status())
}

// TestDocsAlerts: the alerts in docs/operations.md know every fault, and no reason
// that does not exist.
func TestDocsAlerts(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docstest.Root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	var alerted []string
	for _, found := range regexp.MustCompile(`coatcheck_checks_total\{reason=~?"([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
		alerted = append(alerted, strings.Split(strings.ReplaceAll(found[1], `\|`, "|"), "|")...)
	}
	var known []string
	for _, i := range extauthz.Reasons() {
		known = append(known, string(i.Reason))
		if i.Fault && !slices.Contains(alerted, string(i.Reason)) {
			t.Errorf("no alert for %s", i.Reason)
		}
	}
	for _, reason := range alerted {
		if !slices.Contains(known, reason) {
			t.Errorf("an alert for %s, which is not a reason", reason)
		}
	}
}
