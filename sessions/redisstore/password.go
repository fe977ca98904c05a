package redisstore

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// ReadPassword reads a file that holds a password, without the line feeds at its
// end. Its error names the file, never what is in it; an empty file is one.
func ReadPassword(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(content), "\r\n")
	if password == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return password, nil
}

// A passwordFile gives each new connection the password that the file holds
// then. After Redis has refused one, the next connection is the next attempt.
type passwordFile struct {
	username, path string
	known          *secrets
}

// A fileError names the file, which may be called as the password is.
type fileError struct{ error }

func (e fileError) Error() string { return "password file: " + e.error.Error() }
func (e fileError) Unwrap() error { return e.error }

// credentials is go-redis's CredentialsProviderContext.
func (f passwordFile) credentials(context.Context) (username, password string, err error) {
	if password, err = ReadPassword(f.path); err != nil {
		return "", "", fileError{err}
	}
	f.known.add(password)
	return f.username, password, nil
}
