package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// stateKey is the hash of what all processes of an installation should know: a field
// for each subject. It is one key, on a Cluster too: it is read beside the checks, which
// do not wait for it.
const stateKey = "coatcheck:state"

// StateSettings is the field in which login leaves the settings by which it works.
const StateSettings = "settings"

// A State reads and writes the hash coatcheck:state, in which login and the session
// commands leave what checks should know; checks have only the right to read it. It
// must hold no secret. It is safe for concurrent use.
type State struct{ client redis.UniversalClient }

// NewState returns a State on client, which stays the caller's to close. It sends
// nothing.
func NewState(client redis.UniversalClient) *State { return &State{client} }

// Read returns the text of a subject, empty where there is none. What stands there may
// have been written by a program of another version.
func (s *State) Read(ctx context.Context, subject string) (string, error) {
	values, err := s.client.HMGet(ctx, stateKey, subject).Result()
	if err != nil || len(values) == 0 {
		return "", err
	}
	text, _ := values[0].(string)
	return text, nil
}

// Write replaces the text of a subject. The hash has no expiry.
func (s *State) Write(ctx context.Context, subject, text string) error {
	return s.client.HSet(ctx, stateKey, subject, text).Err()
}
