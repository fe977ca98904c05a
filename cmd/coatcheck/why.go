package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/coatcheck/coatcheck/cmd/internal/story"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/sessions"
)

// An asker is the flags of why.
type asker struct {
	user, username, handle, request string

	since  string
	output string
}

func whyCommand() *cobra.Command {
	a := new(asker)
	cmd := &cobra.Command{
		Use:   "why --user ID | --username NAME | --handle H | --request-id R [FILE...]",
		Short: "Tell from the log what happened to a user, a session or a request, and why",
		Long: `Tell from the log what happened to a user, a session or a request, and why: signed
in, decided, ended, in order of time. Decisions that are the same are one entry. A
refusal comes with its cause, with the values of its line and, where the session was
gone, with the end of that session.

It reads files, of which those named .gz are unpacked, or standard input: the logs of
checks, login and session commands together, in any order, in the JSON or the text
form, with other programs' lines between them. What kubectl, docker and journalctl put
in front of a line may stay there, as in kubectl logs -l app=coatcheck --tail -1 | coatcheck why.
The log is read twice; a pipe is kept in a temporary file without a name until the end.

No line holds a username, because people type passwords into that field. --username
asks the users file or the user database of the configuration, or else the live
sessions in Redis, for the user ID. A request without a session, such as one without a
cookie, names no user either: look for it with --request-id, or with grep.

Its exit status is 1 where nothing was found.`,
		Example: `  coatcheck why --user 42 coatcheck.log coatcheck.log.1.gz
  coatcheck why --request-id bed266bf-3c50-4f1c-93a7-6c0e1a5c1d11 <coatcheck.log
  coatcheck why --username ada --login-users-file users.yaml --since 1h coatcheck.log`,
		Args: cobra.ArbitraryArgs,
		RunE: a.run,

		DisableFlagsInUseLine: true,
	}
	flags := cmd.Flags()
	flags.StringVar(&a.user, "user", "", "`ID` of the user")
	flags.StringVar(&a.username, "username", "", "`name` of the user, whose ID is looked up")
	flags.StringVar(&a.handle, "handle", "", "the session's `handle`, or the beginning of it")
	flags.StringVar(&a.request, "request-id", "", "the request's `ID`, as a refusal shows it and Envoy logs it")
	flags.StringVar(&a.since, "since", "", "leave out what was before: a `time` like 2026-11-26T10:00:00Z, or how long ago, like 1h30m")
	flags.StringVarP(&a.output, "output", "o", outputs[0], "`form` to print in: "+strings.Join(outputs, " or "))
	complete(cmd, "output", words(outputs))
	cmd.ValidArgsFunction = files
	configFlags(cmd, flags, "redis", "login")
	return cmd
}

func (a *asker) run(cmd *cobra.Command, paths []string) error {
	query, err := a.query(time.Now())
	if err != nil {
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	}
	if a.username != "" {
		if query.UserIDs, err = a.lookUp(cmd); err != nil {
			return err
		}
	}
	if isTerminal(cmd.InOrStdin()) && (len(paths) == 0 || slices.Contains(paths, "-")) {
		fmt.Fprintln(cmd.ErrOrStderr(), "reading the log from standard input; Ctrl-D ends it")
	}
	log, err := story.Open(paths, cmd.InOrStdin())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	told, err := story.Tell(cmd.Context(), log, query)
	if err != nil {
		return err
	}
	return a.print(cmd, told)
}

// query checks the flags. A username has no user IDs yet.
func (a *asker) query(now time.Time) (q story.Query, err error) {
	set := slices.DeleteFunc([]string{a.user, a.username, a.handle, a.request}, func(s string) bool { return s == "" })
	switch {
	case len(set) != 1:
		return q, errors.New("name one of --user, --username, --handle and --request-id")
	case !slices.Contains(outputs, a.output):
		return q, fmt.Errorf("--output: %q is not one of %s", a.output, strings.Join(outputs, ", "))
	}
	if a.user != "" {
		q.UserIDs = []string{a.user}
	}
	q.RequestID = a.request
	if q.Handle, err = shortHandle(a.handle); err != nil {
		return q, err
	}
	q.Since, err = since(a.since, now)
	return q, err
}

// shortHandle takes a handle of any length, or a key, and returns what a log has of it.
func shortHandle(name string) (string, error) {
	name = strings.TrimPrefix(name, sessions.KeyPrefix)
	if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return "", fmt.Errorf("--handle: %q has other characters than A-Z, a-z, 0-9, - and _", shortened(name))
	}
	return name[:min(len(name), 12)], nil
}

// since reads a time, or how long ago.
func since(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("--since: %q is neither a time like 2026-11-26T10:00:00Z nor a duration like 1h30m", text)
	}
	return t, nil
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// print prints the story, says what of the log it does not rest on, and returns an
// error where there is no story.
func (a *asker) print(cmd *cobra.Command, s *story.Story) error {
	if s.Unreadable > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d lines cannot be read, the first of them line %d: they are cut, changed or too long\n", s.Unreadable, s.Lines, s.FirstUnreadable)
	}
	if a.output == "json" {
		if err := encode(cmd.OutOrStdout(), s); err != nil {
			return err
		}
	} else if err := printStory(cmd.OutOrStdout(), s); err != nil {
		return err
	}
	if len(s.Events) == 0 {
		return a.nothing(s)
	}
	return nil
}

// nothing says that nothing was found, and why that may be.
func (a *asker) nothing(s *story.Story) error {
	what := "this user"
	switch {
	case a.handle != "":
		what = "this session"
	case a.request != "":
		what = "this request"
	}
	hints := []string{fmt.Sprintf("the log holds no line of %s, in %d lines of which %d are Coatcheck's", what, s.Lines, s.Coatcheck)}
	switch {
	case s.Coatcheck == 0:
		hints = append(hints, "is it the log of coatcheck serve, with log.level info?")
	case !s.Allowed:
		hints = append(hints, "it has no allowed request at all, as with log.decisions: denied or faults")
	}
	if a.since != "" {
		hints = append(hints, "what was before --since is left out")
	}
	if a.user != "" && s.Coatcheck > 0 {
		hints = append(hints, "--user takes the user's ID; for the name, there is --username")
	}
	return errors.New(strings.Join(hints, "; "))
}

// lookUp asks for the IDs of the users of this name: the source of users that is
// configured, or else the live sessions. It never repeats the name, which may be a
// password.
func (a *asker) lookUp(cmd *cobra.Command) ([]string, error) {
	c, err := a.load(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*patience)
	defer cancel()
	var ids []string
	source := usersource.Name(c.Users)
	where := "the users of " + source + " have"
	if source != "" {
		var id string
		if id, err = sourceUserID(ctx, c, a.username); id != "" {
			ids = []string{id}
		}
	} else {
		where = "the live sessions have"
		ids, err = liveIDs(cmd, c, a.username)
	}
	switch {
	case err != nil:
		return nil, err
	case len(ids) == 0:
		return nil, fmt.Errorf("%s no user of this name, and no line of a log has a username: give --user ID", where)
	case len(ids) > 1:
		fmt.Fprintf(cmd.ErrOrStderr(), "several users have this name: %s\n", visible(strings.Join(ids, ", ")))
	}
	return ids, nil
}
