package docstest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const securityPage = "docs/security.md"

// TestSecurityTests: each row of a table in docs/security.md whose last column is "test"
// names a test, or a target of make; and each test that it names is in the packages of
// the letter before it.
func TestSecurityTests(t *testing.T) {
	text := prose(t, securityPage)
	rooms := letters(t, text)
	tests := testsByFolder(t)
	makefile, err := os.ReadFile(filepath.Join(Root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	rows := testCells(text)
	if len(rows) < 150 {
		t.Fatalf("%d rows with tests: is this the right page?", len(rows))
	}
	for _, row := range rows {
		named, wrong := namedTests(row, rooms, tests)
		for _, w := range wrong {
			t.Errorf("%s: %s, in the row %s", securityPage, w, row)
		}
		target := regexp.MustCompile("`make ([a-z-]+)`").FindStringSubmatch(row)
		if named == 0 && (target == nil || !strings.Contains(string(makefile), "\n"+target[1]+":")) {
			t.Errorf("%s: no test in the row %s", securityPage, row)
		}
	}
}

// TestSecurityTestsOfRow: the check fails for what it is there to find.
func TestSecurityTestsOfRow(t *testing.T) {
	rooms := map[string][]string{"x": {"extauthz/..."}, "s": {"sessions"}}
	tests := map[string][]string{"extauthz": {"TestA", "TestClockA"}, "extauthz/rules": {"FuzzB"}, "sessions": {"TestC"}, "sessions/web": {"TestD"}}
	for row, want := range map[string][2]int{
		"x `TestA`, `FuzzB`; s `TestC`": {3, 0}, "x `TestAa`": {1, 1}, "s `TestA`": {1, 1}, "s `TestD`": {1, 1}, "x `TestClock`...": {1, 0}, "x `TestClok`...": {1, 1},
		"`sessions/web` `TestD`": {1, 0}, "`TestA`": {1, 1}, "x as above": {0, 0}, "y `TestA`": {1, 1},
	} {
		if named, wrong := namedTests(row, rooms, tests); named != want[0] || len(wrong) != want[1] {
			t.Errorf("%s: %d named, wrong: %q", row, named, wrong)
		}
	}
}

// TestSecurityRows: the threat table goes from T1 to T41, and the list of advisories
// from 1 to 54, without a gap.
func TestSecurityRows(t *testing.T) {
	text := prose(t, securityPage)
	for prefix, last := range map[string]int{"T": 41, "": 54} {
		found := regexp.MustCompile(`(?m)^\| `+prefix+`(\d+) \|`).FindAllStringSubmatch(text, -1)
		if len(found) != last {
			t.Errorf("%s1 to %s%d: %d rows", prefix, prefix, last, len(found))
		}
		for i, row := range found {
			if row[1] != strconv.Itoa(i+1) {
				t.Errorf("row %d is %s%s", i+1, prefix, row[1])
			}
		}
	}
}

// TestSecurityASVS: chapters 6 and 7 of ASVS 5.0 are answered row by row. A row may
// answer for a whole section, or for several.
func TestSecurityASVS(t *testing.T) {
	_, text, _ := strings.Cut(prose(t, securityPage), "## OWASP ASVS")
	for section, rows := range map[string]int{"6.1": 3, "6.2": 12, "6.3": 8, "6.4": 6, "6.5": 8, "6.6": 4, "6.7": 2, "6.8": 4, "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 3, "7.6": 2} {
		for row := range rows {
			id := fmt.Sprintf("%s.%d", section, row+1)
			if !regexp.MustCompile(`(?m)^\| (?:[\d., ]*[ ,])?` + regexp.QuoteMeta(id) + `[ ,]`).MatchString(text) {
				t.Errorf("%s: no row answers %s", securityPage, id)
			}
		}
	}
}

// TestSecurityFuzz: each fuzz target of the module is in the table of parsers, in a row that
// names its folder, too: targets of two folders may have one name.
func TestSecurityFuzz(t *testing.T) {
	_, text, _ := strings.Cut(prose(t, securityPage), "## Parsers")
	text, _, _ = strings.Cut(text, "\n## ")
	for _, wrong := range unlistedTargets(parserRows(text), testsByFolder(t)) {
		t.Errorf("%s: the table of parsers: %s", securityPage, wrong)
	}
}

// TestUnlistedTargets: the check fails for what it is there to find.
func TestUnlistedTargets(t *testing.T) {
	rows := parserRows("| what | by | from | test |\n|---|---|---|---|\n| a | `x/a`, `x/b` | clients | x `FuzzA`, `FuzzB` |\n| c | `y` | Redis | y `FuzzA` |\n")
	for _, test := range []struct {
		tests map[string][]string
		want  int
	}{
		{map[string][]string{"x/a": {"FuzzA", "TestC"}, "x/b": {"FuzzB"}, "y": {"FuzzA"}}, 0},
		{map[string][]string{"x/a": {"FuzzA"}, "x/b": {"FuzzB", "FuzzC"}, "y": {"FuzzA"}}, 1},
		{map[string][]string{"x/a": {"FuzzA"}, "x/b": {"FuzzB"}, "y": {"FuzzA"}, "z": {"FuzzA"}}, 1},
		{map[string][]string{"x/a": {"FuzzA"}, "x/b": {"FuzzB"}, "y": {"FuzzB"}}, 2},
	} {
		if wrong := unlistedTargets(rows, test.tests); len(wrong) != test.want {
			t.Errorf("%v: %q", test.tests, wrong)
		}
	}
}

// A parserRow is a row of the table of parsers: who reads, and what holds that to an oracle.
type parserRow struct{ folders, targets []string }

func parserRows(text string) (rows []parserRow) {
	quoted := regexp.MustCompile("`([^`]+)`")
	names := func(cell string) (all []string) {
		for _, found := range quoted.FindAllStringSubmatch(cell, -1) {
			all = append(all, found[1])
		}
		return all
	}
	for line := range strings.Lines(text) {
		if columns := strings.Split(strings.TrimSpace(line), " | "); len(columns) == 4 {
			rows = append(rows, parserRow{names(columns[1]), names(columns[3])})
		}
	}
	return rows
}

// unlistedTargets says which targets no row has with their folder, and which names of a row
// are no targets in its folders.
func unlistedTargets(rows []parserRow, tests map[string][]string) (wrong []string) {
	for folder, names := range tests {
		for _, name := range names {
			if strings.HasPrefix(name, "Fuzz") && !slices.ContainsFunc(rows, func(r parserRow) bool {
				return slices.Contains(r.folders, folder) && slices.Contains(r.targets, name)
			}) {
				wrong = append(wrong, fmt.Sprintf("no row has %s of %s", name, folder))
			}
		}
	}
	for _, row := range rows {
		for _, target := range row.targets {
			if !slices.ContainsFunc(row.folders, func(folder string) bool { return slices.Contains(tests[folder], target) }) {
				wrong = append(wrong, fmt.Sprintf("%s is in none of %q", target, row.folders))
			}
		}
	}
	return wrong
}

// letters are the packages for which a letter stands, as the page says: "*x* is
// `extauthz/...`".
func letters(t *testing.T, text string) map[string][]string {
	t.Helper()
	rooms := make(map[string][]string)
	for _, found := range regexp.MustCompile("\\*([a-z])\\* is `([^`]+)`(?: or `([^`]+)`)?").FindAllStringSubmatch(text, -1) {
		for _, room := range found[2:] {
			if room == "" {
				continue
			}
			if !exists(strings.TrimSuffix(room, "/...")) {
				t.Errorf("%s: there is no folder %s", securityPage, room)
			}
			rooms[found[1]] = append(rooms[found[1]], room)
		}
	}
	return rooms
}

// testCells are the last cells of rows in tables whose last column is "test".
func testCells(text string) (cells []string) {
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		columns := strings.Split(strings.Trim(line, "|"), " | ")
		last := strings.TrimSpace(columns[len(columns)-1])
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
		case last == "test":
			inside = true
		case inside && !strings.HasPrefix(line, "|---"):
			cells = append(cells, last)
		}
	}
	return cells
}

// namedTests counts the tests of a cell, and says what is wrong with them. A letter, or
// a folder in backticks, holds for the tests behind it.
func namedTests(cell string, rooms, tests map[string][]string) (named int, wrong []string) {
	var where []string
	for _, found := range regexp.MustCompile("`([^`]+)`(\\.\\.\\.)?|\\b([a-z])\\b").FindAllStringSubmatch(cell, -1) {
		name := found[1]
		switch {
		case found[3] != "":
			where = rooms[found[3]]
		case strings.Contains(name, "/"):
			where = []string{name}
		case regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]`).MatchString(name):
			named++
			if !declared(name, found[2] != "", where, tests) {
				wrong = append(wrong, fmt.Sprintf("%s is not in %q", name, where))
			}
		}
	}
	return named, wrong
}

func declared(name string, beginning bool, where []string, tests map[string][]string) bool {
	for folder, names := range tests {
		if slices.ContainsFunc(where, func(room string) bool {
			below, all := strings.CutSuffix(room, "/...")
			return folder == below || all && strings.HasPrefix(folder, below+"/")
		}) && slices.ContainsFunc(names, func(n string) bool { return n == name || beginning && strings.HasPrefix(n, name) }) {
			return true
		}
	}
	return false
}

// testsByFolder are the tests and fuzz targets of every folder, by go/parser.
func testsByFolder(t *testing.T) map[string][]string {
	t.Helper()
	tests := make(map[string][]string)
	eachFile(t, func(path string, file *ast.File) {
		if !isTest(path) {
			return
		}
		for _, declaration := range file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]`).MatchString(f.Name.Name) {
				tests[filepath.Dir(path)] = append(tests[filepath.Dir(path)], f.Name.Name)
			}
		}
	})
	return tests
}

// eachFile visits every Go file, by its path from the root.
func eachFile(t *testing.T, visit func(path string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(Root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != Root:
			return filepath.SkipDir
		case filepath.Ext(path) != ".go":
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err == nil {
			path, err = filepath.Rel(Root, path)
			visit(path, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNotHere: what docs/security.md calls out of scope is not there, in any program
// that is delivered: no JWT is read or made, no page of profiles but on its own
// listener, reflection for the callers of the session API alone, and no HTTP request is made
// but by commands that an operator runs.
func TestNotHere(t *testing.T) {
	only := map[string][]string{ // where it may be
		"jwt": nil, "jose": nil, "net/http/pprof": {"cmd/internal/serve/admin.go"}, "expvar": nil,
		"google.golang.org/grpc/reflection": {"cmd/internal/serve/api_services.go"}, "google.golang.org/grpc/channelz": nil, "google.golang.org/grpc/admin": nil,
		"http.NewRequestWithContext": {"cmd/coatcheck/health.go", "internal/envoyconfig/load.go"}, "http.NewRequest": nil, "http.Client": {"internal/envoyconfig/load.go"},
		"http.Get": nil, "http.Post": nil, "http.Head": nil, "http.PostForm": nil, "http.DefaultClient": nil, "http.DefaultTransport": nil,
		"httputil.ReverseProxy": nil, "gob.NewDecoder": nil,
	}
	seen := make(map[string]bool)
	eachFile(t, func(path string, file *ast.File) {
		room, _, _ := strings.Cut(path, "/")
		if isTest(path) || !slices.Contains([]string{"cmd", "extauthz", "sessions", "internal"}, room) || strings.Contains(path, "/testtools/") {
			return
		}
		found := func(what string) {
			allowed, listed := only[what]
			seen[what] = true
			if listed && !slices.Contains(allowed, filepath.ToSlash(path)) {
				t.Errorf("%s has %s", path, what)
			}
		}
		for _, i := range file.Imports {
			imported, _ := strconv.Unquote(i.Path.Value)
			found(imported)
			for _, word := range []string{"jwt", "jose"} {
				if strings.Contains(imported, word) {
					found(word)
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if of, ok := s.X.(*ast.Ident); ok {
					found(of.Name + "." + s.Sel.Name)
				}
			}
			return true
		})
	})
	for what, allowed := range only {
		if len(allowed) > 0 && !seen[what] {
			t.Errorf("%s is nowhere: does the test see anything?", what)
		}
	}
}
