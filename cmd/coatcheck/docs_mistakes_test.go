package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

const aboutMistakes = `# Start-up mistakes

<!-- Made by make docs, which makes every mistake; do not edit. -->

When Coatcheck does not start, it says why in a sentence on standard error and ends with exit status 1, or 2 for a wrong
command line. Several mistakes in the configuration have a line each. No part is left half started: no port, no Unix socket.
Each row differs in one thing from a command that works.
`

const aboutLaterMistakes = `
## While it runs

Coatcheck starts with these mistakes, and says so when it meets them. [troubleshooting.md](troubleshooting.md) has the reasons
of refused requests.

| mistake | what it says | its test |
|---|---|---|
`

const aboutUnseenMistakes = `
## What only the doctor sees

These mistakes are in Envoy's configuration, or between two parts that do not know each other. No part of Coatcheck sees them
by itself while it runs. [` + "`coatcheck doctor`" + `](doctor.md) looks at the whole, and says where they are:

| mistake | what happens | finding |
|---|---|---|
`

// TestDocsMistakes makes every mistake of the list. The messages are those of
// docs/mistakes.md, and no mistake leaves a goroutine, a port or a file behind, or
// disturbs a server that ran before.
func TestDocsMistakes(t *testing.T) {
	var page strings.Builder
	page.WriteString(aboutMistakes)
	r := newRig(t)
	n := 0
	for _, part := range mistakes {
		fmt.Fprintf(&page, "\n## %s\n\n| mistake | as in | message | status |\n|---|---|---|---|\n", part.title)
		for _, m := range part.rows {
			t.Run(part.title+"/"+m.what, func(t *testing.T) {
				row := *r
				row.T = t
				t.Cleanup(row.ports) // when what the row needed has ended
				message, status := row.make(m)
				if checkMessage(t, m, message, status) {
					fmt.Fprintf(&page, "| %s | %s | %s | %d |\n", m.what, m.asIn(), lines(strings.ReplaceAll(message, "\n  ", "\n")), status)
					n++
				}
			})
		}
	}
	if n < 40 {
		t.Errorf("%d mistakes", n)
	}
	page.WriteString(aboutLaterMistakes)
	for _, m := range laterMistakes {
		fmt.Fprintf(&page, "| %s | %s | `%s` |\n", m.what, m.seen, m.test)
	}
	page.WriteString(aboutUnseenMistakes)
	for _, m := range unseenMistakes {
		fmt.Fprintf(&page, "| %s | %s | `%s` |\n", m.what, m.happens, m.found)
	}
	if !t.Failed() {
		docstest.IsCurrent(t, "docs/mistakes.md", page.String())
	}
}

// checkMessage holds a message to its form.
func checkMessage(t *testing.T, m mistake, message string, status int) bool {
	t.Helper()
	if status == 0 {
		t.Errorf("coatcheck %s: no mistake at all", m.args)
		return false
	}
	text, first := strings.CutPrefix(message, "coatcheck: ")
	text, last := strings.CutSuffix(text, "\n")
	if !first || !last || status != 1 && status != 2 {
		t.Errorf("status %d, message %q", status, message)
	}
	for i, line := range strings.Split(text, "\n") {
		several := strings.HasSuffix(strings.Split(text, "\n")[0], " mistakes:")
		if line == "" || i > 0 && (!several || !strings.HasPrefix(line, "  ")) {
			t.Errorf("it is no sentence: %q", message)
		}
	}
	for _, k := range config.Keys() {
		if strings.HasPrefix(text, k.Name+": ") {
			t.Errorf("it names the key alone, without variable and flag: return config.About(err, %q): %q", k.Name, message)
		}
	}
	if strings.HasPrefix(text, "tls: ") || strings.HasPrefix(text, "redis.tls: ") {
		t.Errorf("it names a section alone: return config.AboutTLS(err, section, files): %q", message)
	}
	for _, secret := range append(m.hidden, redistest.Password) {
		if strings.Contains(message, secret) {
			t.Errorf("it repeats a secret: %q", message)
		}
	}
	return true
}

// asIn is how the mistake is made, in a cell of the table.
func (m mistake) asIn() string {
	command := "coatcheck " + m.args
	if m.env != "" {
		command = m.env + " " + command
	}
	cell := docstest.Code(command)
	if m.without != "" {
		cell += " without " + docstest.Code(m.without)
	}
	if m.file != "" {
		cell += ", the file: " + lines(strings.ReplaceAll(m.file, "\t", "→ "))
	}
	if m.rules != "" {
		cell += ", policies.yaml: " + lines(m.rules)
	}
	if m.stdin != "" {
		cell += ", reading " + docstest.Code(strings.TrimSpace(m.stdin))
	}
	return cell
}

// lines are text in a cell of the table, a line each. Of a file, which may be wrong in
// its indentation, each blank at the beginning of a line is a dot.
func lines(text string) string {
	var cells []string
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		bare := strings.TrimLeft(line, " ")
		cells = append(cells, docstest.Code(strings.Repeat("·", len(line)-len(bare))+strings.TrimRight(bare, " ")))
	}
	return strings.Join(cells, "<br>")
}
