package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/policyfile"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign"
)

// An explainer is the flags of explain.
type explainer struct {
	request    policyfile.Request
	headers    []string // name: value
	repeated   []string // names of headers that were given more than once
	policy     string
	extensions []string // name=value
	given      map[string]string

	envoy    []string // files and admin interfaces
	listener string
	filter   string

	log    string // - or a file
	logged *logLine

	session string // a handle; or
	fields  string // a file
	output  string
}

func explainCommand() *cobra.Command {
	x := new(explainer)
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Say how a request would be decided, and why",
		Long: `Say how a request would be decided, and why: the verdict, what was asked for and
what was there instead, the parts of a condition with their values, the rule that
decided, the rules before it with the part that did not match, and the headers that
are set and removed. It uses the configuration of serve and the code of a check, and
neither counts nor logs the request. It prints values of the session.

The request is a URL, or --host and --path, or a line of the decision log: as the
argument, or with --log from a file, or with --log - from standard input.

What a request needs, its route says. --envoy names Envoy's configuration, a file or
the admin interface, in which the route is found as Envoy finds it. A config dump
hides the values of context_extensions: name the file, too, which must then agree
with the dump. Without --envoy the request is decided as on a route without
context_extensions, but for those of --policy and --extension.

The request has no session, unless --session names one in Redis by its handle, as a
line of the log does, too, or --fields names a YAML or JSON file with user_id, username,
roles, age and fields. A session is not slid. A session ID does not belong here.

Its exit status is 0 for every verdict, and 1 where Envoy's configuration does not
decide which route a request takes.`,
		Example: `  coatcheck explain --config coatcheck.yaml --envoy envoy.yaml https://shop.example/admin --session 3fK9
  coatcheck explain --config coatcheck.yaml --envoy http://127.0.0.1:9901 --envoy envoy.yaml https://shop.example/admin
  coatcheck explain --config coatcheck.yaml --envoy envoy.yaml --log - <decision.json
  coatcheck explain --policy-file policies.yaml --host shop.example --path /admin --fields ada.yaml --output json`,
		Args: x.args,
		RunE: x.run,

		DisableFlagsInUseLine: true,
	}
	flags := cmd.Flags()
	flags.StringVar(&x.request.Host, "host", "", "the request's `host`")
	flags.StringVar(&x.request.Method, "method", "GET", "its `method`")
	flags.StringVar(&x.request.Path, "path", "", "its `path`, with the query if there is one")
	flags.StringArrayVar(&x.headers, "header", nil, "a `header`, as in 'accept: text/html'; may be repeated")
	flags.StringVar(&x.request.Source, "source", "", "the client's IP `address`")
	flags.StringVar(&x.request.Principal, "principal", "", "the `name` in the client's certificate")
	flags.StringVar(&x.log, "log", "", "`file` with a line of the decision log, or - for standard input")
	flags.StringArrayVar(&x.envoy, "envoy", nil, "Envoy's configuration: a `file`, or its admin interface, as in http://127.0.0.1:9901; may be repeated")
	flags.StringVar(&x.listener, "listener", "", "`name` of Envoy's listener, where several ask an ext_authz service")
	flags.StringVar(&x.filter, "filter", "", "`name` of the listener's ext_authz filter, where it has several")
	flags.StringVar(&x.policy, "policy", "", "`name` of the policy that the route names")
	flags.StringArrayVar(&x.extensions, "extension", nil, "another entry of the route's context_extensions, as in `coatcheck.roles=admin`; may be repeated")
	flags.StringVar(&x.session, "session", "", "`handle` of its session in Redis")
	flags.StringVar(&x.fields, "fields", "", "`file` with its session")
	flags.StringVarP(&x.output, "output", "o", outputs[0], "`form` to print in: "+strings.Join(outputs, " or "))
	complete(cmd, "output", words(outputs))
	for _, name := range []string{"fields", "envoy", "log"} {
		complete(cmd, name, files)
	}
	complete(cmd, "method", words([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}))
	configFlags(cmd, flags)
	return cmd
}

func (x *explainer) run(cmd *cobra.Command, args []string) error {
	if err := x.read(cmd, args); err != nil {
		return err
	}
	load := config.LoadWithoutRedis
	if x.session != "" {
		load = config.Load
	}
	c, err := load(cmd.Flags())
	if err != nil {
		return err
	}
	server, fields, err := policyServer(c)
	if err != nil {
		return err
	}
	route, err := x.route(cmd.Context(), c.Bearer)
	if err != nil {
		return err
	}
	out := report{route: route, logged: x.logged, extensions: x.given}
	if route != nil && !route.Asks {
		return out.print(cmd.OutOrStdout(), x.output)
	}
	lookup, err := x.identify(cmd, c, fields)
	if err != nil {
		return err
	}
	if route != nil && route.hidesSession {
		lookup.session, lookup.err = nil, nil
	}
	if lookup.err == nil {
		out.session = lookup.session
	}
	out.Explanation, err = x.explain(cmd.Context(), server, route, lookup)
	if err != nil {
		return err
	}
	return out.print(cmd.OutOrStdout(), x.output)
}

// explain decides the request on its route.
func (x *explainer) explain(ctx context.Context, server *extauthz.Server, route *routed, who found) (*extauthz.Explanation, error) {
	request, extensions := x.request, x.given
	if route != nil {
		request.Host, request.Path, request.Headers, extensions = route.Host, route.Path, route.headers, route.Extensions
	}
	ask := func() (extauthz.Explanation, error) {
		return server.Explain(ctx, request.CheckRequest(extensions), extauthz.WithSession(who.session, who.err), extauthz.WithTime(who.now))
	}
	e, err := ask()
	if err == nil && route == nil && x.logged.named(e) {
		extensions["coatcheck.policy"] = x.logged.Policy
		e, err = ask()
	}
	return &e, err
}

// policyServer decides as serve would with this configuration. It has no sessions. The
// policy file's tests are not run, because the operator may want to know why one fails. The
// fields are those of a session that some check reads.
func policyServer(c *config.Config) (server *extauthz.Server, fields []string, err error) {
	for _, f := range c.ExtAuthz().Fields {
		fields = append(fields, f.Field)
	}
	server, err = extauthz.New((*sessions.Manager)(nil), c.ExtAuthz())
	if err != nil || c.PolicyFile == "" {
		return server, fields, err
	}
	file, err := policyfile.Load(c.PolicyFile, c.ExtAuthz())
	if err != nil {
		return nil, nil, config.About(policyfile.Mistakes(c.PolicyFile, err), "policy_file")
	}
	for _, p := range file.Policies.Policies {
		if p.Condition != nil {
			fields = append(fields, p.Condition.Fields()...)
		}
	}
	return server, fields, server.SetPolicies(file.Policies)
}

// A found is the session of a request, or why there is none, with what is known of the
// session then; and the present time by the clock that rules the session.
type found struct {
	session *sessions.Session
	err     error
	now     time.Time
}

// identify finds the request's session, with the fields of that name, also where an
// inspection of a foreign one leaves them out; it is nil if the request has none. It changes
// none.
func (x *explainer) identify(cmd *cobra.Command, c *config.Config, fields []string) (who found, err error) {
	who.now = time.Now()
	if x.fields != "" {
		made, err := policyfile.ReadSession(x.fields)
		if err != nil {
			return who, fmt.Errorf("--fields: %w", policyfile.Mistakes(x.fields, err))
		}
		who.session = made.Live(who.now)
		return who, nil
	}
	if x.session == "" {
		return who, nil
	}
	format, err := c.Format()
	if err != nil {
		return who, err
	}
	if format != nil {
		err = new(sessionTool).withForeign(cmd, c, format, func(ctx context.Context, s *foreign.Sessions) error {
			id, err := s.Find(ctx, x.session)
			if err != nil {
				return x.found(&who, "", nil, err)
			}
			session, err := s.Inspect(ctx, id, fields...)
			return x.found(&who, id.Key(), session, err)
		})
		return who, err
	}
	err = new(sessionTool).withConfig(cmd, c, func(ctx context.Context, m *sessions.Manager) error {
		who.now = m.Now()
		key, err := m.Resolve(ctx, x.session, "")
		if err != nil {
			return x.found(&who, "", nil, err)
		}
		session, err := m.Inspect(ctx, key)
		return x.found(&who, key, session, err)
	})
	return who, err
}

// found takes what a lookup of the session has said, or returns an error that a check would
// not go by.
func (x *explainer) found(who *found, key sessions.Key, session *sessions.Session, err error) error {
	if err == nil {
		who.session = session
		return nil
	}
	if !x.decides(err) {
		return fmt.Errorf("%q: %w", shortened(x.session), err)
	}
	if key == "" { // as much of it as the line has
		key = sessions.Key(sessions.KeyPrefix + strings.TrimPrefix(x.session, sessions.KeyPrefix))
	}
	who.session, who.err = &sessions.Session{Key: key}, err
	return nil
}

// decides reports whether an error is what a check goes by: what a record is, and of a
// line of the log, which is older than the session's end, that there is none. Without
// such a line that may be a typing error.
func (x *explainer) decides(err error) bool {
	for _, of := range []error{sessions.ErrExpired, sessions.ErrBroken, sessions.ErrLayout} {
		if errors.Is(err, of) {
			return true
		}
	}
	return x.logged != nil && errors.Is(err, sessions.ErrNotFound)
}
