package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/internal/notice"
)

// TestDocsNotices makes the table of notices from the list.
func TestDocsNotices(t *testing.T) {
	var table strings.Builder
	table.WriteString("| notice | line | how Coatcheck knows, and what else it may be | cure |\n|---|---|---|---|\n")
	for _, i := range notice.All() {
		fmt.Fprintf(&table, "| `%s` | %s: %s | %s | %s |\n", i.Name, strings.ToLower(i.Level.String()), i.Text, i.Cause, i.Cure)
	}
	docstest.PartIsCurrent(t, "docs/troubleshooting.md", "notices", table.String())
}

// TestDocsNoticeAlerts: the alerts in docs/operations.md know every notice for which the
// operator should be woken, and no other.
func TestDocsNoticeAlerts(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docstest.Root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	var alerted, want []string
	for _, found := range regexp.MustCompile(`coatcheck_notices\{notice=~?"([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
		alerted = append(alerted, strings.Split(strings.ReplaceAll(found[1], `\|`, "|"), "|")...)
	}
	for _, i := range notice.All() {
		if i.Page {
			want = append(want, string(i.Name))
		}
	}
	slices.Sort(alerted)
	slices.Sort(want)
	if !slices.Equal(alerted, want) {
		t.Errorf("alerts for %v, want %v", alerted, want)
	}
}

// TestDocsNoticesAreSaid: a row of the list that no code says would be a promise.
func TestDocsNoticesAreSaid(t *testing.T) {
	list, err := os.ReadFile(filepath.Join(docstest.Root, "internal", "notice", "list.go"))
	if err != nil {
		t.Fatal(err)
	}
	constants := make(map[string]bool) // whether code names it
	for _, found := range regexp.MustCompile(`(?m)^\t(\w+) +Name = "`).FindAllStringSubmatch(string(list), -1) {
		constants[found[1]] = false
	}
	if len(constants) != len(notice.All()) {
		t.Errorf("%d constants and %d rows", len(constants), len(notice.All()))
	}
	for _, room := range []string{"cmd", "extauthz", "sessions"} {
		err := filepath.WalkDir(filepath.Join(docstest.Root, room), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, found := range regexp.MustCompile(`(?:Say\(notice|Warning\{notice)\.(\w+)`).FindAllStringSubmatch(string(text), -1) {
				constants[found[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, said := range constants {
		if !said {
			t.Errorf("no code says %s", name)
		}
	}
}
