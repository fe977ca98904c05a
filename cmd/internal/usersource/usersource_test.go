package usersource

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestSources: each row has what the configuration and the server need of it.
func TestSources(t *testing.T) {
	var names []string
	for _, s := range Sources {
		if s.Open == nil || s.Keys[0].Required {
			t.Errorf("%s: opens: %v, required: %v", s.Keys[0].Name, s.Open != nil, s.Keys[0].Required)
		}
		for _, k := range s.Keys {
			names = append(names, k.Name)
			if !strings.HasPrefix(k.Name, "login.") || k.Usage == "" {
				t.Errorf("%q: %q", k.Name, k.Usage)
			}
		}
	}
	if unique := slices.Compact(slices.Sorted(slices.Values(names))); len(unique) != len(names) {
		t.Errorf("a key stands in two rows: %q", names)
	}
}

// TestOpenNone: without a source nothing is opened.
func TestOpenNone(t *testing.T) {
	if name := Name(Values{"login.postgres.query": "SELECT 1"}); name != "" {
		t.Errorf("%q chooses a source", name)
	}
	if _, err := Open(t.Context(), Values{}, Parts{}); err == nil {
		t.Error("opened")
	}
}

// TestMistakes: an error names the keys of its value, also where another part has
// named keys of its own.
func TestMistakes(t *testing.T) {
	for _, values := range []Values{{UsersFile: "nowhere.yaml"}, {Postgres: "port=none", "login.postgres.query": "SELECT 1"}} {
		_, err := Open(t.Context(), values, Parts{})
		if m, ok := errors.AsType[*Mistake](err); !ok || m.Keys[0] != Name(values) {
			t.Errorf("%v: %v", values, err)
		}
	}
	err := about(&Mistake{errors.New("too large"), []string{"login.hash_memory"}}, UsersFile)
	if m, ok := errors.AsType[*Mistake](err); !ok || !slices.Equal(m.Keys, []string{UsersFile, "login.hash_memory"}) || err.Error() != "too large" {
		t.Errorf("%#v", err)
	}
}
