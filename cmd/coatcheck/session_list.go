package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/sessions"
)

func (t *sessionTool) list() *cobra.Command {
	var all bool
	var f filter
	cmd := &cobra.Command{
		Use:   "list USER-ID | --all",
		Short: "List the sessions of a user, or of all users",
		Long: `List the sessions of a user, or of all users.

Of one user it lists the newest first, 100 at most. Where there are none, the status is 1,
unless --output json prints an empty array.

With --all it goes through all of Redis, also to sessions that other programs wrote
without listing them. It takes no more memory for a million, leaves Redis to the checks
for three quarters of the time, and prints sessions as it finds them, in no order. A session
that begins or ends meanwhile may be listed or not.`,
		Example: `  coatcheck session list 42
  coatcheck session list 42 --output json
  coatcheck session list --all --role admin
  coatcheck session list --all --username ada --idle 10m`,
		Args: args(func(_ *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 0:
				return errors.New("--all takes no user's ID; one user's sessions are listed without --all")
			case !all && f != (filter{}):
				return errors.New("--role, --username and --idle need --all")
			case !all && len(args) != 1:
				return fmt.Errorf("list takes one argument, a user's ID, and not %d; or --all", len(args))
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all {
				return t.listAll(cmd, f)
			}
			return t.listUser(cmd, args[0])
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "list the sessions of all users")
	f.flags(cmd)
	return cmd
}

func (t *sessionTool) listUser(cmd *cobra.Command, userID string) error {
	return t.with(cmd, func(ctx context.Context, m *sessions.Manager) error {
		list, more, err := m.List(ctx, userID)
		if err != nil {
			return err
		}
		if more > 0 {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "the newest are listed; there may be %d more\n", more)
		}
		if len(list) > 0 {
			return t.printList(cmd.OutOrStdout(), list)
		}
		return t.nothing(cmd, fmt.Errorf("no session of the user ID %q is listed; the ID, not the name? try --all --username NAME; for sessions that other programs wrote without listing them, --all", userID))
	})
}

// nothing says that there are no sessions. A program that asks for JSON has an empty
// array, which is an answer and has always had the status 0; for people it is an error,
// because a name in place of an ID looks just like that.
func (t *sessionTool) nothing(cmd *cobra.Command, hint error) error {
	if t.output == "json" {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "coatcheck: %s\n", hideIDs(hint.Error()))
		return encode(cmd.OutOrStdout(), []string{})
	}
	return hint
}

// A filter chooses sessions. The zero filter takes all.
type filter struct {
	role     string
	username string
	idle     time.Duration
}

func (f *filter) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.role, "role", "", "only sessions with this `role`")
	cmd.Flags().StringVar(&f.username, "username", "", "only sessions of the user with this `name`, in any letter case")
	cmd.Flags().DurationVar(&f.idle, "idle", 0, "only sessions that were not used for this `time`, as their expiry and session.idle_timeout tell")
}

// validate refuses a time that no session can be idle for.
func (f *filter) validate(c *config.Config) error {
	if f.idle < 0 || f.idle >= c.IdleTimeout {
		return usageError{fmt.Errorf("--idle: no session is idle for %v: session.idle_timeout is %v here", f.idle, c.IdleTimeout)}
	}
	return nil
}

// takes reports whether a live session is one that was asked for. It was last used an
// idle timeout, and up to a step, before its expiry.
func (f *filter) takes(s *sessions.Session, now time.Time, idleTimeout time.Duration) bool {
	return (f.role == "" || slices.Contains(s.Roles, f.role)) &&
		(f.username == "" || strings.EqualFold(f.username, s.Username)) &&
		(f.idle == 0 || now.Sub(s.IdleExpiresAt.Add(-idleTimeout)) >= f.idle)
}

// scan goes through all live sessions that the filter takes.
func (t *sessionTool) scan(cmd *cobra.Command, f *filter, p *progress, do func(*sessions.Session) error) error {
	c, err := config.Load(cmd.Flags())
	if err != nil {
		return err
	}
	if err := f.validate(c); err != nil {
		return err
	}
	t.scans = true
	return t.withConfig(cmd, c, func(ctx context.Context, m *sessions.Manager) error {
		for found, err := range m.Scan(ctx, p.at) {
			if err != nil {
				return interrupted(err)
			}
			if found.Err != nil || !f.takes(found.Session, m.Now(), c.IdleTimeout) {
				continue
			}
			if err := do(found.Session); err != nil {
				return err
			}
		}
		return nil
	})
}

// interrupted says that the operator ended a scan, where that is so.
func interrupted(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted, so this is not all")
	}
	return err
}

func (t *sessionTool) listAll(cmd *cobra.Command, f filter) error {
	p := newProgress(cmd)
	out := newStream(t, cmd, p)
	err := t.scan(cmd, &f, p, out.session)
	p.clear()
	switch {
	case out.n > 0:
		return cmp.Or(err, out.end())
	case err != nil:
		return err
	}
	return t.nothing(cmd, errors.New("there is no such session"))
}

// A stream prints sessions one by one: a table whose columns are as wide as what is
// usual, or a JSON array with a line for each, as a shorter list is an array, too.
type stream struct {
	w    *bufio.Writer
	json bool
	n    int
}

// newStream prints to standard output, whose lines p must not be in the way of.
func newStream(t *sessionTool, cmd *cobra.Command, p *progress) *stream {
	o := &stream{w: bufio.NewWriter(clearing{cmd.OutOrStdout(), p}), json: t.output == "json"}
	p.flush = o.w.Flush
	return o
}

// item prints a value of the array.
func (o *stream) item(v any) error {
	text, err := compact(v)
	if err != nil {
		return err
	}
	before := ",\n"
	if o.n == 0 {
		before = "[\n"
	}
	o.n++
	_, err = fmt.Fprintf(o.w, "%s%s", before, text)
	return err
}

const columns = "%-12s  %-12s  %-16s  %-20s  %-20s  %-20s  %-20s  %-15s  %s\n"

func (o *stream) session(s *sessions.Session) error {
	v := view(s)
	if o.json {
		return o.item(v)
	}
	if o.n == 0 {
		o.header()
	}
	o.n++
	_, err := fmt.Fprintf(o.w, columns, v.Handle, visible(v.UserID), visible(v.Username), visible(strings.Join(v.Roles, ", ")),
		when(v.CreatedAt), when(v.IdleExpires), when(v.ExpiresAt), visible(v.Address), visible(v.UserAgent))
	return err
}

func (o *stream) header() {
	_, _ = fmt.Fprintf(o.w, columns, "HANDLE", "USER ID", "USERNAME", "ROLES", "CREATED", "IDLE EXPIRY", "ABSOLUTE EXPIRY", "ADDRESS", "BROWSER")
}

// end ends the array, also after an error: what was printed can be read.
func (o *stream) end() error {
	switch {
	case o.json && o.n == 0:
		_, _ = io.WriteString(o.w, "[]\n")
	case o.json:
		_, _ = io.WriteString(o.w, "\n]\n")
	}
	return o.w.Flush()
}
