// Package docstest lets tests compare the documentation with the code. A page that is
// made from code, such as the list of commands, is compared whole:
//
//	docstest.IsCurrent(t, "docs/commands.md", page)
//
// With -update the test writes the page instead (make docs). Lists that people write
// are found with [Mentions] and [Rows].
package docstest

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/internal/madepart"
)

var update = flag.Bool("update", false, "write the reference pages anew, instead of checking that they are current")

const howToUpdate = "run `make docs`"

// Root is the repository's directory. It is found at once, because tests change
// the working directory.
var Root = findRoot()

func findRoot() string {
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	panic("docstest: no go.mod here or above")
}

// IsCurrent compares a page, named by its path from the repository's root, with what
// it must be. With -update it writes the page.
func IsCurrent(t testing.TB, page, want string) {
	t.Helper()
	path := filepath.Join(Root, page)
	got, err := os.ReadFile(path)
	switch {
	case string(got) == want:
	case *update:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // the page is public
			t.Fatal(err)
		}
	case err != nil:
		t.Errorf("%v: %s", err, howToUpdate)
	default:
		t.Errorf("%s is not current from line %d on: %s", page, firstDifference(string(got), want), howToUpdate)
	}
}

// PartIsCurrent is IsCurrent for the lines between two comments of a page, <!-- part
// --> and <!-- /part -->.
func PartIsCurrent(t testing.TB, page, part, want string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root, page))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := madepart.Replace(string(text), part, want)
	if err != nil {
		t.Fatalf("%s: %v: put them there, and %s", page, err, howToUpdate)
	}
	IsCurrent(t, page, whole)
}

func firstDifference(a, b string) int {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return i + 1
		}
	}
	return min(len(as), len(bs))
}

// Pages returns the text of every Markdown page of the repository by its path, without
// those of tools and of other projects.
func Pages(t testing.TB) map[string]string {
	t.Helper()
	pages, root := make(map[string]string), os.DirFS(Root)
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules"):
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := fs.ReadFile(root, path)
		pages[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// Mentions returns what a pattern matches in the pages, each with the pages where it
// stands. The match is its first group, if it has one.
func Mentions(t testing.TB, pattern string) map[string][]string {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	mentions := make(map[string][]string)
	for page, text := range Pages(t) {
		for _, match := range expression.FindAllStringSubmatch(text, -1) {
			mentions[match[len(match)-1]] = append(mentions[match[len(match)-1]], page)
		}
	}
	return mentions
}

// Rows returns the cells of the tables, in any page, whose first column has this head.
// A cell that is empty repeats the one above it.
func Rows(t testing.TB, head string) [][]string {
	t.Helper()
	var rows [][]string
	for _, text := range Pages(t) {
		for _, table := range strings.Split(text, "\n\n") {
			lines := strings.Split(strings.TrimSpace(table), "\n")
			if len(lines) < 3 || !strings.HasPrefix(lines[0], "| "+head+" |") {
				continue
			}
			for _, line := range lines[2:] {
				cells := strings.Split(strings.Trim(line, "|"), "|")
				for i := range cells {
					if cells[i] = strings.TrimSpace(cells[i]); cells[i] == "" && len(rows) > 0 && i < len(rows[len(rows)-1]) {
						cells[i] = rows[len(rows)-1][i]
					}
				}
				rows = append(rows, cells)
			}
		}
	}
	return rows
}

// Code is text in a cell of a table.
func Code(text string) string {
	if text == "" {
		return "–"
	}
	return "`" + strings.ReplaceAll(text, "|", "\\|") + "`"
}
