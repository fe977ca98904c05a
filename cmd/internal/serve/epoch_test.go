package serve

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/internal/notice"
)

// A holding store knows until when missing sessions are held.
type holding struct{ until time.Time }

func (h *holding) HoldMissing(until time.Time) { h.until = until }

// TestEpochsReturn: data that are back end a hold, also when Redis had lost others before,
// in the same incident or long ago, on this master or on another one.
func TestEpochsReturn(t *testing.T) {
	watching := func() (*epochWatch, *holding) {
		logger := slog.New(slog.NewJSONHandler(new(bytes.Buffer), nil))
		board, err := notice.NewBoard(logger, nil, notice.RedisEmptied)
		if err != nil {
			t.Fatal(err)
		}
		store := new(holding)
		return &epochWatch{store: store, notices: board, logger: logger, emptied: prometheus.NewCounter(prometheus.CounterOpts{}),
			hold: time.Minute, known: map[string]string{}, lost: map[string]*loss{}}, store
	}
	for name, epochs := range map[string][]string{
		"what was lost first":                  {"a", "", "b", "", "c", "a"},
		"what was lost last":                   {"a", "", "b", "", "c", "b"},
		"what was lost last, without an empty": {"a", "b", "c", "b"},
	} {
		w, store := watching()
		for i, epoch := range epochs {
			last := i == len(epochs)-1
			if last && store.until.IsZero() {
				t.Fatalf("%s: no hold before it is back", name)
			}
			w.compare("one", epoch)
			if last && !store.until.IsZero() {
				t.Errorf("%s is back, and missing sessions are held", name)
			}
		}
	}

	w, store := watching()
	for _, epoch := range []string{"a", "", "b"} {
		w.compare("other", epoch)
	}
	for _, l := range w.lost { // long ago
		l.at = l.at.Add(-time.Hour)
	}
	for _, epoch := range []string{"d", "", "e", "d"} {
		w.compare("one", epoch)
	}
	if !store.until.IsZero() {
		t.Error("a loss of long ago, on another master, holds missing sessions although these data are back")
	}

	w, store = watching()
	for _, key := range []string{"one", "other"} {
		w.compare(key, "a")
		w.compare(key, "")
	}
	w.compare("one", "a")
	if store.until.IsZero() {
		t.Error("half of the data are back, and nothing is held")
	}
}

// TestEpochsOfMasters: the log names each master that has lost its data, also while the
// notice of the first one stands, and where data were back in between.
func TestEpochsOfMasters(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	board, err := notice.NewBoard(logger, nil, notice.RedisEmptied)
	if err != nil {
		t.Fatal(err)
	}
	w := &epochWatch{notices: board, logger: logger, emptied: prometheus.NewCounter(prometheus.CounterOpts{}), known: map[string]string{}, lost: map[string]*loss{}}
	for _, key := range []string{"one", "two"} {
		w.compare(key, "a")
		w.compare(key, "")
		if !strings.Contains(log.String(), `"key":"`+key+`"`) {
			t.Errorf("no line names %s: %s", key, &log)
		}
	}
	w.compare("one", "a")
	w.compare("two", "a")
	if board.Stands(notice.RedisEmptied) {
		t.Error("the data are back, and the notice stands")
	}
	w.compare("two", "")
	if n := strings.Count(log.String(), `"level":"ERROR"`); n != 3 {
		t.Errorf("%d lines: %s", n, &log)
	}
}
