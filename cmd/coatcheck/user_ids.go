package main

import (
	"context"
	"errors"
	"slices"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/pgusers"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
)

// userIDs finds the user IDs that a username may stand for, in their order: those of the
// live sessions with the name, in any letter case, and the one of the user source, where
// login's configuration names one. Both are asked, because a name may have passed to
// another user while a session of the former one lives. An error says that one of them
// could not be asked; it does not repeat the name.
func userIDs(ctx context.Context, c *config.Config, m *sessions.Manager, username string, progress func(sessions.Progress)) ([]string, error) {
	id, err := sourceUserID(ctx, c, username) // first, because it is quick to fail
	if err != nil {
		return nil, err
	}
	ids, err := m.UserIDs(ctx, username, progress)
	if err != nil {
		return nil, err
	}
	if id != "" && !slices.Contains(ids, id) {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// sourceUserID asks the user source of the configuration for the ID of a username. It
// returns no ID where there is no source, or no such user.
func sourceUserID(ctx context.Context, c *config.Config, username string) (string, error) {
	var source passwords.Source
	key := "login.users_file"
	switch {
	case c.LoginUsersFile != "":
		file, err := userfile.Open(c.LoginUsersFile)
		if err != nil {
			return "", config.About(err, key)
		}
		source = file
	case c.LoginPostgresDSN != "":
		key = "login.postgres.dsn"
		database, err := pgusers.New(c.Postgres())
		if err != nil {
			return "", config.About(err, key)
		}
		defer database.Close()
		source = database
	default:
		return "", nil
	}
	account, err := source.Find(ctx, username)
	if errors.Is(err, passwords.ErrNoUser) {
		return "", nil
	}
	return account.ID, config.About(err, key)
}
