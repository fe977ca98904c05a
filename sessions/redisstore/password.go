package redisstore

import (
	"context"

	"github.com/coatcheck/coatcheck/internal/secretfile"
)

// A passwordFile gives each new connection the password that the file holds
// then. After Redis has refused one, the next connection is the next attempt.
type passwordFile struct {
	username, path string
	known          *secretfile.Set
}

// A fileError names the file, which may be called as the password is.
type fileError struct{ error }

func (e fileError) Error() string { return "password file: " + e.error.Error() }
func (e fileError) Unwrap() error { return e.error }

// credentials is go-redis's CredentialsProviderContext.
func (f passwordFile) credentials(context.Context) (username, password string, err error) {
	if password, err = secretfile.Read(f.path); err != nil {
		return "", "", fileError{err}
	}
	f.known.Add(password)
	return f.username, password, nil
}
