package policyfile

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/extauthz"
)

// The clients of the examples' readers.
var clients = map[string]*Session{
	"-":        nil,
	"customer": {UserID: "7", Roles: []string{"customer"}, Age: time.Hour},
	"staff":    {UserID: "8", Roles: []string{"staff"}, Age: time.Hour},
	"admin":    {UserID: "9", Roles: []string{"admin"}, Age: time.Hour},
	"owner":    {UserID: "10", Roles: []string{"owner"}, Age: time.Hour},
	"editor":   {UserID: "11", Roles: []string{"editor"}, Age: time.Hour},
	"new":      {UserID: "7", Age: time.Minute},
	"acme":     {UserID: "12", Fields: map[string]string{"tenant": "acme", "beta": "yes"}, Age: time.Hour},
	"evil":     {UserID: "13", Fields: map[string]string{"tenant": "evil", "beta": "no"}, Age: time.Hour},
	"none":     {UserID: "14", Fields: map[string]string{"tenant": ""}, Age: time.Hour},
}

// A tried is a request that a reader of an example would try: method, target with
// its host where that matters, who sends it, and the status of the refusal, or 200.
type tried struct {
	request, who string
	status       int
	route        Route
}

// requests are those of each example, in the page's order.
var requests = [][]tried{
	{ // policies that routes name
		{"GET /users", "-", 401, Route{Policy: "admins"}}, {"GET /users", "staff", 403, Route{Policy: "admins"}},
		{"GET /users", "admin", 200, Route{Policy: "admins"}}, {"GET /USERS/", "owner", 200, Route{Policy: "admins"}},
		{"DELETE /users/7", "customer", 403, Route{Policy: "admins"}}, {"HEAD /users", "staff", 403, Route{Policy: "admins"}},
		{"GET /logo.png", "-", 200, Route{Policy: "public"}}, {"GET /orders", "-", 401, Route{}}, {"GET /orders/", "customer", 200, Route{}},
		{"GET /orders", "-", 401, Route{Session: "none"}}, {"GET /x", "admin", 403, Route{Policy: "admin"}},
	},
	{ // rules
		{"GET /users/7", "-", 401, Route{}}, {"GET /users/7", "customer", 403, Route{}}, {"GET /users/7/", "customer", 403, Route{}}, {"GET /users/7/orders", "customer", 403, Route{}},
		{"HEAD /users/7", "customer", 403, Route{}}, {"DELETE /users/7", "customer", 403, Route{}}, {"OPTIONS /users/7/", "customer", 403, Route{}}, {"PROPFIND /users/7", "customer", 403, Route{}},
		{"GET /USERS/7", "customer", 403, Route{}}, {"GET /Users/7/", "customer", 403, Route{}}, {"GET /u%C5%BFers/7", "customer", 400, Route{}},
		{"GET /users/7", "staff", 200, Route{}}, {"GET /users/7/", "staff", 200, Route{}}, {"GET /Users/7/Orders", "admin", 200, Route{}}, {"GET /users/Wei%C3%9F", "staff", 200, Route{}},
		{"GET /users/7;x", "staff", 400, Route{}}, {"GET /users//7", "staff", 400, Route{}}, {"GET /users/%37", "staff", 400, Route{}}, {"GET /users%2F7", "staff", 400, Route{}}, {"GET /./users/7", "staff", 400, Route{}},
		{"GET /users", "customer", 200, Route{}}, {"GET /users/", "customer", 200, Route{}}, {"GET /", "-", 401, Route{}}, {"GET /", "customer", 200, Route{}},
		{"GET /assets", "-", 200, Route{}}, {"GET /assets/", "-", 200, Route{}}, {"HEAD /assets/a.png", "-", 200, Route{}}, {"GET /ASSETS/a.png", "-", 200, Route{}}, {"GET /assets-private/a", "-", 401, Route{}},
		{"POST /assets/a.png", "-", 401, Route{}}, {"PUT /assets/a.png", "-", 401, Route{}}, {"OPTIONS /assets/a.png", "-", 401, Route{}},
		{"GET admin.shop.example/", "staff", 403, Route{}}, {"GET admin.shop.example/x/", "admin", 200, Route{}}, {"GET ADMIN.SHOP.EXAMPLE:99/x", "staff", 403, Route{}}, {"GET admin.shop.example./x", "admin", 400, Route{}},
		{"GET admin.shop.example/assets/a.png", "-", 200, Route{}}, {"POST admin.shop.example/assets/a.png", "staff", 403, Route{}},
		{"GET other.example/users/7", "staff", 403, Route{}}, {"GET x.admin.shop.example/", "admin", 403, Route{}}, {"GET example/", "-", 401, Route{}}, {"GET 127.0.0.1/users/7", "staff", 403, Route{}},
	},
	{ // conditions
		{"GET /tenants/evil", "acme", 403, Route{}}, {"GET /tenants/evil/", "acme", 403, Route{}}, {"GET /tenants/evil/orders", "acme", 403, Route{}}, {"DELETE /tenants/evil", "acme", 403, Route{}},
		{"HEAD /tenants/evil", "acme", 403, Route{}}, {"GET /TENANTS/evil", "acme", 403, Route{}}, {"GET /Tenants/Evil/", "acme", 403, Route{}}, {"GET /tenants/evil", "-", 401, Route{}},
		{"GET /tenants/acme", "acme", 200, Route{}}, {"GET /tenants/acme/", "acme", 200, Route{}}, {"GET /TENANTS/acme/orders", "acme", 200, Route{}}, {"GET /tenants/ACME", "acme", 403, Route{}},
		{"GET /tenants/acme", "evil", 403, Route{}}, {"GET /tenants/acme/orders", "none", 403, Route{}}, {"GET /tenants/acme/orders", "customer", 403, Route{}}, {"GET /tenant%C5%BF/evil", "acme", 400, Route{}},
		{"GET /tenants/evil/..;/acme", "acme", 400, Route{}}, {"GET /tenants/acme/../evil", "acme", 400, Route{}}, {"GET /tenants//evil", "acme", 400, Route{}}, {"GET /tenants/", "acme", 200, Route{}}, {"GET /tenants", "-", 401, Route{}},
		{"POST /payments", "new", 200, Route{}}, {"POST /payments", "customer", 403, Route{}}, {"POST /payments/", "customer", 403, Route{}}, {"POST /Payments/7", "customer", 403, Route{}}, {"HEAD /PAYMENTS", "customer", 403, Route{}},
		{"GET /intranet/", "customer", 403, Route{}}, {"GET /INTRANET", "-", 403, Route{}}, {"GET /intranet@192.0.2.7", "-", 200, Route{}},
		{"GET /articles/1", "customer", 200, Route{}}, {"HEAD /articles/1", "customer", 200, Route{}}, {"PUT /articles/1", "customer", 403, Route{}}, {"PUT /articles/1", "editor", 200, Route{}},
		{"DELETE /Articles/1/", "customer", 403, Route{}}, {"PROPPATCH /articles", "customer", 403, Route{}}, {"OPTIONS /articles", "customer", 403, Route{}},
		{"GET /beta", "acme", 200, Route{}}, {"GET /beta/", "evil", 403, Route{}}, {"GET /BETA/x", "customer", 403, Route{}},
	},
	{ // refusals
		{"GET /orders", "-", 401, Route{}}, {"GET /orders/", "customer", 200, Route{}}, {"GET api.shop.example/orders", "-", 401, Route{}}, {"GET api.shop.example/orders/", "customer", 200, Route{}},
		{"PUT api.shop.example/orders/1", "customer", 403, Route{}}, {"PUT API.shop.example/ORDERS/1", "customer", 403, Route{}}, {"DELETE api.shop.example/", "customer", 403, Route{}},
		{"PUT other.example/orders/1", "customer", 403, Route{}}, {"PUT x.api.shop.example/orders/1", "customer", 403, Route{}}, {"PUT 127.0.0.1/orders/1", "customer", 403, Route{}},
	},
}

// TestExamplesHold plays the requests that a reader would try on each example.
func TestExamplesHold(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(# policies.yaml.*?)```").FindAllStringSubmatch(permissions(t), -1)
	if len(blocks) != len(requests) {
		t.Fatalf("%d examples, and requests for %d", len(blocks), len(requests))
	}
	for i, block := range blocks {
		f, err := Try("docs/permissions.md", []byte(block[1]), extauthz.Config{})
		if err != nil {
			t.Fatal(err)
		}
		server, err := f.server()
		if err != nil {
			t.Fatal(err)
		}
		for _, try := range requests[i] {
			if got := try.answer(t, server); got != try.status {
				t.Errorf("example %d: %s by %s on a route with %+v: %d, want %d", i+1, try.request, try.who, try.route, got, try.status)
			}
		}
	}
}

// answer is the status of the refusal, or 200.
func (try tried) answer(t *testing.T, server *extauthz.Server) int {
	t.Helper()
	method, target, _ := strings.Cut(try.request, " ")
	target, source, _ := strings.Cut(target, "@")
	if source == "" {
		source = "198.51.100.7"
	}
	host, path, _ := strings.Cut(target, "/")
	if host == "" {
		host = "shop.example"
	}
	client, known := clients[try.who]
	if !known {
		t.Fatalf("there is no client %s", try.who)
	}
	r, now := Request{Host: host, Method: method, Path: "/" + path, Source: source}, time.Now()
	e, err := server.Explain(t.Context(), r.CheckRequest(try.route.Extensions()), extauthz.WithSession(client.Live(now), nil), extauthz.WithTime(now))
	if err != nil {
		t.Fatal(err)
	}
	if e.Allow {
		return 200
	}
	return e.Status
}
