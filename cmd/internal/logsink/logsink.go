// Package logsink keeps a slow reader of the log from delaying the program:
//
//	sink := logsink.New(os.Stderr, 8192)
//	logger := slog.New(slog.NewJSONHandler(sink, nil))
//	defer sink.Close(time.Second)
//
// The reader of standard error may be slow, stuck or gone. A check that waited for it
// would be late, and Envoy may be configured to allow a request whose check is late.
package logsink

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"
)

// A Sink passes lines on to a writer, in their order, in a goroutine of its own.
// A line that finds the queue full is dropped and counted. It is safe for
// concurrent use.
type Sink struct {
	lines   chan []byte
	dropped atomic.Uint64
	closing chan struct{}
	ended   chan struct{}
}

// New returns a Sink that holds at most this number of lines for w.
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

// put counts a line that w does not take as dropped.
func (s *Sink) put(w io.Writer, line []byte) {
	if _, err := w.Write(line); err != nil {
		s.dropped.Add(1)
	}
}

// Write takes one line and returns at once. Its error is always nil.
func (s *Sink) Write(line []byte) (int, error) {
	select {
	case s.lines <- bytes.Clone(line):
	default:
		s.dropped.Add(1)
	}
	return len(line), nil
}

// Dropped returns the number of lines that were dropped.
func (s *Sink) Dropped() uint64 { return s.dropped.Load() }

// Close waits until the lines are written, at most for patience. It is called once,
// after the last Write.
func (s *Sink) Close(patience time.Duration) {
	close(s.closing)
	select {
	case <-s.ended:
	case <-time.After(patience):
	}
}
