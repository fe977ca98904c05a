package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// impossible says of each command what Coatcheck cannot do with the sessions of another
// program, and what to do instead.
var impossible = map[string][2]string{
	"create": {"make one", "sign in to the application"},
	"add":    {"add fields to one", "have the application put them there"},
	"revoke": {"end one, or all of a user, of whom it has no list", "sign the user out in the application, or have it end the sessions of the user"},
	"list":   {"list those of a user, of whom it has no list", "coatcheck session show knows one by its handle"},
	"count":  {"count them", "coatcheck_redis_keys counts the keys of Redis"},
	"verify": {"hold them to the rules of its own records", "coatcheck session show says what is wrong with one"},
	"why":    {"find those of a user by name", "name a session by its handle"},
}

// onlyReads returns an error for a command that needs sessions of Coatcheck's own.
func onlyReads(cmd *cobra.Command, c *config.Config) error {
	why, ok := impossible[cmd.Name()]
	if !ok {
		why = [2]string{"do this with them", "coatcheck session show knows one by its handle"}
	}
	return c.OnlyReads(why[0], why[1])
}

// withForeign connects to Redis and calls do with the sessions of another program.
func (t *sessionTool) withForeign(cmd *cobra.Command, c *config.Config, format *config.Format, do func(context.Context, *foreign.Sessions) error) error {
	return t.dialled(cmd, c, func(ctx context.Context, client redis.UniversalClient, _ *sessions.Manager) error {
		found, err := foreign.New(redisstore.New(client, c.Store()).Foreign(format.Place()), format, format.Reading)
		if err != nil {
			return err
		}
		defer found.Close()
		return do(ctx, found)
	})
}

// showForeign is show for a session of another program. Its key in Redis is the secret of
// the browser, and is not printed.
func (t *sessionTool) showForeign(cmd *cobra.Command, c *config.Config, format *config.Format, args []string, err error) error {
	if err == nil && t.user != "" {
		err = c.OnlyReads("look for a handle among the sessions of a user, of whom it has no list", "leave out --user")
	}
	if err != nil {
		return err
	}
	return t.withForeign(cmd, c, format, func(ctx context.Context, s *foreign.Sessions) error {
		id, err := t.foreignID(ctx, cmd, s, c.CookieName, args)
		if err != nil {
			return err
		}
		session, err := s.Inspect(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id.Key().Handle(), err)
		}
		shown := view(session)
		shown.Key = ""
		return t.print(cmd.OutOrStdout(), shown, "format", c.SessionFormat)
	})
}

// foreignID is the ID of the session that the arguments name.
func (t *sessionTool) foreignID(ctx context.Context, cmd *cobra.Command, s *foreign.Sessions, cookie string, args []string) (sessions.ID, error) {
	if !t.stdin {
		return findForeign(ctx, s, args[0])
	}
	id, err := readCredential(cmd.InOrStdin(), func(line string) (sessions.ID, error) {
		value, _ := strings.CutPrefix(line, cookie+"=") // as it stands in a request
		return s.Format().Parse(value)
	})
	if errors.Is(err, sessions.ErrMalformed) {
		err = fmt.Errorf("%w: it is not the value of the cookie, or its signature is not by one of the secrets", err)
	}
	return id, err
}

func findForeign(ctx context.Context, s *foreign.Sessions, handle string) (sessions.ID, error) {
	id, err := s.Find(ctx, handle)
	if err != nil {
		return id, fmt.Errorf("%q: %w", shortened(handle), err)
	}
	return id, nil
}
