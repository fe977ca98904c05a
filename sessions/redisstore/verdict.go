package redisstore

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// A verdict is what the end of a call says about its node.
type verdict int

const (
	answered   verdict = iota // with whatever it was
	unanswered                // not reached, or not understood
	late                      // not in time, which is the node's fault if it had some
	unknown                   // it was not the node that ended the call
)

// verdictOf judges by the error. A dial that takes too long is no late answer:
// go-redis dials whether the caller still waits or not, so the time was the dial's
// own. That no connection was free says nothing.
func verdictOf(err error) verdict {
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

// judge is verdictOf for a call that began then. That it took long is not enough
// to blame the node: where processors are short, so does a call in a hurry.
func judge(ctx context.Context, start time.Time, err error) verdict {
	v := verdictOf(err)
	switch {
	case v != late:
		return v
	case patient(ctx, start) && time.Since(start) >= patience:
		return unanswered
	}
	return unknown
}

// patient tells whether a call can last long enough to tell something.
func patient(ctx context.Context, start time.Time) bool {
	end, ok := ctx.Deadline()
	return !ok || end.Sub(start) >= patience
}

// timedOut tells a deadline that passed, a context's or the network's.
func timedOut(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Answered tells whether Redis (or a Sentinel) replied, whatever it replied: that
// a session is missing, that a right is, that the password is wrong ([Refused]), or
// what it was asked for, which is no error. It did not if it was not reached, was
// late or made no sense, or if nothing was sent: [ErrBreakerOpen], a connection that
// was not free, a caller that went away.
func Answered(err error) bool {
	return verdictOf(err) == answered ||
		errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrBroken) || errors.Is(err, sessions.ErrFieldExists) ||
		errors.Is(err, sessions.ErrEnded) || errors.Is(err, ErrNotReplicated) || errors.Is(err, errFewTimes)
}

// handshake tells a command that go-redis sends on a new connection, as a part
// of the call that needs it: it is neither refused nor counted.
func handshake(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "hello", "auth", "client", "select":
		return true
	}
	return false
}
