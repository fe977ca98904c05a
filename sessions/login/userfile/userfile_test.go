package userfile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

const (
	adaHash   = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4" // password
	graceHash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"                         // U*U
)

const twoUsers = `
- id: 42
  username: Ada
  password_hash: ` + adaHash + `
  roles: [staff, admin]
  attributes: {tenant: acme, floor: 3}
- {id: "007", username: grace, password_hash: "` + graceHash + `"}
`

func userFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.yaml")
	writeFile(t, path, text)
	return path
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openUserFile(t *testing.T, path string) *userfile.File {
	t.Helper()
	f, err := userfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestUserFile(t *testing.T) {
	f := openUserFile(t, userFile(t, twoUsers))
	if f.Len() != 2 {
		t.Errorf("%d users", f.Len())
	}
	for _, name := range []string{"Ada", "ada", "ADA"} {
		a, err := f.Find(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if a.ID != "42" || a.Username != "Ada" || a.Hash != adaHash || !slices.Equal(a.Roles, []string{"staff", "admin"}) ||
			a.Attributes["tenant"] != "acme" || a.Attributes["floor"] != "3" {
			t.Errorf("%s is %+v", name, a)
		}
		a.Roles[0], a.Attributes["tenant"] = "changed", "changed" // is the caller's
	}
	if a, err := f.Find(t.Context(), "grace"); err != nil || a.ID != "007" || a.Roles != nil || a.Attributes != nil {
		t.Errorf("grace is %+v, %v", a, err)
	}
	for _, name := range []string{"", "a", "ada ", "42"} {
		if _, err := f.Find(t.Context(), name); !errors.Is(err, passwords.ErrNoUser) {
			t.Errorf("%q: %v", name, err)
		}
	}
	p := newPasswords(t, f, passwords.Config{})
	if u, err := p.Authenticate(t.Context(), "ADA", "password"); err != nil || u.ID != "42" {
		t.Errorf("signing in: %+v, %v", u, err)
	}
	if _, renews := passwords.Source(f).(passwords.Renewer); renews {
		t.Error("the operator's file is written to")
	}
}

// TestUserFileMistakes: all of them are named, by line, without what they hold.
func TestUserFileMistakes(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"not a list of users"}},
		{"no users", "[]", []string{"not a list of users"}},
		{"a mapping", "users:\n" + twoUsers, []string{"not a list of users"}},
		{"no YAML", "- id: [canary", []string{"it is not YAML: did not find expected"}},
		{"unknown anchor", "- *canary", []string{"it is not YAML"}},
		{"two documents", twoUsers + "\n---\n" + twoUsers, []string{"more than one YAML document"}},
		{"a text for a user", "- canary", []string{"line 1: a user is keys with values, and not another value"}},
		{"nothing there", "- {}", []string{"3 mistakes", "id is missing", "username is missing", "password_hash is missing"}},
		{"nulls", "- {id: ~, username: , password_hash: ''}", []string{"id has no value", "username has no value", "password_hash is empty"}},
		{"unknown key", twoUsers + "- {id: 1, username: x, password_hash: '" + adaHash + "', role: [canary]}", []string{"line 8: a user has no such key; did you mean roles?"}},
		{"a hash as a key", "- {" + adaHash + ": canary, id: 1, username: x, password_hash: '" + adaHash + "'}", []string{"a user has no such key; it has attributes, id"}},
		{"a key twice", "- {id: 1, id: 2, username: x, password_hash: '" + adaHash + "'}", []string{"a user has id twice"}},
		{"twice", twoUsers + "- {id: 42, username: ADA, password_hash: '" + adaHash + "'}", []string{"2 mistakes", "line 8: id is the same as in line 2", "line 8: username is the same as in line 3"}},
		{"no hash", "- {id: 1, username: x, password_hash: canary}", []string{"line 1: password_hash: it is neither an argon2id nor a bcrypt hash"}},
		{"a greedy hash", "- {id: 1, username: x, password_hash: '" + strings.Replace(adaHash, "256", "9999999", 1) + "'}", []string{"its memory is not"}},
		{"long names", "- {id: " + strings.Repeat("i", 257) + ", username: " + strings.Repeat("u", 257) + ", password_hash: '" + adaHash + "'}", []string{"id is longer than 256 bytes", "username is longer than 256 bytes"}},
		{"blanks", "- {id: ' 1', username: \"x\\n\", password_hash: '" + adaHash + "'}", []string{"id has blanks around it", "username has control characters"}},
		{"roles", "- id: 1\n  username: x\n  password_hash: " + adaHash + "\n  roles:\n" + strings.Repeat("  - r\n", 257) + "  - [canary]\n  - " + strings.Repeat("r", 129) + "\n  - ''\n", []string{"roles has more than 256 names", "a role is not a text", "a role is longer than 128 bytes", "a role is empty"}},
		{"roles, one", "- {id: 1, username: x, password_hash: '" + adaHash + "', roles: canary}", []string{"roles is a list, and not another value"}},
		{"attributes", "- {id: 1, username: x, password_hash: '" + adaHash + "', attributes: {user_id: canary, a: [canary], b: ~, '': canary, [canary]: x}}", []string{`attribute "user_id" has a reserved name`, `attribute "a" is not a text`, `attribute "b" is not a text`, "name has not 1 to 128 bytes", "a key of attributes is text, and not a list"}},
		{"attributes, a list", "- {id: 1, username: x, password_hash: '" + adaHash + "', attributes: [canary]}", []string{"attributes are names with values, and not a list"}},
		{"aliases", "- &a {id: 1, username: x, password_hash: '" + adaHash + "'}\n- *a", []string{"line 2: the list of users: aliases are not followed"}},
		{"too large", "- {id: 1, username: x, password_hash: '" + adaHash + "'} #" + strings.Repeat("x", 16<<20), []string{"larger than 16 MiB"}},
	} {
		path := userFile(t, test.text)
		_, err := userfile.Open(path)
		if err == nil {
			t.Errorf("%s: no mistake", test.name)
			continue
		}
		for _, want := range append(test.want, path) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in %q", test.name, want, err)
			}
		}
		for _, secret := range []string{"canary", "c29t", "$"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %q is in %q", test.name, secret, err)
			}
		}
	}
	if _, err := userfile.Open(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
}

// A watched file is one with its reports.
type watched struct {
	*testing.T
	*userfile.File
	reports chan error
}

func watch(t *testing.T, path string) watched {
	w := watched{t, openUserFile(t, path), make(chan error, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Watch(ctx, 50*time.Millisecond, nil, func(err error) { w.reports <- err })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

// told waits for one report, whose error holds the text; none if that is empty.
func (w watched) told(text string) {
	w.Helper()
	select {
	case err := <-w.reports:
		if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
			w.Errorf("reported: %v, want %q", err, text)
		}
	case <-time.After(time.Minute):
		w.Fatal("nothing was reported")
	}
}

func (w watched) has(name string) {
	w.Helper()
	if _, err := w.Find(w.Context(), name); err != nil {
		w.Errorf("%s: %v", name, err)
	}
}

func (w watched) lacks(name string) {
	w.Helper()
	if _, err := w.Find(w.Context(), name); !errors.Is(err, passwords.ErrNoUser) {
		w.Errorf("%s: %v", name, err)
	}
}

// TestUserFileWatch: a write, a rename and another target of a symbolic link all
// count; what is wrong changes nothing and is told of once.
func TestUserFileWatch(t *testing.T) {
	user := func(name string) string {
		return fmt.Sprintf("- {id: %s, username: %s, password_hash: '%s'}\n", name, name, adaHash)
	}
	path := userFile(t, user("a"))
	w := watch(t, path)

	writeFile(t, path, user("b"))
	w.told("")
	w.has("b")
	w.lacks("a")

	writeFile(t, path+".new", user("c"))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	w.told("")
	w.has("c")

	writeFile(t, path, user("d")+user("D"))
	w.told("username is the same as in line 1")
	w.has("c")
	w.lacks("d")
	time.Sleep(200 * time.Millisecond)
	if len(w.reports) > 0 {
		t.Errorf("told again: %v", <-w.reports)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.told("no such file")
	w.has("c")
	writeFile(t, path, user("c")) // as it was before all this
	w.told("")
	w.has("c")
}

// TestUserFileWatchLink: Kubernetes renews a mounted Secret by moving a symbolic
// link to its directory.
func TestUserFileWatchLink(t *testing.T) {
	dir := t.TempDir()
	link := func(version string) {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, version, "users.yaml"), fmt.Sprintf("- {id: 1, username: %s, password_hash: '%s'}\n", version, adaHash))
		if err := errors.Join(os.Symlink(version, filepath.Join(dir, "..new")), os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	link("one")
	w := watch(t, filepath.Join(dir, "..data", "users.yaml"))
	w.has("one")
	link("two")
	w.told("")
	w.has("two")
	w.lacks("one")
}

// djangoHash is of the costs that Django 5 gives to an argon2id hash: 100 MiB.
var djangoHash = "$argon2id$v=19$m=102400,t=2,p=8$" + strings.Repeat("A", 22) + "$" + strings.Repeat("A", 43)

// TestTooLargeHash: a hash that takes more memory than there may be ends a start, and
// keeps a changed file from being taken up.
func TestTooLargeHash(t *testing.T) {
	c := passwords.Config{Memory: 64 << 20}
	text := "- {id: 1, username: grace, password_hash: '" + adaHash + "'}\n- {id: 2, username: ada, password_hash: '" + djangoHash + "'}\n"
	if _, err := passwords.New(openUserFile(t, userFile(t, text)), c); err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), "102400 KiB") {
		t.Errorf("a file with such a hash: %v", err)
	}
	path := userFile(t, twoUsers)
	w := watch(t, path)
	newPasswords(t, w.File, c)
	writeFile(t, path, text)
	w.told("102400 KiB")
	w.has("grace")
	w.lacks("another")
}

// TestFileKinds: a reload changes the kinds of a users file, and so the time of a
// refusal.
func TestFileKinds(t *testing.T) {
	path := userFile(t, "- {id: 1, username: ada, password_hash: '"+bcryptOf(t, "secret", 4)+"'}")
	w := watch(t, path)
	p := newPasswords(t, w.File, passwords.Config{Params: passwords.HashParams{Memory: 64, Passes: 1, Lanes: 1}})
	refusal := func() time.Duration {
		begin := time.Now()
		_, _ = p.Authenticate(t.Context(), "unknown", "wrong")
		return time.Since(begin)
	}
	before := time.Hour
	for range 10 { // the machine may be busy for some of them
		before = min(before, refusal())
	}
	writeFile(t, path, "- {id: 1, username: ada, password_hash: '"+bcryptOf(t, "secret", 11)+"'}")
	w.told("")
	if after := refusal(); after < 4*before || after < 20*time.Millisecond {
		t.Errorf("%v, before it %v", after, before)
	}
}

func newPasswords(t testing.TB, s passwords.Source, c passwords.Config) *passwords.Passwords {
	t.Helper()
	p, err := passwords.New(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func bcryptOf(t testing.TB, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}
