package login

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// A code says, for programs, why a request was refused.
type code string

const (
	badCredentials   code = "bad_credentials"
	throttled        code = "throttled"
	busy             code = "busy"
	unavailable      code = "unavailable"
	tooManyPresented code = "too_many_sessions_shown"
	cancelled        code = "cancelled"
	notSignedIn      code = "not_signed_in"
	crossOrigin      code = "cross_origin"
	plainHTTP        code = "plain_http"
	hiddenPort       code = "hidden_port"
	notFound         code = "not_found"
	methodNotAllowed code = "method_not_allowed"
	badRequest       code = "bad_request"
	tooLarge         code = "too_large"
	wrongType        code = "unsupported_media_type"
	bearerOff        code = "bearer_not_allowed"
)

// refusals is the one table of refusals: the status, the outcome where a login is
// refused so, and the text for people in English. The text is called
// "error_" and the code, in [Config.Texts] and in the other languages.
var refusals = map[code]struct {
	status  int
	outcome string
	text    string
}{
	badCredentials:   {http.StatusUnauthorized, outcomeRefused, "Wrong username or password."},
	throttled:        {http.StatusTooManyRequests, outcomeThrottled, "Too many attempts. Try again in {time}."},
	busy:             {http.StatusServiceUnavailable, outcomeBusy, "Too many people are signing in right now. Try again in {time}."},
	unavailable:      {http.StatusServiceUnavailable, outcomeUnavailable, "Sign-in is unavailable. Try again in {time}. If you are signed in, you still are."},
	tooManyPresented: {http.StatusServiceUnavailable, outcomeInvalid, "Your browser is sending more sessions than can be signed out at once. Delete the cookies of this site."},
	cancelled:        {http.StatusServiceUnavailable, outcomeCancelled, "The request was cancelled."}, // its client has left
	notSignedIn:      {http.StatusUnauthorized, outcomeInvalid, "You are not signed in."},
	crossOrigin:      {http.StatusForbidden, outcomeInvalid, "This request came from another site and was refused."},
	plainHTTP:        {http.StatusForbidden, outcomeInvalid, "This page was opened over plain http, over which your browser cannot stay signed in. Open it with https://."},
	hiddenPort:       {http.StatusForbidden, outcomeInvalid, "This page was opened on a port that the proxy hides (strip_any_host_port), so the request could not be verified. Open the page with https://, or on the usual port."},
	notFound:         {http.StatusNotFound, outcomeInvalid, "There is no such page."},
	methodNotAllowed: {http.StatusMethodNotAllowed, outcomeInvalid, "This page cannot be used that way."},
	badRequest:       {http.StatusBadRequest, outcomeInvalid, "The request could not be read."},
	tooLarge:         {http.StatusRequestEntityTooLarge, outcomeInvalid, "The request is too large."},
	wrongType:        {http.StatusUnsupportedMediaType, outcomeInvalid, "Send a form, or JSON as application/json."},
	bearerOff:        {http.StatusForbidden, outcomeInvalid, "This server does not return the session ID in its answer."},
}

// The outcomes of a login, for metrics and the log.
const (
	outcomeSuccess     = "success"
	outcomeRefused     = "refused"
	outcomeThrottled   = "throttled"
	outcomeBusy        = "busy"
	outcomeUnavailable = "unavailable"
	outcomeCancelled   = "cancelled"
	outcomeInvalid     = "invalid"
)

// retryUnavailable is when a client may ask again after a fault of ours.
const retryUnavailable = 5 * time.Second

// A problem is an answer other than the one asked for (RFC 9457). As an error of
// [Handler.SignIn] it passes through a [Method] unchanged.
type problem struct {
	code    code
	wait    time.Duration // before another try; zero: no Retry-After
	cause   error         // for the log; nil where the fault is not ours
	form    *form         // presented again; nil: a page of its own
	counted bool          // as the outcome of a login, already
}

// A form is what the login form presents again, without the password.
type form struct{ username, location string }

// Error implements error.
func (p *problem) Error() string { return "login: " + string(p.code) }

// outcomeOf is the outcome of a login; p is nil after a success.
func outcomeOf(p *problem) string {
	if p == nil {
		return outcomeSuccess
	}
	return refusals[p.code].outcome
}

// fault is the problem for an error that says that the answer is unknown, unless
// the client has left.
func fault(ctx context.Context, cause error) *problem {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &problem{code: cancelled}
	}
	return &problem{code: unavailable, wait: retryUnavailable, cause: cause}
}

// problemOf is the problem for the error of a [Method].
func problemOf(ctx context.Context, err error) *problem {
	var p *problem
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &large):
		return &problem{code: tooLarge}
	case errors.Is(err, ErrBadCredentials):
		return &problem{code: badCredentials}
	case errors.Is(err, ErrBusy):
		return &problem{code: busy, wait: retryUnavailable}
	case errors.Is(err, ErrBadRequest):
		return &problem{code: badRequest}
	}
	return fault(ctx, err)
}
