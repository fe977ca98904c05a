package redisstore

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// A verdict is what the end of a call says about its node.
type verdict int

const (
	answered   verdict = iota // with whatever it was
	unanswered                // not reached, not in time, or not understood
	unknown                   // it was not the node that ended the call
)

// verdictOf judges by the error. A deadline that passed is the node's fault, even
// if the caller was impatient; that no connection was free is not.
func verdictOf(err error) verdict {
	var reply redis.Error
	switch {
	case err == nil, errors.As(err, &reply):
		return answered
	case errors.Is(err, context.Canceled), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted),
		errors.Is(err, redis.ErrClosed), errors.Is(err, ErrBreakerOpen):
		return unknown
	}
	return unanswered
}

// timedOut tells an error of waiting from one of reaching or understanding.
func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// Answered reports whether err, as the client or a [Store] returned it, is one
// with which Redis answered, whatever it said, or none; and not one of a Redis
// that could not be reached, did not answer in time, or is left alone.
func Answered(err error) bool { return verdictOf(err) == answered }

// handshake tells a command that go-redis sends on a new connection, as a part
// of the call that needs it: it is neither refused nor counted.
func handshake(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "hello", "auth", "client", "select":
		return true
	}
	return false
}
