package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

const aboutConfiguration = `# Configuration

<!-- Made by make docs from cmd/internal/config; do not edit. -->

A key's value comes from, in rising order of precedence: its default; the YAML file that ` + "`--config`" + ` or ` + "`COATCHECK_CONFIG`" + `
names; its variable, unless it is empty; its flag. ` + "`coatcheck config`" + ` prints the effective configuration,
` + "`coatcheck config check FILE`" + ` checks a file alone, and ` + "`coatcheck config keys`" + ` prints the tables of this page.

- **Mistakes** stop the start: unknown keys and variables, bad values, values that do not go together. The error names all
  of them, each by key, variable and flag.
- **Sections**: ` + "`redis.tls.enabled`" + ` is ` + "`enabled`" + ` in ` + "`tls`" + ` in ` + "`redis`" + `. Upper and lower case are the same in keys.
- **Durations** have units, as in ` + "`150ms`, `30m` or `1h30m`" + `. A bare number is refused.
- **Lists** are YAML lists; or text with commas, which is their only form in variables and flags. The flag of a list may be repeated.
- **Text** that YAML takes for another type, such as a user named 42, needs quotes.
- **Secrets** have no flag, because every process could read it, and are never printed. A file is better than a variable;
  the line end in the file does not count.
- **Kubernetes** makes variables for each Service, and ` + "`COATCHECK_PORT=tcp://...`, `COATCHECK_SERVICE_HOST`" + ` and their like for
  one whose name begins with ` + "`coatcheck`" + `. Their form shows what they are, and they are ignored.
- **Changes**: a file needs no restart where the row of its key says that it is read again when it changes: certificates with
  their keys, policies, users, callers, the secrets of sessions. A change counts when two looks find the same, because half of a
  file that is being written can be valid; SIGHUP has both looks made within a tenth of a second. A file that cannot be used
  changes nothing, and is logged. Some files are read for each new connection, or for each export, as their rows say. All else,
  also the configuration file, is read at start only.
- **Paths** of files are relative to the working directory, and not to the configuration file.
`

// TestDocsConfiguration: docs/configuration.md has every key.
func TestDocsConfiguration(t *testing.T) {
	page := bytes.NewBufferString(aboutConfiguration)
	section := "-"
	for _, k := range append(topLevel(), sections()...) {
		if s := sectionOf(k); s != section {
			section = s
			if s == "" {
				s = "Without a section"
			} else {
				s = "`" + s + "`"
			}
			fmt.Fprintf(page, "\n## %s\n\n| key | variable | flag | default | |\n|---|---|---|---|---|\n", s)
		}
		flag := "–"
		if k.Flag != "" {
			flag = docstest.Code("--" + k.Flag)
		}
		fmt.Fprintf(page, "| `%s` | `%s` | %s | %s | %s |\n", k.Name, k.Variable, flag, docstest.Code(k.Default), k.Meaning)
	}
	fmt.Fprintf(page, "\n## A complete file\n\nEvery key, with its default where it has one:\n\n```yaml\n%s```\n", exampleFile())
	docstest.IsCurrent(t, "docs/configuration.md", page.String())
}

func sectionOf(k config.Key) string {
	section, _, ok := strings.Cut(k.Name, ".")
	if !ok {
		return ""
	}
	return section
}

// topLevel are the keys that stand in no section, sections the other ones.
func topLevel() []config.Key { return keysWhere(func(s string) bool { return s == "" }) }
func sections() []config.Key { return keysWhere(func(s string) bool { return s != "" }) }

func keysWhere(section func(string) bool) []config.Key {
	var keys []config.Key
	for _, k := range config.Keys() {
		if section(sectionOf(k)) {
			keys = append(keys, k)
		}
	}
	return keys
}

// exampleFile is a file that sets every key.
func exampleFile() string {
	var file strings.Builder
	var open []string // the sections around the last key
	for _, k := range config.Keys() {
		parts := strings.Split(k.Name, ".")
		within, name := parts[:len(parts)-1], parts[len(parts)-1]
		depth := 0
		for depth < min(len(open), len(within)) && open[depth] == within[depth] {
			depth++
		}
		for ; depth < len(within); depth++ {
			fmt.Fprintf(&file, "%s%s:\n", strings.Repeat("  ", depth), within[depth])
		}
		open = within
		indent := strings.Repeat("  ", len(within))
		fmt.Fprintf(&file, "%s# %s\n%s%s: %s\n", indent, k.Meaning, indent, name, inYAML(k))
	}
	return file.String()
}

func inYAML(k config.Key) string {
	value := k.Default
	if k.Example != "" {
		value = k.Example
	}
	switch k.Kind {
	case "a,b":
		if value == "" {
			return "[]"
		}
		return fmt.Sprintf("[%q]", value)
	case "number", "true|false", "duration", "word":
		return value
	}
	return fmt.Sprintf("%q", value)
}

// TestExampleFile: the file in the reference means what no file means.
func TestExampleFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coatcheck.yaml")
	if err := os.WriteFile(path, []byte(exampleFile()), 0o600); err != nil {
		t.Fatal(err)
	}
	printed := func(args ...string) string {
		var out, errs bytes.Buffer
		if status := run(t.Context(), args, strings.NewReader(""), &out, &errs); status != 0 {
			t.Fatalf("coatcheck %q: %s", args, errs.String())
		}
		return out.String()
	}
	if got := printed("config", "check", path); got != path+": good\n" {
		t.Error(got)
	}
	file, defaults := printed("config", "--config", path), printed("config", "--redis-addresses", "127.0.0.1:6379")
	if file != defaults {
		t.Errorf("the example is\n%s\nand not the default\n%s", file, defaults)
	}
}
