package watching

import (
	"context"
	"errors"
	"io"

	"github.com/coatcheck/coatcheck/sessions"
)

// Why a stream is not opened, or ends.
var (
	// ErrTooMany: a stream has more than [MaxPerStream] names.
	ErrTooMany = errors.New("too many sessions for one stream")
	// ErrNone: a stream has no name.
	ErrNone = errors.New("no session to watch")
	// ErrFull: all streams, or those of the caller, have as many names as there may be.
	ErrFull = errors.New("no room for more sessions to watch")
	// ErrUnavailable: it is not known whether the sessions of the stream still live.
	ErrUnavailable = errors.New("the sessions cannot be watched now")
)

// An End says that a session has ended.
type End struct {
	Index  int          // in the keys of the stream
	Key    sessions.Key // empty where no session can have the key
	Reason Reason
}

// A Stream is told of the ends of the sessions that it has named. One goroutine at a time
// calls its methods.
type Stream struct {
	hub   *Hub
	owner string
	links []link // one for each name
	wake  chan struct{}

	// These are below the lock of the hub.
	unread int // links that are not fresh
	left   int // links that have not ended
	opened bool
	ends   []End
	failed bool // it was cut
	closed bool
}

// Open watches keys for a caller. The same key may come more than once, and each place is
// told of its end. The error is [ErrNone], [ErrTooMany], [ErrFull]
// or, when the hub has ended, [ErrUnavailable].
func (h *Hub) Open(owner string, keys []sessions.Key) (*Stream, error) {
	switch {
	case len(keys) == 0:
		return nil, ErrNone
	case len(keys) > MaxPerStream:
		return nil, ErrTooMany
	}
	s := &Stream{hub: h, owner: owner, links: make([]link, len(keys)), wake: make(chan struct{}, 1), unread: len(keys), left: len(keys)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return nil, ErrUnavailable
	}
	if !h.room(owner, len(keys)) {
		h.metrics.full++
		return nil, ErrFull
	}
	h.streams[s] = struct{}{}
	h.count(s, 1)
	for i, key := range keys {
		s.links[i].stream, s.links[i].index = s, int32(i)
		sum, ok := key.Sum()
		if !ok { // no record has such a key
			s.end(&s.links[i], "", NotFound)
			continue
		}
		h.watch(sum, &s.links[i])
	}
	return s, nil
}

// watch is called with the lock.
func (h *Hub) watch(sum sum, l *link) {
	w := h.sessions[sum]
	if w == nil {
		w = &watched{sum: sum, place: -1, doubt: h.now()}
		h.sessions[sum] = w
	}
	w.attach(l)
	if w.state != reading { // else lives and ended see that the link has joined
		h.doubt(w, h.now())
	}
}

// room reports whether a caller may have a stream of so many names: one that leaks streams
// must leave the others room.
func (h *Hub) room(owner string, names int) bool {
	has := h.owners[owner]
	return len(h.streams) < MaxStreams && h.names+names <= h.config.MaxSessions &&
		has.streams < MaxStreams/2 && has.names+names <= h.config.MaxSessions/2
}

// count adds a stream, or takes it off.
func (h *Hub) count(s *Stream, n int) {
	h.names += n * len(s.links)
	has := h.owners[s.owner]
	has.names, has.streams = has.names+n*len(s.links), has.streams+n
	if h.owners[s.owner] = has; has.streams == 0 {
		delete(h.owners, s.owner)
	}
}

// Next returns what has ended since the last call, and waits until something has: the first
// time, until all sessions have been read. It returns nothing the first time if all of them
// live. Its error is io.EOF when every session has ended and was told of, [ErrUnavailable],
// or that of ctx, after which it may be called again.
func (s *Stream) Next(ctx context.Context) ([]End, error) {
	for {
		ends, done, err := s.take()
		if done || err != nil {
			return ends, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.wake:
		}
	}
}

// take reports whether there is something to return.
func (s *Stream) take() (ends []End, done bool, err error) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	switch {
	case s.closed:
		return nil, false, ErrUnavailable
	case !s.opened && s.unread == 0:
		ends, s.ends, s.opened = s.ends, nil, true
		return ends, true, nil
	case s.opened && len(s.ends) > 0:
		ends, s.ends = s.ends, nil
		return ends, true, nil
	case s.failed:
		return nil, false, ErrUnavailable
	case s.opened && s.left == 0:
		return nil, false, io.EOF
	}
	return nil, false, nil
}

// Left is how many of the names have not ended.
func (s *Stream) Left() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.left
}

// Close lets go of the sessions. It may be called more than once.
func (s *Stream) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.closed = true
	s.hub.drop(s)
}

// notify wakes Next.
func (s *Stream) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// read notes that one more session was read since the stream was opened.
func (s *Stream) read() {
	if s.unread--; s.unread == 0 {
		s.notify()
	}
}

// end notes that the session of a link has ended. The link is detached already.
func (s *Stream) end(l *link, key sessions.Key, why Reason) {
	s.left--
	s.ends = append(s.ends, End{int(l.index), key, why})
	s.hub.metrics.ends[why]++
	if !l.fresh {
		l.fresh = true
		s.unread--
	}
	if s.opened || s.unread == 0 {
		s.notify()
	}
}

// cut ends a stream whose sessions may have ended unseen.
func (h *Hub) cut(s *Stream) {
	if s.failed { // already, for another of its sessions
		return
	}
	s.failed = true
	h.metrics.cut++
	h.drop(s)
	s.notify()
}

// drop detaches a stream from its sessions.
func (h *Hub) drop(s *Stream) {
	if _, ok := h.streams[s]; !ok {
		return
	}
	delete(h.streams, s)
	h.count(s, -1)
	for i := range s.links {
		w := s.links[i].watched
		if w == nil {
			continue
		}
		s.links[i].detach()
		if w.links == nil {
			h.forget(w)
		}
	}
}
