package main

import (
	"context"
	"errors"
	"slices"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/sessions"
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

// sourceUserID asks the source of users of the configuration for the ID of a username. It
// returns no ID where there is no source, or no such user.
func sourceUserID(ctx context.Context, c *config.Config, username string) (string, error) {
	id, err := usersource.FindID(ctx, c.Users, username)
	if mistake, ok := errors.AsType[*usersource.Mistake](err); ok {
		return "", config.About(err, mistake.Keys...)
	}
	return id, err
}
