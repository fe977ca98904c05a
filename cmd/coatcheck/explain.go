package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/policyfile"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// An explainer is the flags of explain.
type explainer struct {
	request    policyfile.Request
	headers    []string // name: value
	policy     string
	extensions []string // name=value

	session string // a handle; or
	fields  string // a file
	output  string
}

func explainCommand() *cobra.Command {
	x := new(explainer)
	cmd := &cobra.Command{
		Use:   "explain --host HOST --path PATH",
		Short: "Say how a request would be decided, and why",
		Long: `Say how a request would be decided, and why: the verdict, the rule that decided,
the rules before it with the part that did not match, and the headers that are set
and removed. It uses the configuration of serve and the code of a check, and neither
counts nor logs the request.

The request has no session, unless --session names one in Redis by its handle, which
is not slid, or --fields names a YAML or JSON file with user_id, username, roles, age
and fields. A session ID does not belong here.

Its exit status is 0 for every verdict.`,
		Example: `  coatcheck explain --config coatcheck.yaml --host shop.example --path /admin
  coatcheck explain --config coatcheck.yaml --host shop.example --path /admin --session 3fK9
  coatcheck explain --policy-file policies.yaml --host shop.example --path /admin --fields ada.yaml --output json`,
		Args: noArgs,
		RunE: x.run,

		DisableFlagsInUseLine: true,
	}
	flags := cmd.Flags()
	flags.StringVar(&x.request.Host, "host", "", "the request's `host` (required)")
	flags.StringVar(&x.request.Method, "method", "GET", "its `method`")
	flags.StringVar(&x.request.Path, "path", "", "its `path`, with the query if there is one (required)")
	flags.StringArrayVar(&x.headers, "header", nil, "a `header`, as in 'accept: text/html'; may be repeated")
	flags.StringVar(&x.request.Source, "source", "", "the client's IP `address`")
	flags.StringVar(&x.request.Principal, "principal", "", "the `name` in the client's certificate")
	flags.StringVar(&x.policy, "policy", "", "`name` of the policy that the route names")
	flags.StringArrayVar(&x.extensions, "extension", nil, "another entry of the route's context_extensions, as in `coatcheck.roles=admin`; may be repeated")
	flags.StringVar(&x.session, "session", "", "`handle` of its session in Redis")
	flags.StringVar(&x.fields, "fields", "", "`file` with its session")
	flags.StringVarP(&x.output, "output", "o", outputs[0], "`form` to print in: "+strings.Join(outputs, " or "))
	complete(cmd, "output", words(outputs))
	complete(cmd, "fields", files)
	complete(cmd, "method", words([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}))
	configFlags(cmd, flags)
	return cmd
}

func (x *explainer) run(cmd *cobra.Command, _ []string) error {
	extensions, err := x.read()
	if err != nil {
		return usageError{err}
	}
	if x.session == "" && !cmd.Flags().Changed("redis-addresses") {
		// Redis is not asked, so it need not be named.
		if err := cmd.Flags().Set("redis-addresses", "127.0.0.1:6379"); err != nil {
			return err
		}
	}
	c, err := config.Load(cmd.Flags())
	if err != nil {
		return err
	}
	server, err := policyServer(c)
	if err != nil {
		return err
	}
	session, now, err := x.identify(cmd)
	if err != nil {
		return err
	}
	e, err := server.Explain(cmd.Context(), x.request.CheckRequest(extensions), extauthz.WithSession(session, nil), extauthz.WithTime(now))
	if err != nil {
		return err
	}
	if x.output == "json" {
		return encode(cmd.OutOrStdout(), e)
	}
	return printExplanation(cmd.OutOrStdout(), e)
}

// read checks the flags, and parses the headers and the extensions.
func (x *explainer) read() (extensions map[string]string, err error) {
	switch {
	case x.request.Host == "" || x.request.Path == "":
		return nil, errors.New("--host and --path are required")
	case x.session != "" && x.fields != "":
		return nil, errors.New("--session and --fields each name a session; only one of them can be set")
	case !slices.Contains(outputs, x.output):
		return nil, fmt.Errorf("--output: %q is not one of %s", x.output, strings.Join(outputs, ", "))
	}
	x.request.Headers = make(map[string]string)
	for _, h := range x.headers {
		name, value, ok := strings.Cut(h, ":")
		switch name = strings.ToLower(strings.TrimSpace(name)); {
		case !ok || name == "":
			return nil, errors.New("a header is 'name: value'")
		case name == "cookie" || name == "authorization":
			return nil, fmt.Errorf("the %s header holds a session ID, which does not belong on the command line; use --session or --fields", name)
		}
		x.request.Headers[name] = strings.TrimSpace(value)
	}
	if extensions, err = parseFields(x.extensions); err != nil {
		return nil, errors.New("--extension is name=value, each name once")
	}
	if x.policy != "" {
		extensions["coatcheck.policy"] = x.policy
	}
	return extensions, nil
}

// policyServer decides as serve would with this configuration. It has no sessions. The
// policy file's tests are not run, because the operator may want to know why one fails.
func policyServer(c *config.Config) (*extauthz.Server, error) {
	server, err := extauthz.New((*sessions.Manager)(nil), c.ExtAuthz())
	if err != nil || c.PolicyFile == "" {
		return server, err
	}
	file, err := policyfile.Load(c.PolicyFile, c.ExtAuthz())
	if err != nil {
		return nil, config.About(policyfile.Mistakes(c.PolicyFile, err), "policy_file")
	}
	return server, server.SetPolicies(file.Policies)
}

// identify returns the request's session, nil if it has none, and the present time by
// the clock that rules the session.
func (x *explainer) identify(cmd *cobra.Command) (session *sessions.Session, now time.Time, err error) {
	now = time.Now()
	if x.fields != "" {
		made, err := policyfile.ReadSession(x.fields)
		if err != nil {
			return nil, now, fmt.Errorf("--fields: %w", policyfile.Mistakes(x.fields, err))
		}
		return made.Live(now), now, nil
	}
	if x.session == "" {
		return nil, now, nil
	}
	err = new(sessionTool).with(cmd, func(ctx context.Context, m *sessions.Manager) error {
		key, err := m.Resolve(ctx, x.session, "")
		if err != nil {
			return fmt.Errorf("%q: %w", shortened(x.session), err)
		}
		now = m.Now()
		if session, err = m.Inspect(ctx, key); err != nil {
			return fmt.Errorf("%s: %w", key.Handle(), err)
		}
		return nil
	})
	return session, now, err
}

// printExplanation prints a decision, with the most important lines first.
func printExplanation(w io.Writer, e extauthz.Explanation) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, visible(value))
		}
	}
	row("verdict", verdict(e))
	row("reason", string(e.Reason))
	row("error", e.Error)
	row("policy", e.Policy+by(e.PolicyBy))
	row("condition", e.Condition)
	if e.Policy == "" {
		row("route", e.Route)
	}
	row("host", e.Host)
	row("path", e.Path)
	for _, r := range e.Passed {
		row("passed over", fmt.Sprintf("rule %d: %s (the %s does not match)", r.Number, r.Rule, r.Why))
	}
	if e.Rule != nil {
		row("decided by", fmt.Sprintf("rule %d: %s", e.Rule.Number, e.Rule.Rule))
	}
	for _, h := range e.Set {
		row("set", h.Name+": "+h.Value)
	}
	for _, name := range e.Removed {
		row("removed", name)
	}
	row("body", strings.TrimSpace(e.Body))
	return table.Flush()
}

func verdict(e extauthz.Explanation) string {
	switch {
	case e.Shadow:
		return "allow, in shadow mode; it would be denied"
	case e.Allow:
		return "allow"
	}
	return fmt.Sprintf("deny, with status %d", e.Status)
}

// by says how the policy was chosen.
func by(what string) string {
	switch what {
	case "route":
		return ", which the route names"
	case "rule":
		return ", which a rule names"
	case "default":
		return ", the default"
	}
	return ""
}
