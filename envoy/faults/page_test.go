package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/envoy/faults/load"
	"github.com/coatcheck/coatcheck/envoy/faults/stage"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

// TestDocsFaults: the page shows what stands in the files, by the faults as they are now.
func TestDocsFaults(t *testing.T) {
	runs, err := readSoaked("../../docs/faults.json")
	if err != nil {
		t.Fatal(err)
	}
	docstest.PartIsCurrent(t, "docs/faults.md", "soak", soakTable(runs))
	rows, err := readRows("../../docs/faults-rows.json")
	if err != nil {
		t.Fatal(err)
	}
	docstest.PartIsCurrent(t, "docs/faults.md", "table", tables(merge(rows)))
}

// TestKeep: a run is added to those before, and the page shows all of them.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "faults.md"), []byte("a\n<!-- soak -->\nold\n<!-- /soak -->\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for seed := range int64(2) {
		run := soaked{Day: "2026-11-27", Machine: "a machine, Redis 7.0.15", Revision: "0123", Seed: seed, Checks: 1000, Scenes: 1, Faults: map[string]int{"kill": 2}}
		if err := run.keep(dir); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "faults.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a\n<!-- soak -->\n| day", "| **all** | | | | 0 | 2 | 0 | 4 | **2000** |", "<!-- /soak -->\nb\n"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in:\n%s", want, page)
		}
	}
}

// TestFailures: each kind of failure fails a run, but no time does on a machine that stood
// still.
func TestFailures(t *testing.T) {
	good := func() *result {
		return &result{
			fault: stage.Fault{Bound: time.Second}, recovered: true, recovery: 9 * time.Second,
			inside: &load.Figures{}, after: &load.Figures{Alive: map[history.Verdict]int{history.Allowed: 90, history.Unavailable: 9}},
			setting: setting{stage: stage.Options{Kind: stage.Single}},
			before:  []usage{{goroutines: 10, descriptors: 10}}, later: []usage{{goroutines: 30, descriptors: 10}},
		}
	}
	for name, c := range map[string]struct {
		spoil  func(*result)
		always bool // also on a machine that stood still
	}{
		"a wrong answer":   {func(r *result) { r.sums.Violations = map[history.Rule]int{history.Revoked: 1} }, true},
		"a late answer":    {func(r *result) { r.sums.Violations = map[history.Rule]int{history.Late: 1} }, false},
		"goroutines":       {func(r *result) { r.later[0].goroutines = 31 }, true},
		"connections":      {func(r *result) { r.later[0].descriptors = 11 + connectionsTo() }, true},
		"memory":           {func(r *result) { r.later[0].memory = memoryRoom + 1<<20 }, true},
		"no metrics":       {func(r *result) { r.later = nil }, true},
		"no recovery":      {func(r *result) { r.recovered = false }, false},
		"a late recovery":  {func(r *result) { r.recovery = 11 * time.Second }, false},
		"refusals":         {func(r *result) { r.after.Alive[history.Unavailable] = 20 }, false},
		"no allows after":  {func(r *result) { r.after.Alive[history.Allowed] = 0 }, true},
		"no answers after": {func(r *result) { r.after.Alive = nil }, true},
	} {
		r := good()
		if failed := r.failures(); len(failed) > 0 {
			t.Fatalf("a good run fails: %v", failed)
		}
		c.spoil(r)
		if len(r.failures()) != 1 {
			t.Errorf("%s: %v", name, r.failures())
		}
		r.stalled = 0.2
		if (len(r.failures()) == 1) != c.always {
			t.Errorf("%s, on a machine that stood still: %v", name, r.failures())
		}
	}
}

// TestLeaks plants a leak of each kind, in each kind of Redis: a little of what a scene loses
// in a fault, in one fault after the other, and all at once. What a fault may leave behind is
// none.
func TestLeaks(t *testing.T) {
	at := usage{goroutines: 90, descriptors: 30, memory: 40 << 20, heap: 12 << 20}
	for kind, nodes := range nodesOf {
		pools := nodes * connectionsTo()
		for name, c := range map[string]struct {
			later usage
			want  int
		}{
			"nothing":                      {at, 0},
			"less":                         {usage{goroutines: 1, descriptors: 1, memory: 1, heap: 1}, 0},
			"what a fault may leave":       {usage{goroutines: 90 + goroutineRoom, descriptors: 30 + pools, memory: 40<<20 + memoryRoom, heap: 12<<20 + heapRoom}, 0},
			"a goroutine for a check":      {usage{goroutines: 500, descriptors: 30, memory: 40 << 20, heap: 12 << 20}, 1},
			"a connection for a dial":      {usage{goroutines: 90, descriptors: 31 + pools, memory: 40 << 20, heap: 12 << 20}, 1},
			"50 kB for each of 400 checks": {usage{goroutines: 90, descriptors: 30, memory: 40 << 20, heap: 12<<20 + 20<<20}, 1},
			"memory beside the heap":       {usage{goroutines: 90, descriptors: 30, memory: 40<<20 + 2*memoryRoom, heap: 12 << 20}, 1},
			"all of it":                    {usage{goroutines: 500, descriptors: 500, memory: 500 << 20, heap: 500 << 20}, 4},
		} {
			if got := leaks(kind, []usage{at}, []usage{c.later}); len(got) != c.want {
				t.Errorf("%s: %s: %v", kind, name, got)
			}
		}
		// Five goroutines and connections in each of ten faults.
		s := &scene{setting: setting{stage: stage.Options{Kind: kind}}, first: []usage{at}}
		before, found := at, false
		for i := 1; i <= 10*nodes; i++ {
			later := before
			later.goroutines, later.descriptors = later.goroutines+5, later.descriptors+5
			if got := leaks(kind, []usage{before}, []usage{later}); len(got) > 0 {
				break // found by the descriptors in all
			}
			found = found || len(s.grown(&result{later: []usage{later}})) > 0
			before = later
		}
		if !found {
			t.Errorf("%s: what is lost bit by bit is not found", kind)
		}
	}
}

// TestMerge: a row takes the place of the one before of the same fault in the same kind, and
// of no other, and rows of faults that there are no more, or not there, go.
func TestMerge(t *testing.T) {
	old := []measured{
		{Fault: "kill", Kind: stage.Single, Near: true, Checks: 1}, {Fault: "bounce", Kind: stage.Single, Checks: 2}, {Fault: "gone", Kind: stage.Single}, {Fault: "client-pause", Kind: stage.Sentinel},
		{Fault: "flush", Kind: stage.Cluster, Checks: 3}, {Fault: "million-save", Kind: stage.Single, Sessions: stage.Million, Checks: 4},
	}
	got := merge(old, measured{Fault: "flush", Kind: stage.Cluster, Checks: 5}, measured{Fault: "flush", Kind: stage.Single, Checks: 6}, measured{Fault: "million-save", Kind: stage.Single, Checks: 7})
	var checks []int
	for _, m := range got {
		checks = append(checks, m.Checks)
	}
	if want := []int{2, 1, 6, 7, 4, 5}; !slices.Equal(checks, want) {
		t.Errorf("%v, want %v", checks, want)
	}
}

// TestKeepRow: each row is in both files as soon as it is there, also where the run is broken
// off behind it.
func TestKeepRow(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "faults.md"), []byte("a\n<!-- table -->\nold\n<!-- /table -->\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &keeper{docs: dir, seed: 7, revision: "0123", machine: "a machine"}
	res := func(name string) *result {
		return &result{fault: faultOf(name), setting: setting{stage: stage.Options{Kind: stage.Single, TLS: true}}, inside: &load.Figures{}, after: &load.Figures{}, recovery: 1500 * time.Millisecond}
	}
	for i, name := range []string{"kill", "bounce", "kill"} {
		if err := k.keep("", res(name), nil); err != nil {
			t.Fatal(err)
		}
		rows, err := readRows(filepath.Join(dir, "faults-rows.json"))
		if err != nil || len(rows) != min(i+1, 2) || rows[len(rows)-1].Fault != "kill" || rows[0].Revision != "0123" || rows[0].Seed != 7 {
			t.Errorf("after row %d: %+v, %v", i, rows, err)
		}
	}
	if err := k.end(); err != nil {
		t.Errorf("no row has failed: %v", err)
	}
	leaking := res("kill")
	leaking.failed = []string{"too many goroutines"}
	for _, err := range []error{k.keep("4 of 5", leaking, nil), k.keep("5 of 5: kill, cluster", nil, errors.New("a stage that fell"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	err := k.end()
	for _, want := range []string{"2 rows failed", "\nkill, single, TLS, seed 7: too many goroutines\n", "\n5 of 5: kill, cluster: not played: a stage that fell"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in the error at the end: %v", want, err)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "faults.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| 2 | a machine | 7 | `0123` |", "\n| kill | F2 | TLS |", "| **1500**/1000 |"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in:\n%s", want, page)
		}
	}
}

// TestRevocations: the page says how long revocations took beside many sessions.
func TestRevocations(t *testing.T) {
	rows := []measured{
		{Fault: "kill", RevokeAll: &[2]float64{900, 901}}, {Fault: "million-save", Sessions: 9, RevokeAll: &[2]float64{4, 20}},
		{Fault: "million-scan", Sessions: 9, RevokeAll: &[2]float64{7, 11}}, {Fault: "million-restart", Sessions: 9},
	}
	if got := tables(rows); strings.Count(got, "took 4.0 to 7.0 ms (the medians of 2 rows), and 20 ms at most") != 1 || strings.Contains(got, "901") {
		t.Error(got)
	}
}

// TestServerOf: the page says which server a soak had.
func TestServerOf(t *testing.T) {
	for printed, want := range map[string]string{
		"Redis server v=7.0.15 sha=00000000:0": "Redis 7.0.15", "Valkey server v=8.1.1 sha=0": "Valkey 8.1.1",
	} {
		if got := serverOf(printed); got != want {
			t.Errorf("%s: %s", printed, got)
		}
	}
}

// TestWrongSoak: a soak fails by what was wrong, and where it has tried nothing.
func TestWrongSoak(t *testing.T) {
	faults := map[string]int{"kill": 1}
	for name, c := range map[string]struct {
		sums soaked
		want bool
	}{
		"right": {soaked{Checks: 9, Faults: faults}, false}, "no scene": {soaked{}, true}, "no fault": {soaked{Checks: 9}, true},
		"a wrong answer": {soaked{Checks: 9, Faults: faults, Violations: 1}, true}, "a leak": {soaked{Checks: 9, Faults: faults, Failed: 1}, true},
	} {
		if err := c.sums.wrong(); (err != nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVoid: a scene that is void adds nothing but that.
func TestVoid(t *testing.T) {
	h := history.Sums{Checks: 100, Violations: map[history.Rule]int{history.Revoked: 1}}
	sums := soaked{Faults: make(map[string]int)}
	sums.add(h, &played{faults: map[string]int{"kill": 3}, void: true})
	if want := (soaked{Void: 1, Faults: make(map[string]int)}); !reflect.DeepEqual(sums, want) {
		t.Errorf("%+v", sums)
	}
	sums.add(h, &played{faults: map[string]int{"kill": 3}, failed: 1})
	if sums.Scenes != 1 || sums.Checks != 100 || sums.WrongAllows != 1 || sums.Faults["kill"] != 3 || sums.Failed != 1 {
		t.Errorf("%+v", sums)
	}
}

// TestBrokenOff: an error of the stage does not take away the wrong answers before it.
func TestBrokenOff(t *testing.T) {
	s, broken := &scene{history: history.New(history.Rules{})}, errors.New("a Sentinel did not start")
	if err := s.blame(broken); !errors.Is(err, broken) || errors.Is(err, errWrong) {
		t.Errorf("without a wrong answer: %v", err)
	}
	s.history.Stranger("unknown").Ask(0, history.Question{}).Answer(0, history.Answer{Verdict: history.Allowed})
	if err := s.blame(broken); !errors.Is(err, errWrong) || !errors.Is(err, broken) {
		t.Errorf("with one: %v", err)
	}
	if err := s.blame(nil); err != nil {
		t.Errorf("of a run that was played: %v", err)
	}
}

// TestDown: only the replica to which a fault happens may answer with errors meanwhile.
func TestDown(t *testing.T) {
	s := &scene{history: history.New(history.Rules{Budget: time.Hour}), stage: new(stage.Stage)}
	ask := func(replica int) {
		s.history.Stranger("unknown").Ask(2*time.Second, history.Question{Replica: replica}).Answer(2*time.Second, history.Answer{Verdict: history.Failed})
	}
	over := s.declare(stage.Fault{Down: true}, func() time.Duration { return 2 * time.Second })
	s.stage.Drawn(1)
	ask(1)
	if wrong := s.history.Sums().Wrong(); wrong != 0 {
		t.Errorf("the one that is down: %v", s.history.Violations())
	}
	ask(0)
	if wrong := s.history.Sums().Wrong(); wrong != 1 {
		t.Errorf("the other: %d wrong answers", wrong)
	}
	over()
}

// TestRows: what a row is played in depends on the row and the seed alone.
func TestRows(t *testing.T) {
	all := (&tableRun{seed: 1}).rows()
	quick := (&tableRun{seed: 1, quick: true}).rows()
	const slow = 2 * 3 // coat-clocks, for which a program is built
	if len(all) < 100 || len(quick) != len(all)-slow {
		t.Fatalf("%d rows, quick %d", len(all), len(quick))
	}
	if quick[0].setting.stage.Kind == quick[1].setting.stage.Kind || quick[1].setting.stage.Kind == quick[2].setting.stage.Kind {
		t.Error("the kinds are not in turn")
	}
	for _, r := range all[:20] {
		near := map[bool]string{true: "on", false: "off"}[r.setting.near]
		one := (&tableRun{seed: 1, only: r.fault.Name, kind: string(r.setting.stage.Kind), near: near}).rows()
		if len(one) != 1 || one[0].setting.stage != r.setting.stage {
			t.Errorf("%s alone: %+v, want %+v", r.fault.Name, one, r.setting)
		}
		if !r.fault.Fits(r.setting.stage) {
			t.Errorf("%s does not fit its setting", r.fault.Name)
		}
	}
	if other := (&tableRun{seed: 2}).rows(); other[0].setting.stage.Seed == all[0].setting.stage.Seed {
		t.Error("another seed draws the same")
	}
}

// TestFirstAllow: what Redis itself takes for a new master beyond the bound is not
// Coatcheck's, but what comes behind is.
func TestFirstAllow(t *testing.T) {
	for _, c := range []struct {
		recovery, moved time.Duration
		want            string
	}{
		{3900 * time.Millisecond, 0, "3900/4000"},
		{4100 * time.Millisecond, 0, "**4100**/4000"},
		{4100 * time.Millisecond, 3900 * time.Millisecond, "4100 (3900)/4000"},
		{4100 * time.Millisecond, 3700 * time.Millisecond, "**4100** (3700)/4000"},
		{4900 * time.Millisecond, 4700 * time.Millisecond, "4900 (4700)/4000"},
		{4900 * time.Millisecond, 4500 * time.Millisecond, "**4900** (4500)/4000"},
	} {
		m := measured{FirstAllow: inMS(c.recovery), Moved: inMS(c.moved)}
		if got := m.firstAllow(stage.Fault{Bound: 4 * time.Second}); got != c.want {
			t.Errorf("%v, %v: %s, want %s", c.recovery, c.moved, got, c.want)
		}
	}
}
