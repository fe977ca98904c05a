package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/sessions"
)

// load reads the configuration. A source of users needs no Redis, so then it need not
// be named.
func (a *asker) load(cmd *cobra.Command) (*config.Config, error) {
	c, err := config.LoadWithoutRedis(cmd.Flags())
	if err != nil || usersource.Name(c.Users) != "" {
		return c, err
	}
	if c, err = config.Load(cmd.Flags()); err != nil {
		return nil, fmt.Errorf("no line of a log has a username: name the source of users or the Redis that can say the user ID, or give --user ID: %w", err)
	}
	return c, nil
}

// liveIDs looks for the user IDs of the live sessions that bear a username.
func liveIDs(cmd *cobra.Command, c *config.Config, username string) (ids []string, err error) {
	tool := &sessionTool{scans: true}
	err = tool.withConfig(cmd, c, func(ctx context.Context, m *sessions.Manager) error {
		p := newProgress(cmd)
		defer p.clear()
		ids, err = m.UserIDs(ctx, username, p.at)
		return interrupted(err)
	})
	return ids, err
}
