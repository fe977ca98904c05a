package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestHurry: callers whose time is too short for any Redis cut nobody off from
// one that answers.
func TestHurry(t *testing.T) {
	server := redistest.Start(t)
	options := patient
	options.Addrs, options.Password = []string{server.Addr}, redistest.Password
	client, err := redisstore.NewClient(redisstore.ClientConfig{UniversalOptions: options, BreakerFailures: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	manager := newManager(t, client, sessions.Config{})
	id, _, err := manager.Create(t.Context(), sessions.New{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var hasty sync.WaitGroup
	var late atomic.Int64
	for range 4 {
		hasty.Go(func() {
			for ctx.Err() == nil {
				hurry, cancel := context.WithTimeout(ctx, 200*time.Microsecond)
				if _, err := manager.Touch(hurry, id); err != nil {
					late.Add(1)
				}
				cancel()
			}
		})
	}
	for range 200 {
		patient, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := manager.Touch(patient, id); err != nil {
			t.Errorf("a patient caller: %v", err)
		}
		cancel()
	}
	stop()
	hasty.Wait()
	if late.Load() == 0 {
		t.Error("nobody was in a hurry")
	}
}

// TestWeakPasswords: a password that is a word of an error spoils no error, and
// one that an answer repeats stays out of it.
func TestWeakPasswords(t *testing.T) {
	server := redistest.Start(t)
	for _, test := range []struct {
		addr, password string
		refused        bool
		want           string
	}{
		{server.Addr, "password", true, "WRONGPASS"},
		{server.Addr, "invalid", true, "WRONGPASS"},
		{"127.0.0.1:1", "refused", false, "connection refused"},
		{"127.0.0.1:1", "1", false, "connection refused"},
		{"redis.invalid:6379", "redis", false, "lookup"},
	} {
		options := patient
		options.Addrs, options.Password, options.DialerRetries = []string{test.addr}, test.password, 1
		client, err := redisstore.NewClient(redisstore.ClientConfig{UniversalOptions: options})
		if err != nil {
			t.Fatal(err)
		}
		err = client.Ping(t.Context()).Err()
		if err == nil || !strings.Contains(err.Error(), test.want) || redisstore.Refused(err) != test.refused {
			t.Errorf("%s with %q: %v, refused: %v", test.addr, test.password, err, redisstore.Refused(err))
		}
		if redisstore.Answered(err) != test.refused {
			t.Errorf("%s with %q: answered: %v", test.addr, test.password, redisstore.Answered(err))
		}
		_ = client.Close()
	}
	if !redisstore.Answered(nil) || redisstore.Answered(errors.New("garbage")) {
		t.Error("nil is no answer, or garbage one")
	}
}
