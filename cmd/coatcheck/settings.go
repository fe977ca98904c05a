package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/pflag"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// compareSettings warns where the settings by which this command makes a session are not
// those that login has left, and leaves them if no login has yet. It is no part of the
// work: an operator without the right, or a Redis that is gone by now, changes nothing.
// Settings that flags give to this one session are no mistake, and not what others share.
// It also begins the epoch, as login does, where there was no login yet.
func compareSettings(ctx context.Context, logger *slog.Logger, client redis.UniversalClient, c *config.Config, flags *pflag.FlagSet) {
	state := redisstore.NewState(client)
	_ = state.BeginEpoch(ctx)
	forOne := false
	flags.Visit(func(f *pflag.Flag) {
		forOne = forOne || strings.HasPrefix(f.Name, "session-") || strings.HasPrefix(f.Name, "cookie-")
	})
	if forOne {
		return
	}
	text, err := state.Read(ctx, redisstore.StateSettings)
	if err == nil && text == "" {
		_ = state.Write(ctx, redisstore.StateSettings, c.Settings().Encode())
	}
	login, err := config.ReadSettings(text)
	if err != nil {
		return
	}
	board, err := notice.NewBoard(logger, nil, notice.SettingsDiffer)
	if differ := c.Settings().Differences(login); err == nil && len(differ) > 0 {
		board.Say(notice.SettingsDiffer, slog.Any("differ", differ))
	}
}
