package filewatch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// A file is what Read finds: contents, or an error. Contents that begin with bad cannot
// be used.
type file struct {
	contents string
	err      error
	used     []string
	reports  []string
}

func (f *file) config() Config {
	return Config{
		InUse: []byte("A"),
		Read: func() ([]byte, error) {
			if f.contents == "panic in Read" {
				panic(f.contents)
			}
			return []byte(f.contents), f.err
		},
		Use: func(contents []byte) error {
			if text := string(contents); strings.HasPrefix(text, "panic") {
				panic(text)
			} else if strings.HasPrefix(text, "bad") {
				return errors.New(text)
			}
			f.used = append(f.used, string(contents))
			return nil
		},
		Report: func(err error) {
			if err != nil {
				f.reports = append(f.reports, err.Error())
			} else {
				f.reports = append(f.reports, "good")
			}
		},
	}
}

// TestRule: what two looks find counts, each error is reported once, and the way
// back to the contents in use is reported after an error.
func TestRule(t *testing.T) {
	f := new(file)
	w := newWatcher(f.config())
	gone := errors.New("gone")
	for step, test := range []struct {
		contents string
		err      error
		now      bool
		report   string
	}{
		{contents: "A"},
		{contents: "bad 1"}, {contents: "bad 1", report: "bad 1"}, {contents: "bad 1"},
		{contents: "A"}, {contents: "A", report: "good"}, {contents: "A"},
		{contents: "bad 1"}, {contents: "bad 1", report: "bad 1"},
		{contents: "bad 2"}, {contents: "bad 2", report: "bad 2"},
		{contents: "B"}, {contents: "B", report: "good"}, {contents: "B"},
		{contents: "half"}, {contents: "B"}, {contents: "B"}, // half a file, for one look
		{contents: "bad 2"}, {contents: "B"}, {contents: "B"},
		{err: gone}, {contents: "B"}, // between a removal and a write
		{err: gone}, {err: gone, report: "gone"}, {err: gone},
		{contents: "B"}, {contents: "B", report: "good"},
		{contents: "half", now: true}, {contents: "C"}, {contents: "C", report: "good"}, {contents: "C"}, {contents: "C", now: true},
		{contents: "bad 3", now: true}, {contents: "bad 3", report: "bad 3"}, {contents: "bad 3"}, {contents: "bad 3", now: true, report: "bad 3"},
		{contents: "panic"}, {contents: "panic", report: "a bug in reading it: panic of type string"}, {contents: "panic"},
		{contents: "panic in Read"}, {contents: "panic in Read", report: "a bug in reading it: panic of type string"},
		{contents: "C"}, {contents: "C", report: "good"},
		{contents: ""}, {contents: "", report: "good"}, // what an empty file means is up to Use
	} {
		f.contents, f.err = test.contents, test.err
		w.asked = w.asked || test.now
		w.look()
		if got := strings.Join(f.reports, ", "); got != test.report {
			t.Fatalf("step %d: reports %q, want %q", step, got, test.report)
		}
		f.reports = nil
	}
	if got := strings.Join(f.used, " "); got != "B C " {
		t.Errorf("used: %q", got)
	}
}

// TestWatch watches a file: a write, a rename and a link that moves are changes, a
// signal takes one without waiting for the interval, and the end of the context ends it.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	watch := func(interval time.Duration) (used chan string, now chan os.Signal, stop func()) {
		used, now = make(chan string, 10), make(chan os.Signal, 1)
		contents, err := os.ReadFile(path)
		must(err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Watch(ctx, Config{
				Interval: interval, Now: now, InUse: contents,
				Read:   func() ([]byte, error) { return os.ReadFile(path) },
				Use:    func(contents []byte) error { used <- string(contents); return nil },
				Report: func(error) {},
			})
		}()
		return used, now, func() { cancel(); <-ended }
	}
	expect := func(used chan string, want string) {
		t.Helper()
		for end := time.After(time.Minute); ; {
			select {
			case got := <-used:
				if got == want {
					return
				}
				if got != "" { // which a slow WriteFile leaves for two looks
					t.Fatalf("used %q, want %q", got, want)
				}
			case <-end:
				t.Fatalf("%q was never used", want)
			}
		}
	}

	must(os.WriteFile(path, []byte("A"), 0o600))
	used, _, stop := watch(5 * time.Millisecond)
	must(os.WriteFile(path, []byte("written"), 0o600))
	expect(used, "written")
	must(os.WriteFile(path+".next", []byte("renamed"), 0o600))
	must(os.Rename(path+".next", path))
	expect(used, "renamed")
	must(os.WriteFile(filepath.Join(dir, "target"), []byte("linked"), 0o600))
	must(os.Symlink("target", path+".next"))
	must(os.Rename(path+".next", path))
	expect(used, "linked")
	stop()

	used, now, stop := watch(time.Hour)
	must(os.WriteFile(path, []byte("signalled"), 0o600))
	now <- syscall.SIGHUP
	expect(used, "signalled")
	stop()
}

// TestSignalWhileWriting: a signal that comes while a file is being written takes
// all of it, and no half.
func TestSignalWhileWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	looks, now, used := 0, make(chan os.Signal), make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Watch(ctx, Config{
			Interval: time.Hour, Now: now,
			Read: func() ([]byte, error) {
				if looks++; looks == 1 {
					return []byte("half"), os.WriteFile(path, []byte("half and half"), 0o600)
				}
				return os.ReadFile(path)
			},
			Use:    func(contents []byte) error { used <- string(contents); return nil },
			Report: func(error) {},
		})
	}()
	now <- syscall.SIGHUP
	if got := <-used; got != "half and half" {
		t.Errorf("used %q", got)
	}
	cancel()
	<-ended
}
