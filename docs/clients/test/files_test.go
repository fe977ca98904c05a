package clients_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// notCode are lines that no reader has to follow: blank, comments, imports, and closing
// brackets.
var notCode = regexp.MustCompile(`^\s*(//.*|#.*|/?\*.*|import .*|from .* import .*|package .*|"use strict";|[})\]]*[;,]?)?$`)

var (
	docstrings = regexp.MustCompile(`(?s)""".*?"""`)
	imports    = regexp.MustCompile(`(?ms)^import [({].*?^[)}].*?$`)
)

// TestShort: each file to copy has at most 80 lines of code, and states its condition.
func TestShort(t *testing.T) {
	files, err := filepath.Glob("../*/*")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		switch filepath.Ext(file) {
		case ".go", ".java", ".js", ".ts", ".py":
		default:
			continue
		}
		if strings.HasPrefix(file, "../test/") {
			continue
		}
		seen++
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for line := range strings.Lines(imports.ReplaceAllString(prose(file, string(text)), "")) {
			if !notCode.MatchString(strings.TrimRight(line, "\n")) {
				lines++
			}
			if len([]rune(line)) > 161 {
				t.Errorf("%s has a long line: %s", file, line)
			}
		}
		if lines < 10 || lines > 80 {
			t.Errorf("%s has %d lines of code, want 80 at most", file, lines)
		}
		if bytes.Contains(bytes.ToLower(text), []byte("x-user-id")) || regexp.MustCompile(`(?i)identity|guard`).MatchString(filepath.Base(file)) {
			if !strings.Contains(string(text), "through Envoy only") {
				t.Errorf("%s does not say that the service must be reachable through Envoy only", file)
			}
		}
	}
	if seen < 12 {
		t.Errorf("%d files", seen)
	}
}

// prose drops the docstrings of Python.
func prose(file, text string) string {
	if filepath.Ext(file) == ".py" {
		return docstrings.ReplaceAllString(text, "")
	}
	return text
}

// TestOneScript: every language sends the script of docs/sessions.md.
func TestOneScript(t *testing.T) {
	page, err := os.ReadFile("../../sessions.md")
	if err != nil {
		t.Fatal(err)
	}
	want := fields(regexp.MustCompile("(?s)```lua\n(.*?)```").FindStringSubmatch(string(page))[1])
	for _, file := range []string{"../java/SessionManager.java", "../node/sessions.js", "../python/sessions.py"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(fields(string(text)), want) {
			t.Errorf("%s has another script", file)
		}
	}
}

// fields are the words of a text.
func fields(text string) string { return strings.Join(strings.Fields(text), " ") }

// TestPinned: packages are pinned by what they hold, and no file names a registry.
func TestPinned(t *testing.T) {
	lock, err := os.ReadFile("packages/node/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	packages, hashes := bytes.Count(lock, []byte(`"node_modules/`)), bytes.Count(lock, []byte(`"integrity"`))
	if packages < 50 || hashes != packages {
		t.Errorf("%d packages with %d hashes", packages, hashes)
	}
	if bytes.Contains(lock, []byte(`"resolved"`)) {
		t.Error("package-lock.json names a registry")
	}
	for file, pattern := range map[string]string{
		"packages/python/requirements.txt": `^[a-z0-9-]+==\S+ --hash=sha256:[0-9a-f]{64}$`,
		"packages/java/jars.txt":           `^[0-9a-f]{64}  \S+\.jar$`,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !regexp.MustCompile(pattern).MatchString(strings.TrimSpace(line)) {
				t.Errorf("%s: %q is not pinned", file, line)
			}
		}
	}
}
