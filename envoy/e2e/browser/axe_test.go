package browser_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"

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

// barriers lists what axe finds against WCAG 2.2 A and AA and its best practices, and what
// it cannot decide. DevTools run it, so that the page's Content-Security-Policy stays.
const barriers = `axe.run(document, {resultTypes: ["violations", "incomplete"], runOnly: {type: "tag", values:
	["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}})
	.then(r => [...r.violations, ...r.incomplete].map(f => f.id + ": " + f.nodes.map(n => n.html).join(" ")))`

// accessible fails the test unless axe finds nothing.
func (b *browser) accessible(name string) {
	b.Helper()
	program, err := axe()
	if err != nil {
		b.Fatalf("%v; run .ci/fetch axe, or name axe.min.js with AXE=", err)
	}
	value[bool](b, program+"; true")
	if found := value[[]string](b, barriers, chromedp.EvalAwaitPromise); len(found) > 0 {
		b.Errorf("%s: axe finds %s", name, strings.Join(found, "\n"))
	}
}
