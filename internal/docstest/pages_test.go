package docstest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocsLinks: each link of a page leads to a file of the repository, and to a
// heading there if it names one.
func TestDocsLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(prose(t, page), -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			if !exists(file) {
				t.Errorf("%s links to %s, which does not exist", page, found[1])
			} else if anchor != "" && !anchors(prose(t, file))[anchor] {
				t.Errorf("%s links to %s, but %s has no such heading", page, found[1], file)
			}
		}
	}
}

// TestDocsPaths: a path in backticks that begins with a folder of the repository
// names a file or folder that exists, alone or with those below it (/...).
func TestDocsPaths(t *testing.T) {
	path := regexp.MustCompile("`((?:\\.ci|cmd|docs|envoy|extauthz|internal|k8s|sessions)/[\\w./-]*)`")
	for _, page := range pages(t) {
		for _, found := range path.FindAllStringSubmatch(prose(t, page), -1) {
			if !exists(strings.TrimSuffix(found[1], "/...")) {
				t.Errorf("%s names %s, which does not exist", page, found[1])
			}
		}
	}
}

// TestDocsTests: a page names no test and no fuzz target that is not there. A name
// that ends in "..." is the beginning of several.
func TestDocsTests(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)`)
	var names strings.Builder
	err := filepath.WalkDir(Root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != Root:
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, found := range declared.FindAllSubmatch(text, -1) {
			fmt.Fprintf(&names, " %s ", found[1])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`(\\.\\.\\.)?")
	for _, page := range pages(t) {
		for _, found := range named.FindAllStringSubmatch(prose(t, page), -1) {
			whole := " " + found[1]
			if found[2] == "" {
				whole += " "
			}
			if !strings.Contains(names.String(), whole) {
				t.Errorf("%s names %s, which does not exist", page, found[1])
			}
		}
	}
}

// pages are the README, its neighbours, docs/*.md and the page of the clients, by their paths from the root.
func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(Root, "docs", "*.md"))
	if err != nil || len(found) < 8 {
		t.Fatalf("%d pages, %v", len(found), err)
	}
	all := []string{"README.md", "CHANGELOG.md", "SECURITY.md", "docs/clients/README.md"}
	for _, page := range found {
		all = append(all, filepath.Join("docs", filepath.Base(page)))
	}
	return all
}

var fence = regexp.MustCompile("(?ms)^```.*?^```$")

// prose is the text of a page without its fenced blocks.
func prose(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root, page))
	if err != nil {
		t.Fatal(err)
	}
	return fence.ReplaceAllString(string(text), "")
}

func exists(path string) bool {
	_, err := os.Stat(filepath.Join(Root, path))
	return err == nil
}

var (
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	dropped = regexp.MustCompile(`[^\w\- ]`)
)

// anchors are the headings of a page as GitHub names them in links: lower case,
// with hyphens for blanks and without punctuation.
func anchors(text string) map[string]bool {
	names := make(map[string]bool)
	for _, found := range heading.FindAllStringSubmatch(text, -1) {
		names[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-")] = true
	}
	return names
}
