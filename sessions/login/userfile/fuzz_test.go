package userfile

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

const fuzzHash = "$2a$10$7EqJtq98hPqEX7fNZaFWoOhi5iJjNFNyJ1yRrgLyHAGs1oQJZzs1W"

var namesAttribute = regexp.MustCompile(`attribute "(?:[^"\\]|\\.)*"`)

// FuzzUsers: a users file is refused, without a word of what stands in it, or read as
// YAML's own parser reads it: as many users, each with an ID and a name of its own, a
// hash that can be checked, and what a session can hold.
func FuzzUsers(f *testing.F) {
	user := "- {id: 42, username: Ada, password_hash: '" + fuzzHash + "', roles: [staff], attributes: {tenant: acme}}\n"
	for _, seed := range []string{
		user, user + strings.ReplaceAll(strings.ReplaceAll(user, "42", "43"), "Ada", "ADA"), strings.ReplaceAll(user, "staff", "CANARY"), "- id: CANARY\n", "CANARY", "- CANARY: x\n", "[]", "", "{}",
		strings.Replace(user, "42", "!!binary CANARY", 1), strings.Replace(user, "acme", "{CANARY: x}", 1), strings.Replace(user, fuzzHash, "$argon2id$v=19$m=CANARY", 1), "- &a {<<: *a}\n", user + "---\n" + user,
		strings.Replace(user, "Ada", `"A\tCANARY"`, 1), strings.Replace(user, "[staff]", "CANARY", 1), "policies: [CANARY]\n", "\xff", "- *CANARY\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		accounts, err := parse(text, 0)
		if err != nil {
			if said := namesAttribute.ReplaceAllString(err.Error(), ""); strings.Contains(said, "CANARY") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		var plain []struct {
			ID, Username string
			Hash         string `yaml:"password_hash"`
			Roles        []string
			Attributes   map[string]string
		}
		if err := yaml.Unmarshal(text, &plain); err != nil || len(plain) == 0 || len(plain) != len(accounts) {
			t.Fatalf("%q: %d users of %d, %v", text, len(accounts), len(plain), err)
		}
		ids := make(map[string]bool)
		for _, p := range plain {
			a, ok := accounts[strings.ToLower(p.Username)]
			if !ok || ids[a.ID] || a.ID != p.ID || a.Username != p.Username || a.Hash != p.Hash || len(a.Roles) != len(p.Roles) || len(a.Attributes) != len(p.Attributes) {
				t.Fatalf("%q: %+v, want %+v", text, a, p)
			}
			ids[a.ID] = true
			fits(t, a)
		}
	})
}

// fits holds an account to what a session can hold.
func fits(t *testing.T, a passwords.Account) {
	t.Helper()
	if _, err := passwords.KindOf(a.Hash); err != nil {
		t.Fatalf("the hash of %q: %v", a.ID, err)
	}
	for _, text := range append([]string{a.ID, a.Username}, a.Roles...) {
		if text == "" || len(text) > sessions.MaxUserID || strings.ContainsFunc(text, unicode.IsControl) {
			t.Fatalf("%q in %+v", text, a)
		}
	}
	for name := range a.Attributes {
		if err := sessions.ValidateFieldName(name); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
	}
}
