package login

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/internal/docstest"
)

// codesInSource are the constants of type code, by their values.
func codesInSource(t *testing.T) (codes []code) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for node := range ast.Preorder(file) {
		spec, ok := node.(*ast.ValueSpec)
		if typed, named := ast.Unparen(specType(spec)).(*ast.Ident); ok && named && typed.Name == "code" {
			codes = append(codes, code(strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`)))
		}
	}
	return codes
}

func specType(spec *ast.ValueSpec) ast.Expr {
	if spec == nil || spec.Type == nil {
		return &ast.BadExpr{}
	}
	return spec.Type
}

// TestRefusals: each code is in the table, and the table is whole.
func TestRefusals(t *testing.T) {
	codes := codesInSource(t)
	if len(codes) != len(refusals) || len(codes) < 10 {
		t.Errorf("%d codes, and %d in the table", len(codes), len(refusals))
	}
	for _, c := range codes {
		switch r, ok := refusals[c]; {
		case !ok:
			t.Errorf("%s is not in the table", c)
		case r.status < 400 || r.outcome == "" || r.text == "" || DefaultTexts()[errorText(c)] != r.text:
			t.Errorf("%s has the row %+v", c, r)
		}
	}
}

// TestRefusalsDocumented: the package comment lists the codes with their statuses,
// and the outcomes.
func TestRefusalsDocumented(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	doc := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "//", " ")), " ")
	for c, r := range refusals {
		if c != cancelled && !strings.Contains(doc, fmt.Sprintf("%s (%d)", c, r.status)) {
			t.Errorf("the package comment lacks %s (%d)", c, r.status)
		}
	}
	_, list, _ := strings.Cut(doc, "a member code:")
	list, _, _ = strings.Cut(list, ". 429")
	for _, listed := range regexp.MustCompile(`([a-z_]+) \((\d+)\)`).FindAllStringSubmatch(list, -1) {
		if r := refusals[code(listed[1])]; fmt.Sprint(r.status) != listed[2] {
			t.Errorf("the package comment has %s, the table %d", listed[0], r.status)
		}
	}
	outcomes := []string{outcomeSuccess}
	for _, r := range refusals {
		outcomes = append(outcomes, r.outcome)
	}
	slices.Sort(outcomes)
	outcomes = slices.Compact(outcomes)
	_, list, _ = strings.Cut(doc, "coatcheck_logins_total counts by outcome: ")
	list, _, _ = strings.Cut(list, ".")
	listed := strings.Split(list, ", ")
	slices.Sort(listed)
	if !slices.Equal(listed, outcomes) {
		t.Errorf("the package comment has the outcomes %q, the table %q", listed, outcomes)
	}
}

// TestRefusalsInDocs: a page that lists refusals has them all, each with its status.
func TestRefusalsInDocs(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(docstest.Root, "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for _, page := range append(pages, filepath.Join(docstest.Root, "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		rows := make(map[code]string)
		for line := range strings.Lines(string(text)) {
			for c := range refusals {
				if strings.HasPrefix(line, "|") && strings.Contains(line, "`"+string(c)+"`") {
					rows[c] = line
				}
			}
		}
		if rows[badCredentials] == "" {
			continue // the other words are those of checks, too
		}
		for c, r := range refusals {
			if row := rows[c]; c != cancelled && !strings.Contains(row, fmt.Sprint(r.status)) {
				t.Errorf("%s has no row of %s with the status %d", page, c, r.status)
			}
		}
	}
}
