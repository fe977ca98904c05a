package policyfile

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
	"github.com/coatcheck/coatcheck/internal/suggest"
	"github.com/coatcheck/coatcheck/sessions"
)

// A Test is a request, who sends it, and what must come of it.
type Test struct {
	Name    string
	Line    int
	Request Request
	Route   Route
	Session *Session // nil: the request has no session
	Expect  Expect
}

// Expect is what a test demands. An empty field is not compared.
type Expect struct {
	Verdict string // allow or deny
	Status  int    // of a refusal
	Reason  string
	Policy  string
	Rule    int               // from 1
	Headers map[string]string // set upstream, or in a refusal; empty: not set
}

func (d *decoder) test(n *yaml.Node) Test {
	t := Test{Line: n.Line, Request: Request{Method: "GET"}}
	ok := d.Object(n, "a test", map[string]strictyaml.Reader{
		"name":    d.Text("name", &t.Name),
		"request": d.request(&t.Request),
		"route": func(n *yaml.Node) {
			d.Object(n, "a route", map[string]strictyaml.Reader{
				"policy":  d.Text("policy", &t.Route.Policy),
				"session": d.Text("session", &t.Route.Session),
				"roles":   d.Text("roles", &t.Route.Roles),
				"paths":   d.Text("paths", &t.Route.Paths),
			})
		},
		"session": func(n *yaml.Node) {
			if n.Kind == yaml.ScalarNode && n.Value == "none" {
				return
			}
			t.Session = new(Session)
			d.session(t.Session)(n)
		},
		"expect": d.expect(&t.Expect),
	})
	if ok && (t.Name == "" || t.Request.Path == "" || t.Request.Host == "" || t.Expect.Verdict == "") {
		d.Wrong(n.Line, "a test needs a name, a request with host and path, and the verdict to expect")
	}
	return t
}

func (d *decoder) request(r *Request) strictyaml.Reader {
	return func(n *yaml.Node) {
		d.Object(n, "a request", map[string]strictyaml.Reader{
			"host":      d.Text("host", &r.Host),
			"method":    d.Text("method", &r.Method),
			"path":      d.Text("path", &r.Path),
			"headers":   d.TextsByName("headers", &r.Headers),
			"source":    d.Text("source", &r.Source),
			"principal": d.Text("principal", &r.Principal),
		})
	}
}

func (d *decoder) session(s *Session) strictyaml.Reader {
	return func(n *yaml.Node) {
		ok := d.Object(n, "a session", map[string]strictyaml.Reader{
			"user_id":  d.Text("user_id", &s.UserID),
			"username": d.Text("username", &s.Username),
			"roles":    d.Texts("roles", &s.Roles),
			"age":      d.Duration("age", &s.Age),
			"fields":   d.TextsByName("fields", &s.Fields),
		})
		if ok && s.UserID == "" {
			d.Wrong(n.Line, "a session needs a user_id")
		}
	}
}

func (d *decoder) expect(e *Expect) strictyaml.Reader {
	return func(n *yaml.Node) {
		d.Object(n, "expect", map[string]strictyaml.Reader{
			"verdict": d.Choice("verdict", &e.Verdict, "allow", "deny"),
			"status":  d.Int("status", &e.Status),
			"reason":  func(n *yaml.Node) { d.reason(n, &e.Reason) },
			"policy":  d.Text("policy", &e.Policy),
			"rule":    d.Int("rule", &e.Rule),
			"headers": d.TextsByName("headers", &e.Headers),
		})
	}
}

func (d *decoder) reason(n *yaml.Node, into *string) {
	d.Text("reason", into)(n)
	var known []string
	for _, reason := range extauthz.Reasons() {
		known = append(known, string(reason.Reason))
	}
	if *into == "" || slices.Contains(known, *into) {
		return
	}
	d.Wrong(n.Line, "there is no reason %s%s", strictyaml.Excerpt(*into), suggest.DidYouMean(*into, known))
}

// A Failure is a test whose outcome is not the expected one.
type Failure struct {
	Test  string
	Line  int
	Wrong []string // "verdict deny, and not allow"
}

// Error is the failure on one line.
func (f Failure) Error() string {
	return fmt.Sprintf("line %d: test %s fails: %s", f.Line, strictyaml.Excerpt(f.Test), strings.Join(f.Wrong, "; "))
}

// RunTests runs the file's tests with the code of a check, and returns the failures.
func (f *File) RunTests() ([]Failure, error) {
	server, err := f.server()
	if err != nil {
		return nil, err
	}
	var failures []Failure
	now := time.Now()
	for _, t := range f.Tests {
		got, err := server.Explain(context.Background(), t.Request.CheckRequest(t.Route.Extensions()),
			extauthz.WithSession(t.Session.Live(now), nil), extauthz.WithTime(now))
		if err != nil {
			return nil, err
		}
		if wrong := t.Expect.differs(got); wrong != nil {
			wrong = append(wrong, f.notSentToSignIn(t, got)...)
			failures = append(failures, Failure{t.Name, t.Line, wrong})
		}
	}
	return failures, nil
}

// notSentToSignIn says why a refusal is a 401 where a test expects the redirect that a
// browser gets.
func (f *File) notSentToSignIn(t Test, got extauthz.Explanation) []string {
	if got.Status != http.StatusUnauthorized || t.Expect.Status != http.StatusFound {
		return nil
	}
	header := func(name string) string {
		for written, value := range t.Request.Headers {
			if strings.EqualFold(written, name) {
				return strings.ToLower(value)
			}
		}
		return ""
	}
	switch {
	case t.Request.Method != http.MethodGet && t.Request.Method != http.MethodHead:
		return []string{"only a GET or a HEAD is sent to sign in"}
	case header("sec-fetch-mode") == "" && !strings.Contains(header("accept"), "text/html"):
		return []string{"only a browser is sent to sign in: add headers: {accept: text/html} to the request"}
	case f.cfg.LoginURL == "":
		return []string{"there is no login_url to sign in at, unless the configuration is checked with the policies, or a refusal has one"}
	}
	return nil
}

// differs lists the ways in which a decision is not the expected one.
func (e Expect) differs(got extauthz.Explanation) []string {
	verdict, rule := "deny", 0
	if got.Allow {
		verdict = "allow"
	}
	if got.Rule != nil {
		rule = got.Rule.Number
	}
	var wrong []string
	compare := func(what string, got, want any, asked bool) {
		if asked && got != want {
			wrong = append(wrong, fmt.Sprintf("%s %v, and not %v", what, got, want))
		}
	}
	compare("verdict", verdict, e.Verdict, true)
	compare("status", got.Status, e.Status, e.Status != 0)
	compare("reason", string(got.Reason), e.Reason, e.Reason != "")
	compare("policy", orNone(got.Policy), orNone(e.Policy), e.Policy != "")
	compare("rule", rule, e.Rule, e.Rule != 0)
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		compare("header "+name, orNone(valueOf(got.Set, name)), orNone(e.Headers[name]), true)
	}
	return wrong
}

// valueOf is the value of a header that is set, and empty for one that is not: a set
// value is never empty.
func valueOf(set []extauthz.SetHeader, name string) string {
	for _, h := range set {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// orNone returns the value, or none if it is empty.
func orNone(value string) string {
	if value == "" {
		return "none"
	}
	return value
}

// noSessions is for a server that never looks a session up.
type noSessions struct{}

// Touch finds no session.
func (noSessions) Touch(context.Context, sessions.ID, ...string) (*sessions.Session, error) {
	return nil, sessions.ErrNotFound
}
