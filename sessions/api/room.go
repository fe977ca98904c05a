package api

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
)

const (
	// smallMessage is what a message may have at any time: nearly all have less.
	smallMessage = 64 << 10
	// maxLarge is how many calls with a larger one there may be at the same time. If all had one
	// of the largest, they would take a gigabyte.
	maxLarge = 32
)

// half is what one caller may have of a number of places.
func half(places int) int { return (places + 1) / 2 }

// A room bounds the calls at the same time: all of them and, at half of that, those of each
// caller. So a caller that is slow to send its messages, or to take its answers, leaves the
// others the other half.
type room struct {
	limit int
	large chan struct{} // has the calls with a large message

	mu     sync.Mutex
	calls  int
	shares map[string]*share // of the callers that have a call, by their names
}

// A share is what a caller has of a room.
type share struct {
	calls   int
	large   chan struct{}
	finding chan struct{} // has the call that searches for a handle, or is the next to
}

func newRoom(limit int) *room {
	return &room{limit: limit, large: make(chan struct{}, maxLarge), shares: make(map[string]*share)}
}

// inFlight is how many calls there are.
func (r *room) inFlight() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// enter takes room for a call of a caller, or says why there is none.
func (r *room) enter(caller string) (*share, *problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.shares[caller]
	switch {
	case of != nil && of.calls >= half(r.limit):
		return nil, tooManyOfCaller
	case r.calls >= r.limit:
		return nil, tooManyCalls
	case of == nil:
		of = &share{large: make(chan struct{}, half(maxLarge)), finding: make(chan struct{}, 1)}
		r.shares[caller] = of
	}
	of.calls++
	r.calls++
	return of, nil
}

// leave gives back what enter took.
func (r *room) leave(caller string, of *share) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls--
	if of.calls--; of.calls == 0 {
		delete(r.shares, caller)
	}
}

// enlarge takes room for a large message, or reports that ctx was done before there was some.
func (r *room) enlarge(ctx context.Context, of *share) bool {
	select {
	case of.large <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	select {
	case r.large <- struct{}{}:
		return true
	case <-ctx.Done():
		<-of.large
		return false
	}
}

// lessen gives back what enlarge took.
func (r *room) lessen(of *share) {
	<-r.large
	<-of.large
}

// release gives back the room of a call, if it has some.
func (s *Server) release(c *call) {
	if c.share == nil {
		return
	}
	if c.body.large {
		s.room.lessen(c.share)
	}
	s.room.leave(c.caller.Name, c.share)
	c.share = nil
}

// A body is the message of a call as it is received. A large one waits for room, and one that is
// too large is read no further.
type body struct {
	io.ReadCloser
	server *Server
	call   *call
	limit  int // of bytes
	read   int
	large  bool // it has room
}

// envelope is what stands before a message in all protocols but one.
const envelope = 5

func newBody(s *Server, c *call, of io.ReadCloser) body {
	limit := s.config.MaxMessageBytes
	switch kind := c.request.Header.Get("Content-Type"); {
	case strings.HasPrefix(kind, "application/grpc"), strings.HasPrefix(kind, "application/connect+"):
		limit += envelope
	}
	return body{ReadCloser: of, server: s, call: c, limit: limit}
}

// Read notes of a message that cannot be read why: connect-go, which refuses the call then, tells
// only its caller.
func (b *body) Read(p []byte) (int, error) {
	switch rest := smallMessage - b.read; {
	case b.read > b.limit:
		return 0, tooLarge.told()
	case len(p) <= rest || b.large:
	case rest > 0:
		p = p[:rest]
	case !b.wait():
		b.call.refused(tooManyCalls)
		return 0, tooManyCalls.told()
	}
	n, err := b.ReadCloser.Read(p)
	b.read += n
	switch {
	case b.call.answered:
	case b.read > b.limit:
		b.call.refused(tooLarge)
	case err != nil && !errors.Is(err, io.EOF):
		b.call.refused(canceled)
	}
	return n, err
}

// wait reports whether there is room in time.
func (b *body) wait() bool {
	ctx, cancel := context.WithTimeout(b.call.request.Context(), b.server.config.Timeout)
	defer cancel()
	b.large = b.call.share != nil && b.server.room.enlarge(ctx, b.call.share)
	return b.large
}
