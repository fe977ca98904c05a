package main

import (
	"fmt"
	"slices"
	"strings"
)

// A step is one line to paste: a request by curl, or a command of coatcheck.
type step struct {
	title    string
	path     string // of a request
	signedIn bool
	headers  []string
	command  func(*demo) string // of coatcheck, where there is no path

	status int
	sees   map[string]string // headers that the upstream receives; "" for absent
	says   []string          // parts of what a command prints
}

var ada = map[string]string{
	"X-User-Id": "42", "X-User-Name": "ada", "X-User-Roles": "staff", "X-User-Tenant": "acme",
}

var story = []step{
	{title: "without a session cookie: 401", path: "/", status: 401},
	{title: "a browser is redirected to the login page: 302", path: "/", headers: []string{"Sec-Fetch-Mode: navigate"}, status: 302},
	{title: "with the cookie: 200; the upstream learns the user, and never sees the cookie", path: "/", signedIn: true, status: 200,
		sees: with(ada, "Cookie", "")},
	{title: "a client that claims to be another user: the upstream still sees Ada", path: "/", signedIn: true, status: 200,
		headers: []string{"X-User-Id: 1", "X.User.Roles: admin"}, sees: with(ada, "X.user.roles", "")},
	{title: "on a public route: no user", path: "/public", status: 200,
		headers: []string{"X-User-Id: 1"}, sees: map[string]string{"X-User-Id": ""}},
	{title: "a route that requires the role admin: 403", path: "/admin", signedIn: true, status: 403},
	{title: "a policy with a condition, Ada's own tenant: 200", path: "/tenants/acme", signedIn: true, status: 200, sees: ada},
	{title: "another tenant: 403", path: "/tenants/evil", signedIn: true, status: 403},
	{title: "why? the condition with its values, the policy, the rule, and Envoy's route", command: func(d *demo) string {
		return fmt.Sprintf("explain --policy-file %s --envoy %s %s/tenants/evil --session %s", policies, d.Config, d.URL, d.id.name())
	}, says: []string{"deny, with status 403", "condition_false", "own-tenant, which a rule names", `request.segments[1] = "evil", session.fields["tenant"] = "acme"`, "rule 2: /tenants/{tenant}/{rest...}"}},
	{title: "revoke the session; the log gets a line of it", command: func(d *demo) string {
		return "session revoke " + d.id.name() + ` 2>>"$LOG"`
	}, says: []string{"revoked  1"}},
	{title: "the same cookie: 401", path: "/", signedIn: true, status: 401},
	{title: "what happened to Ada? signed in, allowed, refused, and who ended her session", command: func(*demo) string { return `why --user 42 "$LOG"` },
		says: []string{"signed in ", "/tenants/acme: ok", "/admin: 403, missing_role", "/tenants/evil: 403, condition_false", "an operator ended it (revoke)", "/: 401, not_found", "because "}},
}

func with(m map[string]string, name, value string) map[string]string {
	out := map[string]string{name: value}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// line is what to paste.
func (d *demo) line(s step) string {
	if s.command != nil {
		return d.binary + " " + s.command(d)
	}
	words := []string{"curl -i"}
	if s.signedIn {
		words = append(words, `-b "$COOKIE"`)
	}
	for _, header := range s.headers {
		words = append(words, "-H '"+header+"'")
	}
	return strings.Join(append(words, d.URL+s.path), " ")
}

// preparation are the lines before the first step.
func (d *demo) preparation() []string {
	environment := slices.DeleteFunc(d.Environment(), func(variable string) bool { return strings.HasPrefix(variable, "COATCHECK_REDIS_PASSWORD=") })
	return []string{
		"COOKIE='" + d.id.cookie() + "' LOG=" + d.log(),
		"export " + strings.Join(environment, " "),
		"export COATCHECK_REDIS_PASSWORD_FILE=" + d.redisPassword(),
	}
}

// pages are what to open in a browser: what each is, and where.
func (d *demo) pages() [][2]string {
	return [][2]string{
		{"the upstream; sign in as ada, with the password " + d.password, d.URL + "/"},
		{"where ada is signed in", d.URL + "/.auth/sessions"},
		{"metrics of Coatcheck", d.Operator + "/metrics"},
		{"Envoy's admin interface", d.Admin + "/"},
	}
}

func (d *demo) describe() {
	fmt.Printf("Envoy %s (envoy/envoy.yaml), Coatcheck %s, Redis %s, upstream http://%s (echoes each request)\n", d.URL, d.Checks, d.Redis.Addr, d.Upstream.Addr)
	fmt.Printf("log: %s (checks and logins, one line each)\npolicies: %s\n\nIn a browser:\n", d.log(), policies)
	for _, page := range d.pages() {
		fmt.Printf("  %-42s %s\n", page[1], page[0])
	}
}

// print prints the lines for the reader to paste.
func (d *demo) print() {
	fmt.Print("\nIn a terminal, where ada (user 42, role staff, tenant acme) has signed in, too:\n")
	for _, line := range d.preparation() {
		fmt.Println("  " + line)
	}
	for _, s := range story {
		fmt.Printf("# %s\n  %s\n", s.title, d.line(s))
	}
	fmt.Print("\nCtrl-C ends all programs, and removes the log.\n")
}
