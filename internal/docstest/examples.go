package docstest

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Examples holds that every exported name of the package in dir, by its path from
// the repository's root, is shown in an example: a package-level name, or a method of
// an exported type, is an identifier of an Example function or of a file whose name
// begins with example_. A field of a struct needs no example, and neither does a
// method that other packages call by an interface, such as String. The names in listed
// need none either. Every example is run.
func Examples(t testing.TB, dir string, listed ...string) {
	t.Helper()
	exported, shown := make(map[string]bool), make(map[string]bool)
	for _, file := range parseDir(t, filepath.Join(Root, dir)) {
		if isTest(file.name) {
			addShown(shown, file)
			isRun(t, dir, file)
		} else {
			addExported(exported, file.File)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(exported)) {
		if !shown[name[strings.LastIndex(name, ".")+1:]] && !slices.Contains(listed, name) {
			t.Errorf("%s: no Example shows %s", dir, name)
		}
	}
}

// A sourceFile is one of a package's.
type sourceFile struct {
	*ast.File
	name string
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.go") }

func parseDir(t testing.TB, dir string) (files []sourceFile) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v, %v", dir, fs.ErrNotExist, err)
	}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, sourceFile{file, filepath.Base(path)})
	}
	return files
}

// addExported adds package-level names, and methods as Type.Method.
func addExported(names map[string]bool, file *ast.File) {
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			if name := methodName(d); name != "" {
				names[name] = true
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				for _, name := range specNames(spec) {
					names[name] = names[name] || ast.IsExported(name)
				}
			}
		}
	}
	maps.DeleteFunc(names, func(_ string, exported bool) bool { return !exported })
}

func specNames(spec ast.Spec) (names []string) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		names = append(names, s.Name.Name)
	case *ast.ValueSpec:
		for _, name := range s.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// wellKnown are methods that fmt, errors, encoding and log/slog call.
var wellKnown = []string{"Error", "Format", "LogValue", "MarshalText", "String", "UnmarshalText", "Unwrap"}

// methodName is the name of an exported function, with its receiver's type if that is
// exported, too; else it is empty.
func methodName(d *ast.FuncDecl) string {
	if !d.Name.IsExported() || slices.Contains(wellKnown, d.Name.Name) {
		return ""
	}
	if d.Recv == nil {
		return d.Name.Name
	}
	receiver := d.Recv.List[0].Type
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver = pointer.X
	}
	if indexed, ok := receiver.(*ast.IndexExpr); ok {
		receiver = indexed.X
	}
	if name, ok := receiver.(*ast.Ident); ok && name.IsExported() {
		return name.Name + "." + d.Name.Name
	}
	return ""
}

// isRun holds that go test runs the examples of a file: they say what they print.
func isRun(t testing.TB, dir string, file sourceFile) {
	t.Helper()
	for _, e := range doc.Examples(file.File) {
		if e.Output == "" && !e.EmptyOutput {
			t.Errorf("%s: %s has no output, so it is not run", dir, "Example"+e.Name)
		}
	}
}

// addShown adds the identifiers of examples.
func addShown(names map[string]bool, file sourceFile) {
	whole := strings.HasPrefix(file.name, "example_")
	for _, declaration := range file.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if !whole && (!ok || !strings.HasPrefix(f.Name.Name, "Example")) {
			continue
		}
		for node := range ast.Preorder(declaration) {
			if name, ok := node.(*ast.Ident); ok {
				names[name.Name] = true
			}
		}
	}
}
