package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// load reads the configuration. A source of users needs no Redis, so then it need not
// be named.
func (a *asker) load(cmd *cobra.Command) (*config.Config, error) {
	c, err := config.Load(cmd.Flags())
	if err == nil || cmd.Flags().Changed("redis-addresses") {
		return c, err
	}
	if err := cmd.Flags().Set("redis-addresses", "127.0.0.1:6379"); err != nil {
		return nil, err
	}
	c, bad := config.Load(cmd.Flags())
	switch {
	case bad != nil:
		return nil, bad
	case usersource.Name(c.Users) == "":
		return nil, fmt.Errorf("no line of a log has a username: name the source of users or the Redis that can say the user ID, or give --user ID: %w", err)
	}
	return c, nil
}

// sourceIDs asks the source of users that is configured.
func sourceIDs(ctx context.Context, c *config.Config, username string) ([]string, error) {
	id, err := usersource.FindID(ctx, c.Users, username)
	if mistake, ok := errors.AsType[*usersource.Mistake](err); ok {
		return nil, config.About(err, mistake.Keys...)
	}
	if err != nil || id == "" {
		return nil, err
	}
	return []string{id}, nil
}

// maxLooked bounds how many live sessions are looked at for a username.
const maxLooked = 10_000

// liveIDs looks for the user IDs of the live sessions that bear a username.
func liveIDs(cmd *cobra.Command, c *config.Config, username string) (ids []string, err error) {
	err = new(sessionTool).connected(cmd, c, func(ctx context.Context, client redis.UniversalClient, m *sessions.Manager) error {
		keys, err := redisstore.New(client, c.Store()).Find(ctx, "", maxLooked+1)
		if err != nil {
			return err
		}
		if len(keys) > maxLooked {
			return fmt.Errorf("there are more than %d live sessions, too many to look for a name: give --user ID, or a source of users", maxLooked)
		}
		for _, key := range keys {
			switch s, err := m.Lookup(ctx, key); {
			case ctx.Err() != nil:
				return err
			case err == nil && strings.EqualFold(s.Username, username):
				ids = append(ids, s.UserID)
			}
		}
		return nil
	})
	slices.Sort(ids)
	return slices.Compact(ids), err
}
