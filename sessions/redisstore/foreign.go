package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/internal/lane"
)

// A Foreign reads the records of another framework in one place of a Redis: it implements
// foreign.Store. Of Redis's commands it sends GETRANGE or HGETALL, PTTL and EXPIRE, and for
// Find SCAN. It writes no value. It is safe for concurrent use.
type Foreign struct {
	store *Store
	place sessions.Place
}

// Foreign returns the records of a place. They share the store's client, its metrics, under
// the operations touch, expire and find, and [Store.HoldMissing]. Calls go by go-redis.
func (s *Store) Foreign(place sessions.Place) *Foreign { return &Foreign{s, place} }

// key is the name of a record, which is a secret: it must reach no log and no error.
func (f *Foreign) key(id sessions.ID) string { return f.place.Prefix + id.Reveal() }

// Fetch sends GETRANGE, or HGETALL, and PTTL in one pipeline: one round trip. PTTL comes last,
// so that a record that is deleted in between is missing. GETRANGE takes one byte more than a
// record may have, so that one that is too long is seen to be, and costs no more than that. To
// it a key that is not there has no text, and frameworks that write a text without a byte say
// by it that no user is there.
func (f *Foreign) Fetch(ctx context.Context, id sessions.ID) (record sessions.ForeignRecord, err error) {
	ctx, call := f.store.metrics.touch.begin(ctx)
	defer call.done(&err)
	record, err = f.fetch(ctx, f.key(id))
	return record, f.store.missing(err)
}

func (f *Foreign) fetch(ctx context.Context, key string) (record sessions.ForeignRecord, err error) {
	p := f.store.client.Pipeline()
	var text *redis.StringCmd
	var fields *redis.MapStringStringCmd
	if f.place.Hash {
		// It has no bound, unlike GETRANGE: of a hash, Redis gives named fields or all, and tells
		// its size in bytes with no command that all users may send. A hash that is too large is
		// refused when it has been read. No format has hashes yet; one whose fields have names
		// is better read by HMGET, as Coatcheck's own records are.
		fields = p.HGetAll(ctx, key)
	} else {
		text = p.GetRange(ctx, key, 0, sessions.MaxForeignRecord)
	}
	ttl := pttl(ctx, p, key)
	// Its error is the one of the first command that failed, or of the way to Redis, as in
	// Store.touch.
	if _, err := p.Exec(ctx); err != nil {
		return record, f.failure(err)
	}
	if ttl.Val() == noKey || text != nil && text.Val() == "" || fields != nil && len(fields.Val()) == 0 {
		return record, sessions.ErrNotFound
	}
	record.TTL = lane.Left(ttl.Val())
	if f.place.Hash {
		record.Hash = fields.Val()
		return record, nil
	}
	record.Value, err = text.Bytes()
	return record, err
}

// failure is a store's error. Redis names no key in an error.
func (f *Foreign) failure(err error) error {
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return fmt.Errorf("%w: it has another type than the framework's records", sessions.ErrBroken)
	}
	return err
}

// Extend sends EXPIRE with GT, which neither creates a key, nor shortens its life, nor gives
// an end to one without. It has seconds, as the frameworks' own.
func (f *Foreign) Extend(ctx context.Context, id sessions.ID, lifetime time.Duration) (err error) {
	ctx, call := f.store.metrics.expire.begin(ctx)
	defer call.done(&err)
	return f.store.client.Process(ctx, expire(ctx, f.key(id), lifetime))
}

func expire(ctx context.Context, key string, lifetime time.Duration) *redis.IntCmd {
	return redis.NewIntCmd(ctx, "expire", key, int64(lifetime/time.Second), "gt")
}

// Find scans the keys of every master.
func (f *Foreign) Find(ctx context.Context, handle string, limit int) (_ []sessions.ID, err error) {
	ctx, call := f.store.metrics.find.begin(ctx)
	defer call.done(&err)
	masters, err := f.store.masters(ctx)
	if err != nil {
		return nil, err
	}
	var found []sessions.ID
	for _, master := range masters {
		keys := master.Scan(ctx, 0, literally.Replace(f.place.Prefix)+"*", scanCount).Iterator()
		for len(found) < limit && keys.Next(ctx) {
			id, err := sessions.ForeignID(strings.TrimPrefix(keys.Val(), f.place.Prefix))
			if err == nil && strings.HasPrefix(id.Key().Hash(), handle) && !slices.Contains(found, id) { // SCAN may name a key twice
				found = append(found, id)
			}
		}
		if err := keys.Err(); err != nil {
			return nil, f.needsScan(err)
		}
	}
	return found, nil
}

// FindRights tries the right that Find needs beside those of checks, and returns it as a rule
// of an ACL if it is missing, as [Store.ServiceRights] does. Of a Cluster it asks one node.
func (f *Foreign) FindRights(ctx context.Context) (missing []string, err error) {
	return f.store.single(ctx, nil, [][]any{{"scan", 0, "count", 1}})
}

// needsScan says of a refused SCAN what it was for.
func (f *Foreign) needsScan(err error) error {
	if Forbidden(err) {
		return fmt.Errorf("%w (to find a session by its handle needs +scan on ~%s*)", err, f.place.Prefix)
	}
	return err
}

// literally quotes what has a meaning in patterns of keys.
var literally = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// probe is a key of the place that no session has: an ID of a framework has no such form.
func (f *Foreign) probe() string { return f.place.Prefix + "coatcheck:probe" }

// Try sends what a check sends, for a record that cannot exist, and returns an error where a
// check would fail. Of a Cluster it asks one node.
func (f *Foreign) Try(ctx context.Context) (err error) {
	ctx, call := f.store.metrics.touch.begin(ctx)
	defer call.done(&err)
	_, err = f.fetch(ctx, f.probe())
	if errors.Is(err, sessions.ErrNotFound) {
		return nil
	}
	return err
}

// Diagnose is [Store.Diagnose] for checks of these records. With slides it also tries
// whether they could be slid: a right that is missing for that is a warning, because checks
// go on and sessions end too soon.
func (f *Foreign) Diagnose(ctx context.Context, slides bool) (warnings []string, err error) {
	read := "+getrange"
	if f.place.Hash {
		read = "+hgetall"
	}
	rights := fmt.Sprintf("%s +pttl +expire on ~%s*", read, f.place.Prefix)
	err = f.Try(ctx)
	switch {
	case Refused(err):
		return nil, fmt.Errorf("the user or the password is refused: %w", err)
	case err != nil:
		return nil, fmt.Errorf("a check cannot read sessions (it needs Redis 7.0, and the rights %s): %w", rights, err)
	}
	if slides {
		if err := f.store.client.Process(ctx, expire(ctx, f.probe(), time.Second)); err != nil {
			warnings = append(warnings, "sessions cannot be slid, so that those end that are in use (it needs Redis 7.0, and the rights "+rights+"): "+err.Error())
		}
	}
	more, err := f.store.policyWarnings(ctx)
	return append(warnings, more...), err
}
