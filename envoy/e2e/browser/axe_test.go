package browser_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// axe is the program that looks for barriers on a page (axe-core). AXE names it, else it
// is where .ci/fetch puts it.
var axe = sync.OnceValues(func() (string, error) {
	path := os.Getenv("AXE")
	if path == "" {
		path = filepath.FromSlash("../../../.tools/axe/node_modules/axe-core/axe.min.js")
	}
	program, err := os.ReadFile(path)
	return string(program), err
})

// A finding is a rule that axe finds broken, or of which it cannot tell.
type finding struct {
	ID, Help string
	Nodes    []struct{ HTML, FailureSummary string }
}

// findings are what axe finds against WCAG 2.0 to 2.2, A and AA, and its best practices.
// DevTools run it, so that the page's Content-Security-Policy stays.
func (b *browser) findings() []finding {
	b.Helper()
	program, err := axe()
	if err != nil {
		b.Fatalf("%v; run .ci/fetch axe, or name axe.min.js with AXE=", err)
	}
	if !value[bool](b, `typeof axe === "object"`) {
		value[bool](b, program+"; true")
	}
	result := value[struct {
		Found  []finding
		Passed int
	}](b, `axe.run(document, {
		runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], preload: false,
	}).then(r => ({Found: [...r.violations, ...r.incomplete], Passed: r.passes.length}))`, chromedp.EvalAwaitPromise)
	if result.Passed < 10 {
		b.Errorf("at %s axe has looked at %d rules", b.where(), result.Passed)
	}
	return result.Found
}

// accessible fails the test unless axe finds nothing.
func (b *browser) accessible(name string) {
	b.Helper()
	for _, f := range b.findings() {
		for _, n := range f.Nodes {
			b.Errorf("%s: %s: %s\n%s\n%s", name, f.ID, f.Help, n.HTML, strings.TrimSpace(n.FailureSummary))
		}
	}
}

// TestBarriers: axe is awake.
func TestBarriers(t *testing.T) {
	b := open(t, shop(t))
	b.visit("/.auth/login")
	if found := b.findings(); len(found) > 0 {
		t.Errorf("at the login page: %+v", found)
	}
	value[bool](b, `document.querySelector("label").remove(); document.querySelector("h1").style.color = "#eee"; document.documentElement.lang = ""; true`)
	var ids []string
	for _, f := range b.findings() {
		ids = append(ids, f.ID)
		if len(f.Nodes) == 0 {
			t.Errorf("%s is nowhere", f.ID)
		}
	}
	slices.Sort(ids)
	if want := []string{"color-contrast", "html-has-lang", "label"}; !slices.Equal(ids, want) {
		t.Errorf("axe finds %q, want %q", ids, want)
	}
}
