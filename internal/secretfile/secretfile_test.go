package secretfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/secretfile"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

func TestRead(t *testing.T) {
	for content, want := range map[string]string{
		"hunter2": "hunter2", "hunter2\n": "hunter2", "hunter2\r\n\n": "hunter2", " two words \n": " two words ", "a\nb\n": "a\nb", "": "", "\n\n": "",
	} {
		path := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := secretfile.Read(path)
		if got != want || (err != nil) != (want == "") || err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	if _, err := secretfile.Read(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

// TestSet: of two passwords that begin alike nothing of the longer is left, and what
// stands in place of one is not taken for another.
func TestSet(t *testing.T) {
	for _, order := range [][]string{{"first", "first+", "word", ""}, {"word", "first+", "first", "first"}} {
		var s secretfile.Set
		if s.In("first") || s.Redact("first") != "first" {
			t.Error("an empty set knows a password")
		}
		for _, password := range order {
			s.Add(password)
		}
		if got := s.Redact("first, first+ and a word"); got != "[password], [password] and a [password]" {
			t.Errorf("%v: %q", order, got)
		}
	}
}

func TestIn(t *testing.T) {
	var s secretfile.Set
	s.Add("tab\there")
	s.Add("a-password-of-more-than-16-bytes")
	for text, want := range map[string]bool{
		"": false, "tab here": false, "tab\there": true, `ERR "tab\there"`: true, "a-password-of-mo": true, "a-password-of-m": false,
	} {
		if s.In(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

// TestForms: Redact knows a password by the forms that In knows, and leaves no part of
// it if it is cut off.
func TestForms(t *testing.T) {
	var s, quote secretfile.Set
	for _, password := range []string{"tab\there", `end"`, "a-password-of-more-than-16-bytes", "[password]-is-mine"} {
		s.Add(password)
	}
	for text, want := range map[string]string{
		`redis: can't parse "tab\there!"`:                               `redis: can't parse "[password]!"`,
		`it sent "the end\""`:                                           `it sent "the [password]"`,
		"begins a-password-of-more-than, and so does a-password-of-mo":  "begins [password], and so does [password]",
		"a-password-of-more-than-16-bytes a-password-of-m":              "[password] a-password-of-m",
		"[password]-is-mi, [password]-is-mine, [password]-is-miis-mine": "[password], [password], [password]is-mine",
	} {
		if got := s.Redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	quote.Add(`"`)
	if quote.In(`a path\to`) || !quote.In(`\"`) {
		t.Error("a quotation mark is not told apart from a backslash")
	}
}

// FuzzSet: a redacted text repeats no password, but for what redaction puts there.
func FuzzSet(f *testing.F) {
	f.Add("hunter2", "hunter", "WRONG hunter2 and hunter3")
	f.Fuzz(func(t *testing.T, a, b, text string) {
		var s secretfile.Set
		s.Add(a)
		s.Add(b)
		for i, rest := range strings.Split(s.Redact(text), "[password]") {
			for _, password := range []string{a, b} {
				if password != "" && !strings.ContainsAny(password, "[]") && strings.Contains(rest, password) {
					t.Errorf("part %d repeats %q: %q", i, password, rest)
				}
			}
		}
	})
}

// FuzzRead: a password is the file without the line feeds at its end, and no error
// repeats a part of it.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "\n", "hunter2\n", "a\nb", "\r\n\r", "\x00", " \n"} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "password")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		password, err := secretfile.Read(path)
		end := len(content)
		for end > 0 && (content[end-1] == '\n' || content[end-1] == '\r') {
			end--
		}
		if password != string(content[:end]) || (err != nil) != (end == 0) {
			t.Fatalf("%q: %q, %v", content, password, err)
		}
	})
}
