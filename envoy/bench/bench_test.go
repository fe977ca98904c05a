package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

// TestMain lets the test binary be the servers and the load generator, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && isCommand(os.Args[1]) {
		main()
		return
	}
	goleak.VerifyTestMain(testleaks.Patient(m))
}

// isCommand reports whether a child process of a measurement was asked for.
func isCommand(name string) bool {
	return name == "load" || name == "bare" || name == "naive" || name == "verifier"
}

// TestChecks runs every row with every load, for a moment, with a peer.
func TestChecks(t *testing.T) {
	if os.Getenv("COATCHECK_FULL") == "" {
		t.Skip("measures: COATCHECK_FULL=1, on a machine with nothing else to do")
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	peers := filepath.Join(dir, "peers.yaml")
	write(t, peers, `[{name: "a peer", command: ["`+self+`", bare, -listen, "127.0.0.1:{port}", -metrics, "127.0.0.1:{metrics}"], cookies: [echo, "session={redis}"]}]`)
	write(t, filepath.Join(dir, "performance.md"), "before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
	if err := measureChecks([]string{"-rounds", "1", "-for", "20s", "-peers", peers, "-docs", dir}); err != nil {
		t.Fatal(err)
	}
	page := read(t, filepath.Join(dir, "performance.md"))
	for _, want := range []string{"before\n", "\nafter\n", rowBare, rowBareAgain, rowNaive, rowLookup, rowHit, rowNone, rowMalformed, rowUnknown, "a peer", "1 in flight", "open loop"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(page, "old") {
		t.Error("the page still has what it had")
	}
	for _, f := range []filter{defaults, ours} {
		for _, name := range []string{"cpu", "latency"} {
			if plot := read(t, filepath.Join(dir, plotName(name, f))); !strings.Contains(plot, rowLookup) || !strings.Contains(page, plotName(name, f)) {
				t.Errorf("the plot %s has no lookup, or the page no plot", plotName(name, f))
			}
		}
	}
}

// TestRefusalIsNoCheck: an answer of another status than expected stops the benchmark.
func TestRefusalIsNoCheck(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorld([]program{stand("naive", self, "naive")}, []front{{name: "naive", server: "naive", filter: ours}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	cookies, err := w.cookieFile("cookies", []string{"without-a-session"})
	if err != nil {
		t.Fatal(err)
	}
	v := variant{name: "naive", front: "naive", server: "naive", cookies: cookies, status: 200}
	refused := func() error { _, err := w.measure(v, shape{inFlight: 1}, 0, 50*1e6); return err }
	err = refused()
	for range 20 { // a busy machine may answer nothing in such a time
		if err != nil && strings.Contains(err.Error(), "were not 200") {
			break
		}
		err = refused()
	}
	if err == nil || !strings.Contains(err.Error(), "were not 200") {
		t.Errorf("a refusal passed for a check: %v", err)
	}
	v.status = 401
	var s sample
	for range 20 {
		if s, err = w.measure(v, shape{inFlight: 2}, 0, 50*1e6); err == nil && s.redis > 0 && s.allocations > 0 {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.server <= 0 || s.envoy <= 0 || s.redis <= 0 || s.p50 <= 0 || s.p99 < s.p50 || s.rate <= 0 || s.allocations <= 0 {
		t.Errorf("not all was measured: %+v", s)
	}
}

// TestPeersMistakes: a file of peers is read strictly.
func TestPeersMistakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peers.yaml")
	write(t, path, "- name: one\n  comand: [x]\n")
	if _, err := readPeers(path); err == nil || !strings.Contains(err.Error(), "comand") {
		t.Errorf("a misspelt key: %v", err)
	}
	write(t, path, "- name: one\n")
	if _, err := readPeers(path); err == nil || !strings.Contains(err.Error(), "a name and a command") {
		t.Errorf("a peer without a command: %v", err)
	}
}

// TestVerify: the tokens that are measured are verified as a service must.
func TestVerify(t *testing.T) {
	for _, algorithm := range algorithms {
		s, err := newSigner(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		other, err := newSigner(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		token, err := s.sign("user-1")
		if err != nil {
			t.Fatal(err)
		}
		if c, err := s.verify(token); err != nil || c.Subject != "user-1" || c.ID == "" || len(c.Roles) != 3 {
			t.Errorf("%s: %+v, %v", algorithm, c, err)
		}
		if _, err := other.verify(token); err == nil {
			t.Errorf("%s: another key verifies the token", algorithm)
		}
	}
}

func TestMedians(t *testing.T) {
	of := func(values ...float64) (all []sample) {
		for _, v := range values {
			all = append(all, sample{server: v})
		}
		return all
	}
	// The middle of the ratios, not the ratio of the middles.
	if got := ratio(of(2, 9, 30), of(1, 3, 10), serverCPU); got != 3 {
		t.Errorf("ratio %v, want 3", got)
	}
	if got := addedRatio(of(5, 9), of(3, 5), of(1, 1), serverCPU); got != 2 {
		t.Errorf("added %v, want 2", got)
	}
	if got := median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Errorf("median %v, want 2.5", got)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
