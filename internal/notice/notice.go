// Package notice says once what a process notices about what stands around it: Envoy's
// configuration, another replica, a record that another program wrote. A room that can
// notice something has a [Board], with the names of the list that it may say:
//
//	board, err := notice.NewBoard(logger, registry, notice.ClocksApart)
//	board.Say(notice.ClocksApart, slog.Duration("offset", offset))
//	board.Over(notice.ClocksApart) // the clocks agree again
//
// A notice stands from the first time that it is said until it is over, or until it was
// not said again for an hour. When it begins to stand it becomes one line of the log,
// with its key, the values and the cure, and at most one line an hour: so clients, who
// can cause some of them, cannot fill a log. While it stands, the metric
// coatcheck_notices is 1.
//
// The list of notices (list.go) is the only one: lines, metric and the pages are made
// from it.
package notice

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Pause is for how long a notice that is not said again stands, and how far apart two
// lines of the same notice are.
const Pause = time.Hour

// A Board says the notices of one room. It is safe for concurrent use. A nil Board says
// nothing.
type Board struct {
	logger *slog.Logger
	states map[Name]*state
	now    func() time.Time
}

// NewBoard returns a Board that logs to logger and registers the metric of each named
// notice, unless registerer is nil. Boards of one registerer share what they know of a
// notice, so that two rooms may say the same. A nil logger discards the lines.
func NewBoard(logger *slog.Logger, registerer prometheus.Registerer, names ...Name) (*Board, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	b := &Board{logger: logger, states: make(map[Name]*state, len(names)), now: time.Now}
	for _, name := range names {
		s := &state{now: time.Now, desc: describe(name)}
		if registerer != nil {
			err := registerer.Register(s)
			var same prometheus.AlreadyRegisteredError
			if errors.As(err, &same) {
				if shared, ok := same.ExistingCollector.(*state); ok {
					s, err = shared, nil
				}
			}
			if err != nil {
				return nil, err
			}
		}
		b.states[name] = s
	}
	return b, nil
}

// Say logs a notice unless it stands, and lets it stand. The attributes have the values;
// they must hold no secret and no client's text that is not redacted. A name that the
// Board was not made with is a bug, and does nothing.
func (b *Board) Say(name Name, attrs ...slog.Attr) {
	s := b.state(name)
	if s == nil || !s.begin(b.now()) {
		return
	}
	i := name.info()
	line := append([]slog.Attr{slog.String("notice", string(name))}, attrs...)
	b.logger.LogAttrs(context.Background(), i.Level, i.Text, append(line, slog.String("cure", i.Cure))...)
}

// Over ends a notice, with a line if it was logged. One that does not stand is left
// alone.
func (b *Board) Over(name Name, attrs ...slog.Attr) {
	s := b.state(name)
	if s == nil || !s.end(b.now()) {
		return
	}
	line := append([]slog.Attr{slog.String("notice", string(name))}, attrs...)
	b.logger.LogAttrs(context.Background(), slog.LevelInfo, "no longer so: "+name.info().Text, line...)
}

// Stands reports whether a notice stands.
func (b *Board) Stands(name Name) bool {
	s := b.state(name)
	return s != nil && s.stands(b.now())
}

func (b *Board) state(name Name) *state {
	if b == nil {
		return nil
	}
	return b.states[name]
}

// A state is what a process knows of one notice; it is also its metric.
type state struct {
	now  func() time.Time // of the metric
	desc *prometheus.Desc

	mu       sync.Mutex
	standing bool
	sighted  time.Time // the last time
	line     time.Time // the last line
	logged   bool      // since it stands
}

// begin lets the notice stand and reports whether it becomes a line.
func (s *state) begin(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	began := !s.standingAt(now)
	s.standing, s.sighted = true, now
	if !began {
		return false
	}
	if s.logged = s.line.IsZero() || now.Sub(s.line) >= Pause; s.logged {
		s.line = now
	}
	return s.logged
}

// end ends the notice and reports whether that becomes a line.
func (s *state) end(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	stood := s.standingAt(now)
	s.standing = false
	return stood && s.logged
}

func (s *state) stands(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standingAt(now)
}

func (s *state) standingAt(now time.Time) bool {
	return s.standing && now.Sub(s.sighted) < Pause
}

func describe(name Name) *prometheus.Desc {
	return prometheus.NewDesc("coatcheck_notices",
		"1 while Coatcheck notices this, and for an hour after it was last seen; the log has the values, the list of notices the cure.",
		nil, prometheus.Labels{"notice": string(name)})
}

// Describe implements [prometheus.Collector].
func (s *state) Describe(descs chan<- *prometheus.Desc) { descs <- s.desc }

// Collect implements [prometheus.Collector].
func (s *state) Collect(metrics chan<- prometheus.Metric) {
	value := 0.0
	if s.stands(s.now()) {
		value = 1
	}
	metrics <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, value)
}
