package redisstore_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestRecordsOfOtherPrograms: a record without an expiry, and one that its user's list
// lacks, are said where they are met; sessions that are as they should be are not.
func TestRecordsOfOtherPrograms(t *testing.T) {
	client := newClient(t, redistest.Start(t).Addr)
	var log bytes.Buffer
	store := redisstore.New(client, redisstore.Config{Logger: slog.New(slog.NewJSONHandler(&log, nil)), Metrics: prometheus.NewRegistry()})
	m, err := sessions.NewManager(store, sessions.Config{MaxPerUser: 3})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for range 5 { // two of which end the oldest
		if _, _, err := m.Create(ctx, sessions.NewSession{UserID: "42"}); err != nil {
			t.Fatal(err)
		}
	}
	id, _, err := m.Create(ctx, sessions.NewSession{UserID: "43"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds nothing
		_, _ = m.Lookup(ctx, id.Key())
		_ = m.Revoke(ctx, id.Key())
		_, _, _ = m.List(ctx, "42")
		_, _ = m.RevokeUser(ctx, "42")
	}
	if client.HSet(ctx, "session:"+strings.Repeat("a", 43), "cart", "1"); log.Len() > 0 {
		t.Fatalf("nothing is wrong: %s", log.String())
	}
	write := func(listed, endless bool) sessions.ID {
		id := sessions.NewID()
		client.HSet(ctx, string(id.Key()), "v", "1", "user_id", "42", "expires_at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		if !endless {
			client.PExpire(ctx, string(id.Key()), time.Minute)
		}
		if listed {
			client.Do(ctx, "zadd", "user-sessions:42", time.Now().Add(time.Hour).UnixMilli(), id.Key().Hash())
		}
		return id
	}
	unlisted := write(false, false)
	if _, err := m.Touch(ctx, unlisted); err != nil || log.Len() > 0 {
		t.Fatalf("%v: a check cannot know: %s", err, log.String())
	}
	if err := m.Revoke(ctx, unlisted.Key()); err != nil {
		t.Fatal(err)
	}
	text := log.String()
	if !strings.Contains(text, `"notice":"unlisted_record","user_id":"42","sessions":1,"session":"`+unlisted.Key().Handle()+`"`) || strings.Contains(text, "endless") {
		t.Errorf("unlisted: %s", text)
	}
	log.Reset()
	endless := write(true, true)
	if _, err := m.Touch(ctx, endless); err == nil {
		t.Error("admitted")
	}
	if list, _, err := m.List(ctx, "42"); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	for range 3 {
		_, _ = m.Inspect(ctx, endless.Key())
	}
	text = log.String()
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, `"notice":"endless_record","session":"`+endless.Key().Handle()+`"`) {
		t.Errorf("endless: %s", text)
	}
	if strings.Contains(text, endless.Reveal()) || strings.Contains(text, unlisted.Reveal()) {
		t.Error("a line has an ID")
	}
}
