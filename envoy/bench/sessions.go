package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// signIn makes n sessions as login does, and returns their IDs.
func signIn(server *redistest.Server, n int) ([]string, error) {
	client := server.Client()
	defer func() { _ = client.Close() }()
	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		return nil, err
	}
	ids := make([]string, n)
	for i := range ids {
		id, _, err := manager.Create(context.Background(), sessions.NewSession{
			UserID: fmt.Sprint("user-", i), Username: "Ada Lovelace", Roles: []string{"staff", "buyer", "editor"},
		})
		if err != nil {
			return nil, err
		}
		ids[i] = id.Reveal()
	}
	return ids, nil
}

// The kinds of requests, by what their Cookie header has.
const (
	withSession   = "session"   // of 1,000 sessions in turn
	withoutCookie = "none"      // no session cookie
	withMalformed = "malformed" // a value that is no session ID
	withUnknown   = "unknown"   // an ID without a session
)

// sessionCount is how many sessions are used in turn.
const sessionCount = 1000

// cookies writes the cookies of a kind of requests, and says which status Coatcheck
// answers.
func (w *world) cookies(kind string) (path string, status int, err error) {
	status = http.StatusUnauthorized
	ids := make([]string, sessionCount)
	switch kind {
	case withSession:
		status = http.StatusOK
		ids, err = signIn(w.redis, sessionCount)
	case withoutCookie:
		path = filepath.Join(w.dir, kind)
		return path, status, os.WriteFile(path, []byte("session=none\n"), 0o600) // another cookie
	case withMalformed:
		for i := range ids {
			ids[i] = fmt.Sprintf("%042d!", i)
		}
	case withUnknown:
		for i := range ids {
			ids[i] = sessions.NewID().Reveal()
		}
	default:
		err = fmt.Errorf("there are no requests %q; there are session, none, malformed and unknown", kind)
	}
	if err != nil {
		return "", 0, err
	}
	path, err = w.cookieFile(kind, ids)
	return path, status, err
}

// cookieFile writes a file of cookies, one for each ID, for the load generator.
func (w *world) cookieFile(name string, ids []string) (string, error) {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(sessions.DefaultCookieName + "=" + id + "\n")
	}
	path := filepath.Join(w.dir, name)
	return path, os.WriteFile(path, []byte(b.String()), 0o600)
}

// idsOf reads the IDs of a cookieFile.
func idsOf(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var ids []string
	for line := range strings.Lines(string(text)) {
		_, id, _ := strings.Cut(strings.TrimSpace(line), "=")
		ids = append(ids, id)
	}
	return ids, nil
}
