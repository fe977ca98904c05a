// Package logsink keeps a log that nobody reads from holding anybody up. Whoever
// reads standard error may be slow, stuck or gone; a check that waited for it
// would be late, and Envoy may take late for allowed.
package logsink

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"
)

// A Sink hands lines on to a writer, in their order, by a goroutine of its own.
// A line that finds the queue full is dropped and counted. It is safe for
// concurrent use.
type Sink struct {
	lines   chan []byte
	dropped atomic.Uint64
	closing chan struct{}
	ended   chan struct{}
}

// New returns a Sink that holds so many lines for w at most.
func New(w io.Writer, lines int) *Sink {
	s := &Sink{lines: make(chan []byte, lines), closing: make(chan struct{}), ended: make(chan struct{})}
	go s.run(w)
	return s
}

func (s *Sink) run(w io.Writer) {
	defer close(s.ended)
	for {
		select {
		case line := <-s.lines:
			s.put(w, line)
		case <-s.closing:
			for {
				select {
				case line := <-s.lines:
					s.put(w, line)
				default:
					return
				}
			}
		}
	}
}

// put counts what w does not take as dropped: there is nobody to tell.
func (s *Sink) put(w io.Writer, line []byte) {
	if _, err := w.Write(line); err != nil {
		s.dropped.Add(1)
	}
}

// Write takes one line and returns at once.
func (s *Sink) Write(line []byte) (int, error) {
	select {
	case s.lines <- bytes.Clone(line):
	default:
		s.dropped.Add(1)
	}
	return len(line), nil
}

// Dropped is how many lines nobody has got.
func (s *Sink) Dropped() uint64 { return s.dropped.Load() }

// Close waits until the lines are written, and no longer than patience. It is
// called once, when nobody writes any more.
func (s *Sink) Close(patience time.Duration) {
	close(s.closing)
	select {
	case <-s.ended:
	case <-time.After(patience):
	}
}
