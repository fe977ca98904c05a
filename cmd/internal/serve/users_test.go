package serve

import (
	"context"
	"errors"
	"testing"

	"github.com/coatcheck/coatcheck/sessions/login"
)

// A directory is an Authenticator that is not a source of hashes, such as LDAP.
type directory struct{ inside, leave chan struct{} }

func (d directory) Authenticate(context.Context, string, string) (login.User, error) {
	d.inside <- struct{}{}
	<-d.leave
	return login.User{}, login.ErrBadCredentials
}

// TestLimited: an Authenticator that is not a source of hashes gets the in-flight
// limit, too.
func TestLimited(t *testing.T) {
	d := directory{make(chan struct{}), make(chan struct{})}
	users, err := limited(d, login.LimiterConfig{Concurrent: 1, Queue: -1})
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error)
	go func() { _, err := users.Authenticate(t.Context(), "ada", "x"); first <- err }()
	<-d.inside
	if _, err := users.Authenticate(t.Context(), "bob", "x"); !errors.Is(err, login.ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	close(d.leave)
	if err := <-first; !errors.Is(err, login.ErrBadCredentials) {
		t.Errorf("the first: %v", err)
	}
}
