package callersfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

const secret = "a-token-that-no-message-may-repeat-ever"

// open writes a file, in which TOKEN is a token file with the text, and opens it.
func open(t testing.TB, text, tokens string) (*File, error) {
	t.Helper()
	dir := t.TempDir()
	path, tokenFile := filepath.Join(dir, "callers.yaml"), filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(tokens), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "TOKEN", tokenFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	return Open(path, nil)
}

func TestOpen(t *testing.T) {
	f, err := open(t, "callers:\n- {name: a, certificate: a.example, rights: [get, touch], fields: [cart]}\n- {name: b, token_file: TOKEN, rights: [watch]}\n", secret+"\r\n"+secret+"-2\n")
	if err != nil {
		t.Fatal(err)
	}
	if f.Callers.Len() != 2 || !f.Callers.Any(api.Touch) || f.Callers.Any(api.Revoke) || !bytes.Contains(f.Contents, []byte(secret)) {
		t.Errorf("%d callers, contents %q", f.Callers.Len(), f.Contents)
	}
}

// TestMistakes: each is named with its line, all of a file in one error, and no token is.
func TestMistakes(t *testing.T) {
	for name, test := range map[string]struct {
		text, tokens string
		want         []string
	}{
		"nothing":          {"", "", []string{"line 1: it names no callers"}},
		"an empty list":    {"callers: []", "", []string{"it names no callers"}},
		"another file":     {"policies: []", "", []string{"no key policies"}},
		"no YAML":          {"callers: [", "", []string{"it is not YAML"}},
		"a scalar":         {"callers:\n- shop\n", "", []string{"line 2: a caller is keys with values"}},
		"no name":          {"callers:\n- {certificate: a, rights: [get]}\n", "", []string{"line 2: caller \"\": a name has"}},
		"a name":           {"callers:\n- {name: a b, certificate: a, rights: [get]}\n", "", []string{"caller a b: a name has"}},
		"a right":          {"callers:\n- {name: a, certificate: a, rights: [write]}\n", "", []string{`"write" is not one of the rights get, check`}},
		"no rights":        {"callers:\n- {name: a, certificate: a, rights: []}\n", "", []string{"it has no rights"}},
		"no credential":    {"callers:\n- {name: a, rights: [get]}\n", "", []string{"neither a certificate nor a token"}},
		"a reserved field": {"callers:\n- {name: a, certificate: a, rights: [get], fields: [roles, cart]}\n", "", []string{`field "roles": reserved`}},
		"a short token":    {"callers:\n- {name: a, token_file: TOKEN, rights: [get]}\n", secret[:12], []string{"a token has 32 to 512 characters, and this one 12"}},
		"a blank":          {"callers:\n- {name: a, token_file: TOKEN, rights: [get]}\n", secret + " x", []string{"visible ASCII without blanks"}},
		"an empty line":    {"callers:\n- {name: a, token_file: TOKEN, rights: [get]}\n", secret + "\n\n" + secret, []string{"this one 0"}},
		"three tokens":     {"callers:\n- {name: a, token_file: TOKEN, rights: [get]}\n", secret + "\n" + secret + "2\n" + secret + "3", []string{"more than 2 lines"}},
		"no token":         {"callers:\n- {name: a, token_file: TOKEN, rights: [get]}\n", "\n", []string{"is empty"}},
		"no token file":    {"callers:\n- {name: a, token_file: /nowhere, rights: [get]}\n", "", []string{"line 2: token_file: open /nowhere"}},
		"twice": {"callers:\n- {name: a, certificate: A.example, token_file: TOKEN, rights: [get]}\n- {name: a, certificate: a.example, token_file: TOKEN, rights: [get]}\n", secret,
			[]string{"another caller has this name", "another caller has this certificate", "another caller has one of its tokens"}},
		"all": {"callers:\n- {name: a, rights: [gett]}\n- {name: b, certificate: b, rigths: [get]}\n", "",
			[]string{"has 4 mistakes", "line 2", "line 3", "did you mean rights"}},
	} {
		f, err := open(t, test.text, test.tokens)
		for _, want := range test.want {
			if f != nil || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), secret[:10]) {
			t.Errorf("%s: a token is repeated: %v", name, err)
		}
	}
}

// TestAccept: what the process does not accept of a caller is a mistake at its line.
func TestAccept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "callers.yaml")
	if err := os.WriteFile(path, []byte("callers:\n- {name: a, certificate: a, rights: [get]}\n- {name: b, certificate: b, rights: [get]}\n- {name: c, certificate: c, rights: []}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path, func(c api.Caller) error {
		if c.Name == "a" {
			return nil
		}
		return errors.New("it is not a")
	})
	if err == nil || !strings.Contains(err.Error(), "line 3: caller b: it is not a") || !strings.Contains(err.Error(), "line 4: caller c: it has no rights") || strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}

// FuzzOpen: no file makes a panic, no message repeats a token, and a file that is read names
// callers of which each can be known.
func FuzzOpen(f *testing.F) {
	f.Add("callers:\n- {name: a, token_file: TOKEN, rights: [get, by_id], fields: [cart]}\n", secret)
	f.Add("callers:\n- {name: a, certificate: spiffe://a/b, rights: [add]}\n- {name: b, certificate: b.example, rights: [list]}\n", "")
	f.Fuzz(func(t *testing.T, text, tokens string) {
		file, err := open(t, text, tokens)
		if (file == nil) == (err == nil) || file != nil && file.Callers.Len() == 0 {
			t.Fatalf("%v, %v", file, err)
		}
		if len(tokens) >= api.MinToken && err != nil && !strings.Contains(text, tokens) && strings.Contains(err.Error(), tokens) {
			t.Errorf("a token is repeated: %v", err)
		}
	})
}
