package extauthz

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/internal/docstest"
)

// declared are all exported constants of type Reason, and their values.
func declared(t *testing.T) (names []string, all []Reason) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for node := range ast.Preorder(file) {
			spec, ok := node.(*ast.ValueSpec)
			if !ok || !spec.Names[0].IsExported() {
				continue
			}
			if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Reason" {
				continue
			}
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			names, all = append(names, spec.Names[0].Name), append(all, Reason(value))
		}
	}
	if len(all) < 20 {
		t.Fatalf("found %d reasons", len(all))
	}
	return names, all
}

// TestExamples: an example shows every exported name; Reasons lists the reasons.
func TestExamples(t *testing.T) {
	reasons, _ := declared(t)
	docstest.Examples(t, "extauthz", reasons...)
	docstest.Examples(t, "extauthz/rules")
	docstest.Examples(t, "extauthz/condition")
}

// TestReasonsAreInTheTable: every reason has one row, and each row is whole.
func TestReasonsAreInTheTable(t *testing.T) {
	var rows []Reason
	for _, i := range Reasons() {
		rows = append(rows, i.Reason)
		if i.Cause == "" || i.Cure == "" || i.class == admitted && (i.Fault || i.byPolicy) || (i.Status() == 0) != (i.class == admitted) {
			t.Errorf("%+v", i)
		}
		if i.class == anonymous && !i.byPolicy {
			t.Errorf("%s: a policy that needs a session can deny for it", i.Reason)
		}
		if strings.ContainsAny(i.Cause+i.Cure, "|\n") {
			t.Errorf("%s: it would break a table", i.Reason)
		}
	}
	_, want := declared(t)
	slices.Sort(rows)
	slices.Sort(want)
	if !slices.Equal(rows, want) {
		t.Errorf("the table has\n%q and the code\n%q", rows, want)
	}
}

// TestSeriesOfReasons: each reason for which a policy in shadow mode would refuse has
// its series; a reason for which no policy refuses stays a denial.
func TestSeriesOfReasons(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, all := declared(t)
	for _, reason := range all {
		if reason.info().class == admitted {
			continue
		}
		for _, shadow := range []bool{true, false} {
			d := decision{choice: choice{policy: &policy{shadow: shadow, refusal: server.bare.plain.refusal}}}
			d.refuseByPolicy(reason)
			if d.allow != (shadow && reason.info().byPolicy) || d.allow != d.shadow {
				t.Errorf("%s, in shadow mode: %v: %+v", reason, shadow, d)
			}
			server.metrics.observe(&d, 0, nil) // panics where a series is missing
			server.decisions.write(t.Context(), &request{}, &d, 0)
		}
	}
	for _, reason := range []Reason{OK, Public, Preflight, NoCookie, BrokenRecord} {
		server.metrics.observe(&decision{allow: true, reason: reason}, 0, nil)
	}
}
