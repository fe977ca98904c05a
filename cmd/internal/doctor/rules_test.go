package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// A fixture is a deployment with one mistake: a good one, and what is changed in it.
type fixture struct {
	base  string
	text  string
	given Deployment
}

// readFixture reads a file of testdata/bad: lines of name and value, and then edits.
func readFixture(t *testing.T, id ID) fixture {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "bad", string(id)+".txt"))
	if err != nil {
		t.Fatalf("%s has no fixture: %v", id, err)
	}
	head, edits, _ := strings.Cut(string(raw), "--- old\n")
	var f fixture
	for _, line := range strings.Split(strings.TrimSpace(head), "\n") {
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "base":
			f.base = value
		case "service":
			f.given.Service = value
		case "envoy-version":
			f.given.EnvoyVersion = value
		case "config":
			if f.given.Checks, err = config.Parse([]byte(value), nil); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("%s: unknown %q", id, name)
		}
	}
	f.text = read(t, f.base)
	if edits != "" {
		for _, edit := range strings.Split(edits, "--- old\n") {
			before, after, ok := strings.Cut(edit, "\n--- new\n")
			after = strings.TrimSuffix(after, "\n")
			if !ok || strings.Count(f.text, before) != 1 {
				t.Fatalf("%s: the text to replace is there %d times:\n%s", id, strings.Count(f.text, before), before)
			}
			f.text = strings.Replace(f.text, before, after, 1)
		}
	}
	return f
}

// read returns a good deployment: of the repository's own files, or of testdata.
func read(t *testing.T, base string) string {
	t.Helper()
	path := filepath.Join(docstest.Root, base)
	if strings.HasPrefix(base, "testdata/") {
		path = base
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func examine(t *testing.T, given Deployment, texts ...string) []Finding {
	t.Helper()
	d := New(given)
	for _, text := range texts {
		if err := d.Read(t.Context(), "-", strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	report, err := d.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report.Findings
}

func ids(findings []Finding) []ID {
	var all []ID
	for _, f := range findings {
		all = append(all, f.ID)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestEachRule: each rule has a fixture that finds it and nothing else, in a place that
// can be looked up, and the deployment without the mistake finds nothing. Envoy's own
// configurations are accepted by Envoy.
func TestEachRule(t *testing.T) {
	bases := make(map[string]bool)
	for _, rule := range Rules() {
		t.Run(string(rule.ID), func(t *testing.T) {
			f := readFixture(t, rule.ID)
			bases[f.base] = true
			found := examine(t, f.given, f.text)
			if got := ids(found); !slices.Equal(got, []ID{rule.ID}) {
				t.Errorf("found %v: %+v", got, found)
			}
			for _, one := range found {
				if one.Path == "" || one.Here == "" || one.Severity != rule.Severity || one.Line == 0 && f.given.EnvoyVersion == "" && f.base != "testdata/dump.json" {
					t.Errorf("%+v", one)
				}
			}
			accepted(t, f)
		})
	}
	for base := range bases {
		if found := examine(t, Deployment{}, read(t, base)); len(found) > 0 {
			t.Errorf("%s is good, and has %+v", base, found)
		}
	}
	files, err := filepath.Glob("testdata/bad/*.txt")
	if err != nil || len(files) != len(Rules()) {
		t.Errorf("%d fixtures for %d rules: %v", len(files), len(Rules()), err)
	}
}

// accepted asks Envoy whether the fixture is a configuration that it would start with:
// what it refuses itself needs no doctor.
func accepted(t *testing.T, f fixture) {
	t.Helper()
	if f.base != "envoy/envoy.yaml" || f.text == read(t, f.base) {
		return
	}
	envoy, err := testtools.Program("envoy", "ENVOY")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(path, []byte(f.text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(envoy, "--mode", "validate", "--log-level", "error", "--concurrency", "1", "-c", path).CombinedOutput(); err != nil {
		t.Errorf("Envoy itself refuses it: %v\n%s", err, out)
	}
}

// TestRulesAreWhole: the rows are complete, and their names are words of their own.
func TestRulesAreWhole(t *testing.T) {
	seen := make(map[ID]bool)
	for _, r := range Rules() {
		if !regexp.MustCompile(`^(ENVOY|ISTIO|GATEWAY|KUBERNETES|CONFIG)_[A-Z0-9_]+$`).MatchString(string(r.ID)) || seen[r.ID] {
			t.Errorf("%s: the name", r.ID)
		}
		seen[r.ID] = true
		for _, text := range []string{r.What, r.Why, r.From, r.Cure} {
			if text == "" || strings.ContainsAny(text, "|\n") {
				t.Errorf("%s: %q", r.ID, text)
			}
		}
		if !slices.Contains(severities, r.Severity) || strings.HasSuffix(r.What, ".") || strings.HasSuffix(r.Cure, ".") || !strings.HasSuffix(r.Why, ".") {
			t.Errorf("%+v", r)
		}
	}
}
