package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// full has the tests take their time: every fault on every kind, with and without TLS and
// users of Redis. Otherwise one of each way to make them.
var full = os.Getenv("COATCHECK_FULL") != ""

var short = map[Kind][]string{
	Single: {
		"bounce", "kill-empty", "loading", "pause-short", "busy", "readonly", "maxclients", "client-kill", "delay", "silent", "replies-held",
		"half-open", "unreachable", "half-blind", "acl-rotate", "acl-changed", "tls-foreign", "tls-moved", "clock-ahead", "sigterm", "fds",
	},
	Sentinel: {"refuse", "acl-right", "half-blind", "se-replicas", "se-sentinels", "se-manual", "se-blind"},
	Cluster:  {"oom", "flap", "half-blind", "cl-manual", "cl-migrate", "cl-seeds", "cl-bus-one-way"},
}

func TestFaults(t *testing.T) {
	rich := []Options{
		{Kind: Single, TLS: true, ACL: true, Clock: true, Seed: 1},
		{Kind: Sentinel, TLS: full, ACL: full, Seed: 2},
		{Kind: Cluster, TLS: full, ACL: full, Seed: 3},
	}
	t.Run("rich", func(t *testing.T) { onEach(t, rich) })
	if full {
		t.Run("plain", func(t *testing.T) {
			onEach(t, []Options{{Kind: Single, Seed: 4}, {Kind: Sentinel, Seed: 5}, {Kind: Cluster, Seed: 6}})
		})
	}
}

// onEach waits, mostly: so the stages are there at once.
func onEach(t *testing.T, all []Options) {
	for _, o := range all {
		t.Run(string(o.Kind), func(t *testing.T) {
			t.Parallel()
			sc := put(t, o)
			for _, f := range Faults() {
				if f.Fits(o) && (full || slices.Contains(short[o.Kind], f.Name)) {
					t.Run(f.Name, func(t *testing.T) { sc.during(t, f) })
				}
			}
		})
	}
}

// during injects a fault, wants it to be seen, heals it, and wants all to be as it was.
func (sc *scene) during(t *testing.T, f Fault) {
	parent := sc.T
	sc.T = t
	defer func() { sc.T = parent }()
	proof := proofs[f.Name]
	if proof == nil {
		t.Fatal("there is no proof that it happens")
	}
	if f.Down || slices.Contains([]string{"half-blind", "fds", "se-partition", "cl-minority"}, f.Name) {
		sc.T = parent // whose test the clients live as long as
		sc.hire()
		sc.T = t
	}
	sc.write()
	sc.keep()
	defer sc.letGo()
	before, moves := sc.elections(), sc.watchMoves()
	heal, err := f.Inject(t.Context(), sc.Stage, sc.random)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	proof(sc)
	// What a failover needs is not there sooner.
	if f.FromStart {
		time.Sleep(time.Until(begin.Add(f.For)))
	}
	if err := heal(); err != nil {
		t.Errorf("healing: %v", err)
	}
	if err := sc.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.Contains([]string{"se-manual", "se-pause", "cl-manual"}, f.Name) {
		if after := sc.elections(); after <= before {
			t.Errorf("%d elections before a failover, %d after", before, after)
		}
		if moves() == 0 {
			t.Error("no new master was told of")
		}
	} else if n := moves(); n > 0 && !f.Loss && sc.o.Kind == Sentinel {
		t.Errorf("the fault declares no loss, and %d new masters were told of", n)
	} else if after := sc.elections(); full && !f.Loss && sc.o.Kind == Sentinel && after != before {
		t.Errorf("the fault declares no loss, and there were %d elections", after-before)
	}
	sc.isWell(f)
	if after := healed[f.Name]; after != nil {
		after(sc)
	}
}

// watchMoves counts new masters until the returned function is called, which tells how many
// there were.
func (sc *scene) watchMoves() (end func() int) {
	ctx, cancel := context.WithCancel(sc.Context())
	var watching sync.WaitGroup
	n := 0
	watching.Go(func() { sc.Moves(ctx, func() { n++ }) })
	return func() int {
		cancel()
		watching.Wait()
		return n
	}
}

func (sc *scene) elections() int {
	sc.Helper()
	n, err := sc.Elections(sc.Context())
	if err != nil {
		sc.Error(err)
	}
	return n
}

// isWell: every master answers Coatcheck, and nothing is lost that Redis may not lose.
func (sc *scene) isWell(f Fault) {
	sc.Helper()
	sc.within(time.Minute, "every master answers", func() error {
		masters, err := sc.masters(sc.Context())
		if err != nil {
			return err
		}
		for _, n := range masters {
			if got := sc.askFor(3*time.Second, n); got != "ok" {
				return fmt.Errorf("%s: %s", n.name, got)
			}
		}
		return nil
	})
	sc.within(time.Minute, "the judge is answered", func() error {
		n, err := sc.left()
		if err == nil && n != written && !f.Loss {
			return fmt.Errorf("%d of %d keys are left", n, written)
		}
		return err
	})
}

// TestBounds: a bound that is not one of the usual has a reason on the page, and no other.
func TestBounds(t *testing.T) {
	for _, f := range slices.Concat(Faults(), Millions()) {
		if usual := slices.Contains(f.usual(), f.Bound); usual != (f.Why == "") {
			t.Errorf("%s: the bound %v, of %v, and the reason %q", f.Name, f.Bound, f.usual(), f.Why)
		}
	}
}

// TestMillions has each happen, with fewer sessions.
func TestMillions(t *testing.T) {
	const many = 6000
	sc := put(t, Options{Kind: Single, ACL: true, Seed: 8, Sessions: many})
	keys := func() (n int64) {
		n, err := sc.judge.DBSize(t.Context()).Result()
		must(t, err)
		return n
	}
	before := keys()
	if want := int64(many + many/perUser); before != want {
		t.Fatalf("%d keys, want %d", before, want)
	}
	m, err := sessions.NewManager(redisstore.New(sc.judge, redisstore.Config{}), sessions.Config{})
	must(t, err)
	if list, _, err := m.List(t.Context(), "million-7"); err != nil || len(list) != perUser {
		t.Errorf("the sessions of a user: %v, %v", list, err)
	}
	for _, f := range Millions() {
		heal, err := f.Inject(t.Context(), sc.Stage, sc.random)
		must(t, err)
		time.Sleep(70 * time.Millisecond)
		must(t, heal())
		must(t, sc.Settle(t.Context()))
		if now := keys(); now != before {
			t.Errorf("%s: %d keys, and %d before", f.Name, now, before)
		}
	}
}

// TestProofs holds the list against the proofs.
func TestProofs(t *testing.T) {
	names := make(map[string]bool)
	for _, f := range Faults() {
		if names[f.Name] {
			t.Errorf("two faults are called %s", f.Name)
		}
		names[f.Name] = true
		if proofs[f.Name] == nil {
			t.Errorf("no proof of %s", f.Name)
		}
		if f.What == "" || !strings.HasSuffix(f.What, ".") || f.For <= 0 || f.Bound <= 0 || len(f.On) == 0 || f.Inject == nil {
			t.Errorf("%s says too little of itself", f.Name)
		}
	}
	for name := range proofs {
		if !names[name] {
			t.Errorf("a proof of %s, which is no fault", name)
		}
	}
	for name := range healed {
		if !names[name] {
			t.Errorf("%s, which is no fault, is healed", name)
		}
	}
}

// TestLeavesNothing injects ten faults in a row, some of which are never healed, and looks
// for what is left of them.
func TestLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	routines, processes := runtime.NumGoroutine(), children(t)
	sc := put(t, Options{Kind: Single, Seed: 7})
	names := []string{"bounce", "pause-short", "busy", "acl-flap", "client-kill", "blackhole", "unreachable", "flap", "replies-held", "kill"}
	faults := Faults()
	for i, name := range names {
		f := faults[slices.IndexFunc(faults, func(f Fault) bool { return f.Name == name })]
		heal, err := f.Inject(t.Context(), sc.Stage, sc.random)
		must(t, err)
		time.Sleep(50 * time.Millisecond)
		if i < len(names)-1 {
			must(t, heal())
			must(t, sc.Settle(t.Context()))
		}
	}
	must(t, sc.judge.Close())
	must(t, sc.Close())
	sc.within(time.Minute, "nothing is left", func() error {
		var errs []error
		if now := runtime.NumGoroutine(); now > routines {
			errs = append(errs, fmt.Errorf("%d goroutines, %d before", now, routines))
		}
		if now := children(t); len(now) > len(processes) {
			errs = append(errs, fmt.Errorf("processes %v, before %v", now, processes))
		}
		if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
			errs = append(errs, fmt.Errorf("%d files: %w", len(left), err))
		}
		return errors.Join(errs...)
	})
}

// TestUpFails leaves nothing either.
func TestUpFails(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	before := children(t)
	if s, err := Up(t.Context(), Options{Kind: "none"}); err == nil {
		t.Error("a kind that there is not is up")
		_ = s.Close()
	}
	if s, err := Up(t.Context(), Options{Kind: Sentinel, Redis: "/bin/false"}); err == nil {
		t.Error("a program that ends is up")
		_ = s.Close()
	}
	if now := children(t); len(now) > len(before) {
		t.Errorf("processes %v, before %v", now, before)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("%d files are left (%v)", len(left), err)
	}
}

// children are the processes that this one has started (proc(5)).
func children(t *testing.T) (all []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	must(t, err)
	for _, entry := range entries {
		text, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == fmt.Sprint(os.Getpid()) {
			all = append(all, entry.Name())
		}
	}
	return all
}

// TestRights holds the rights of Coatcheck's user against docs/sessions.md.
func TestRights(t *testing.T) {
	page, err := os.ReadFile("../../../docs/sessions.md")
	must(t, err)
	for _, text := range []string{"user coatcheck-check on >PASSWORD " + rights + "\n", nearRights, "add `" + strings.Join(strings.Fields(clusterRights)[:2], " ") + "` to all four", "`" + strings.Join(strings.Fields(clusterRights)[2:], " ") + "`"} {
		if !strings.Contains(string(page), text) {
			t.Errorf("docs/sessions.md does not say %s", text)
		}
	}
}
