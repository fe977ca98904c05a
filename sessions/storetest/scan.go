package storetest

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// RunScanner tests the stores that newStore returns, which are [sessions.Scanner]s, too.
func RunScanner(t *testing.T, newStore func(t *testing.T) sessions.Store) {
	for name, test := range map[string]func(*suite){
		"Scan/finds every record once": (*suite).scanFinds,
		"Scan/beside changes":          (*suite).scanBesideChanges,
		"Scan/stops":                   (*suite).scanStops,
	} {
		t.Run(name, func(t *testing.T) {
			test(&suite{T: t, store: newStore(t), ctx: t.Context(), user: "user-" + sessions.NewID().Key().Handle()})
		})
	}
}

// scan returns the user's records by key, and how often each came.
func (s *suite) scan(names []string) (records map[sessions.Key]sessions.Entry, times map[sessions.Key]int) {
	s.Helper()
	records, times = make(map[sessions.Key]sessions.Entry), make(map[sessions.Key]int)
	done := 0.0
	for page, err := range s.store.(sessions.Scanner).Scan(s.ctx, names) {
		s.ok(err)
		if page.Done < done || page.Done > 1 {
			s.Errorf("done are %v, behind %v", page.Done, done)
		}
		done = page.Done
		for _, listed := range page.Records {
			if listed.Record["user_id"] == s.user {
				records[listed.Key] = listed.Entry
				times[listed.Key]++
			}
		}
	}
	if done != 1 {
		s.Errorf("at the end %v are done", done)
	}
	return records, times
}

func (s *suite) scanFinds() {
	want := make(map[sessions.Key]int)
	for range 700 {
		want[s.start(sessions.Record{"a": "1", "b": "2"})] = 1
	}
	gone := s.start(nil)
	_, err := s.store.Delete(s.ctx, s.user, gone)
	s.ok(err)
	for _, names := range [][]string{{"user_id", "a"}, nil} {
		records, times := s.scan(names)
		if !maps.Equal(times, want) {
			s.Fatalf("%d records came, want %d, each once", len(times), len(want))
		}
		for _, entry := range records {
			if _, b := entry.Record["b"]; entry.Err != nil || entry.TTL <= 0 || entry.TTL > time.Minute || entry.Record["a"] != "1" || b != (names == nil) {
				s.Fatalf("with the fields %v a record is %+v", names, entry)
			}
		}
	}
}

func (s *suite) scanBesideChanges() {
	var stay []sessions.Key
	for range 300 {
		stay = append(stay, s.start(nil))
	}
	ctx, stop := context.WithCancel(s.ctx)
	var changing sync.WaitGroup
	changing.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.store.Delete(s.ctx, s.user, s.start(nil)); err != nil {
				s.Error(err)
				return
			}
		}
	})
	_, times := s.scan([]string{"user_id"})
	stop()
	changing.Wait()
	for _, key := range stay {
		if times[key] == 0 {
			s.Errorf("a record that was there all the while did not come")
		}
	}
}

func (s *suite) scanStops() {
	for range 300 {
		s.start(nil)
	}
	scanner := s.store.(sessions.Scanner)
	for _, err := range scanner.Scan(s.ctx, nil) {
		s.ok(err)
		break
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	var last error
	for _, err := range scanner.Scan(ctx, nil) {
		last = err
	}
	if last == nil {
		s.Error("a scan whose context is done ends without an error")
	}
}

// RunIndexer tests the stores that newStore returns, which are [sessions.Indexer]s, too.
func RunIndexer(t *testing.T, newStore func(t *testing.T) sessions.Store) {
	t.Run("Listings/how sessions are listed", func(t *testing.T) {
		s := &suite{T: t, store: newStore(t), ctx: t.Context(), user: "user-" + sessions.NewID().Key().Handle()}
		listed, unlisted := s.start(nil), sessions.NewID().Key()
		indexer := s.store.(sessions.Indexer)
		got, err := indexer.Listings(s.ctx, []string{s.user, s.user, s.user + "-other"}, []sessions.Key{listed, unlisted, listed})
		s.ok(err)
		is := make([]bool, len(got))
		for i, l := range got {
			is[i] = l.Listed && l.Err == nil
		}
		if !slices.Equal(is, []bool{true, false, false}) {
			s.Fatalf("listed are %v", is)
		}
		end := float64(time.Now().Add(time.Hour).UnixMilli()) // as start has it
		if l := got[0]; math.Abs(l.Score-end) > 60_000 || l.TTL >= 0 && l.TTL < time.Hour {
			s.Errorf("the listing is %+v", l)
		}
	})
}
