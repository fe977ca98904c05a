package serve

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A timed manager uses no session before it knows the time of Redis. By a wrong clock
// of this machine live sessions could be over, and new ones could last for ever. If
// Redis was away at the start, the first calls ask for the time themselves.
type timed struct {
	*sessions.Manager
	missing func(error) error // of a store that knows whether it has lost sessions; nil: as it is
	known   atomic.Bool
}

var errTimeUnknown = fmt.Errorf("redis took too long to tell its time: %w", context.DeadlineExceeded)

// learn returns an error while the time is unknown. If Redis's ACL forbids to ask, this
// machine's clock is used.
func (t *timed) learn(ctx context.Context) error {
	if t.known.Load() {
		return nil
	}
	if !t.ClockSynced() {
		err := t.SyncClock(ctx)
		switch {
		case redisstore.Forbidden(err):
		case err != nil:
			return err
		case !t.ClockSynced():
			return errTimeUnknown
		}
	}
	t.known.Store(true)
	return nil
}

func (t *timed) Touch(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error) {
	if err := t.learn(ctx); err != nil {
		return nil, err
	}
	return t.Manager.Touch(ctx, id, fields...)
}

func (t *timed) Create(ctx context.Context, n sessions.NewSession) (sessions.ID, *sessions.Session, error) {
	if err := t.learn(ctx); err != nil {
		return sessions.ID{}, nil, err
	}
	return t.Manager.Create(ctx, n)
}

func (t *timed) Lookup(ctx context.Context, key sessions.Key, fields ...string) (*sessions.Session, error) {
	if err := t.learn(ctx); err != nil {
		return nil, err
	}
	return t.Manager.Lookup(ctx, key, fields...)
}

// Add needs the time, since it looks whether the session lives.
func (t *timed) Add(ctx context.Context, key sessions.Key, fields map[string]string) error {
	if err := t.learn(ctx); err != nil {
		return err
	}
	return t.Manager.Add(ctx, key, fields)
}

// List needs it for the same reason, and so does RevokeOthers.
func (t *timed) List(ctx context.Context, userID string) ([]*sessions.Session, int, error) {
	if err := t.learn(ctx); err != nil {
		return nil, 0, err
	}
	return t.Manager.List(ctx, userID)
}

func (t *timed) RevokeOthers(ctx context.Context, keep sessions.Key) (int, error) {
	if err := t.learn(ctx); err != nil {
		return 0, err
	}
	return t.Manager.RevokeOthers(ctx, keep)
}

func (t *timed) Fetch(ctx context.Context, key sessions.Key, f sessions.Fetch) (*sessions.Session, time.Duration, error) {
	if err := t.learn(ctx); err != nil {
		return nil, 0, err
	}
	session, left, err := t.Manager.Fetch(ctx, key, f)
	return session, left, t.Missing(err)
}

// Lifetimes needs the time, too.
func (t *timed) Lifetimes(ctx context.Context, keys ...sessions.Key) ([]sessions.Lifetime, error) {
	if err := t.learn(ctx); err != nil {
		return nil, err
	}
	lifetimes, err := t.Manager.Lifetimes(ctx, keys...)
	for i := range lifetimes {
		lifetimes[i].Err = t.Missing(lifetimes[i].Err)
	}
	return lifetimes, err
}

// Missing is what a check is told of a session that is missing, by the near cache, too.
func (t *timed) Missing(err error) error {
	if t.missing == nil {
		return err
	}
	return t.missing(err)
}

// answering is what services ask. To them, too, a session that is missing after Redis has lost
// its data may be there again when redis.emptied_hold is over: a revocation that said it was gone
// would have ended nothing. Login goes on meanwhile, and replaces what is not there.
type answering struct{ *timed }

func (a answering) Add(ctx context.Context, key sessions.Key, fields map[string]string) error {
	return a.Missing(a.timed.Add(ctx, key, fields))
}

func (a answering) Revoke(ctx context.Context, key sessions.Key) error {
	return a.Missing(a.timed.Revoke(ctx, key))
}
