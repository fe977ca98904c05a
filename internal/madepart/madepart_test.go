package madepart

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	const before, after = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n", "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n"
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second changes nothing
		if err := Write(path, "x", "new\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != after {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := Write(path, "y", "new\n"); err == nil {
		t.Error("a part that is not there was written")
	}
	if got, _ := os.ReadFile(path); string(got) != after {
		t.Errorf("a part that is not there changed the page: %q", got)
	}
	if _, err := Replace("<!-- x -->\nno end\n", "x", "new\n"); err == nil {
		t.Error("a part without its end was written")
	}
}
