package serve

import (
	"bytes"
	"log/slog"
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
