package pgtest_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions/login/pgusers/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// TestServer: what was committed outlives the process, which does not outlive
// the test.
func TestServer(t *testing.T) {
	s, err := pgtest.New()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Exec(t, "postgres", "CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)")
	s.Kill()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if n := s.Value(t, "postgres", "SELECT n FROM kept"); n != "42" {
		t.Errorf("after the restart: %q", n)
	}
	data := s.Value(t, "postgres", "SHOW data_directory")
	s.Close()
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", data, err)
	}
}

func TestNoServer(t *testing.T) {
	t.Setenv("POSTGRES", t.TempDir())
	if _, err := pgtest.New(); err == nil {
		t.Error("a server ran from an empty directory")
	}
}
