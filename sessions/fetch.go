package sessions

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"
)

// A Fetch says how [Manager.Fetch] reads a session.
type Fetch struct {
	// Slide also slides the idle expiry, as [Manager.Touch] does.
	Slide bool
	// Fields are the application fields to read.
	Fields []string
}

// Fetch is [Manager.Touch] for a program that knows the key and not the ID, such as a
// cache that renews what it holds. It returns the session, or the error, exactly as Touch
// does, and how long the record lasts unless it is used, counted from the call. It is one
// round trip.
func (m *Manager) Fetch(ctx context.Context, key Key, f Fetch) (*Session, time.Duration, error) {
	now := m.Now()
	entry, err := m.fetch(ctx, key, f, now)
	if err != nil {
		return nil, 0, err
	}
	m.correct()
	session, err := m.live(key, entry.Record, entry.TTL, now)
	if f.Slide && errors.Is(err, ErrExpired) {
		// The verdict stands whether or not the store can do it now.
		_ = m.store.Expire(ctx, key, session.ExpiresAt)
	}
	if err != nil {
		return nil, 0, err
	}
	return session, entry.TTL, nil
}

func (m *Manager) fetch(ctx context.Context, key Key, f Fetch, now time.Time) (entry Entry, err error) {
	names := touched(f.Fields)
	if f.Slide {
		entry.Record, entry.TTL, err = m.store.Touch(ctx, key, m.until(now), names)
		return entry, err
	}
	entries, err := m.store.Read(ctx, names, key)
	if err != nil {
		return entry, err
	}
	return entries[0], entries[0].Err
}

// A Lifetime is how long a session lives on, as [Manager.Lifetimes] found it.
type Lifetime struct {
	// Left is the time until the session ends unless it is used: by its idle or its
	// absolute timeout, the earlier one. It counts from the answer.
	Left time.Duration
	// Err is nil for a live session, and else an error of [Manager.Touch] about the record.
	Err error
}

// Lifetimes returns for each of keys, in their order, how long its session lives on. It
// slides no session, and reads what a check reads, so that its verdicts are the same. It
// sends one pipeline for all keys; the error says that the store is unavailable.
func (m *Manager) Lifetimes(ctx context.Context, keys ...Key) ([]Lifetime, error) {
	entries, err := m.store.Read(ctx, checkFields, keys...)
	if err != nil {
		return nil, err
	}
	defer m.correct() // behind the verdicts, which go by the time as it was known
	now := m.Now()
	lifetimes := make([]Lifetime, len(keys))
	for i, e := range entries {
		lifetimes[i] = m.lifetime(keys[i], e, now)
	}
	return lifetimes, nil
}

func (m *Manager) lifetime(key Key, e Entry, now time.Time) Lifetime {
	if e.Err != nil {
		return Lifetime{Err: e.Err}
	}
	session, err := m.live(key, e.Record, e.TTL, now)
	if err != nil {
		return Lifetime{Err: err}
	}
	return Lifetime{Left: min(e.TTL, session.ExpiresAt.Sub(now))}
}

// Unexpired reports whether a session that Touch has returned is still within its absolute
// timeout, by the store's time. It asks the store nothing, so it cannot know of a
// revocation, nor of the idle timeout.
func (m *Manager) Unexpired(s *Session) bool {
	now := m.Now()
	return now.Before(s.ExpiresAt) && m.config.tooFar(s.ExpiresAt, now) == nil
}

// Config returns the rules of the manager, with its defaults filled in.
func (m *Manager) Config() Config { return m.config }

// Sum is the SHA-256 over the ID's characters, of which [ID.Key] is the text. It
// allocates nothing, but for a long ID of another framework.
func (id ID) Sum() [sha256.Size]byte {
	if len(id.value) > idLength { // of another framework
		return sha256.Sum256([]byte(id.value))
	}
	var text [idLength]byte
	n := copy(text[:], id.value)
	return sha256.Sum256(text[:n])
}

// Sum is the hash that the key has in base64url, and whether it has one. It allocates
// nothing.
func (k Key) Sum() (sum [sha256.Size]byte, ok bool) {
	if len(k) != len(KeyPrefix)+idLength || k[:len(KeyPrefix)] != KeyPrefix || !isHash(string(k[len(KeyPrefix):])) {
		return sum, false
	}
	var text [idLength]byte
	copy(text[:], k[len(KeyPrefix):])
	_, err := base64.RawURLEncoding.Decode(sum[:], text[:])
	return sum, err == nil
}

// KeyOf is the key whose hash is sum: [Key.Sum] turned round.
func KeyOf(sum [sha256.Size]byte) Key {
	var b [len(KeyPrefix) + idLength]byte
	copy(b[:], KeyPrefix)
	base64.RawURLEncoding.Encode(b[len(KeyPrefix):], sum[:])
	return Key(b[:])
}
