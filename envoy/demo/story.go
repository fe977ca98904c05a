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

// A step is one request, or the revocation, with the expected result.
type step struct {
	title    string
	path     string
	signedIn bool
	headers  []string
	revoke   bool

	status int
	sees   map[string]string // headers that the upstream receives; "" for absent
}

var ada = map[string]string{
	"X-User-Id": "42", "X-User-Name": "ada", "X-User-Roles": "staff", "X-User-Tenant": "acme",
}

var story = []step{
	{title: "without a session cookie: 401", path: "/", status: 401},
	{title: "a browser is redirected to the login page: 302", path: "/", headers: []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, status: 302},
	{title: "with the cookie: 200; the upstream learns the user, and never sees the cookie", path: "/", signedIn: true, status: 200,
		sees: with(ada, "Cookie", "")},
	{title: "a client that claims to be another user: the upstream still sees Ada", path: "/", signedIn: true, status: 200,
		headers: []string{"X-User-Id: 1", "X.User.Roles: admin"}, sees: with(ada, "X.user.roles", "")},
	{title: "on a public route: no user", path: "/public", status: 200,
		headers: []string{"X-User-Id: 1"}, sees: map[string]string{"X-User-Id": ""}},
	{title: "a route that requires the role admin: 403", path: "/admin", signedIn: true, status: 403},
	{title: "revoke the session", revoke: true},
	{title: "the same cookie: 401", path: "/", signedIn: true, status: 401},
}

func with(m map[string]string, name, value string) map[string]string {
	out := map[string]string{name: value}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// play sends the requests of the story and prints each result.
func play(ctx context.Context, stack *rig.Stack, id sessionID) error {
	var failed []error
	for i, s := range story {
		outcome, err := s.play(ctx, stack, id)
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

func (s step) play(ctx context.Context, stack *rig.Stack, id sessionID) (string, error) {
	if s.revoke {
		out, err := stack.Command("", "session", "revoke", id.name())
		return "coatcheck session revoke " + id.name() + " -> " + strings.TrimSpace(out), err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, stack.URL+s.path, nil)
	if err != nil {
		return "", err
	}
	for _, header := range s.headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header[name] = []string{value} // in this spelling
	}
	if s.signedIn {
		request.Header.Set("Cookie", id.cookie())
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

// upstream compares the headers that the upstream received with the expected ones.
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
