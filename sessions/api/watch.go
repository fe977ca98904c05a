package api

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api/internal/watching"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
)

// A Listener is told which records change, as the one of sessions/redisstore is.
type Listener interface {
	// Invalidate says that a record has changed, or is gone.
	Invalidate(key sessions.Key)
	// Alive says that every change was told that was made until sent.
	Alive(sent time.Time)
	// Flush says that changes may be missed from now on, until the next Alive.
	Flush(why string)
}

const (
	// sendTimeout is how long a caller of Watch may take to take a message.
	sendTimeout = 10 * time.Second
	// watchBeat is how long a stream of Watch says nothing. Twice that tells a caller that
	// the stream is dead.
	watchBeat = 15 * time.Second
	// maxEnded is how many ends a message has.
	maxEnded = 1000
)

// Run does what Watch needs until ctx is done. Then its streams end with UNAVAILABLE, so that
// their callers turn to another replica: call it before the listener is closed.
func (s *Server) Run(ctx context.Context) {
	if s.hub == nil {
		<-ctx.Done()
		return
	}
	var running sync.WaitGroup
	running.Go(func() {
		select {
		case <-ctx.Done():
		case <-s.watched: // without, no connection is needed, and no right
			s.config.Track(ctx, s.hub, s.hub.Lease())
		}
	})
	s.hub.Run(ctx)
	running.Wait()
}

// Watch implements the service.
func (s service) Watch(ctx context.Context, q *connect.Request[pb.WatchRequest], to *connect.ServerStream[pb.WatchResponse]) (err error) {
	c := callOf(ctx)
	c.answered = true
	defer func() {
		if value := recover(); value != nil {
			err = s.bug(ctx, c, value)
		}
	}()
	err = s.watch(ctx, c, q.Msg, to)
	if errors.Is(err, io.EOF) {
		return nil
	}
	p := problemOf(ctx, err)
	if errors.Is(err, context.DeadlineExceeded) { // the caller's own
		p = canceled
	}
	c.refused(p)
	c.err = err
	return p.told()
}

func (s service) watch(ctx context.Context, c *call, q *pb.WatchRequest, to *connect.ServerStream[pb.WatchResponse]) error {
	switch err := s.own(); {
	case err != nil: // the store tells of no change below another framework's keys
		return err
	case s.hub == nil:
		return noWatch
	}
	keys, needs, err := c.keys(q.GetSessions())
	if err != nil {
		return err
	}
	q.Reset() // or a thousand names would be kept for as long as the stream lasts, IDs among them
	stream, err := s.hub.Open(c.caller.Name, keys)
	if err != nil {
		return err
	}
	defer stream.Close()
	s.watches()
	c.watched = len(keys)
	s.lasting(c)
	for {
		ends, err := s.next(ctx, stream)
		if err != nil {
			return err
		}
		if err := s.still(c, needs); err != nil {
			return err
		}
		c.ended += len(ends)
		if err := s.send(ctx, to, ends, stream.Left()); err != nil {
			return err
		}
	}
}

// keys are the keys of the sessions that a request names, and the rights that it needs. The
// key of an ID that is malformed is empty: no session has it.
func (c *call) keys(names []*pb.SessionName) (keys []sessions.Key, needs []Right, err error) {
	if len(names) > watching.MaxPerStream { // before their hashes are computed
		return nil, nil, noneToWatch
	}
	needs = []Right{Watch}
	keys = make([]sessions.Key, len(names))
	for i, name := range names {
		if keys[i], err = c.key(name); err != nil && !errors.Is(err, notFound) {
			return nil, nil, err
		}
		if _, ok := name.GetName().(*pb.SessionName_Id); ok && len(needs) == 1 {
			needs = append(needs, ByID)
		}
	}
	if len(names) > 1 {
		c.handle = "" // the last one
	}
	return keys, needs, nil
}

// next is what a stream is told next, nothing when it was silent for a while.
func (s service) next(ctx context.Context, stream *watching.Stream) ([]watching.End, error) {
	until, cancel := context.WithTimeout(ctx, s.beat)
	defer cancel()
	ends, err := stream.Next(until)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, nil
	}
	return ends, err
}

// still returns an error where the caller of a stream lost its credential or its rights since
// it began.
func (s service) still(c *call, needs []Right) error {
	now := s.callers.Load().authenticate(c.request)
	if now == nil || now.Name != c.caller.Name {
		return unauthenticated
	}
	for _, right := range needs {
		if !now.may(right) {
			return lacksRight
		}
	}
	return nil
}

// send sends ends, in as many messages as they need. A caller that does not take one in time
// is cut off.
func (s service) send(ctx context.Context, to *connect.ServerStream[pb.WatchResponse], ends []watching.End, left int) error {
	control := callOf(ctx).control
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	for first := true; first || len(ends) > 0; first = false {
		n := min(len(ends), maxEnded)
		a := &pb.WatchResponse{Live: int32(left), Ended: make([]*pb.Ended, n)}
		for i, e := range ends[:n] {
			a.Ended[i] = &pb.Ended{Index: int32(e.Index), Handle: e.Key.Handle(), Reason: string(e.Reason)}
		}
		ends = ends[n:]
		began := time.Now()
		_ = control.SetWriteDeadline(began.Add(s.patience))
		// A message that did not get beyond a buffer is no error: the stream has ended then.
		if err := to.Send(a); err != nil || ctx.Err() != nil {
			if time.Since(began) >= s.patience {
				return tooSlow
			}
			return canceled // it is gone
		}
	}
	return nil
}
