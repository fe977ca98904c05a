package passwords_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

const adaHash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4" // password

// djangoHash is of the costs that Django 5 gives to an argon2id hash: 100 MiB.
var djangoHash = "$argon2id$v=19$m=102400,t=2,p=8$" + strings.Repeat("A", 22) + "$" + strings.Repeat("A", 43)

// The memory of a container as in k8s/base/login, of which hashes get a half.
const (
	containerBytes = 256 << 20
	budgetBytes    = containerBytes / 2
)

// raceDetector says that this program has the race detector, whose own memory is
// several times what it watches.
var raceDetector bool

// TestHashMemory: 12 wrong passwords (24 with COATCHECK_FULL=1), 8 at once, for
// accounts with hashes of 19 and of 100 MiB leave a process well within its container.
// The process is one of its own. Its largest resident set is known to the kernel; with
// the race detector, whose own memory is several times what it watches, the memory of
// Go's runtime counts instead. What is free and not handed back to the kernel counts,
// too: GOMEMLIMIT bounds it, at nine tenths of the container.
func TestHashMemory(t *testing.T) {
	if os.Getenv("COATCHECK_HASH_MEMORY") == "1" {
		hashInLittleMemory(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestHashMemory$", "-test.v")
	cmd.Env = append(os.Environ(), "COATCHECK_HASH_MEMORY=1", fmt.Sprint("GOMEMLIMIT=", containerBytes/10*9))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	name := "VmHWM:"
	if raceDetector {
		name = "Go:"
	}
	_, text, _ := strings.Cut(string(out), name)
	kib, err := strconv.Atoi(strings.Fields(text)[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the process took %d MiB, for hashes %d MiB", kib>>10, budgetBytes>>20)
	if kib<<10 > containerBytes || kib<<10 < budgetBytes/4 {
		t.Errorf("%d MiB, with %d MiB for hashes, in a container of %d MiB", kib>>10, budgetBytes>>20, containerBytes>>20)
	}
}

// hashInLittleMemory is the process, which prints what it has used.
func hashInLittleMemory(t *testing.T) {
	ended := make(chan struct{})
	peak := watchMemory(ended)
	// Without the library's bound it would be several times as much.
	users := "- {id: 1, username: ada, password_hash: '" + djangoHash + "'}\n- {id: 2, username: grace, password_hash: '" + hashOf(t, "secret") + "'}\n"
	p := newPasswords(t, usersFile(t, users), passwords.Config{Limit: login.LimiterConfig{Concurrent: 8, Queue: 100, Wait: 1 << 40}, Memory: budgetBytes})
	var all sync.WaitGroup
	places := make(chan struct{}, 8)
	attempts := 8
	if os.Getenv("COATCHECK_FULL") == "1" {
		attempts = 24
	}
	for i := range attempts {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			if _, err := p.Authenticate(t.Context(), []string{"ada", "grace", "unknown"}[i%3], "wrong"); !errors.Is(err, login.ErrBadCredentials) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(ended)
	fmt.Printf("Go: %d kB\n", <-peak>>10)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.Write(status)
	debug.FreeOSMemory()
}

// watchMemory sends, after ended, the most bytes that Go's runtime has held at any
// millisecond, without those that it has handed back to the kernel.
func watchMemory(ended <-chan struct{}) <-chan uint64 {
	peak := make(chan uint64, 1)
	go func() {
		samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		var most uint64
		for {
			metrics.Read(samples)
			most = max(most, samples[0].Value.Uint64()-samples[1].Value.Uint64())
			select {
			case <-ended:
				peak <- most
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return peak
}

// TestTooLargeHash: a hash that takes more memory than there may be is refused at
// the same cost as any, and named once.
func TestTooLargeHash(t *testing.T) {
	var log bytes.Buffer
	c := passwords.Config{Memory: 64 << 20, Logger: slog.New(slog.NewJSONHandler(&log, nil))}
	p := newPasswords(t, newRegister(map[string]string{"ada": djangoHash, "grace": adaHash}), c)
	for range 3 {
		if _, err := p.Authenticate(t.Context(), "ada", "password"); !errors.Is(err, login.ErrBadCredentials) {
			t.Errorf("got %v", err)
		}
	}
	if text := log.String(); strings.Count(text, `"user_id":"id-ada"`) != 1 || !strings.Contains(text, "login.hash_memory") || strings.Contains(text, "AAAA") {
		t.Errorf("the log is %s", text)
	}
	if _, err := p.Authenticate(t.Context(), "grace", "password"); err != nil {
		t.Errorf("another account: %v", err)
	}
	for name, c := range map[string]passwords.Config{"params": {Memory: 18 << 20}, "dummy": {Memory: 64 << 20, Dummy: djangoHash}} {
		if _, err := passwords.New(newRegister(nil), c); err == nil {
			t.Errorf("%s: more than there may be", name)
		}
	}
}
