package nearcache

import (
	"context"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// Store returns store, whose writes also drop the cache's entries: once before the write
// is sent, so that no check is admitted from here while it is under way, and once when it
// has ended, so that nothing stays that was read meanwhile. Give it to the
// [sessions.Manager] of a program that also revokes: what it has revoked itself is gone
// here when the call returns, and earlier than the store says so. It is a
// [sessions.Scanner] and a [sessions.Indexer] if store is.
func (c *Cache) Store(store sessions.Store) sessions.Store {
	t := &through{store, c}
	scanner, scans := store.(sessions.Scanner)
	indexer, lists := store.(sessions.Indexer)
	switch {
	case scans && lists:
		return struct {
			*through
			sessions.Scanner
			sessions.Indexer
		}{t, scanner, indexer}
	case scans:
		return struct {
			*through
			sessions.Scanner
		}{t, scanner}
	case lists:
		return struct {
			*through
			sessions.Indexer
		}{t, indexer}
	}
	return t
}

type through struct {
	sessions.Store
	cache *Cache
}

// drop is deferred, too.
func (t *through) drop(keys ...sessions.Key) {
	for _, key := range keys {
		if sum, ok := key.Sum(); ok {
			t.cache.forget(sum)
		}
	}
}

func (t *through) Create(ctx context.Context, c sessions.CreateParams) (int, error) {
	t.drop(c.Key)
	defer t.drop(c.Key)
	return t.Store.Create(ctx, c)
}

func (t *through) Add(ctx context.Context, key sessions.Key, fields map[string]string) error {
	t.drop(key)
	defer t.drop(key)
	return t.Store.Add(ctx, key, fields)
}

func (t *through) Expire(ctx context.Context, key sessions.Key, at time.Time) error {
	t.drop(key)
	defer t.drop(key)
	return t.Store.Expire(ctx, key, at)
}

func (t *through) Delete(ctx context.Context, userID string, keys ...sessions.Key) (int, error) {
	t.drop(keys...)
	defer t.drop(keys...)
	return t.Store.Delete(ctx, userID, keys...)
}
