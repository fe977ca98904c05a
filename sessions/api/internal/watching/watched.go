package watching

import (
	"container/heap"
	"crypto/sha256"
)

// A sum names a session: the hash in its key.
type sum [sha256.Size]byte

// The states of a session.
type state uint8

const (
	idle    state = iota // live, and its changes are told
	waiting              // live, and to be read again later
	queued               // to be read
	reading              // being read
)

// A watched is a session that streams have named. It is below the lock of the hub.
type watched struct {
	sum       sum
	links     *link // of its streams, the newest first
	next      *watched
	prev      *watched
	list      *list
	due       moment // when the session ends unless it is used
	doubt     moment // since when it may have ended; without meaning where idle
	doubtNext moment // the same, for a change that was told while it was being read
	place     int32  // in the timers; -1: none
	reads     uint32 // begun
	state     state
	changed   bool // while it was being read
}

// A link joins a session and a stream that has named it.
type link struct {
	watched *watched // nil: it has ended, or the stream has
	stream  *Stream
	next    *link
	prev    *link
	index   int32  // in the stream
	joined  uint32 // the reads of the session that had begun
	fresh   bool   // read since the stream was opened
}

// attach adds a link.
func (w *watched) attach(l *link) {
	l.watched, l.joined, l.next = w, w.reads, w.links
	if w.links != nil {
		w.links.prev = l
	}
	w.links = l
}

// detach takes a link off its session.
func (l *link) detach() {
	if l.prev == nil {
		l.watched.links = l.next
	} else {
		l.prev.next = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	}
	l.watched, l.next, l.prev = nil, nil, nil
}

// A list is one of sessions, each of which is in one list at most.
type list struct {
	first, last *watched
	length      int
}

func (l *list) append(w *watched) {
	w.list, w.prev, w.next = l, l.last, nil
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	l.length++
}

// prepend is for what could not be read: it has been in doubt for longest.
func (l *list) prepend(w *watched) {
	w.list, w.prev, w.next = l, nil, l.first
	if l.first == nil {
		l.last = w
	} else {
		l.first.prev = w
	}
	l.first = w
	l.length++
}

func (l *list) remove(w *watched) {
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.list, w.prev, w.next = nil, nil, nil
	l.length--
}

// timers is a heap of sessions, the one that ends first on top.
type timers []*watched

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due < t[j].due }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = int32(i), int32(j)
}

// Push implements [heap.Interface].
func (t *timers) Push(x any) {
	w := x.(*watched)
	w.place = int32(len(*t))
	*t = append(*t, w)
}

// Pop implements [heap.Interface].
func (t *timers) Pop() any {
	last := len(*t) - 1
	w := (*t)[last]
	(*t)[last] = nil
	*t, w.place = (*t)[:last], -1
	return w
}

// set moves the timer of a session.
func (t *timers) set(w *watched, due moment) {
	w.due = due
	if w.place < 0 {
		heap.Push(t, w)
		return
	}
	heap.Fix(t, int(w.place))
}

func (t *timers) remove(w *watched) {
	if w.place >= 0 {
		heap.Remove(t, int(w.place))
	}
}
