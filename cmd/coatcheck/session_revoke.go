package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A revocation is what session revoke was asked for.
type revocation struct {
	*sessionTool
	all, others, closed, scan bool
	username                  string
	by                        string

	// unreplicated says that all went well but for replicas, which did not acknowledge it.
	// Nil: they did, or are not waited for.
	unreplicated error
}

// settle notes that replicas did not acknowledge what has ended, and returns other errors.
func (r *revocation) settle(err error) error {
	if errors.Is(err, sessions.ErrNotReplicated) {
		r.unreplicated = err
		return nil
	}
	return err
}

// told prints how many sessions have ended, behind the names and values of before, and
// ends with an error where a failover could bring them back.
func (r *revocation) told(cmd *cobra.Command, rows ...string) error {
	if r.unreplicated == nil {
		return r.print(cmd.OutOrStdout(), sessionView{}, rows...)
	}
	if err := r.print(cmd.OutOrStdout(), sessionView{}, append(rows, "replicated", "false")...); err != nil {
		return err
	}
	return fmt.Errorf("%w; a failover of Redis now could bring it back: after one, revoke again", r.unreplicated)
}

func (t *sessionTool) revoke() *cobra.Command {
	r := &revocation{sessionTool: t}
	cmd := &cobra.Command{
		Use:   "revoke HANDLE | --all --user ID | --username NAME",
		Short: "End a session, all of a user, or all but one",
		Long: `End a session, all of a user, or all but one. Where no session was ended, the status is 1,
except with --others and --closed, which may have nothing to end.

--all ends the sessions that are listed for the user ID. A program that writes sessions
without listing them leaves sessions that only --scan finds: it goes through all of Redis,
which takes minutes where there are millions, after those that are listed have ended.

--username looks for the user IDs of a name, among all live sessions and, with login's
configuration, in the users file or the table, and prints them. Of one it ends all sessions,
as --all --user does. Where there are several it ends nothing, and the status is 1.

With --closed it ends the sessions of accounts that login.users_file no longer has, or
has with another password, other roles or other attributes than login saw last. Login
does so itself, unless the file lacks more than half of the accounts: then it waits for
this command.

With redis.wait_replicas the status is 1, too, and "replicated false" is printed, where
sessions have ended and fewer replicas than that acknowledged it: a failover now could
bring them back.

Each end leaves a line on standard error, with the name that the system knows the
operator by, and --by.`,
		Example: `  coatcheck session revoke 3fK9
  coatcheck session revoke --all --user 42
  coatcheck session revoke --all --user 42 --scan
  coatcheck session revoke --username ada --by "grace, INC-7"
  coatcheck session revoke --others 3fK9
  coatcheck session revoke --closed --login-users-file users.yaml`,
		Args: args(func(_ *cobra.Command, args []string) error { return r.validate(args) }),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case r.closed:
				return r.revokeClosed(cmd)
			case r.username != "":
				return r.revokeUsername(cmd)
			}
			return r.revokeArgs(cmd, args)
		},
	}
	cmd.Flags().BoolVar(&r.all, "all", false, "revoke all sessions of --user")
	cmd.Flags().BoolVar(&r.scan, "scan", false, "with --all or --username: find those that are not listed, too, by scanning Redis")
	cmd.Flags().StringVar(&r.username, "username", "", "revoke all sessions of the user with this `name`, in any letter case, if it is one user")
	cmd.Flags().BoolVar(&r.others, "others", false, "revoke all sessions of the named one's user, except the named one")
	cmd.Flags().BoolVar(&r.closed, "closed", false, "revoke the sessions of accounts that login.users_file has closed or changed")
	cmd.Flags().StringVar(&r.by, "by", "", "`who` asked for it, or why, for the log")
	return t.naming(cmd)
}

func (r *revocation) validate(args []string) error {
	switch named := len(args) == 1 && !r.stdin || len(args) == 0 && r.stdin; {
	case len(r.by) > 256 || !utf8.ValidString(r.by) || strings.ContainsFunc(r.by, unicode.IsControl):
		return errors.New("--by is up to 256 bytes of UTF-8 without control characters")
	case r.closed && (r.all || r.others || r.scan || r.username != "" || r.user != "" || r.stdin || len(args) > 0):
		return errors.New("--closed cannot be used with a handle, --all, --others, --scan, --username, --user or --stdin")
	case r.closed:
		return nil
	case r.username != "" && (r.others || r.user != "" || r.stdin || len(args) > 0):
		return errors.New("--username cannot be used with a handle, --others, --user or --stdin")
	case r.username != "":
		return nil
	case r.all && (r.others || r.user == "" || len(args) > 0 || r.stdin):
		return errors.New("--all needs --user, and takes no handle")
	case r.scan && !r.all:
		return errors.New("--scan needs --all or --username")
	case !r.all && !named:
		return errors.New("name one session by its handle, or with --stdin by its ID, or --all --user ID, or --username NAME")
	}
	return nil
}

// revokeArgs ends what the arguments name.
func (r *revocation) revokeArgs(cmd *cobra.Command, args []string) error {
	r.scans = r.scan
	return r.with(cmd, func(ctx context.Context, m *sessions.Manager) error {
		if r.all {
			return r.revokeUser(ctx, cmd, m, r.user)
		}
		n, err := r.revokeNamed(ctx, cmd, m, args)
		if err != nil {
			return err
		}
		return r.told(cmd, "revoked", fmt.Sprint(n))
	})
}

// revokeUsername finds whose sessions are meant, and ends them if that is one user.
func (r *revocation) revokeUsername(cmd *cobra.Command) error {
	c, err := config.Load(cmd.Flags())
	if err != nil {
		return err
	}
	r.scans = true
	return r.withConfig(cmd, c, func(ctx context.Context, m *sessions.Manager) error {
		p := newProgress(cmd)
		ids, err := userIDs(ctx, c, m, r.username, p.at)
		p.clear()
		switch {
		case err != nil:
			return interrupted(err)
		case len(ids) == 0:
			return fmt.Errorf("no live session has the username %q%s; coatcheck session list --all shows the names", r.username, orSource(c))
		case len(ids) > 1:
			if err := r.printIDs(cmd, ids); err != nil {
				return err
			}
			return fmt.Errorf("%d user IDs have this name, and no session was ended; choose one: coatcheck session revoke --all --user ID", len(ids))
		}
		return r.revokeUser(ctx, cmd, m, ids[0], "user_id", ids[0])
	})
}

// orSource says which source of users does not have a name, either.
func orSource(c *config.Config) string {
	if source := usersource.Name(c.Users); source != "" {
		return ", and no user in " + source
	}
	return ""
}

func (r *revocation) printIDs(cmd *cobra.Command, ids []string) error {
	if r.output == "json" {
		return encode(cmd.OutOrStdout(), map[string]any{"user_ids": ids, "revoked": "0"})
	}
	for _, id := range ids {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "user_id  %s\n", visible(id)); err != nil {
			return err
		}
	}
	return nil
}

// revokeUser ends all sessions of a user, those that are listed first. It prints how
// many, behind the names and values of before.
func (r *revocation) revokeUser(ctx context.Context, cmd *cobra.Command, m *sessions.Manager, userID string, before ...string) error {
	n, err := r.revokeListed(ctx, m, userID)
	if err != nil {
		return err
	}
	rows := append(before, "revoked", fmt.Sprint(n))
	if r.scan {
		unlisted, err := r.revokeUnlisted(ctx, cmd, m, userID)
		if err != nil {
			return fmt.Errorf("%d sessions were ended; run it again for the others: %w", n+unlisted, err)
		}
		rows = append(before, "revoked", fmt.Sprint(n+unlisted), "unlisted", fmt.Sprint(unlisted))
		n += unlisted
	}
	if n > 0 || r.output == "json" {
		if err := r.told(cmd, rows...); err != nil || n > 0 {
			return err
		}
	}
	return r.none(userID)
}

// none is the error where nothing was ended: in an incident, a name in place of an ID
// would otherwise look like success.
func (r *revocation) none(userID string) error {
	switch {
	case r.username != "":
		return fmt.Errorf("the user ID %q has no session", userID)
	case r.scan:
		return fmt.Errorf("no session of the user ID %q, listed or not; the ID, not the name? try --username", userID)
	}
	return fmt.Errorf("no session of the user ID %q is listed; the ID, not the name? try --username; for sessions that other programs wrote without listing them, --scan", userID)
}

// revokeListed ends the sessions that are listed, and logs them.
func (r *revocation) revokeListed(ctx context.Context, m *sessions.Manager, userID string) (int, error) {
	list, _, _ := m.List(ctx, userID) // for the log alone
	n, err := m.RevokeUser(ctx, userID)
	if err != nil {
		r.ended(ctx, "revoke_all", "", userID, n, err)
		return n, r.settle(err)
	}
	rest := n
	for _, s := range list[:min(n, len(list))] {
		r.ended(ctx, "revoke_all", s.Key.Handle(), userID, 1, nil)
		rest--
	}
	if rest > 0 {
		r.ended(ctx, "revoke_all", "", userID, rest, nil)
	}
	return n, nil
}

// revokeUnlisted ends what a scan still finds of a user, records that no check would
// take included.
func (r *revocation) revokeUnlisted(ctx context.Context, cmd *cobra.Command, m *sessions.Manager, userID string) (n int, err error) {
	p := newProgress(cmd)
	defer p.clear()
	for found, err := range m.Scan(ctx, p.at) {
		if err != nil {
			return n, interrupted(err)
		}
		if found.UserID != userID {
			continue
		}
		p.clear() // for the line of the log
		err := m.Revoke(ctx, found.Key)
		if errors.Is(err, sessions.ErrNotFound) {
			continue // it has ended meanwhile
		}
		r.ended(ctx, "revoke_scan", found.Key.Handle(), userID, 1, err)
		if err := r.settle(err); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// revokeClosed ends the sessions of all accounts that the users file has closed or
// changed, however many they are.
func (r *revocation) revokeClosed(cmd *cobra.Command) error {
	c, err := config.Load(cmd.Flags())
	if err != nil {
		return err
	}
	path := c.Users[usersource.UsersFile]
	if path == "" {
		return config.About(errors.New("there is no users file"), usersource.UsersFile)
	}
	file, err := userfile.Open(path)
	if err != nil {
		return config.About(err, usersource.UsersFile)
	}
	return r.connected(cmd, c, func(ctx context.Context, client redis.UniversalClient, m *sessions.Manager) error {
		accounts, err := userfile.NewAccounts(userfile.AccountsConfig{File: file, Store: redisstore.NewAccounts(client), Sessions: m, Logger: r.log()})
		if err != nil {
			return err
		}
		n, err := accounts.Force(ctx)
		if err != nil { // also where replicas did not acknowledge: the next run tries again
			return fmt.Errorf("%d sessions were ended; run it again for the others: %w", n, err)
		}
		return r.print(cmd.OutOrStdout(), sessionView{}, "revoked", fmt.Sprint(n))
	})
}

// revokeNamed ends one session, or all others of its user, and logs it. It also logs
// after an error, such as a replica's, which says that the end may not last.
func (r *revocation) revokeNamed(ctx context.Context, cmd *cobra.Command, m *sessions.Manager, args []string) (int, error) {
	key, err := r.key(ctx, cmd, m, args)
	if errors.Is(err, sessions.ErrNotFound) && !r.others {
		return 0, fmt.Errorf("%w; all sessions of a user: --all --user ID, or --username NAME", err)
	}
	if err != nil {
		return 0, err
	}
	userID := r.user
	if s, err := m.Lookup(ctx, key); err == nil {
		userID = s.UserID
	}
	if r.others {
		n, err := m.RevokeOthers(ctx, key)
		if n > 0 || err != nil {
			r.ended(ctx, "revoke_others", key.Handle(), userID, n, err)
		}
		return n, r.settle(err)
	}
	err = m.Revoke(ctx, key)
	if !errors.Is(err, sessions.ErrNotFound) {
		r.ended(ctx, "revoke", key.Handle(), userID, 1, err)
	}
	if err := r.settle(err); err != nil {
		return 0, fmt.Errorf("%s: %w", key.Handle(), err)
	}
	return 1, nil
}

// ended logs one end. With an error it logs the attempt.
func (r *revocation) ended(ctx context.Context, why, handle, userID string, n int, err error) {
	attributes := []any{"session", handle, "user_id", userID, "sessions", n, "why", why}
	if err != nil {
		if errors.Is(err, sessions.ErrNotReplicated) {
			attributes = append(attributes, "replicated", false)
		}
		r.log().WarnContext(ctx, "session not ended for certain", append(attributes, "error", err.Error())...)
		return
	}
	r.log().InfoContext(ctx, "session ended", attributes...)
}

// log is the log with what the operator says about the reason. It is beside the name
// that the system knows, and not in its place: an operator could type any name.
func (r *revocation) log() *slog.Logger {
	if r.by == "" {
		return r.audit
	}
	return r.audit.With("asked_by", hideIDs(r.by))
}
