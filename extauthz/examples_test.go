package extauthz

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestExamples: every exported name of the package, of rules and of condition is used
// in an example. The reasons are listed by Reasons.
func TestExamples(t *testing.T) {
	for _, dir := range []string{".", "rules", "condition"} {
		p := parsed(t, dir)
		shown := examples(t, dir)
		for _, reason := range reasonsOf(p) {
			shown[reason.name] = true
		}
		for _, name := range exported(p) {
			if !shown[name] {
				t.Errorf("%s.%s is not in an example", p.Name, name)
			}
		}
	}
}

// examples returns the names that the example file uses.
func examples(t *testing.T, dir string) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, "example_test.go"), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			shown[s.Sel.Name] = true
		}
		return true
	})
	for _, e := range doc.Examples(file) {
		if e.Output == "" {
			t.Errorf("%s: the example %s is not run", dir, e.Name)
		}
	}
	return shown
}

// parsed is a package without its tests, as go doc sees it.
func parsed(t *testing.T, dir string) *doc.Package {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	p, err := doc.NewFromFiles(fset, files, dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// exported are the names that a program can write, methods among them; fmt calls
// String.
func exported(p *doc.Package) (names []string) {
	values := func(lists ...[]*doc.Value) {
		for _, v := range slices.Concat(lists...) {
			names = append(names, v.Names...)
		}
	}
	funcs := func(lists ...[]*doc.Func) {
		for _, f := range slices.Concat(lists...) {
			if f.Recv == "" || f.Name != "String" {
				names = append(names, f.Name)
			}
		}
	}
	values(p.Consts, p.Vars)
	funcs(p.Funcs)
	for _, kind := range p.Types {
		names = append(names, kind.Name)
		values(kind.Consts, kind.Vars)
		funcs(kind.Funcs, kind.Methods)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !ast.IsExported(name) })
}

type namedReason struct {
	name  string
	value Reason
}

// reasonsOf are the exported constants of type Reason.
func reasonsOf(p *doc.Package) (all []namedReason) {
	for _, kind := range p.Types {
		if kind.Name != "Reason" {
			continue
		}
		for _, group := range kind.Consts {
			for _, spec := range group.Decl.Specs {
				spec := spec.(*ast.ValueSpec)
				literal, ok := spec.Values[0].(*ast.BasicLit)
				if !ok || len(spec.Names) != 1 {
					panic("a reason that is not one literal: " + spec.Names[0].Name)
				}
				value, err := strconv.Unquote(literal.Value)
				if err != nil {
					panic(err)
				}
				all = append(all, namedReason{spec.Names[0].Name, Reason(value)})
			}
		}
	}
	return all
}
