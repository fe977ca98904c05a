package serve

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	dto "github.com/prometheus/client_model/go"

	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// docsMetrics compares the metrics that a server exports when everything is in use
// with the ones that the source names and with the table in docs/operations.md.
func docsMetrics(t *testing.T, exposition string) {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(exposition))
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range inSource(t, `"(coatcheck_[a-z_]+)"`) {
		if families[name] == nil {
			t.Errorf("%s names %s, which this server does not export", file, name)
		}
	}
	var table strings.Builder
	table.WriteString("| metric | type | labels | |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if family := families[name]; strings.HasPrefix(name, "coatcheck_") {
			fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(family.GetType().String()), labels(family), family.GetHelp())
		}
	}
	docstest.PartIsCurrent(t, "docs/operations.md", "metrics", table.String())
}

// inSource returns what a pattern's groups match in the module's Go files, tests
// aside, with a file where it stands.
func inSource(t *testing.T, pattern string) map[string]string {
	t.Helper()
	found, expression := make(map[string]string), regexp.MustCompile(pattern)
	for _, dir := range []string{"cmd", "extauthz", "sessions"} {
		err := filepath.WalkDir(filepath.Join(docstest.Root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, match := range expression.FindAllStringSubmatch(string(text), -1) {
				found[strings.Join(match[1:], "")] = path
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) == 0 {
		t.Fatalf("no file matches %s", pattern)
	}
	return found
}

// TestDocsRoutes: the pages name every route for operators and no other, and the
// table of login's routes has them all with their methods.
func TestDocsRoutes(t *testing.T) {
	t.Parallel() // it waits
	c, _ := withLogin(t, redistest.Start(t).Addr, "listen: "+free(t))
	c.PprofListen = free(t)
	start(t, c)
	mentions := docstest.Mentions(t, "[ `](/(?:[a-z]+z|metrics|debug/pprof/))[ `,;]")
	for path := range inSource(t, `"GET (/[a-z]+(?:/pprof/)?)"`) {
		if mentions[path] == nil {
			t.Errorf("no page names %s", path)
		}
	}
	for path, pages := range mentions {
		address := c.AdminListen
		if strings.HasPrefix(path, "/debug/") {
			address = c.PprofListen
		}
		if status, _ := get(t, "http://"+address+path); status != 200 {
			t.Errorf("%v: %s answers %d", pages, path, status)
		}
	}

	listed := make(map[string][]string)
	for _, row := range docstest.Rows(t, "below `/.auth/`") {
		listed[strings.Trim(row[0], "`")] = append(listed[strings.Trim(row[0], "`")], row[1])
	}
	for path := range inSource(t, `handle\("(?:GET|POST) ([a-z/]+)"|"([a-z/]+)":\s+\{(?:get|post): `) {
		if listed[path] == nil {
			t.Errorf("no table has %s", path)
		}
	}
	for path, methods := range listed {
		documented := regexp.MustCompile(`GET|POST`).FindAllString(strings.Join(methods, " "), -1)
		slices.Sort(documented)
		if got, want := allowed(t, "http://"+c.LoginListen+"/.auth/"+path), strings.Join(slices.Compact(documented), ", "); got != want {
			t.Errorf("/.auth/%s takes %q, the table says %q", path, got, want)
		}
	}
}

// allowed asks which methods a path takes, beside HEAD.
func allowed(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return strings.Replace(response.Header.Get("Allow"), ", HEAD", "", 1)
}

// labels lists a family's labels, with their values where these are few and not
// of the build.
func labels(family *dto.MetricFamily) string {
	values := make(map[string]map[string]bool)
	for _, m := range family.GetMetric() {
		for _, pair := range m.GetLabel() {
			if values[pair.GetName()] == nil {
				values[pair.GetName()] = make(map[string]bool)
			}
			values[pair.GetName()][pair.GetValue()] = true
		}
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text := "`" + name + "`"
		if n := len(values[name]); n > 1 && n < 10 {
			text += ": " + strings.Join(slices.Sorted(maps.Keys(values[name])), ", ")
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}
