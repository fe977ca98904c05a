package redisstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestForeignHashes: records that are hashes are read whole, slid and found, below a prefix
// that has a meaning in patterns, too; foreigntest has the same for strings.
func TestForeignHashes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client()
	defer client.Close()
	ctx := t.Context()
	store := redisstore.New(client, redisstore.Config{})
	const prefix = `app[1]*?\:`
	f := store.Foreign(sessions.Place{Prefix: prefix, Hash: true})
	id, err := sessions.ForeignID("the-id-of-a-session")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{prefix + id.Reveal(), "app1:" + id.Reveal(), prefix + "another"} {
		if err := errors.Join(client.HSet(ctx, key, "user", "42").Err(), client.Expire(ctx, key, time.Minute).Err()); err != nil {
			t.Fatal(err)
		}
	}
	record, err := f.Fetch(ctx, id)
	if err != nil || record.Hash["user"] != "42" || record.TTL <= 0 || record.TTL > time.Minute || record.Value != nil {
		t.Errorf("%v, %v", record, err)
	}
	if err := f.Extend(ctx, id, time.Hour); err != nil || (time.Hour-client.TTL(ctx, prefix+id.Reveal()).Val()).Abs() > time.Minute {
		t.Errorf("extended: %v", err)
	}
	if err := f.Extend(ctx, id, time.Minute); err != nil || client.TTL(ctx, prefix+id.Reveal()).Val() < time.Minute+time.Second {
		t.Errorf("it was shortened: %v", err)
	}
	if ids, err := f.Find(ctx, id.Key().Handle(), 2); err != nil || len(ids) != 1 || ids[0] != id {
		t.Errorf("found %d, %v", len(ids), err)
	}
	if ids, err := f.Find(ctx, "", 9); err != nil || len(ids) != 2 {
		t.Errorf("found %d of two, %v", len(ids), err)
	}
	if warnings, err := f.Diagnose(ctx, true); err != nil || len(warnings) != 0 {
		t.Errorf("%q, %v", warnings, err)
	}

	client.Set(ctx, prefix+id.Reveal(), "x", time.Minute)
	if _, err := f.Fetch(ctx, id); !errors.Is(err, sessions.ErrBroken) || strings.Contains(err.Error(), id.Reveal()) {
		t.Errorf("a string: %v", err)
	}
	client.Del(ctx, prefix+id.Reveal())
	store.HoldMissing(time.Now().Add(time.Minute))
	if _, err := f.Fetch(ctx, id); !errors.Is(err, redisstore.ErrEmptied) {
		t.Errorf("held: %v", err)
	}
	if err := f.Try(ctx); err != nil {
		t.Errorf("trying while missing sessions are held: %v", err)
	}
	store.HoldMissing(time.Time{})
	if _, err := f.Fetch(ctx, id); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if client.Exists(ctx, prefix+id.Reveal()).Val() != 0 {
		t.Error("it was created")
	}
	server.Kill()
	if _, err := f.Fetch(ctx, id); err == nil || sessions.Absent(err) || redisstore.Answered(err) || strings.Contains(err.Error(), id.Reveal()) {
		t.Errorf("Redis is away: %v", err)
	}
}
