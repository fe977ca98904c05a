package extauthz_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// inMemory is a store of one session, for these examples: a program passes its
// *sessions.Manager.
type inMemory struct{ session *sessions.Session }

var _ extauthz.Sessions = inMemory{}

func (m inMemory) Touch(_ context.Context, id sessions.ID, _ ...string) (*sessions.Session, error) {
	if m.session == nil || id.Key() != m.session.Key {
		return nil, sessions.ErrNotFound
	}
	return m.session, nil
}

// request is a CheckRequest as Envoy sends it for a GET.
func request(path string, headers map[string]string, extensions map[string]string) *authv3.CheckRequest {
	m := new(corev3.HeaderMap)
	for name, value := range headers {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Host: "shop.example", Path: path, HeaderMap: m,
		}},
		ContextExtensions: extensions,
	}}
}

// A server of its own gRPC server.
func Example() {
	server, err := extauthz.New(inMemory{}, extauthz.Config{LoginURL: "/login"})
	if err != nil {
		fmt.Println(err)
		return
	}
	g := grpc.NewServer(grpc.ForceServerCodecV2(extauthz.Codec()))
	extauthz.Register(g, server)
	defer g.Stop()
	// Next: g.Serve(listener).
	for name := range g.GetServiceInfo() {
		fmt.Println(name)
	}
	// Output: envoy.service.auth.v3.Authorization
}

// The answer for a browser without a session, and for one with it.
func ExampleServer_Check() {
	id := sessions.NewID()
	ada := &sessions.Session{Key: id.Key(), UserID: "42", Username: "Ada Löwe", Roles: []string{"staff"}}
	server, err := extauthz.New(inMemory{ada}, extauthz.Config{LoginURL: "/login"})
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, _ := server.Check(context.Background(), request("/cart", map[string]string{"accept": "text/html"}, nil))
	fmt.Println(answer.GetDeniedResponse().GetStatus().GetCode(), answer.GetDynamicMetadata().GetFields()["reason"].GetStringValue())

	cookie := sessions.DefaultCookieName + "=" + id.Reveal()
	answer, _ = server.Check(context.Background(), request("/cart", map[string]string{"cookie": cookie}, nil))
	for _, h := range answer.GetOkResponse().GetHeaders()[:3] {
		fmt.Printf("%s: %s\n", h.GetHeader().GetKey(), h.GetHeader().GetValue())
	}
	// Output:
	// Found no_cookie
	// x-user-id: 42
	// x-user-name: Ada%20L%C3%B6we
	// x-user-roles: staff
}

// Everything that can be set, and what is wrong with it.
func ExampleConfig_Validate() {
	config := extauthz.Config{
		Cookie:       sessions.Cookie{Name: "__Host-session"},
		Bearer:       true,
		Paths:        extauthz.PathsSafe, // or PathsParameters, PathsStrict
		IgnoreKeys:   []string{"tenant"},
		HeaderPrefix: extauthz.DefaultHeaderPrefix,
		Fields:       []extauthz.FieldHeader{{Field: "plan", Header: "x-user-plan"}},
		LoginURL:     "https://login.example/",
		Timeout:      extauthz.DefaultTimeout,
		MaxInFlight:  extauthz.DefaultMaxInFlight,
		Now:          time.Now,
		Logger:       slog.New(slog.NewJSONHandler(os.Stderr, nil)),
		Log:          extauthz.LogConfig{Decisions: extauthz.LogDenied, Sample: 10}, // or LogAll, LogFaults
		Metrics:      prometheus.NewRegistry(),
	}
	fmt.Println(config.Validate())

	for _, paths := range []extauthz.Paths{extauthz.PathsParameters, extauthz.PathsStrict} {
		fmt.Println(paths, extauthz.Config{Paths: paths}.Validate())
	}
	for _, decisions := range []extauthz.LogDecisions{extauthz.LogAll, extauthz.LogFaults} {
		fmt.Println(decisions, extauthz.Config{Log: extauthz.LogConfig{Decisions: decisions}}.Validate())
	}
	fmt.Println(extauthz.Config{Timeout: -time.Second}.Validate())
	// Output:
	// <nil>
	// parameters <nil>
	// strict <nil>
	// all <nil>
	// faults <nil>
	// timeout -1s is negative
}

// plan is a condition on an application field. Package condition compiles conditions
// from text.
type plan string

var _ extauthz.Condition = plan("")

func (p plan) Fields() []string { return []string{"plan"} }
func (plan) Headers() []string  { return nil }
func (p plan) String() string   { return "plan is " + string(p) }

func (p plan) Holds(_ context.Context, in extauthz.Input) (bool, error) {
	if in.Session == nil {
		return false, errors.New("no session")
	}
	return in.Session.Fields["plan"] == string(p), nil
}

var shop = extauthz.PolicySet{
	Policies: []extauthz.Policy{
		{Name: "signed-in"},
		{Name: "gold", Condition: plan("gold"), Refusal: extauthz.Refusal{Forbidden: "This needs the plan gold."}},
	},
	Rules:   []extauthz.Rule{{PathPrefix: "/gold", Policy: "gold"}},
	Default: "signed-in",
}

// Policies and rules, and why a request is decided as it is.
func ExampleServer_Explain() {
	server, err := extauthz.New(inMemory{}, extauthz.Config{})
	if err == nil {
		err = server.SetPolicies(shop)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	ada := &sessions.Session{UserID: "42", Fields: map[string]string{"plan": "silver"}}
	assume := []extauthz.ExplainOption{extauthz.WithSession(ada, nil), extauthz.WithTime(time.Unix(1e9, 0))}
	explain(server, "/gold/1", assume)
	explain(server, "/", assume)
	// Output:
	// false condition_false 403 gold
	// rule 1 matches: prefix /gold
	// cache-control: no-store
	// content-type: text/plain; charset=utf-8
	// true ok 0 signed-in
	// rule 1 does not match the path
	// x-user-id: 42
}

func explain(server *extauthz.Server, path string, assume []extauthz.ExplainOption) {
	why, err := server.Explain(context.Background(), request(path, nil, nil), assume...)
	if err != nil {
		fmt.Println(err)
		return
	}
	show(why, why.Passed, why.Rule, why.Set)
}

func show(why extauthz.Explanation, passed []extauthz.PassedRule, rule *extauthz.RuleRef, set []extauthz.SetHeader) {
	fmt.Println(why.Allow, why.Reason, why.Status, why.Policy)
	for _, p := range passed {
		fmt.Printf("rule %d does not match the %s\n", p.Number, p.Why)
	}
	if rule != nil {
		fmt.Printf("rule %d matches: %s\n", rule.Number, rule.Rule)
	}
	for _, h := range set {
		fmt.Printf("%s: %s\n", h.Name, h.Value)
	}
}

func ExamplePolicySet_Validate() {
	fmt.Println(shop.Validate(extauthz.Config{}))
	missing := extauthz.PolicySet{Default: "missing"}
	fmt.Println(missing.Validate(extauthz.Config{}))
	fmt.Println(extauthz.Policy{Name: "p", Session: "maybe"}.Validate(extauthz.Config{}))
	// Output:
	// <nil>
	// default, for what no rule matches: there is no policy "missing"
	// policy "p": session "maybe": one of required, optional and none
}

// Which headers Envoy must let through for these policies.
func ExamplePolicySet_RequestHeaders() {
	p := extauthz.PolicySet{Policies: []extauthz.Policy{{Name: "p", Origins: []string{}}}}
	fmt.Println(strings.Join(p.RequestHeaders(), " "))
	// Output: accept accept-language connection content-type cookie origin sec-fetch- traceparent upgrade x-request-id
}

// A person who is refused sees a page in the language of the browser.
func ExamplePageConfig() {
	server, err := extauthz.New(inMemory{}, extauthz.Config{Page: extauthz.PageConfig{Name: "Shop", Accent: "#7a1f5c"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, _ := server.Check(context.Background(), request("/cart", map[string]string{"accept": "text/html", "accept-language": "de-AT,de;q=0.9"}, nil))
	_, title, _ := strings.Cut(answer.GetDeniedResponse().GetBody(), "<title>")
	title, _, _ = strings.Cut(title, "</title>")
	fmt.Println(title)
	// Output: Anmeldung erforderlich · Shop
}

func ExamplePolicy_AtLeast() {
	admins, users := extauthz.Policy{AnyRole: []string{"admin"}}, extauthz.Policy{}
	fmt.Println(admins.AtLeast(users), users.AtLeast(admins))
	// Output: true false
}

// The reasons that are faults of the session store, with the status of a denial.
func ExampleReasons() {
	show := func(i extauthz.ReasonInfo) { fmt.Printf("%d %s: %s\n", i.Status(), i.Reason, i.Cause) }
	for _, i := range extauthz.Reasons() {
		if i.Fault && strings.Contains(i.Cause, "session store") {
			show(i)
		}
	}
	// Output:
	// 503 unavailable: the session store refuses, is down, or cannot be reached
	// 503 timeout: the session store did not answer in time
	// 503 overloaded: too many checks wait for the session store, or too many requests arrive at once
}

// A Reason can be compared with its constant.
func ExampleReason() {
	server, err := extauthz.New(inMemory{}, extauthz.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	why, _ := server.Explain(context.Background(), request("/", nil, map[string]string{"coatcheck.session": "none"}))
	public := func(r extauthz.Reason) bool { return r == extauthz.Public }
	fmt.Println(public(why.Reason))
	// Output: true
}
