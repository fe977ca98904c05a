package serve

import (
	"context"
	"log/slog"
	"time"

	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

const (
	// quiet is for how long no operation may have failed by a cause before that is over.
	quiet = 5 * time.Second
	// causePause is how far apart two lines of the beginning of the same cause are: a Redis
	// that flaps fills no log.
	causePause = time.Minute
)

// causeOf names the cause of an error for the decision log.
func causeOf(err error) (cause, openedBy string) {
	c, by := redisstore.CauseOf(err)
	return string(c), string(by)
}

// A causeWatch says which causes operations on Redis fail by: a line when one begins, with
// what to look at, and one when it is over. It looks once a second, beside the checks, at
// how often operations have failed. While a cause stands it tries what a check does, so that
// the end is seen where no user comes.
type causeWatch struct {
	failures func() map[redisstore.Cause]uint64
	openedBy func() []redisstore.Cause
	try      func(context.Context) error
	logger   *slog.Logger
	now      func() time.Time
	states   map[redisstore.Cause]*causeState
}

// A causeState is what is known of one cause.
type causeState struct {
	seen        uint64 // failures, at the last look
	standing    bool
	since, last time.Time // of failures, while it stands
	failed      uint64    // since it stands
	line        time.Time // the last line of a beginning
	logged      bool      // this one has had a line
}

func newCauseWatch(store *redisstore.Store, logger *slog.Logger) *causeWatch {
	w := &causeWatch{failures: store.Failures, openedBy: store.OpenedBy, try: store.Try, logger: logger, now: time.Now,
		states: make(map[redisstore.Cause]*causeState)}
	for _, i := range redisstore.Causes() {
		w.states[i.Cause] = new(causeState)
	}
	return w
}

func (w *causeWatch) look(ctx context.Context) {
	if w.stands() {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		_ = w.try(ctx) // it is counted
		cancel()
	}
	if ctx.Err() != nil {
		return
	}
	sums := w.failures()
	for _, i := range redisstore.Causes() {
		w.learn(i, sums[i.Cause])
	}
}

func (w *causeWatch) stands() bool {
	for _, s := range w.states {
		if s.standing {
			return true
		}
	}
	return false
}

// learn takes how often operations have failed by a cause since the start.
func (w *causeWatch) learn(i redisstore.CauseInfo, sum uint64) {
	s, now := w.states[i.Cause], w.now()
	more := sum - s.seen
	s.seen = sum
	switch {
	case more > 0 && !s.standing:
		*s = causeState{seen: sum, standing: true, since: now, last: now, failed: more, line: s.line}
		w.begin(i, s)
	case more > 0:
		s.last, s.failed = now, s.failed+more
		if !s.logged { // the pause may be over
			w.begin(i, s)
		}
	case s.standing && now.Sub(s.last) >= quiet:
		s.standing = false
		w.end(i, s)
	}
}

func (w *causeWatch) begin(i redisstore.CauseInfo, s *causeState) {
	if s.logged = s.line.IsZero() || s.last.Sub(s.line) >= causePause; !s.logged {
		return
	}
	s.line = s.last
	attrs := []any{"cause", string(i.Cause)}
	if i.Cause == redisstore.CauseBreaker {
		attrs = append(attrs, "opened_by", w.openedBy())
	}
	w.logger.Error("operations on Redis fail: "+i.Text, append(attrs, "cure", i.Cure)...)
}

func (w *causeWatch) end(i redisstore.CauseInfo, s *causeState) {
	if s.logged {
		w.logger.Info("no longer so: operations on Redis fail: "+i.Text, "cause", string(i.Cause),
			"lasted", s.last.Sub(s.since).Round(time.Second).String(), "failed", s.failed)
	}
}
