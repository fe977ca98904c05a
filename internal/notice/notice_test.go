package notice

import (
	"bytes"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// A board is one whose clock the test sets.
type board struct {
	*Board
	log      *bytes.Buffer
	registry *prometheus.Registry
	time     time.Time
}

func newBoard(t *testing.T, names ...Name) *board {
	t.Helper()
	b := &board{log: new(bytes.Buffer), registry: prometheus.NewRegistry(), time: time.Now()}
	var err error
	if b.Board, err = NewBoard(slog.New(slog.NewJSONHandler(b.log, nil)), b.registry, names...); err != nil {
		t.Fatal(err)
	}
	b.now = func() time.Time { return b.time }
	for _, s := range b.states {
		s.now = b.now
	}
	return b
}

// lines are how often the log has each text.
func (b *board) lines(text string) int { return strings.Count(b.log.String(), text) }

func (b *board) metric(t *testing.T, name Name) float64 {
	t.Helper()
	return testutil.ToFloat64(b.states[name])
}

// TestSaidOnce: a notice that stands is one line however often it is said, and one that
// comes and goes is one line an hour.
func TestSaidOnce(t *testing.T) {
	b := newBoard(t, ClocksApart, EnvoyDeadline)
	if b.metric(t, ClocksApart) != 0 {
		t.Error("it stands from the beginning")
	}
	const text, over = `"notice":"clocks_apart"`, "no longer so"
	for range 1000 {
		b.Say(ClocksApart, slog.Duration("offset", 6*time.Second))
		b.time = b.time.Add(time.Minute)
	}
	if n := b.lines(text); n != 1 || b.metric(t, ClocksApart) != 1 || !b.Stands(ClocksApart) {
		t.Fatalf("%d lines, metric %v:\n%s", n, b.metric(t, ClocksApart), b.log)
	}
	if !strings.Contains(b.log.String(), `"offset":6000000000`) || !strings.Contains(b.log.String(), ClocksApart.info().Cure) {
		t.Errorf("without value or cure: %s", b.log)
	}
	b.Over(ClocksApart)
	b.Over(ClocksApart)
	if n := b.lines(over); n != 1 || b.metric(t, ClocksApart) != 0 {
		t.Fatalf("%d ends, metric %v", n, b.metric(t, ClocksApart))
	}
	b.log.Reset()
	for range 100 { // 200 minutes of it
		b.Say(ClocksApart)
		b.time = b.time.Add(time.Minute)
		b.Over(ClocksApart)
		b.time = b.time.Add(time.Minute)
	}
	if n, ends := b.lines(text)-b.lines(over), b.lines(over); n > 4 || ends > n {
		t.Errorf("%d lines and %d ends in 200 minutes", n, ends)
	}
	if b.metric(t, EnvoyDeadline) != 0 || b.lines("envoy_deadline") != 0 {
		t.Error("another notice stands, too")
	}
}

// TestFades: what is not seen again for an hour does not stand any more, without a line;
// when it comes back, it is said.
func TestFades(t *testing.T) {
	b := newBoard(t, EnvoyDeadline)
	b.Say(EnvoyDeadline)
	b.time = b.time.Add(Pause - time.Second)
	b.Say(EnvoyDeadline)
	b.time = b.time.Add(Pause - time.Second)
	if b.metric(t, EnvoyDeadline) != 1 || b.lines("envoy_deadline") != 1 {
		t.Fatalf("metric %v: %s", b.metric(t, EnvoyDeadline), b.log)
	}
	b.time = b.time.Add(time.Second)
	if b.metric(t, EnvoyDeadline) != 0 {
		t.Fatal("it stands after an hour")
	}
	b.Over(EnvoyDeadline)
	if b.lines("no longer") != 0 {
		t.Errorf("what does not stand ends: %s", b.log)
	}
	b.Say(EnvoyDeadline)
	if b.lines("envoy_deadline") != 2 {
		t.Errorf("it came back, and is not said: %s", b.log)
	}
}

// TestShared: two rooms of a process share a notice; at the same time they say it once.
func TestShared(t *testing.T) {
	b := newBoard(t, EndlessRecord, TrustedHops)
	other, err := NewBoard(b.logger, b.registry, EndlessRecord)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { b.Say(EndlessRecord) })
		all.Go(func() { other.Say(EndlessRecord) })
	}
	all.Wait()
	if n := b.lines("endless_record"); n != 1 || !other.Stands(EndlessRecord) {
		t.Errorf("%d lines: %s", n, b.log)
	}
	if n, err := testutil.GatherAndCount(b.registry, "coatcheck_notices"); n != 2 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
	taken := prometheus.NewRegistry()
	taken.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "coatcheck_notices", Help: "another program's"}))
	if _, err := NewBoard(nil, taken, EndlessRecord); err == nil {
		t.Error("another metric of this name is no error")
	}
}

// TestUnknown: a name that the Board was not made with does no harm, nor does a Board
// without a log and a registry.
func TestUnknown(t *testing.T) {
	b, err := NewBoard(nil, nil, ClocksApart)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Board{b, nil} {
		b.Say("nothing")
		b.Over("nothing")
	}
	if b.Say(ClocksApart); b.Stands("nothing") || !b.Stands(ClocksApart) {
		t.Error("it stands, or does not")
	}
}

// TestList: every notice has one row, which is whole and fits into a table.
func TestList(t *testing.T) {
	var seen []Name
	for _, i := range All() {
		if slices.Contains(seen, i.Name) {
			t.Errorf("%s is there twice", i.Name)
		}
		seen = append(seen, i.Name)
		if i.Text == "" || i.Cause == "" || i.Cure == "" || strings.ContainsAny(i.Text+i.Cause+i.Cure, "|\n") {
			t.Errorf("%+v", i)
		}
		if !regexp.MustCompile(`^[a-z_]+$`).MatchString(string(i.Name)) || strings.Contains(i.Text+i.Cure, "`") {
			t.Errorf("%s: it is for a log", i.Name)
		}
		if i.Level != slog.LevelError && i.Level != slog.LevelWarn && (i.Level != slog.LevelInfo || i.Page) {
			t.Errorf("%s: level %v", i.Name, i.Level)
		}
	}
	if !slices.Equal(seen, Names()) {
		t.Error("Names has others")
	}
}
