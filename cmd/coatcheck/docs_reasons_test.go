package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

// TestDocsReasons makes the table of reasons from the one in extauthz.
func TestDocsReasons(t *testing.T) {
	var table strings.Builder
	table.WriteString("| reason | answer | cause | cure |\n|---|---|---|---|\n")
	var faults []string
	for _, i := range extauthz.Reasons() {
		reason := "`" + string(i.Reason) + "`"
		if i.Fault {
			faults = append(faults, reason)
			reason += " \\*"
		}
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", reason, answerTo(i), i.Cause, i.Cure)
	}
	docstest.PartIsCurrent(t, "docs/troubleshooting.md", "reasons", table.String())
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

// TestDocsVerdicts makes the README's table: an answer, and the reasons for it.
func TestDocsVerdicts(t *testing.T) {
	var rows [][]extauthz.ReasonInfo
	for _, i := range extauthz.Reasons() {
		same := func(row []extauthz.ReasonInfo) bool { return row[0].Status() == i.Status() }
		if at := slices.IndexFunc(rows, same); at >= 0 {
			rows[at] = append(rows[at], i)
			continue
		}
		rows = append(rows, []extauthz.ReasonInfo{i})
	}
	var table strings.Builder
	table.WriteString("| answer | when |\n|---|---|\n")
	for _, row := range rows {
		var when []string
		for _, i := range row {
			mark := ""
			if i.Fault {
				mark = "\\*"
			}
			when = append(when, fmt.Sprintf("`%s`%s: %s", i.Reason, mark, i.Cause))
		}
		fmt.Fprintf(&table, "| %s | %s |\n", answer(t, row[0].Status()), strings.Join(when, "<br>"))
	}
	docstest.PartIsCurrent(t, "README.md", "reasons", table.String())
}

// answer is what a client gets, in words.
func answer(t *testing.T, status int) string {
	t.Helper()
	words, ok := map[int]string{
		0: "the upstream; for `ok` with identity headers", 400: "400",
		401: "401, or 302 to the login URL", 403: "403", 503: "503 with `Retry-After`",
	}[status]
	if !ok {
		t.Errorf("no words for %d", status)
	}
	return words
}
