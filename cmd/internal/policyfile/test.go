package policyfile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// A Test is a request, who sends it, and what must come of it.
type Test struct {
	Name    string
	Line    int
	Request Request
	Route   Route
	Session *Session // nil: nobody is signed in
	Expect  Expect
}

// Expect is what a test demands; what is empty is not looked at.
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
	ok := d.object(n, "a test", map[string]reading{
		"name":    d.text("name", &t.Name),
		"request": d.request(&t.Request),
		"route": func(n *yaml.Node) {
			d.object(n, "a route", map[string]reading{
				"policy":  d.text("policy", &t.Route.Policy),
				"session": d.text("session", &t.Route.Session),
				"roles":   d.text("roles", &t.Route.Roles),
				"paths":   d.text("paths", &t.Route.Paths),
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
		d.wrong(n.Line, "a test needs a name, a request with host and path, and the verdict to expect")
	}
	return t
}

func (d *decoder) request(r *Request) reading {
	return func(n *yaml.Node) {
		d.object(n, "a request", map[string]reading{
			"host":      d.text("host", &r.Host),
			"method":    d.text("method", &r.Method),
			"path":      d.text("path", &r.Path),
			"headers":   d.byName("headers", &r.Headers),
			"source":    d.text("source", &r.Source),
			"principal": d.text("principal", &r.Principal),
		})
	}
}

func (d *decoder) session(s *Session) reading {
	return func(n *yaml.Node) {
		ok := d.object(n, "a session", map[string]reading{
			"user_id":  d.text("user_id", &s.UserID),
			"username": d.text("username", &s.Username),
			"roles":    d.texts("roles", &s.Roles),
			"age":      d.duration("age", &s.Age),
			"fields":   d.byName("fields", &s.Fields),
		})
		if ok && s.UserID == "" {
			d.wrong(n.Line, "a session needs a user_id")
		}
	}
}

func (d *decoder) expect(e *Expect) reading {
	return func(n *yaml.Node) {
		d.object(n, "expect", map[string]reading{
			"verdict": d.choice("verdict", &e.Verdict, "allow", "deny"),
			"status":  d.number("status", &e.Status),
			"reason":  func(n *yaml.Node) { d.reason(n, &e.Reason) },
			"policy":  d.text("policy", &e.Policy),
			"rule":    d.number("rule", &e.Rule),
			"headers": d.byName("headers", &e.Headers),
		})
	}
}

func (d *decoder) reason(n *yaml.Node, into *string) {
	d.text("reason", into)(n)
	var known []string
	for _, reason := range extauthz.Reasons() {
		known = append(known, string(reason.Reason))
	}
	if *into == "" || slices.Contains(known, *into) {
		return
	}
	d.wrong(n.Line, "there is no reason %s%s", shown(*into), didYouMean(*into, known))
}

// A Failure is a test that does not come out as it says.
type Failure struct {
	Test  string
	Line  int
	Wrong []string // "verdict deny, and not allow"
}

// Error is the failure on one line.
func (f Failure) Error() string {
	return fmt.Sprintf("line %d: test %s fails: %s", f.Line, shown(f.Test), strings.Join(f.Wrong, "; "))
}

// RunTests runs the file's tests by the code of a check, and returns those that
// fail.
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
			failures = append(failures, Failure{t.Name, t.Line, wrong})
		}
	}
	return failures, nil
}

// differs says in what a decision is not as expected.
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
	compare("policy", quoted(got.Policy), quoted(e.Policy), e.Policy != "")
	compare("rule", rule, e.Rule, e.Rule != 0)
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		compare("header "+name, quoted(valueOf(got.Set, name)), quoted(e.Headers[name]), true)
	}
	return wrong
}

// valueOf is the value that the header is set to; empty: it is not set, since
// none is ever set empty.
func valueOf(set []extauthz.SetHeader, name string) string {
	for _, h := range set {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// quoted shows a value of which nothing may be seen.
func quoted(value string) string {
	if value == "" {
		return "none"
	}
	return value
}

// nobody are the sessions of a server that is never asked for one.
type nobody struct{}

// Touch finds none.
func (nobody) Touch(context.Context, sessions.ID, ...string) (*sessions.Session, error) {
	return nil, sessions.ErrNotFound
}
