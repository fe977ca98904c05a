package watching

import (
	"context"
	"errors"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

const (
	// readers are the goroutines that read, each a batch at once: two, so that Redis works
	// while the answers to the other are decoded.
	readers = 2
	batch   = 200
	// readTimeout bounds one batch, and so does the patience with its sessions, but for a
	// last try.
	readTimeout = time.Second
	lastTry     = 100 * time.Millisecond
	// retryMin and retryMax are the pauses after a batch that could not be read.
	retryMin = 20 * time.Millisecond
	retryMax = 500 * time.Millisecond
	// lookEvery is the longest pause between two looks of keepTime.
	lookEvery = 100 * time.Millisecond
	// late is added to the end of a record, so that it is over when it is read again.
	late = 2 * time.Millisecond
)

// read reads what is queued until ctx is done.
func (h *Hub) read(ctx context.Context) {
	pause := retryMin
	for {
		taken, keys, spell := h.take()
		if len(taken) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-h.wake:
			}
			continue
		}
		err := h.readBatch(ctx, taken, keys, spell)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			pause = retryMin
			continue
		}
		sleep(ctx, pause)
		pause = min(2*pause, retryMax)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// take takes a batch off the queue. It returns the spell of tracking, too.
func (h *Hub) take() (taken []*watched, keys []sessions.Key, spell uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := min(batch, h.queue.length)
	if n == 0 {
		return nil, nil, 0
	}
	taken, keys = make([]*watched, 0, n), make([]sessions.Key, 0, n)
	for range n {
		w := h.queue.first
		h.queue.remove(w)
		w.state, w.changed = reading, false
		w.reads++
		taken, keys = append(taken, w), append(keys, sessions.KeyOf(w.sum))
	}
	if h.queue.length > 0 {
		h.signal() // for the other reader
	}
	return taken, keys, h.spell
}

func (h *Hub) readBatch(ctx context.Context, taken []*watched, keys []sessions.Key, spell uint32) error {
	began := h.now()
	left := time.Duration(taken[0].doubt-began) + h.config.Patience
	ctx, cancel := context.WithTimeout(ctx, min(readTimeout, max(left, lastTry)))
	defer cancel()
	lifetimes, err := h.source.Lifetimes(ctx, keys...)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.metrics.failures++
		h.putBack(taken)
		return err
	}
	h.metrics.reads += uint64(len(taken))
	now := h.now()
	for i, w := range taken {
		if w.links == nil {
			continue // its streams have ended
		}
		switch why := lifetimes[i].Err; {
		case why == nil:
		case sessions.Absent(why), errors.Is(why, sessions.ErrLayout):
			h.ended(w, keys[i], reasonOf(why))
			continue
		default:
			h.unread(w)
			continue
		}
		if spell != h.spell && !w.changed {
			w.changed, w.doubtNext = true, began
		}
		h.lives(w, began, now+moment(lifetimes[i].Left+late))
	}
	return nil
}

// putBack keeps a batch that could not be read in the queue, in its order.
func (h *Hub) putBack(taken []*watched) {
	for i := len(taken) - 1; i >= 0; i-- {
		w := taken[i]
		h.refuse(w)
		if w.links != nil {
			w.state = queued
			h.queue.prepend(w)
			h.watchDoubt(w)
		}
	}
	h.giveUp()
}

// refuse ends the streams that wait for the first read of a session.
func (h *Hub) refuse(w *watched) {
	for l := w.links; l != nil; {
		if l.stream.opened {
			l = l.next
			continue
		}
		h.cut(l.stream)
		l = w.links // which of the others are left is not known
	}
}

// unread keeps a session in doubt of which the store knows nothing for certain. It is read
// again in a moment.
func (h *Hub) unread(w *watched) {
	h.refuse(w)
	if w.links != nil {
		h.enter(w, &h.later, waiting)
	}
}

// ended tells the streams that named the session before it was read. Those that came
// meanwhile may know of one that was made meanwhile.
func (h *Hub) ended(w *watched, key sessions.Key, why Reason) {
	rest := false
	for l := w.links; l != nil; {
		next := l.next
		if l.joined < w.reads {
			l.detach()
			l.stream.end(l, key, why)
		} else {
			rest = true
		}
		l = next
	}
	if !rest {
		h.forget(w)
		return
	}
	h.enter(w, &h.queue, queued)
	h.signal()
}

// lives notes that a session lived at a moment, and when it ends unless it is used.
func (h *Hub) lives(w *watched, began, due moment) {
	joined := false
	for l := w.links; l != nil; l = l.next {
		switch {
		case l.joined == w.reads:
			joined = true
		case !l.fresh:
			l.fresh = true
			l.stream.read()
		}
	}
	h.timers.set(w, due)
	if due < h.timer {
		h.soon()
	}
	switch {
	case w.changed:
		w.doubt = w.doubtNext
		h.enter(w, &h.queue, queued)
		h.signal()
	case joined:
		w.doubt = h.now()
		h.enter(w, &h.queue, queued)
		h.signal()
	case h.tracked:
		w.state = idle
	default:
		w.doubt = began
		h.enter(w, &h.later, waiting)
	}
}

// forget drops a session that no stream names any more.
func (h *Hub) forget(w *watched) {
	if w.list != nil {
		w.list.remove(w)
	}
	h.timers.remove(w)
	if h.sessions[w.sum] == w {
		delete(h.sessions, w.sum)
	}
}

// soon has keepTime look.
func (h *Hub) soon() {
	select {
	case h.rearm <- struct{}{}:
	default:
	}
}

// keepTime has sessions read whose time has come, and ends the streams of those that could
// not be read, until ctx is done.
func (h *Hub) keepTime(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.rearm:
		}
		timer.Reset(h.look())
	}
}

// look returns how long nothing is to be looked at.
func (h *Hub) look() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if h.tracked && h.lapsed() {
		h.lose()
	}
	for len(h.timers) > 0 && h.timers[0].due <= now {
		w := h.timers[0]
		h.timers.remove(w)
		h.doubt(w, w.due)
	}
	half := moment(h.config.Patience / 2)
	for w := h.later.first; w != nil && w.doubt+half <= now; w = h.later.first {
		h.doubt(w, w.doubt)
	}
	h.giveUp()
	next := lookEvery
	if len(h.timers) > 0 {
		next = min(next, time.Duration(h.timers[0].due-now))
	}
	h.timer = now + moment(next)
	return next
}

// giveUp ends the streams of sessions that were in doubt for too long. It looks at each session
// in doubt, because no list is in the order of doubt: a change has a session read at once, before
// others that are in doubt for longer.
func (h *Hub) giveUp() {
	now, patience := h.now(), moment(h.config.Patience)
	if now < h.overdue {
		return
	}
	h.overdue = now + patience // of those that come into doubt from now on
	var over []*Stream
	for _, doubted := range []*list{&h.queue, &h.later} {
		for w := doubted.first; w != nil; w = w.next {
			if due := w.doubt + patience; due > now {
				h.overdue = min(h.overdue, due)
				continue
			}
			for l := w.links; l != nil; l = l.next {
				over = append(over, l.stream)
			}
		}
	}
	for _, s := range over {
		h.cut(s)
	}
}

// enter puts a session at the end of a list.
func (h *Hub) enter(w *watched, l *list, s state) {
	w.state = s
	l.append(w)
	h.watchDoubt(w)
}

// watchDoubt has giveUp look when the patience with a session of a list ends.
func (h *Hub) watchDoubt(w *watched) {
	h.overdue = min(h.overdue, w.doubt+moment(h.config.Patience))
}

// A Reason says why a session has ended: the word that a check has for it.
type Reason string

// The reasons of an end. An unknown layout is no end, but this program cannot tell any
// more whether the session lives.
const (
	NotFound      Reason = "not_found"
	Expired       Reason = "expired"
	BrokenRecord  Reason = "broken_record"
	UnknownLayout Reason = "unknown_layout"
)

// reasonOf is the reason of an error about a record. A broken record is what is left of
// those.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, sessions.ErrNotFound):
		return NotFound
	case errors.Is(err, sessions.ErrExpired):
		return Expired
	case errors.Is(err, sessions.ErrLayout):
		return UnknownLayout
	}
	return BrokenRecord
}
