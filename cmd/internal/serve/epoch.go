package serve

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// An epochWatch notices, beside the checks, that a Redis has lost its sessions: to a check
// that looks the same as if all users had signed out. Each master's data has an epoch,
// which login sets; one that is gone or another one says that the data are. After a
// failover the new master has the same epoch, which says nothing.
//
// What a process knows of epochs begins with its start, so one that starts after Redis was
// emptied notices nothing.
type epochWatch struct {
	state   *redisstore.State
	store   interface{ HoldMissing(until time.Time) }
	notices *notice.Board
	logger  *slog.Logger
	emptied prometheus.Counter
	login   bool          // sets epochs
	hold    time.Duration // for how long checks do not say that a session is missing; 0: they do

	known map[string]string // epochs by key; empty: gone
	lost  map[string]*loss  // by keys whose master has lost its data
	held  time.Time         // the end of the hold; zero: there is none
	tried time.Time         // to set epochs
	said  time.Time         // the last loss; zero: there was none
}

// A loss is what a master has lost. A Redis can be emptied again before its data are back,
// so any of the former epochs says that data are.
type loss struct {
	former []string  // epochs, the last maxFormer
	at     time.Time // the last time
}

const maxFormer = 8

// stands reports whether data that other masters have again leave something to be said.
func (w *epochWatch) stands(l *loss) bool { return time.Since(l.at) < max(w.hold, notice.Pause) }

// look compares what stands in a Redis that answers with what stood there.
func (w *epochWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	epochs, err := w.state.Epochs(ctx, slices.Collect(maps.Keys(w.known))...)
	if err == nil && w.login {
		err = w.begin(ctx, epochs)
	}
	switch {
	case redisstore.Forbidden(err):
		w.notices.Say(notice.EpochUnread, slog.String("error", err.Error()))
	case err == nil:
		w.notices.Over(notice.EpochUnread)
	}
	for key, epoch := range epochs {
		w.compare(key, epoch)
	}
	if !w.held.IsZero() && !time.Now().Before(w.held) {
		w.release("redis.emptied_hold is over")
	}
}

// begin gives epochs to masters without one; where that is refused, again in a minute.
func (w *epochWatch) begin(ctx context.Context, epochs map[string]string) error {
	if !slices.Contains(slices.Collect(maps.Values(epochs)), "") || time.Since(w.tried) < lookEvery {
		return nil
	}
	err := w.state.BeginEpoch(ctx)
	if err != nil {
		w.tried = time.Now()
	}
	return err
}

// compare learns one epoch, as it was before begin.
func (w *epochWatch) compare(key, epoch string) {
	former := w.known[key]
	if epoch == former {
		return
	}
	w.known[key] = epoch
	switch lost := w.lost[key]; {
	case lost != nil && slices.Contains(lost.former, epoch):
		delete(w.lost, key)
		if !slices.ContainsFunc(slices.Collect(maps.Values(w.lost)), w.stands) {
			w.notices.Over(notice.RedisEmptied)
			w.release("its data are back")
		}
	case former != "":
		if lost == nil {
			lost = new(loss)
			w.lost[key] = lost
		}
		lost.former, lost.at = append(lost.former[max(0, len(lost.former)-maxFormer+1):], former), time.Now()
		w.empty(key)
	}
}

// empty is called for each loss.
func (w *epochWatch) empty(key string) {
	w.emptied.Inc()
	if time.Since(w.said) < notice.Pause { // the notice has no further line
		w.logger.Error("Redis has lost sessions again, or those of a further master", "key", key)
	}
	w.said = time.Now()
	w.notices.Say(notice.RedisEmptied, slog.String("key", key), slog.String("redis.emptied_hold", w.hold.String()))
	if w.hold > 0 {
		w.held = time.Now().Add(w.hold)
		w.store.HoldMissing(w.held)
		w.logger.Warn("checks answer 503 where a session is missing, until redis.emptied_hold is over, the data are back, or this process starts anew", "until", w.held.Format(time.RFC3339))
	}
}

// release ends the hold.
func (w *epochWatch) release(why string) {
	if w.held.IsZero() {
		return
	}
	w.held = time.Time{}
	w.store.HoldMissing(w.held)
	w.logger.Info("checks answer again that a missing session is missing", "why", why)
}
