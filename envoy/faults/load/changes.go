package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// The application fields: one from the start, one that is added.
const planField, markField = "plan", "mark"

// changing is how long a login, a revocation or an addition may take.
const changing = 2 * time.Second

// change does one of the things that change sessions.
func (l *Load) change(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, changing)
	defer cancel()
	l.people.expire(l.now())
	if l.people.size() < l.config.Sessions {
		l.login(ctx)
		return
	}
	switch n := l.people.draw(20); {
	case n < 8:
		l.login(ctx)
	case n < 14:
		l.revoke(ctx)
	case n < 15:
		l.revokeAll(ctx)
	default:
		l.add(ctx)
	}
}

// A kind of session is how long it lives at most.
type kind struct {
	manager *sessions.Manager
	idle    time.Duration
	end     time.Duration
	quiet   bool
}

// newKinds makes managers of sessions: most live as long as the servers let them; some have
// a short absolute timeout, and some a short idle timeout and are not used.
func (l *Load) newKinds(store sessions.Store) error {
	for _, k := range []kind{
		{idle: l.config.Idle, end: 12 * time.Hour},
		{idle: l.config.Idle, end: 2500 * time.Millisecond},
		{idle: 1500 * time.Millisecond, end: 12 * time.Hour, quiet: true},
	} {
		var err error
		k.manager, err = sessions.NewManager(store, sessions.Config{IdleTimeout: k.idle, AbsoluteTimeout: k.end, MaxPerUser: -1})
		if err != nil {
			return err
		}
		l.kinds = append(l.kinds, k)
	}
	return nil
}

// over is when a session of the kind that was made at a time must be over.
func (l *Load) over(k kind, made time.Duration) time.Duration {
	if k.quiet {
		return made + k.idle + l.config.Step + l.config.Slack + time.Second
	}
	return made + k.end
}

func (l *Load) login(ctx context.Context) {
	k := l.kinds[0]
	if !l.config.Steady {
		k = l.kinds[max(0, l.people.draw(8)-5)]
	}
	who := l.people.arrive()
	n := sessions.NewSession{UserID: who.id, Roles: []string{"staff"}, Fields: map[string]string{planField: fmt.Sprint("plan-", l.people.draw(100))}}
	admin := l.people.draw(2) == 0
	if admin {
		n.Roles = append(n.Roles, adminRole)
	}
	began := l.now()
	id, session, err := k.manager.Create(ctx, n)
	made := l.now()
	if err != nil { // its ID is not known, so that no check can tell
		l.failedChanges.Add(1)
		l.people.signedIn(who, nil)
		return
	}
	l.people.signedIn(who, &visitor{
		id: id, key: session.Key, shard: l.shard(session.Key), person: who, ends: l.over(k, made), quiet: k.quiet,
		history: l.config.History.Issued(began, made, history.Subject{
			Handle: session.Key.Handle(), Key: string(session.Key), User: who.id, Plan: n.Fields[planField], Admin: admin,
			Idle: k.idle, Absolute: k.end,
		}),
	})
}

func (l *Load) shard(key sessions.Key) int {
	if !l.config.Cluster {
		return 0
	}
	return shardOf(string(key))
}

func (l *Load) revoke(ctx context.Context) {
	v := l.people.toRevoke()
	if v == nil {
		return
	}
	returned := v.history.Revoke(l.now())
	err := l.kinds[0].manager.Revoke(ctx, v.key)
	l.revoked(err, returned)
}

func (l *Load) revokeAll(ctx context.Context) {
	who, gone := l.people.toRevokeAll()
	if who == nil {
		return
	}
	var all []func(time.Duration, history.Outcome, bool)
	for _, v := range gone {
		all = append(all, v.history.RevokeListed(l.now()))
	}
	began := l.now()
	_, err := l.kinds[0].manager.RevokeUser(ctx, who.id)
	if err == nil {
		l.mu.Lock()
		l.phase.RevokeAll.add(l.now() - began)
		l.mu.Unlock()
	}
	l.revoked(err, all...)
}

// revoked tells the history what came of a revocation.
func (l *Load) revoked(err error, returned ...func(time.Duration, history.Outcome, bool)) {
	outcome := history.Uncertain
	switch {
	case err == nil:
		outcome = history.Done
	case errors.Is(err, sessions.ErrNotFound):
		outcome = history.Absent
	case unconfirmed(err):
		outcome = history.Unconfirmed
	default:
		l.failedChanges.Add(1)
	}
	at := l.now()
	for _, f := range returned {
		f(at, outcome, l.config.WaitReplicas > 0)
	}
}

// unconfirmed reports whether an error says nothing else than that replicas have not
// confirmed a revocation. Where other errors are joined to it, some sessions may live on.
func unconfirmed(err error) bool {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here: errors.As takes one branch of it
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(part error) bool { return !unconfirmed(part) })
	case interface{ Unwrap() error }:
		return unconfirmed(e.Unwrap())
	}
	return err == redisstore.ErrNotReplicated //nolint:errorlint // a leaf, and no other beside it
}

func (l *Load) add(ctx context.Context) {
	v := l.people.toMark()
	if v == nil {
		return
	}
	value := "mark-" + v.key.Handle()
	returned := v.history.Add(l.now(), value)
	outcome := history.Uncertain
	switch err := l.kinds[0].manager.Add(ctx, v.key, map[string]string{markField: value}); {
	case err == nil:
		outcome = history.Done
	case errors.Is(err, sessions.ErrNotFound), errors.Is(err, sessions.ErrExpired):
		outcome = history.Refused
	default:
		l.failedChanges.Add(1)
	}
	returned(l.now(), outcome)
}
