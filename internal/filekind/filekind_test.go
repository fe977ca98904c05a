package filekind_test

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/filekind"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

func TestMisplaced(t *testing.T) {
	texts := map[filekind.Kind][]string{
		filekind.Configuration: {"redis: {addresses: [a]}", "listen: ':9001'\nnot_known: 1", "policy_file: x"},
		filekind.Policies:      {"policies: []", "default_policy: a\nrules: []", "tests: []"},
		filekind.Users:         {"- {id: 1, password_hash: secret}", "- {}\n- {username: secret}"},
		"envoy":                {"admin: {}\nstatic_resources: {}"},
		"":                     {"a: 1", "[]", "{}", "secret", "- a", "polices: []"},
	}
	is := map[filekind.Kind]string{
		filekind.Configuration: "this is a configuration:", filekind.Policies: "this is a policy file:", filekind.Users: "this is a users file:",
		"envoy": "this is a configuration of Envoy:",
	}
	for kind, list := range texts {
		for _, text := range list {
			var document yaml.Node
			if err := yaml.Unmarshal([]byte(text), &document); err != nil {
				t.Fatal(err)
			}
			for _, meant := range []filekind.Kind{filekind.Configuration, filekind.Policies, filekind.Users} {
				got := filekind.Misplaced(document.Content[0], meant)
				want := is[kind]
				if kind == meant {
					want = ""
				}
				if (want == "") != (got == "") || !strings.HasPrefix(got, want) || strings.Contains(got, "secret") {
					t.Errorf("%q in place of %s: %q, want %q", text, meant, got, want)
				}
			}
		}
	}
}
