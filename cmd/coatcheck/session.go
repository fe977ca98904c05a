package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// patience is how long a person at a terminal waits for Redis.
const patience = 5 * time.Second

// outputs are the forms in which sessions are printed, the default first.
var outputs = []string{"table", "json"}

// A sessionTool is what the session commands share.
type sessionTool struct {
	output string // --output
	user   string // --user, to resolve a handle within
	stdin  bool   // --stdin, to read an ID instead

	audit *slog.Logger // which operator ended which session; set by connected
}

// operator is the user who runs the command, as the system knows it. The name in the
// environment would be the user's own choice.
func operator() string {
	name := fmt.Sprint("uid ", os.Getuid())
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil {
		name = u.Username
	}
	return name
}

func sessionCommand() *cobra.Command {
	t := new(sessionTool)
	cmd := &cobra.Command{
		Use:   "session COMMAND",
		Short: "Create, show, list, extend and revoke sessions",
		Long: `Create, show, list, extend and revoke sessions.

A session is named by its handle: the first characters of its key's hash, as many as
make it unique. A handle that begins with a dash is written session:-... It can also
be named by its key, or with --stdin by its ID on standard input. An ID does not belong
on the command line, where every process could read it.`,
		Example: "  coatcheck session list 42\n  coatcheck session revoke 3fK9",
		Args:    subcommand,
		RunE:    showHelp,

		DisableFlagsInUseLine: true,
	}
	cmd.PersistentFlags().StringVarP(&t.output, "output", "o", outputs[0], "`form` to print in: "+strings.Join(outputs, " or "))
	complete(cmd, "output", words(outputs))
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains(outputs, t.output) {
			return usageError{fmt.Errorf("--output: %q is not one of %s", t.output, strings.Join(outputs, ", "))}
		}
		return nil
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (a handle that begins with a dash is written session:-...)", flagError(cmd, err))}
	})
	configFlags(cmd, cmd.PersistentFlags(), "redis", "session")
	cmd.AddCommand(t.create(), t.show(), t.list(), t.add(), t.revoke())
	return cmd
}

// with connects to Redis and calls do.
func (t *sessionTool) with(cmd *cobra.Command, do func(context.Context, *sessions.Manager) error) error {
	c, err := config.Load(cmd.Flags())
	if err != nil {
		return err
	}
	return t.connected(cmd, c, func(ctx context.Context, _ redis.UniversalClient, m *sessions.Manager) error { return do(ctx, m) })
}

// connected connects to Redis as configured and calls do.
func (t *sessionTool) connected(cmd *cobra.Command, c *config.Config, do func(context.Context, redis.UniversalClient, *sessions.Manager) error) error {
	options, err := c.Redis(nil)
	if err != nil {
		return err
	}
	options.DialTimeout, options.WriteTimeout, options.PoolTimeout = patience, patience, patience
	options.ReadTimeout = max(patience, 2*c.RedisWaitTimeout) // a revocation may wait for replicas
	options.DialerRetries = 1
	redis.SetLogger(silent{})
	client, err := redisstore.NewClient(options)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	logged := *c
	logged.LogLevel = "info" // the end of a session is always logged
	t.audit = logged.Logger(cmd.ErrOrStderr()).With("by", operator())
	sessionsConfig, storeConfig := c.Sessions(), c.Store()
	sessionsConfig.Logger, storeConfig.Logger = t.audit, t.audit
	manager, err := sessions.NewManager(redisstore.New(client, storeConfig), sessionsConfig)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*options.ReadTimeout)
	defer cancel()
	if err := manager.SyncClock(ctx); err != nil {
		return fmt.Errorf("sessions need the Redis at %s: %w", strings.Join(c.RedisAddresses, ", "), err)
	}
	return do(ctx, client, manager)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// naming adds the flags that name a session.
func (t *sessionTool) naming(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&t.user, "user", "", "look for the handle among the sessions of the user with this `ID`, instead of scanning Redis")
	cmd.Flags().BoolVar(&t.stdin, "stdin", false, "read the session's ID from standard input, instead of a handle")
	return cmd
}

// handleArgs checks the number of arguments after the handle, which --stdin replaces.
func (t *sessionTool) handleArgs(check func(rest int) bool) cobra.PositionalArgs {
	return args(func(_ *cobra.Command, args []string) error {
		if t.stdin {
			args = append([]string{""}, args...)
		}
		if len(args) == 0 {
			return errors.New("name a session by its handle, or with --stdin by its ID")
		}
		if !check(len(args) - 1) {
			return fmt.Errorf("it does not take %d arguments after the session", len(args)-1)
		}
		return nil
	})
}

// rest is what follows the session's name.
func (t *sessionTool) rest(args []string) []string {
	if t.stdin {
		return args
	}
	return args[1:]
}

// key finds the session that the arguments name.
func (t *sessionTool) key(ctx context.Context, cmd *cobra.Command, m *sessions.Manager, args []string) (sessions.Key, error) {
	if t.stdin {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 1<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading the session ID: %w", err)
		}
		id, err := sessions.ParseID(strings.TrimRight(line, "\r\n"))
		if err != nil {
			return "", fmt.Errorf("standard input: %w", err)
		}
		return id.Key(), nil
	}
	key, err := m.Resolve(ctx, args[0], t.user)
	if err != nil {
		return "", fmt.Errorf("%q: %w", shortened(args[0]), err)
	}
	return key, nil
}

// shortened is enough of a handle to recognize it, and too little of an ID that was
// taken for one.
func shortened(handle string) string {
	enough := 12
	if strings.HasPrefix(handle, sessions.KeyPrefix) {
		enough += len(sessions.KeyPrefix)
	}
	if len(handle) > enough {
		return handle[:enough] + "..."
	}
	return handle
}

func (t *sessionTool) create() *cobra.Command {
	var n sessions.NewSession
	var fields []string
	cmd := &cobra.Command{
		Use:     "create --user-id ID",
		Short:   "Create a session and print its ID, this once",
		Example: "  coatcheck session create --user-id 42 --username ada --role admin --role staff --field tenant=acme",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n.UserID == "" {
				return usageError{errors.New("--user-id must name the user")}
			}
			var err error
			if n.Fields, err = parseFields(fields); err != nil {
				return err
			}
			c, err := config.Load(cmd.Flags())
			if err != nil {
				return err
			}
			return t.connected(cmd, c, func(ctx context.Context, client redis.UniversalClient, m *sessions.Manager) error {
				id, session, err := m.Create(ctx, n)
				if err != nil {
					return err
				}
				compareSettings(ctx, t.audit, client, c)
				return t.print(cmd.OutOrStdout(), view(session), "id", id.Reveal())
			})
		},
	}
	cmd.Flags().StringVar(&n.UserID, "user-id", "", "the user's `ID` (required)")
	cmd.Flags().StringVar(&n.Username, "username", "", "the user's `name`")
	cmd.Flags().StringArrayVar(&n.Roles, "role", nil, "`name` of a role of the user; may be repeated")
	cmd.Flags().StringArrayVar(&fields, "field", nil, "an application field, `name=value`; may be repeated")
	return cmd
}

func (t *sessionTool) show() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show HANDLE",
		Short:   "Show a session with all its fields, without sliding it",
		Example: "  coatcheck session show 3fK9\n  coatcheck session show --stdin <cookie.txt",
		Args:    t.handleArgs(func(rest int) bool { return rest == 0 }),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.with(cmd, func(ctx context.Context, m *sessions.Manager) error {
				key, err := t.key(ctx, cmd, m, args)
				if err != nil {
					return err
				}
				session, err := m.Inspect(ctx, key)
				if err != nil {
					return fmt.Errorf("%s: %w", key.Handle(), err)
				}
				return t.print(cmd.OutOrStdout(), view(session))
			})
		},
	}
	return t.naming(cmd)
}

func (t *sessionTool) list() *cobra.Command {
	return &cobra.Command{
		Use:     "list USER-ID",
		Short:   "List a user's sessions, the newest first, 100 at most",
		Example: "  coatcheck session list 42\n  coatcheck session list 42 --output json",
		Args:    oneArg("a user's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.with(cmd, func(ctx context.Context, m *sessions.Manager) error {
				list, more, err := m.List(ctx, args[0])
				if err != nil {
					return err
				}
				if more > 0 {
					_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "the newest are listed; there may be %d more\n", more)
				}
				return t.printList(cmd.OutOrStdout(), list)
			})
		},
	}
}

func (t *sessionTool) add() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add HANDLE NAME=VALUE...",
		Short: "Add application fields to a session, all of them or no field",
		Long: `Add application fields to a session, all of them or no field. A field that exists is
never overwritten, and no field is ever removed.`,
		Example: "  coatcheck session add 3fK9 tenant=acme locale=de",
		Args:    t.handleArgs(func(rest int) bool { return rest > 0 }),
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := parseFields(t.rest(args))
			if err != nil {
				return err
			}
			return t.with(cmd, func(ctx context.Context, m *sessions.Manager) error {
				key, err := t.key(ctx, cmd, m, args)
				if err != nil {
					return err
				}
				if err := m.Add(ctx, key, fields); err != nil {
					return fmt.Errorf("%s: %w", key.Handle(), err)
				}
				return t.print(cmd.OutOrStdout(), sessionView{Handle: key.Handle()}, "added", fmt.Sprint(len(fields)))
			})
		},
	}
	return t.naming(cmd)
}

func (t *sessionTool) revoke() *cobra.Command {
	var all, others, closed bool
	cmd := &cobra.Command{
		Use:   "revoke HANDLE",
		Short: "End a session, all of a user, or all but one",
		Long: `End a session, all of a user, or all but one.

With --closed it ends the sessions of accounts that login.users_file no longer has, or
has with another password, other roles or other attributes than login saw last. Login
does so itself, unless the file lacks more than half of the accounts: then it waits for
this command.`,
		Example: `  coatcheck session revoke 3fK9
  coatcheck session revoke --all --user 42
  coatcheck session revoke --others 3fK9
  coatcheck session revoke --closed --login-users-file users.yaml`,
		Args: args(func(_ *cobra.Command, args []string) error {
			switch named := len(args) == 1 && !t.stdin || len(args) == 0 && t.stdin; {
			case closed && (all || others || t.user != "" || t.stdin || len(args) > 0):
				return errors.New("--closed cannot be used with a handle, --all, --others, --user or --stdin")
			case closed:
				return nil
			case all && (others || t.user == "" || len(args) > 0 || t.stdin):
				return errors.New("--all needs --user, and takes no handle")
			case !all && !named:
				return errors.New("name one session by its handle, or with --stdin by its ID, or --all --user ID")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if closed {
				return t.revokeClosed(cmd)
			}
			return t.with(cmd, func(ctx context.Context, m *sessions.Manager) error {
				n, err := t.revokeNamed(ctx, cmd, m, args, all, others)
				if err != nil {
					return err
				}
				return t.print(cmd.OutOrStdout(), sessionView{}, "revoked", fmt.Sprint(n))
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "revoke all sessions of --user")
	cmd.Flags().BoolVar(&others, "others", false, "revoke all sessions of the named one's user, except the named one")
	cmd.Flags().BoolVar(&closed, "closed", false, "revoke the sessions of accounts that login.users_file has closed or changed")
	return t.naming(cmd)
}

// revokeClosed ends the sessions of all accounts that the users file has closed or
// changed, however many they are.
func (t *sessionTool) revokeClosed(cmd *cobra.Command) error {
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
	return t.connected(cmd, c, func(ctx context.Context, client redis.UniversalClient, m *sessions.Manager) error {
		accounts, err := userfile.NewAccounts(userfile.AccountsConfig{File: file, Store: redisstore.NewAccounts(client), Sessions: m, Logger: t.audit})
		if err != nil {
			return err
		}
		n, err := accounts.Force(ctx)
		if err != nil {
			return fmt.Errorf("%d sessions were ended; run it again for the others: %w", n, err)
		}
		return t.print(cmd.OutOrStdout(), sessionView{}, "revoked", fmt.Sprint(n))
	})
}

// revokeNamed ends the sessions that the arguments name, and logs it for the audit. It
// also logs after an error, such as a replica's, which says that the end may not last.
func (t *sessionTool) revokeNamed(ctx context.Context, cmd *cobra.Command, m *sessions.Manager, args []string, all, others bool) (int, error) {
	if all {
		n, err := m.RevokeUser(ctx, t.user)
		t.ended(ctx, "revoke_all", "", t.user, n, err)
		return n, err
	}
	key, err := t.key(ctx, cmd, m, args)
	if err != nil {
		return 0, err
	}
	userID := t.user
	if s, err := m.Lookup(ctx, key); err == nil {
		userID = s.UserID
	}
	if others {
		n, err := m.RevokeOthers(ctx, key)
		t.ended(ctx, "revoke_others", key.Handle(), userID, n, err)
		return n, err
	}
	if err := m.Revoke(ctx, key); err != nil {
		if !errors.Is(err, sessions.ErrNotFound) {
			t.ended(ctx, "revoke", key.Handle(), userID, 1, err)
		}
		return 0, fmt.Errorf("%s: %w", key.Handle(), err)
	}
	t.ended(ctx, "revoke", key.Handle(), userID, 1, nil)
	return 1, nil
}

// ended logs one end. With an error it logs the attempt.
func (t *sessionTool) ended(ctx context.Context, why, handle, userID string, n int, err error) {
	attributes := []any{"session", handle, "user_id", userID, "sessions", n, "why", why}
	if err != nil {
		t.audit.WarnContext(ctx, "session not ended for certain", append(attributes, "error", err.Error())...)
		return
	}
	t.audit.InfoContext(ctx, "session ended", attributes...)
}

// parseFields reads name=value arguments.
func parseFields(args []string) (map[string]string, error) {
	fields := make(map[string]string, len(args))
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usageError{errors.New("a field is name=value")}
		}
		if _, twice := fields[name]; twice {
			return nil, usageError{fmt.Errorf("field %q is named twice", name)}
		}
		fields[name] = value
	}
	return fields, nil
}
