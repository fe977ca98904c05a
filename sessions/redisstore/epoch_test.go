package redisstore

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// epochs are those that a state reads.
func epochs(t *testing.T, s *State, known ...string) map[string]string {
	t.Helper()
	found, err := s.Epochs(t.Context(), known...)
	must(t, err)
	return found
}

// TestEpoch is set once, and gone with the data.
func TestEpoch(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	defer client.Close()
	state := NewState(client)
	if got := epochs(t, state); !maps.Equal(got, map[string]string{stateKey: ""}) {
		t.Errorf("at first: %v", got)
	}
	must(t, state.Write(t.Context(), StateSettings, "{}"))
	must(t, state.BeginEpoch(t.Context()))
	first := epochs(t, state)
	must(t, state.BeginEpoch(t.Context()))
	if again := epochs(t, state); !maps.Equal(first, again) || len(first[stateKey]) < 20 {
		t.Errorf("%v, and begun again %v", first, again)
	}
	if text, err := state.Read(t.Context(), StateSettings); text != "{}" || err != nil {
		t.Errorf("the settings beside it: %q, %v", text, err)
	}
	client.FlushAll(t.Context())
	if got := epochs(t, state)[stateKey]; got != "" {
		t.Errorf("without data: %q", got)
	}
	must(t, state.BeginEpoch(t.Context()))
	if got := epochs(t, state)[stateKey]; got == "" || got == first[stateKey] {
		t.Errorf("a new one: %q, was %q", got, first[stateKey])
	}
	server.Kill()
	if got, err := state.Epochs(t.Context()); err == nil || len(got) != 0 {
		t.Errorf("without Redis: %v, %v", got, err)
	}
}

// TestEpochsOfACluster: each master has one, every client finds the same keys, and an epoch
// goes where its slot goes.
func TestEpochsOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0, nil)
	connected := func() (*State, *redis.ClusterClient) {
		config := calmly(cluster.Addrs()...)
		client, err := NewClient(config)
		must(t, err)
		t.Cleanup(func() { _ = client.Close() })
		return NewState(client), client.UniversalClient.(*redis.ClusterClient)
	}
	login, client := connected()
	must(t, login.BeginEpoch(t.Context()))
	found := epochs(t, login)
	masters := make(map[*redis.Client]bool)
	for key, epoch := range found {
		master, err := client.MasterForKey(t.Context(), key)
		must(t, err)
		if masters[master] = true; epoch == "" {
			t.Errorf("%s has no epoch", key)
		}
	}
	if len(found) != 3 || len(masters) != 3 || found[stateKey] == "" {
		t.Fatalf("%v on %d masters", found, len(masters))
	}
	check, _ := connected()
	if got := epochs(t, check); !maps.Equal(got, found) {
		t.Errorf("another client finds %v, want %v", got, found)
	}

	// One master loses its data: its epoch is gone, and no other.
	lost := slices.Sorted(maps.Keys(found))[1]
	master, err := client.MasterForKey(t.Context(), lost)
	must(t, err)
	master.FlushAll(t.Context())
	want := maps.Clone(found)
	want[lost] = ""
	if got := epochs(t, check); !maps.Equal(got, want) {
		t.Errorf("with one master empty: %v, want %v", got, want)
	}
	must(t, login.BeginEpoch(t.Context()))

	// A slot moves with its key, as redis-cli --cluster reshard does it.
	before := epochs(t, check)
	moveKey(t, cluster, client, lost)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if got := epochs(t, check, slices.Collect(maps.Keys(before))...); got[lost] == before[lost] || time.Now().After(deadline) {
			for key, epoch := range before {
				if got[key] != epoch {
					t.Errorf("when its slot has moved, %s has %q, had %q", key, got[key], epoch)
				}
			}
			break
		}
	}
}

// moveKey moves the slot of a key, with the key, to the next master.
func moveKey(t *testing.T, cluster *redistest.Cluster, client *redis.ClusterClient, key string) {
	t.Helper()
	slot, err := client.ClusterKeySlot(t.Context(), key).Result()
	must(t, err)
	owner := cluster.Owner(int(slot))
	to := (owner + 1) % 3
	from, target := cluster.Masters[owner].Client(), cluster.Masters[to].Client()
	defer from.Close()
	defer target.Close()
	text, err := from.Dump(t.Context(), key).Result()
	must(t, err)
	must(t, from.Del(t.Context(), key).Err())
	cluster.Move(t, int(slot), to)
	must(t, target.Restore(t.Context(), key, 0, text).Err())
}

// TestHoldMissing: what is missing is not said to be so for as long as that, and what is
// there is found.
func TestHoldMissing(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	defer client.Close()
	keys := someKeys(2)
	for road, store := range bothRoads(t, calmly(server.Addr), client, true, keys[0]) {
		touch := func(key sessions.Key) error {
			_, _, err := store.Touch(t.Context(), key, time.Now().Add(time.Hour), []string{"v"})
			return err
		}
		store.HoldMissing(time.Now().Add(time.Hour))
		if err := touch(keys[1]); !errors.Is(err, ErrEmptied) || errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("%s: while held: %v", road, err)
		}
		if err := errors.Join(touch(keys[0]), store.Try(t.Context())); err != nil {
			t.Errorf("%s: what is there: %v", road, err)
		}
		for _, end := range []time.Time{{}, time.Now().Add(-time.Second)} {
			if store.HoldMissing(end); !errors.Is(touch(keys[1]), sessions.ErrNotFound) {
				t.Errorf("%s: afterwards: %v", road, touch(keys[1]))
			}
		}
	}
}
