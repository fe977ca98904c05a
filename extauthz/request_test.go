package extauthz

import (
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// TestCookieOfTheMapInAnyCase: an entry of the headers map is joined, in any
// letters its key is written.
func TestCookieOfTheMapInAnyCase(t *testing.T) {
	for _, key := range []string{"cookie", "Cookie", "COOKIE"} {
		server, err := New(oneSession{fuzzID}, Config{})
		if err != nil {
			t.Fatal(err)
		}
		response, err := server.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			ContextExtensions: map[string]string{"coatcheck.session": "optional"},
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "GET", Host: "shop.example", Path: "/", Headers: map[string]string{key: "a=1,__Host-session=" + fuzzID.Reveal()},
			}},
		}})
		reason := response.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
		if err != nil || reason != string(AmbiguousCookie) || strings.Contains(response.String(), fuzzID.Reveal()) {
			t.Errorf("%s: %v, %v", key, response, err)
		}
		cut := false
		for _, option := range response.GetOkResponse().GetHeaders() {
			cut = cut || option.GetHeader().GetKey() == "cookie" && option.GetHeader().GetValue() == "a=1"
		}
		if !cut {
			t.Errorf("%s: the cookie is not cut out: %v", key, response)
		}
	}
}
