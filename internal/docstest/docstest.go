// Package docstest lets tests hold reference pages to what they are made from: the
// commands, the keys of the configuration, the metrics, what happens when a
// start goes wrong. With -update a test writes its page anew (make docs).
package docstest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
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

// IsCurrent holds a page, by its path from the repository's root, to what it
// must be, and with -update makes it so.
func IsCurrent(t testing.TB, page, want string) {
	t.Helper()
	path := filepath.Join(Root, page)
	got, err := os.ReadFile(path)
	switch {
	case string(got) == want:
	case *update:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	case err != nil:
		t.Errorf("%v: %s", err, howToUpdate)
	default:
		t.Errorf("%s is not current from line %d on: %s", page, firstDifference(string(got), want), howToUpdate)
	}
}

// PartIsCurrent does so with what stands between two comments of a page,
// <!-- part --> and <!-- /part -->.
func PartIsCurrent(t testing.TB, page, part, want string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root, page))
	if err != nil {
		t.Fatal(err)
	}
	first, last := "<!-- "+part+" -->\n", "<!-- /"+part+" -->\n"
	before, rest, ok := strings.Cut(string(text), first)
	_, after, ok2 := strings.Cut(rest, last)
	if !ok || !ok2 {
		t.Fatalf("%s must have the lines %s and %s, between which the generated part stands: put them there, and %s",
			page, strings.TrimSpace(first), strings.TrimSpace(last), howToUpdate)
	}
	IsCurrent(t, page, before+first+want+last+after)
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

// Code is text in a cell of a table.
func Code(text string) string {
	if text == "" {
		return "–"
	}
	return "`" + strings.ReplaceAll(text, "|", "\\|") + "`"
}
