package api_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
	"github.com/coatcheck/coatcheck/sessions/memstore"
)

const shopToken = "a-token-from-openssl-rand-base64-32"

// A service asks for the session of a request, by the key that it received in
// x-user-session, and for one field.
func Example() {
	manager, key := signedIn()
	callers, err := api.NewCallers([]api.Caller{{Name: "shop", Tokens: []string{shopToken}, Rights: []api.Right{api.Get, api.Check}, Fields: []string{"cart"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	var server *api.Server
	server, err = api.New(manager, api.Config{
		Callers: callers, Decide: membersOnly, Timeout: api.DefaultTimeout, MaxInFlight: api.DefaultMaxInFlight,
		MaxMessageBytes: api.DefaultMaxMessageBytes, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle(server.Handler())
	mux.Handle("/debug/", server.Guard(http.NotFoundHandler())) // for callers alone
	listener := httptest.NewServer(mux)
	defer listener.Close()

	client := sessionsv1connect.NewSessionServiceClient(listener.Client(), listener.URL)
	name := &sessionsv1.SessionName{Name: &sessionsv1.SessionName_Key{Key: string(key)}}
	get := connect.NewRequest(&sessionsv1.GetRequest{Session: name, Fields: []string{"cart"}})
	get.Header().Set("Authorization", "Bearer "+shopToken)
	got, err := client.Get(context.Background(), get)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(got.Msg.GetSession().GetUsername(), got.Msg.GetSession().GetFields()["cart"])

	check := connect.NewRequest(&sessionsv1.CheckRequest{Session: name, Question: &sessionsv1.CheckRequest_Request{Request: &sessionsv1.Request{Host: "shop.example", Path: "/gold"}}})
	check.Header().Set("Authorization", "Bearer "+shopToken)
	verdict, err := client.Check(context.Background(), check)
	fmt.Println(verdict.Msg.GetAllowed(), verdict.Msg.GetReason(), err)

	server.SetCallers(nobody())
	_, err = client.Get(context.Background(), get)
	fmt.Println(connect.CodeOf(err))
	// Output:
	// ada three apples
	// false condition_false <nil>
	// unauthenticated
}

// membersOnly is an api.Decide. The program coatcheck has one of its policy file.
func membersOnly(ctx context.Context, q api.Question, lookup api.Lookup) api.Verdict {
	session, err := lookup(ctx, []string{"plan"})
	if err != nil {
		return api.Verdict{Err: err}
	}
	if session.Fields["plan"] != strings.TrimPrefix(q.Path, "/") {
		return api.Verdict{Reason: "condition_false"}
	}
	return api.Verdict{Allowed: true, Reason: "ok"}
}

var (
	_ api.Decide  = membersOnly
	_ api.Foreign = api.Foreign(nil) // of package foreign, for sessions of another framework
)

// signedIn is what the API asks, and a session.
func signedIn() (api.Sessions, sessions.Key) {
	manager, err := sessions.NewManager(memstore.New(memstore.Config{}), sessions.Config{})
	if err != nil {
		panic(err)
	}
	_, session, err := manager.Create(context.Background(), sessions.NewSession{UserID: "42", Username: "ada", Fields: map[string]string{"cart": "three apples"}})
	if err != nil {
		panic(err)
	}
	return manager, session.Key
}

func nobody() *api.Callers {
	callers, err := api.NewCallers([]api.Caller{{Name: "other", Certificate: "other.example", Rights: []api.Right{api.List}}})
	if err != nil {
		panic(err)
	}
	return callers
}

// What is wrong with callers is named, all of it, and no token is repeated.
func ExampleNewCallers() {
	_, err := api.NewCallers([]api.Caller{
		{Name: "shop", Rights: []api.Right{"read"}},
		{Name: "chat", Tokens: []string{"short"}, Rights: []api.Right{api.Watch, api.ByID}, Fields: []string{"roles"}},
	})
	fmt.Println(err)
	// Output:
	// caller shop: it has neither a certificate nor a token, so that no client can be it
	// caller shop: "read" is not one of the rights get, check, touch, add, revoke, list, watch, by_id
	// caller chat: a token has 32 to 512 characters, and this one 5
	// caller chat: field "roles": reserved name
}

func ExampleCallers_Any() {
	callers := nobody()
	fmt.Println(callers.Len(), callers.Any(api.Add, api.Revoke, api.List), callers.Any(api.Get, api.Check, api.Touch))
	// Output: 1 true false
}

func ExampleCallers_AnyWithout() {
	callers := nobody() // a caller that may list alone
	fmt.Println(callers.AnyWithout(api.ByID, api.List), callers.AnyWithout(api.ByID, api.Get, api.Check))
	// Output: true false
}

func ExampleCaller_Validate() {
	c := api.Caller{Name: "shop", Certificate: "spiffe://example.org/shop", Rights: api.Rights()}
	fmt.Println(c.Validate(), api.MaxCallers, api.MaxCallerFields)
	// Output: <nil> 1000 256
}

func ExampleValidateToken() {
	fmt.Println(api.ValidateToken(strings.Repeat("x", api.MinToken)))
	fmt.Println(api.ValidateToken(strings.Repeat("x", api.MaxToken+1)))
	// Output:
	// <nil>
	// a token has 32 to 512 characters, and this one 513
}

func ExampleConfig_Validate() {
	fmt.Fprintln(io.Discard, api.Config{Timeout: -time.Second}.Validate())
	fmt.Println(api.Config{Callers: nobody()}.Validate())
	// Output: <nil>
}
