package redisstore

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// conclusive is how long a call must have had for its end to say something about the
// node. A healthy node takes a millisecond, and a few with a new connection, TLS or a
// hiccup; the timeouts of [NewClient] are five times as long, so that a hang still
// counts.
const conclusive = 20 * time.Millisecond

// ErrBreakerOpen says that Redis was not asked. Its text is followed by the last
// error of a call that was made.
var ErrBreakerOpen = errors.New("redis does not answer, so calls are refused at once, but for a probe each 100ms")

// An outcome is what the end of a call says about its node.
type outcome int

const (
	answered   outcome = iota // with any reply, an error included
	unanswered                // not reached, or not understood
	late                      // not in time, which is the node's fault if it had time enough
	unknown                   // the node did not end the call
)

// outcomeOf goes by the error. A dial that takes too long is no late answer, because
// go-redis dials whether the caller still waits or not, so the time was the dial's
// own. That no connection was free says nothing about the node.
func outcomeOf(err error) outcome {
	var reply redis.Error
	var dial unreached
	switch {
	case err == nil, errors.As(err, &reply):
		return answered
	case errors.Is(err, context.Canceled), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted),
		errors.Is(err, redis.ErrClosed), errors.Is(err, ErrBreakerOpen):
		return unknown
	case !errors.As(err, &dial) && timedOut(err):
		return late
	}
	return unanswered
}

// classify is outcomeOf for a call that began at start. A call that was late says
// something only if it had time enough and used it: where processors are short, a
// call with less time is late on a healthy node. A node that loads its data answers no
// call for as long as that takes, and says so late, because it looks at its connections
// between two parts of the data.
func classify(ctx context.Context, start time.Time, err error) outcome {
	o := outcomeOf(err)
	switch {
	case errors.As(err, new(shutDoor)): // the node was not asked
		return unknown
	case redis.IsLoadingError(err):
		return unanswered
	case o != late:
		return o
	case hasTime(ctx, start) && time.Since(start) >= conclusive:
		return unanswered
	}
	return unknown
}

// hasTime reports whether a call can last long enough to be conclusive.
func hasTime(ctx context.Context, start time.Time) bool {
	end, ok := ctx.Deadline()
	return !ok || end.Sub(start) >= conclusive
}

// timedOut reports whether a deadline has passed, a context's or the network's.
func timedOut(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Answered reports whether Redis (or a Sentinel) replied, also where the reply is an
// error: that a session or a right is missing, or that the password is wrong
// ([Refused]). It is true for nil. It is false where Redis was not reached, was late or
// made no sense, and where nothing was sent: [ErrBreakerOpen], no free connection, a
// caller that has left.
func Answered(err error) bool {
	return outcomeOf(err) == answered ||
		errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrBroken) || errors.Is(err, sessions.ErrFieldExists) ||
		errors.Is(err, sessions.ErrEnded) || errors.Is(err, ErrNotReplicated) || errors.Is(err, errFewTimes)
}

// beside reports whether go-redis sends a command beside those of its callers, so that it
// is neither refused nor counted: in a handshake, as a part of the call that needs the
// connection; or as the question for the map of a Cluster, which a node also answers while
// it loads its data, or is cut off from the others.
func beside(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "hello", "auth", "client", "select", "cluster":
		return true
	}
	return false
}

// Forbidden reports whether err says that our user in Redis lacks a right.
func Forbidden(err error) bool { return redis.HasErrorPrefix(err, "NOPERM") }
