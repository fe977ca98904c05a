package login

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
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

// TestRefusalsInDocs: the table of refusals in docs/login.md has each code with its
// status, and no other, but for the code of a client that has left.
func TestRefusalsInDocs(t *testing.T) {
	want := make(map[string]string)
	for c, r := range refusals {
		if c != cancelled {
			want[string(c)] = fmt.Sprint(r.status)
		}
	}
	text, err := os.ReadFile(filepath.Join(docstest.Root, "docs", "login.md"))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| .* \\| ([45]\\d\\d)[^|]* \\| `(\\w+)` \\|$").FindAllStringSubmatch(string(text), -1) {
		got[row[2]] = row[1]
	}
	if !maps.Equal(got, want) {
		t.Errorf("docs/login.md has the refusals\n%v\nand the code\n%v", got, want)
	}
}

// TestOutcomesInDoc: the package comment lists the outcomes of a login.
func TestOutcomesInDoc(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]bool{outcomeSuccess: true}
	for _, r := range refusals {
		outcomes[r.outcome] = true
	}
	doc := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "//", " ")), " ")
	_, list, _ := strings.Cut(doc, "coatcheck_logins_total counts by outcome: ")
	list, _, _ = strings.Cut(list, ".")
	listed := strings.Split(list, ", ")
	slices.Sort(listed)
	if want := slices.Sorted(maps.Keys(outcomes)); !slices.Equal(listed, want) {
		t.Errorf("the package comment has the outcomes %q, the table %q", listed, want)
	}
}
