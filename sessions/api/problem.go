package api

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api/internal/watching"
)

// A problem is an error that a caller is told: a code and a text of this package alone.
type problem struct {
	code connect.Code
	text string
}

func (p *problem) Error() string { return p.text }

// The problems. Their texts say nothing of the request and nothing of a session.
var (
	unauthenticated = &problem{connect.CodeUnauthenticated, "no caller has this credential, or there is none"}
	lacksRight      = &problem{connect.CodePermissionDenied, "the caller lacks the right that this method needs"}
	lacksByID       = &problem{connect.CodePermissionDenied, "the caller lacks the right by_id, and names a session by its ID"}
	lacksTouch      = &problem{connect.CodePermissionDenied, "the caller lacks the right touch"}
	hiddenField     = &problem{connect.CodePermissionDenied, "the caller may not see one of the fields"}
	tooManyCalls    = &problem{connect.CodeResourceExhausted, "too many calls at once; try again in a moment"}
	tooManyOfCaller = &problem{connect.CodeResourceExhausted, "the caller has too many calls at once; try again in a moment"}
	tooLarge        = &problem{connect.CodeResourceExhausted, "the message is larger than the server takes"}
	noName          = &problem{connect.CodeInvalidArgument, "the session is not named: by key, or by id"}
	notAKey         = &problem{connect.CodeInvalidArgument, `the key is not "session:" and 43 characters of base64url`}
	noHandles       = &problem{connect.CodeInvalidArgument, "sessions of this format have a key: name the session by it, and not by its handle"}
	noKeys          = &problem{connect.CodeInvalidArgument, "sessions of this format have no key: name the session by its id"}
	notAHandle      = &problem{connect.CodeInvalidArgument, "the handle is not that of one session"}
	notOurs         = &problem{connect.CodeUnimplemented, "these sessions are another program's, which makes, changes and ends them: Get and Check read them"}
	noUser          = &problem{connect.CodeInvalidArgument, "user_id has 1 to 256 bytes"}
	otherUser       = &problem{connect.CodeInvalidArgument, "the session to except is another user's"}
	noQuestion      = &problem{connect.CodeInvalidArgument, "there is no question: roles with a name, policy with a name, or request"}
	tooManyFields   = &problem{connect.CodeInvalidArgument, "there are more than 64 fields"}
	notText         = &problem{connect.CodeUnimplemented, "one of the fields is not UTF-8: read it from Redis"}
	noFields        = &problem{connect.CodeInvalidArgument, "there are 1 to 64 fields, of at most 1 MiB each"}
	tooManyHeaders  = &problem{connect.CodeInvalidArgument, "there are more than 64 headers"}
	badHeader       = &problem{connect.CodeInvalidArgument, "a header of the call makes no sense: messages are not compressed, and timeouts are numbers"}
	noPolicies      = &problem{connect.CodeUnimplemented, "this server decides by roles alone"}
	noWatch         = &problem{connect.CodeUnimplemented, "this server watches no sessions"}
	noneToWatch     = &problem{connect.CodeInvalidArgument, "there are 1 to 10000 sessions to watch"}
	watchFull       = &problem{connect.CodeResourceExhausted, "too many sessions are watched; try again later, or raise api.max_watched"}
	unwatched       = &problem{connect.CodeUnavailable, "the sessions cannot be watched now; call again in a moment"}
	tooSlow         = &problem{connect.CodeResourceExhausted, "the caller does not read"}
	notFound        = &problem{connect.CodeNotFound, "there is no such session (not_found)"}
	expired         = &problem{connect.CodeNotFound, "there is no such session (expired)"}
	broken          = &problem{connect.CodeNotFound, "there is no such session (broken_record)"}
	fieldExists     = &problem{connect.CodeAlreadyExists, "the session has one of the fields already; none was added"}
	unknownLayout   = &problem{connect.CodeUnavailable, "a newer program wrote the session: update Coatcheck"}
	unavailable     = &problem{connect.CodeUnavailable, "the session store does not answer; try again in a moment"}
	forbidden       = &problem{connect.CodeUnavailable, "the session store refuses what this call needs: Coatcheck lacks a right there, and its log has the cause"}
	canceled        = &problem{connect.CodeCanceled, "the caller has ended the call"}
	internal        = &problem{connect.CodeInternal, "a bug of Coatcheck; its log has a line"}
)

// problemOf is the one place that turns an error into a problem; an unknown error is an
// outage. A call that its caller has ended, and not our own deadline, is canceled.
func problemOf(call context.Context, err error) *problem {
	p, ok := errors.AsType[*problem](err)
	switch {
	case ok:
		return p
	case errors.Is(err, watching.ErrNone), errors.Is(err, watching.ErrTooMany):
		return noneToWatch
	case errors.Is(err, watching.ErrFull):
		return watchFull
	case errors.Is(err, watching.ErrUnavailable):
		return unwatched
	case errors.Is(err, sessions.ErrNotFound), errors.Is(err, sessions.ErrMalformed):
		return notFound
	case errors.Is(err, sessions.ErrExpired):
		return expired
	case errors.Is(err, sessions.ErrBroken):
		return broken
	case errors.Is(err, sessions.ErrLayout):
		return unknownLayout
	case errors.Is(err, sessions.ErrFieldExists):
		return fieldExists
	case errors.Is(call.Err(), context.Canceled):
		return canceled
	}
	return unavailable
}

// told is what connect-go sends.
func (p *problem) told() error { return connect.NewError(p.code, p) }
