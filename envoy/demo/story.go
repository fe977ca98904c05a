package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// A step is one request, or the revocation, and what should come of it.
type step struct {
	title   string
	path    string
	ticket  bool
	headers []string
	revoke  bool

	status int
	sees   map[string]string // what the upstream is sent; "" for nothing
}

var ada = map[string]string{
	"X-User-Id": "42", "X-User-Name": "ada", "X-User-Roles": "staff", "X-User-Tenant": "acme",
}

var story = []step{
	{title: "without a ticket: 401", path: "/", status: 401},
	{title: "a browser is sent to sign in: 302", path: "/", headers: []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, status: 302},
	{title: "with it: 200, and the upstream is told who asks; the ticket itself it never sees", path: "/", ticket: true, status: 200,
		sees: with(ada, "Cookie", "")},
	{title: "a client that says it is somebody else: the upstream still sees Ada", path: "/", ticket: true, status: 200,
		headers: []string{"X-User-Id: 1", "X.User.Roles: admin"}, sees: with(ada, "X.user.roles", "")},
	{title: "on a public route it is nobody", path: "/public", status: 200,
		headers: []string{"X-User-Id: 1"}, sees: map[string]string{"X-User-Id": ""}},
	{title: "a route that needs the role admin: 403", path: "/admin", ticket: true, status: 403},
	{title: "end the session", revoke: true},
	{title: "the same ticket: 401", path: "/", ticket: true, status: 401},
}

func with(m map[string]string, name, value string) map[string]string {
	out := map[string]string{name: value}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// play sends the story's requests and prints what came of each.
func play(ctx context.Context, stack *rig.Stack, t ticket) error {
	var failed []error
	for i, s := range story {
		outcome, err := s.play(ctx, stack, t)
		mark := "ok  "
		if err != nil {
			mark = "FAIL"
			outcome += err.Error()
			failed = append(failed, fmt.Errorf("step %d: %w", i+1, err))
		}
		fmt.Printf("%s  %d. %s\n      %s\n", mark, i+1, s.title, outcome)
	}
	return errors.Join(failed...)
}

func (s step) play(ctx context.Context, stack *rig.Stack, t ticket) (string, error) {
	if s.revoke {
		out, err := stack.Command("", "session", "revoke", t.name())
		return "coatcheck session revoke " + t.name() + " -> " + strings.TrimSpace(out), err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, stack.URL+s.path, nil)
	if err != nil {
		return "", err
	}
	for _, header := range s.headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header[name] = []string{value} // as it is written
	}
	if s.ticket {
		request.Header.Set("Cookie", t.cookie())
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	outcome := fmt.Sprintf("GET %s %s-> %d", s.path, strings.Join(append(slices.Clone(s.headers), ""), " "), response.StatusCode)
	if response.StatusCode != s.status {
		return outcome, fmt.Errorf(", want %d", s.status)
	}
	if s.sees == nil {
		return outcome, nil
	}
	seen, err := s.upstream(response.Body)
	return outcome + seen, err
}

// upstream compares what the upstream was sent with what it should see.
func (s step) upstream(body io.Reader) (string, error) {
	var echoed rig.Echoed
	if err := json.NewDecoder(body).Decode(&echoed); err != nil {
		return "", err
	}
	var seen []string
	for name, values := range echoed.Headers {
		if strings.HasPrefix(strings.ToLower(name), "x-user-") {
			seen = append(seen, strings.ToLower(name)+": "+strings.Join(values, ", "))
		}
	}
	slices.Sort(seen)
	if seen == nil {
		seen = []string{"no identity"}
	}
	for name, want := range s.sees {
		if got := strings.Join(echoed.Headers[name], ", "); got != want {
			return "", fmt.Errorf("; the upstream saw %s: %q, want %q", name, got, want)
		}
	}
	return "; the upstream saw " + strings.Join(seen, ", "), nil
}
