package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/sessions"
)

func (t *sessionTool) verify() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "verify HANDLE | KEY | - | --all",
		Short: "Check records that other programs wrote, by every rule",
		Long: `Check records that other programs wrote, by every rule of docs/sessions.md: the fields and
their limits, the expiry of the key, both times, and how the session is listed. It names all
mistakes at once, with the cure, and prints no value of a record. "refused" stands where
checks refuse the session; a session with the other mistakes lives. With a mistake, or
without a record, the status is 1.

With - it reads the session's ID from standard input, and then also finds a record whose
key is hashed in another way. With --all it goes through all of Redis, as list --all does.

Tell it the session.idle_timeout and session.absolute_timeout of the checks.`,
		Example: "  coatcheck session verify 3fK9\n  coatcheck session verify - <cookie.txt\n  coatcheck session verify --all",
		Args: args(func(_ *cobra.Command, args []string) error {
			switch {
			case all && (len(args) > 0 || t.stdin):
				return errors.New("--all takes no session")
			case !all && !t.stdin && len(args) != 1 || t.stdin && len(args) > 0:
				return errors.New("name one session by its handle or its key, or - for its ID on standard input, or --all")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all {
				return t.verifyAll(cmd)
			}
			t.stdin = t.stdin || args[0] == "-"
			return t.verifyOne(cmd, args)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "check every record in Redis")
	cmd.Flags().BoolVar(&t.stdin, stdinFlag, false, "read the session's ID from standard input, as - does")
	return cmd
}

// A verifiedView is a record and its mistakes as they are printed.
type verifiedView struct {
	Handle   string        `json:"handle"`
	Key      sessions.Key  `json:"key"`
	Findings []findingView `json:"findings"`
}

type findingView struct {
	Field   string `json:"field"`
	Problem string `json:"problem"`
	Cure    string `json:"cure"`
	Refused bool   `json:"refused"`
}

func viewVerified(key sessions.Key, findings []sessions.Finding) verifiedView {
	v := verifiedView{key.Handle(), key, make([]findingView, len(findings))}
	for i, f := range findings {
		v.Findings[i] = findingView{hideIDs(f.Field), f.Problem, f.Cure, f.Refused}
	}
	return v
}

// lines are the record's mistakes, one a line.
func (v verifiedView) lines() (text string) {
	for _, f := range v.Findings {
		weight := "lives  "
		if f.Refused {
			weight = "refused"
		}
		text += fmt.Sprintf("%s  %s  %s: %s; %s\n", v.Handle, weight, visible(f.Field), f.Problem, f.Cure)
	}
	return text
}

func (t *sessionTool) verifyOne(cmd *cobra.Command, args []string) error {
	return t.with(cmd, func(ctx context.Context, m *sessions.Manager) error {
		compareClocks(cmd, m)
		key, findings, err := t.verified(ctx, cmd, m, args)
		if errors.Is(err, sessions.ErrNotFound) {
			return errors.New("there is no record: none was written, or it has ended, at once where PEXPIREAT gets seconds in place of milliseconds")
		}
		if err != nil {
			return err
		}
		v := viewVerified(key, findings)
		switch {
		case t.output == "json":
			err = encode(cmd.OutOrStdout(), v)
		case len(findings) == 0:
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  good\n", v.Handle)
		default:
			_, err = fmt.Fprint(cmd.OutOrStdout(), v.lines())
		}
		if err == nil && len(findings) > 0 {
			err = fmt.Errorf("the record breaks the contract of docs/sessions.md; mistakes: %d", len(findings))
		}
		return err
	})
}

// verified verifies the session that the arguments or standard input name.
func (t *sessionTool) verified(ctx context.Context, cmd *cobra.Command, m *sessions.Manager, args []string) (sessions.Key, []sessions.Finding, error) {
	if t.stdin {
		id, err := readID(cmd.InOrStdin())
		if err != nil {
			return "", nil, err
		}
		findings, err := m.VerifyID(ctx, id)
		return id.Key(), findings, err
	}
	key, err := t.key(ctx, cmd, m, args)
	if err != nil {
		return "", nil, err
	}
	findings, err := m.Verify(ctx, key)
	return key, findings, err
}

// compareClocks says where this machine's clock is wrong, since writers of sessions use
// theirs. Sessions are judged by Redis's time.
func compareClocks(cmd *cobra.Command, m *sessions.Manager) {
	off, side := time.Until(m.Now()), "ahead of"
	if off.Abs() <= 5*time.Second {
		return
	}
	if off < 0 {
		side = "behind"
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "coatcheck: the clock of Redis is %v %s this machine's; sessions are judged by Redis's\n", off.Abs().Round(time.Second), side)
}

func (t *sessionTool) verifyAll(cmd *cobra.Command) error {
	t.scans = true
	return t.with(cmd, func(ctx context.Context, m *sessions.Manager) error {
		compareClocks(cmd, m)
		p := newProgress(cmd)
		out := newStream(t, cmd, p)
		total, bad, err := verifyEach(ctx, m, p, out)
		p.clear()
		if p.now.Malformed > 0 {
			bad += p.now.Malformed
			total += p.now.Malformed
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "coatcheck: keys below %s that are no session's, so that checks never find them: %d; write %[1]s and the base64url without padding of SHA-256 over the 43 ASCII characters of the ID\n",
				sessions.KeyPrefix, p.now.Malformed)
		}
		if err != nil && total == 0 {
			return err
		}
		if err == nil && bad == 0 && !out.json {
			_, err = fmt.Fprintf(out.w, "records: %d, all good\n", total)
		}
		err = cmp.Or(err, out.end())
		if err == nil && bad > 0 {
			err = fmt.Errorf("%d of %d records break the contract of docs/sessions.md", bad, total)
		}
		return err
	})
}

// verifyEach verifies and prints records until one cannot be read.
func verifyEach(ctx context.Context, m *sessions.Manager, p *progress, out *stream) (total, bad int, err error) {
	for v, err := range m.VerifyAll(ctx, p.at) {
		if err != nil {
			return total, bad, interrupted(err)
		}
		if total++; len(v.Findings) == 0 {
			continue
		}
		bad++
		if err := out.verified(viewVerified(v.Key, v.Findings)); err != nil {
			return total, bad, err
		}
	}
	return total, bad, nil
}

func (o *stream) verified(v verifiedView) error {
	if o.json {
		return o.item(v)
	}
	_, err := o.w.WriteString(v.lines())
	return err
}
