// Package storetest is the conformance suite of [sessions.Store]: every clause
// of the interface, as a test that any implementation can run.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) sessions.Store { return mystore.New(...) })
//	}
//
// The stores of one run may share their data: each test makes users and keys of
// its own. What a store cannot be asked to do, such as holding a damaged record,
// is for its own tests.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// Run tests the stores that newStore returns.
func Run(t *testing.T, newStore func(t *testing.T) sessions.Store) {
	for name, test := range map[string]func(*suite){
		"Create/record and end appear":       (*suite).create,
		"Create/is listed":                   (*suite).createLists,
		"Touch/reads the named fields":       (*suite).touchReads,
		"Touch/moves the end, never earlier": (*suite).touchMoves,
		"Touch/an end in centuries":          (*suite).touchFar,
		"Touch/creates nothing":              (*suite).touchCreatesNothing,
		"Touch/never revives":                (*suite).touchNeverRevives,
		"Touch/the end comes":                (*suite).endComes,
		"Read/in order, without moving":      (*suite).read,
		"Add/all of them":                    (*suite).add,
		"Add/or none":                        (*suite).addNone,
		"Add/creates nothing":                (*suite).addCreatesNothing,
		"Add/concurrent calls lose nothing":  (*suite).addConcurrently,
		"Add/one of two wins":                (*suite).addOnce,
		"Expire/moves the end, never later":  (*suite).expire,
		"Delete/counts and takes off list":   (*suite).delete,
		"Delete/keeps what has no record":    (*suite).deleteAbsent,
		"UserKeys/those with a record":       (*suite).userKeys,
		"UserKeys/all of many":               (*suite).userKeysMany,
		"List/the newest, up to a number":    (*suite).list,
		"Mark/ends logins under way":         (*suite).mark,
		"a revocation beside logins":         (*suite).race,
		"revocations in every order":         (*suite).orders,
		"Find/by prefix, up to a limit":      (*suite).find,
		"Now/is the time":                    (*suite).now,
		"a done context is no absence":       (*suite).doneContext,
		"values are bytes":                   (*suite).bytes,
	} {
		t.Run(name, func(t *testing.T) {
			test(&suite{T: t, store: newStore(t), ctx: t.Context(), user: "user-" + sessions.NewID().Key().Handle()})
		})
	}
}

type suite struct {
	*testing.T
	store sessions.Store
	ctx   context.Context
	user  string
}

// start creates a record that ends in a minute and is listed for an hour.
func (s *suite) start(fields sessions.Record) sessions.Key {
	s.Helper()
	key := sessions.NewID().Key()
	s.startKey(key, fields, time.Minute)
	return key
}

func (s *suite) startKey(key sessions.Key, fields sessions.Record, ttl time.Duration) {
	s.Helper()
	s.ok(s.tryKey(key, fields, ttl))
}

func (s *suite) tryKey(key sessions.Key, fields sessions.Record, ttl time.Duration) error {
	record := sessions.Record{"v": "1", "user_id": s.user}
	maps.Copy(record, fields)
	now := time.Now()
	_, err := s.store.Create(s.ctx, sessions.CreateParams{
		Key: key, UserID: s.user, Record: record,
		Now: now, Expiry: now.Add(ttl), Absolute: now.Add(time.Hour),
	})
	return err
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error is %v, want %v", err, want)
	}
}

func (s *suite) entry(key sessions.Key) sessions.Entry {
	s.Helper()
	entries, err := s.store.Read(s.ctx, nil, key)
	s.ok(err)
	return entries[0]
}

func (s *suite) gone(key sessions.Key) {
	s.Helper()
	s.is(s.entry(key).Err, sessions.ErrNotFound)
}

func (s *suite) ttl(key sessions.Key, want time.Duration) {
	s.Helper()
	if got := s.entry(key).TTL; got > want || got < want-10*time.Second {
		s.Fatalf("record ends in %v, want %v", got, want)
	}
}

func (s *suite) keys() []sessions.Key {
	s.Helper()
	keys, err := s.store.UserKeys(s.ctx, s.user)
	s.ok(err)
	return keys
}

func (s *suite) create() {
	key := s.start(sessions.Record{"cart": "3"})
	if got := s.entry(key).Record; !maps.Equal(got, sessions.Record{"v": "1", "user_id": s.user, "cart": "3"}) {
		s.Fatalf("record is %v", got)
	}
	s.ttl(key, time.Minute)
}

func (s *suite) createLists() {
	a, b := s.start(nil), s.start(nil)
	want := []sessions.Key{a, b}
	got := s.keys()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.Fatalf("listed are %v, want %v", got, want)
	}
}

func (s *suite) touchReads() {
	key := s.start(sessions.Record{"a": "1", "b": "2", "empty": ""})
	got, left, err := s.store.Touch(s.ctx, key, time.Now().Add(10*time.Minute), []string{"a", "empty", "absent"})
	s.ok(err)
	if left > 10*time.Minute || left < 9*time.Minute {
		s.Fatalf("the record is said to end in %v", left)
	}
	if !maps.Equal(got, sessions.Record{"a": "1", "empty": ""}) {
		s.Fatalf("touch read %v", got)
	}
}

func (s *suite) touchMoves() {
	key := s.start(nil)
	for _, until := range []time.Duration{10 * time.Minute, time.Second, 10 * time.Minute} {
		_, _, err := s.store.Touch(s.ctx, key, time.Now().Add(until), []string{"v"})
		s.ok(err)
		s.ttl(key, 10*time.Minute)
	}
}

// touchFar moves the end beyond what a duration reaches, as an expiry in the wrong unit does.
func (s *suite) touchFar() {
	for _, years := range []int{150, 400, 700, 50_000} {
		key := s.start(nil)
		_, left, err := s.store.Touch(s.ctx, key, time.Now().AddDate(years, 0, 0), []string{"v"})
		s.ok(err)
		if read := s.entry(key).TTL; left < sessions.MaxTimeout || read < sessions.MaxTimeout {
			s.Fatalf("a record that ends in %d years is said to end in %v, and in %v", years, left, read)
		}
	}
}

func (s *suite) touchCreatesNothing() {
	key := sessions.NewID().Key()
	_, _, err := s.store.Touch(s.ctx, key, time.Now().Add(time.Minute), []string{"v"})
	s.is(err, sessions.ErrNotFound)
	s.gone(key)
}

// touchNeverRevives lets touches race with deletions: each must find the whole
// record or nothing, and nothing once Delete has returned.
func (s *suite) touchNeverRevives() {
	for range 50 {
		key := s.start(nil)
		var deleted atomic.Bool
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					after := deleted.Load()
					got, _, err := s.store.Touch(s.ctx, key, time.Now().Add(time.Minute), []string{"v", "user_id"})
					if err == nil && (after || len(got) != 2) {
						s.Errorf("touch found %v; it began after Delete had returned: %v", got, after)
					}
				}
			})
		}
		_, err := s.store.Delete(s.ctx, s.user, key)
		deleted.Store(true)
		wg.Wait()
		s.ok(err)
		s.gone(key)
	}
}

func (s *suite) endComes() {
	key := sessions.NewID().Key()
	ttl := 300 * time.Millisecond
	err := s.tryKey(key, nil, ttl)
	for ; err != nil && ttl < 10*time.Second; err = s.tryKey(key, nil, ttl) {
		key, ttl = sessions.NewID().Key(), 2*ttl // it was over before it was made
	}
	s.ok(err)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if s.entry(key).Err != nil {
			break
		}
	}
	s.gone(key)
	_, _, err = s.store.Touch(s.ctx, key, time.Now().Add(time.Minute), []string{"v"})
	s.is(err, sessions.ErrNotFound)
}

func (s *suite) read() {
	a, b, none := s.start(sessions.Record{"n": "a"}), s.start(sessions.Record{"n": "b"}), sessions.NewID().Key()
	entries, err := s.store.Read(s.ctx, []string{"n", "absent"}, b, none, a)
	s.ok(err)
	if len(entries) != 3 || entries[0].Record["n"] != "b" || entries[2].Record["n"] != "a" || len(entries[0].Record) != 1 {
		s.Fatalf("read %v", entries)
	}
	s.is(entries[1].Err, sessions.ErrNotFound)
	s.ttl(a, time.Minute)
}

func (s *suite) add() {
	key := s.start(nil)
	s.ok(s.store.Add(s.ctx, key, map[string]string{"a": "1", "b": "2"}))
	if got := s.entry(key).Record; got["a"] != "1" || got["b"] != "2" || got["user_id"] != s.user {
		s.Fatalf("record is %v", got)
	}
	s.ttl(key, time.Minute)
}

func (s *suite) addNone() {
	key := s.start(sessions.Record{"taken": "old"})
	s.is(s.store.Add(s.ctx, key, map[string]string{"a": "1", "taken": "new", "z": "2"}), sessions.ErrFieldExists)
	if got := s.entry(key).Record; len(got) != 3 || got["taken"] != "old" {
		s.Fatalf("record is %v", got)
	}
}

func (s *suite) addCreatesNothing() {
	key := s.start(nil)
	_, err := s.store.Delete(s.ctx, s.user, key)
	s.ok(err)
	s.is(s.store.Add(s.ctx, key, map[string]string{"a": "1"}), sessions.ErrNotFound)
	s.gone(key)
}

func (s *suite) addConcurrently() {
	key := s.start(nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := s.store.Add(s.ctx, key, map[string]string{fmt.Sprint("field", i): fmt.Sprint(i)}); err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	if got := s.entry(key).Record; len(got) != 52 {
		s.Fatalf("%d fields of 52: %v", len(got), got)
	}
}

func (s *suite) addOnce() {
	key := s.start(nil)
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			switch err := s.store.Add(s.ctx, key, map[string]string{"same": fmt.Sprint(i), fmt.Sprint("own", i): ""}); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, sessions.ErrFieldExists):
				s.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || len(s.entry(key).Record) != 4 {
		s.Fatalf("%d calls won; record is %v", won.Load(), s.entry(key).Record)
	}
}

func (s *suite) expire() {
	key := s.start(nil)
	s.ok(s.store.Expire(s.ctx, key, time.Now().Add(2*time.Minute)))
	s.ttl(key, time.Minute) // not later
	s.ok(s.store.Expire(s.ctx, key, time.Now().Add(50*time.Second)))
	s.ttl(key, 50*time.Second)
	s.ok(s.store.Expire(s.ctx, key, time.Now().Add(-time.Hour)))
	s.gone(key)
	s.ok(s.store.Expire(s.ctx, key, time.Now().Add(time.Hour)))
	s.gone(key)
}

func (s *suite) delete() {
	a, b, keep := s.start(nil), s.start(nil), s.start(nil)
	n, err := s.store.Delete(s.ctx, s.user, a, sessions.NewID().Key(), b)
	s.ok(err)
	if n != 2 {
		s.Fatalf("deleted %d, want 2", n)
	}
	s.gone(a)
	s.gone(b)
	if got := s.keys(); !slices.Equal(got, []sessions.Key{keep}) {
		s.Fatalf("listed are %v, want %v", got, keep)
	}
}

func (s *suite) userKeys() {
	key := s.start(nil)
	over := sessions.NewID().Key()
	past := time.Now().Add(-time.Hour)
	record := sessions.Record{"v": "1", "user_id": s.user, "expires_at": past.UTC().Format(time.RFC3339)}
	// Its absolute timeout is past, and its record is there still.
	n, err := s.store.Create(s.ctx, sessions.CreateParams{
		Key: over, UserID: s.user, Record: record, Now: time.Now(), Expiry: time.Now().Add(time.Minute), Absolute: past,
	})
	s.ok(err)
	if n != 2 {
		s.Fatalf("the listing has %d entries, want 2", n)
	}
	if got := s.keys(); len(got) != 2 || !slices.Contains(got, key) || !slices.Contains(got, over) {
		s.Fatalf("listed are %v, want %v and %v, whose record is there", got, key, over)
	}
	s.ok(s.store.Expire(s.ctx, over, past))
	if got := s.keys(); !slices.Equal(got, []sessions.Key{key}) {
		s.Fatalf("listed are %v, want %v", got, key)
	}
	if other, err := s.store.UserKeys(s.ctx, s.user+"x"); err != nil || len(other) != 0 {
		s.Fatalf("an unknown user has %v, %v", other, err)
	}
}

// userKeysMany: all of them, also where they are more than one answer holds.
func (s *suite) userKeysMany() {
	const many = 1200
	for range many {
		s.start(nil)
	}
	if got := s.keys(); len(got) != many {
		s.Fatalf("%d are listed of %d", len(got), many)
	}
	if n, err := s.store.Delete(s.ctx, s.user, s.keys()...); n != many || err != nil {
		s.Fatalf("deleted %d of %d: %v", n, many, err)
	}
	if got := s.keys(); len(got) != 0 {
		s.Fatalf("%d are listed of none", len(got))
	}
}

// deleteAbsent: what has no record stays listed, for a login may be about to write
// it.
func (s *suite) deleteAbsent() {
	key := s.start(nil)
	s.ok(s.store.Expire(s.ctx, key, time.Now().Add(-time.Hour)))
	if n, err := s.store.Delete(s.ctx, s.user, key); n != 0 || err != nil {
		s.Fatalf("deleted %d, %v", n, err)
	}
	if got := s.keys(); !slices.Equal(got, []sessions.Key{key}) {
		s.Fatalf("listed are %v, want %v", got, key)
	}
}

func (s *suite) list() {
	var keys []sessions.Key
	for i := range 5 {
		key := sessions.NewID().Key()
		now := time.Now()
		_, err := s.store.Create(s.ctx, sessions.CreateParams{
			Key: key, UserID: s.user, Record: sessions.Record{"v": "1", "n": fmt.Sprint(i), "other": ""},
			Now: now, Expiry: now.Add(time.Minute), Absolute: now.Add(time.Duration(i+1) * time.Hour),
		})
		s.ok(err)
		keys = append([]sessions.Key{key}, keys...)
	}
	s.ok(s.store.Expire(s.ctx, keys[1], time.Now().Add(-time.Hour)))
	keys = slices.Delete(keys, 1, 2)
	for n := 1; n <= 5; n++ {
		list, more, err := s.store.List(s.ctx, s.user, []string{"n"}, n)
		s.ok(err)
		if len(list) != min(n, 4) || more != max(0, 4-n) {
			s.Fatalf("up to %d: %d are listed of 4, and %d more", n, len(list), more)
		}
		for i, l := range list {
			if l.Key != keys[i] || l.Err != nil || len(l.Record) != 1 || l.TTL > time.Minute || l.TTL < 0 {
				s.Fatalf("number %d is %+v, want %v", i, l, keys[i])
			}
		}
	}
	if list, more, err := s.store.List(s.ctx, s.user+"x", nil, 5); err != nil || more != 0 || len(list) != 0 {
		s.Fatalf("an unknown user has %v, %v", list, err)
	}
}

// login makes a session whose login began then.
func (s *suite) login(began time.Time) (sessions.Key, error) {
	key, now := sessions.NewID().Key(), time.Now()
	_, err := s.store.Create(s.ctx, sessions.CreateParams{
		Key: key, UserID: s.user, Record: sessions.Record{"v": "1", "user_id": s.user}, Began: began,
		Now: now, Expiry: now.Add(time.Minute), Absolute: now.Add(time.Hour),
	})
	return key, err
}

// mark: a login that began before, ends; one that began when Mark had returned,
// does not, or one that began soon after, where a store answers too slowly to tell; the
// marks of others do nothing.
func (s *suite) mark() {
	for range 20 {
		before := time.Now()
		s.ok(s.store.Mark(s.ctx, s.user))
		after := time.Now()
		key, err := s.login(before)
		s.is(err, sessions.ErrEnded)
		s.gone(key)
		_, err = s.login(after)
		for errors.Is(err, sessions.ErrEnded) && time.Since(after) < 20*time.Second {
			_, err = s.login(time.Now())
		}
		s.ok(err)
		_, err = s.login(time.Time{})
		s.ok(err)
	}
	before := time.Now()
	s.ok(s.store.Mark(s.ctx, s.user+"x"))
	_, err := s.login(before)
	s.ok(err)
}

// revoke ends all sessions of the suite's user, as a manager does.
func (s *suite) revoke() {
	s.ok(s.store.Mark(s.ctx, s.user))
	_, err := s.store.Delete(s.ctx, s.user, s.keys()...)
	s.ok(err)
}

// race lets logins and a revocation run at the same time: no login that began before
// it has a session, and none has one that is not listed.
func (s *suite) race() {
	for range 30 {
		var running sync.WaitGroup
		for range 4 {
			running.Go(func() {
				began := time.Now()
				key, err := s.login(began)
				if err == nil && !slices.Contains(s.keys(), key) && s.entry(key).Err == nil {
					s.Error("a session lives that is not listed")
				}
				if err != nil && !errors.Is(err, sessions.ErrEnded) {
					s.Logf("a login: %v", err) // its record was gone before it was made
				}
			})
		}
		time.Sleep(300 * time.Microsecond)
		before := time.Now()
		s.revoke()
		running.Wait()
		if key, err := s.login(before); err == nil {
			s.Errorf("a login that began before the revocation has the session %s", key.Handle())
		}
		keys := s.keys()
		s.revoke()
		for _, key := range keys {
			s.gone(key)
		}
	}
}

// orders has two revocations and a login take their steps in every order. Each of the
// revocations may die after any of its steps; the login is one step, in
// every store.
func (s *suite) orders() {
	const steps = 3 // of a revocation: mark, list, delete
	every := 11     // the others are for those who have the time
	if os.Getenv("COATCHECK_FULL") != "" {
		every = 1
	}
	n := 0
	for _, order := range merges(nil, 1, steps, steps) {
		for alive := range (steps + 1) * (steps + 1) {
			if n++; n%every == 0 {
				s.order(order, [2]int{alive % (steps + 1), alive / (steps + 1)})
			}
		}
	}
}

// merges are all orders of so many steps of each process.
func merges(done []int, left ...int) (all [][]int) {
	for i := range left {
		if left[i] > 0 {
			rest := slices.Clone(left)
			rest[i]--
			all = append(all, merges(append(slices.Clone(done), i), rest...)...)
		}
	}
	if all == nil {
		return [][]int{done}
	}
	return all
}

// order runs one: process 0 is the login, 1 and 2 the revocations, which die after as
// many steps as alive says.
func (s *suite) order(order []int, alive [2]int) {
	user := "user-" + sessions.NewID().Key().Handle()
	one := &suite{T: s.T, store: s.store, ctx: s.ctx, user: user}
	var key sessions.Key
	var keys [2][]sessions.Key
	var taken, before [2]int // steps; those that were before the login
	for _, process := range order {
		if process == 0 {
			key, before = one.start(nil), taken
			continue
		}
		i := process - 1
		if taken[i] == alive[i] {
			continue
		}
		switch taken[i]++; taken[i] {
		case 1:
			s.ok(s.store.Mark(s.ctx, user))
		case 2:
			keys[i] = one.keys()
		case 3:
			_, err := s.store.Delete(s.ctx, user, keys[i]...)
			s.ok(err)
		}
	}
	live := one.entry(key).Err == nil
	ended, spared := false, true
	for i := range taken {
		ended = ended || before[i] == 0 && taken[i] == 3
		spared = spared && (before[i] == 3 || taken[i] < 3)
	}
	switch {
	case live && !slices.Contains(one.keys(), key):
		s.Errorf("order %v, %v steps: a session lives that is not listed", order, alive)
	case live && ended:
		s.Errorf("order %v, %v steps: a session lives after its revocation", order, alive)
	case !live && spared:
		s.Errorf("order %v, %v steps: a session has ended that no revocation reached", order, alive)
	}
}

func (s *suite) find() {
	key := s.start(nil)
	prefix := key.Handle()
	twin := sessions.Key(sessions.KeyPrefix + prefix + strings.Repeat("A", 43-len(prefix)))
	s.startKey(twin, nil, time.Minute)
	for limit := 1; limit <= 3; limit++ {
		got, err := s.store.Find(s.ctx, prefix, limit)
		s.ok(err)
		if len(got) != min(limit, 2) {
			s.Fatalf("limit %d: found %v", limit, got)
		}
	}
	got, err := s.store.Find(s.ctx, key.Hash(), 2)
	s.ok(err)
	if !slices.Equal(got, []sessions.Key{key}) {
		s.Fatalf("found %v, want %v", got, key)
	}
	got, err = s.store.Find(s.ctx, sessions.NewID().Key().Hash(), 2)
	s.ok(err)
	if len(got) != 0 {
		s.Fatalf("found %v, want nothing", got)
	}
}

func (s *suite) now() {
	got, err := s.store.Now(s.ctx)
	s.ok(err)
	if d := time.Since(got).Abs(); d > time.Minute {
		s.Fatalf("the store's clock is %v away", d)
	}
}

func (s *suite) doneContext() {
	key := s.start(nil)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, _, touch := s.store.Touch(ctx, key, time.Now(), []string{"v"})
	_, read := s.store.Read(ctx, nil, key)
	_, userKeys := s.store.UserKeys(ctx, s.user)
	for _, err := range []error{touch, read, userKeys, s.store.Add(ctx, key, map[string]string{"a": "1"})} {
		if err == nil || errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrBroken) {
			s.Errorf("error is %v, want one that says nothing about the session", err)
		}
	}
	s.ttl(key, time.Minute)
}

func (s *suite) bytes() {
	odd := "\x00\xff\r\n*?[]\\\"'" + strings.Repeat("x", 1<<16)
	key := s.start(sessions.Record{"odd": odd})
	s.ok(s.store.Add(s.ctx, key, map[string]string{"odd \x01 name": odd}))
	if got := s.entry(key).Record; got["odd"] != odd || got["odd \x01 name"] != odd {
		s.Fatal("a value came back changed")
	}
}
