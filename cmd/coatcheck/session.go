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
	"github.com/spf13/pflag"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/sessions"
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
	scans  bool   // goes through all sessions, for as long as it takes

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
		Short: "Create, show, list, count, extend, verify and revoke sessions",
		Long: `Create, show, list, count, extend, verify and revoke sessions.

A session is named by its handle: the first characters of its key's hash, as many as
make it unique. A handle that begins with a dash is written session:-... It can also
be named by its key, or with --stdin by its ID on standard input. An ID does not belong
on the command line, where every process could read it.`,
		Example: "  coatcheck session list 42\n  coatcheck session list --all --role admin\n  coatcheck session revoke 3fK9",
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
	cmd.SetFlagErrorFunc(handleFlagError)
	configFlags(cmd, cmd.PersistentFlags(), "redis", "session")
	cmd.AddCommand(t.create(), t.show(), t.list(), t.count(), t.add(), t.revoke(), t.verify())
	return cmd
}

// handleFlagError adds how to write a handle that was taken for flags of one letter,
// where a handle is meant at all.
func handleFlagError(cmd *cobra.Command, err error) error {
	flagged := flagError(cmd, err)
	var unknown *pflag.NotExistError
	if cmd.Flags().Lookup(stdinFlag) == nil || !errors.As(err, &unknown) {
		return flagged
	}
	return usageError{fmt.Errorf("%w (a handle that begins with a dash is written session:-...)", flagged)}
}

// stdinFlag is a flag of the commands that take a handle.
const stdinFlag = "stdin"

// with connects to Redis and calls do.
func (t *sessionTool) with(cmd *cobra.Command, do func(context.Context, *sessions.Manager) error) error {
	c, err := config.Load(cmd.Flags())
	if err != nil {
		return err
	}
	return t.withConfig(cmd, c, do)
}

// withConfig is with for a configuration that is loaded.
func (t *sessionTool) withConfig(cmd *cobra.Command, c *config.Config, do func(context.Context, *sessions.Manager) error) error {
	return t.connected(cmd, c, func(ctx context.Context, _ redis.UniversalClient, m *sessions.Manager) error { return do(ctx, m) })
}

// connected connects to Redis as configured and calls do, unless another program makes the
// sessions.
func (t *sessionTool) connected(cmd *cobra.Command, c *config.Config, do func(context.Context, redis.UniversalClient, *sessions.Manager) error) error {
	if err := onlyReads(cmd, c); err != nil {
		return err
	}
	return t.dialled(cmd, c, do)
}

// dialled is connected for sessions of any format.
func (t *sessionTool) dialled(cmd *cobra.Command, c *config.Config, do func(context.Context, redis.UniversalClient, *sessions.Manager) error) error {
	options, err := c.Redis(nil)
	if err != nil {
		return err
	}
	options.DialTimeout, options.WriteTimeout, options.PoolTimeout = patience, patience, patience
	options.ReadTimeout = max(patience, 2*c.RedisWaitTimeout) // a revocation may wait for replicas
	options.DialerRetries = 1
	client, err := redisstore.NewClient(options)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	logged := *c
	logged.LogLevel = "info" // the end of a session is always logged
	t.audit = logged.Logger(escapingWriter{cmd.ErrOrStderr()}).With("by", operator())
	sessionsConfig, storeConfig := c.Sessions(), c.Store()
	sessionsConfig.Logger, storeConfig.Logger = t.audit, t.audit
	manager, err := sessions.NewManager(redisstore.New(client, storeConfig), sessionsConfig)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*options.ReadTimeout)
	defer cancel()
	switch err := manager.SyncClock(ctx); {
	case redisstore.Refused(err):
		return c.AboutCredentials(err)
	case err != nil:
		return fmt.Errorf("sessions need the Redis at %s: %w", strings.Join(c.RedisAddresses, ", "), err)
	}
	if t.scans {
		ctx = cmd.Context() // each of its many calls has its own time
	}
	return do(ctx, client, manager)
}

// naming adds the flags that name a session.
func (t *sessionTool) naming(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&t.user, "user", "", "look for the handle among the sessions of the user with this `ID`, instead of scanning Redis")
	cmd.Flags().BoolVar(&t.stdin, stdinFlag, false, "read the session's ID from standard input, instead of a handle")
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
		id, err := readID(cmd.InOrStdin())
		if err != nil {
			return "", err
		}
		return id.Key(), nil
	}
	key, err := m.Resolve(ctx, args[0], t.user)
	if err != nil {
		return "", fmt.Errorf("%q: %w", shortened(args[0]), err)
	}
	return key, nil
}

// readID reads a session ID, the only line.
func readID(r io.Reader) (sessions.ID, error) { return readCredential(r, sessions.ParseID) }

// readCredential reads what parse makes an ID of, the only line.
func readCredential(r io.Reader, parse func(string) (sessions.ID, error)) (sessions.ID, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 2<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return sessions.ID{}, fmt.Errorf("reading the session ID: %w", err)
	}
	id, err := parse(strings.TrimRight(line, "\r\n"))
	if err != nil {
		return sessions.ID{}, fmt.Errorf("standard input: %w", err)
	}
	return id, nil
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
		Use:   "create --user-id ID",
		Short: "Create a session and print its ID, this once",
		Long: `Create a session and print its ID, this once. It lives as long as session.idle_timeout
and session.absolute_timeout say: for one that ends in an hour, however much it is used,
add --session-absolute-timeout 1h.`,
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
				compareSettings(ctx, t.audit, client, c, cmd.Flags())
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
		Use:   "show HANDLE",
		Short: "Show a session with all its fields, without sliding it",
		Long: `Show a session with all its fields, without sliding it.

Where session.format names another program, it reads a session of the application, and
standard input has the value of its cookie, as a browser shows it. To find a handle it goes
through all keys of the prefix, for which the Redis user needs the right to SCAN. The fields
are named by their paths, as headers.fields names them.`,
		Example: "  coatcheck session show 3fK9\n  coatcheck session show --stdin <cookie.txt",
		Args:    t.handleArgs(func(rest int) bool { return rest == 0 }),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := config.Load(cmd.Flags())
			if err != nil {
				return err
			}
			if format, err := c.Format(); err != nil || format != nil {
				return t.showForeign(cmd, c, format, args, err)
			}
			return t.withConfig(cmd, c, func(ctx context.Context, m *sessions.Manager) error {
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
