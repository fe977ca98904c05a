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
	known atomic.Bool
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
	return t.Manager.Fetch(ctx, key, f)
}
