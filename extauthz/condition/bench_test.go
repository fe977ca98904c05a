package condition_test

import (
	"context"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/extauthz/condition"
	"github.com/coatcheck/coatcheck/sessions"
)

// ada is a session for all tests.
type ada struct{}

func (ada) Touch(_ context.Context, id sessions.ID, _ ...string) (*sessions.Session, error) {
	return &sessions.Session{
		Key: id.Key(), UserID: "42", Roles: []string{"staff"}, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
		Fields: map[string]string{"tenant": "acme"},
	}, nil
}

// BenchmarkCheck is a check without gRPC and Redis, by a policy without a condition
// and with one.
func BenchmarkCheck(b *testing.B) {
	for _, bench := range []struct{ name, text string }{
		{"none", ""},
		{"constant", `true`},
		{"step-up", `session.age < duration("5m")`},
		{"tenant", `request.segments[1] == session.fields["tenant"]`},
		{"network", `source.address.inCIDR("10.0.0.0/8")`},
		{"all three", `session.age < duration("5m") && request.segments[1] == session.fields["tenant"] && source.address.inCIDR("10.0.0.0/8")`},
	} {
		policy := extauthz.Policy{Name: "p"}
		if bench.text != "" {
			c, err := condition.Compile(bench.text)
			if err != nil {
				b.Fatal(err)
			}
			policy.Condition = c
		}
		server, err := extauthz.New(ada{}, extauthz.Config{})
		if err == nil {
			err = server.SetPolicies(extauthz.PolicySet{Policies: []extauthz.Policy{policy}, Default: "p"})
		}
		if err != nil {
			b.Fatal(err)
		}
		request := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
				SocketAddress: &corev3.SocketAddress{Address: "10.1.2.3"},
			}}},
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "GET", Path: "/tenants/acme/orders", Host: "shop.example",
				Headers: map[string]string{"cookie": sessions.DefaultCookieName + "=" + sessions.NewID().Reveal(), "accept": "*/*"},
			}},
		}}
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if response, err := server.Check(b.Context(), request); err != nil || response.GetOkResponse() == nil {
					b.Fatal(response, err)
				}
			}
		})
	}
}
