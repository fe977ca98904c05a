package serve

import (
	"context"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

// noSessions is for both sides, which meet here without a Redis.
type noSessions struct{ login.Sessions }

func (noSessions) Touch(context.Context, sessions.ID, ...string) (*sessions.Session, error) {
	return nil, sessions.ErrNotFound
}

type noUsers struct{ login.Authenticator }

type noCounters struct{ throttle.Counters }

// TestReturnAddress: where a check lets a browser return to, login leads it.
func TestReturnAddress(t *testing.T) {
	t.Parallel() // it waits
	checks, err := extauthz.New(noSessions{}, extauthz.Config{LoginURL: "/.auth/login"})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := login.New(login.Config{Users: noUsers{}, Sessions: noSessions{}, Counters: noCounters{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"/", "/cart?a=1&b=2#c", "/a%20b", "/search?q=a+b", `/search?q=a\b`, `/search?q=\\evil.example`, "/ö", "//evil.example", "/?" + strings.Repeat("x", 3000),
	} {
		answer, err := checks.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
			Http: &authv3.AttributeContext_HttpRequest{Method: http.MethodGet, Path: path, Headers: map[string]string{"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		sent := location(t, answer)
		if sent == nil {
			continue // a path that is refused altogether
		}
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, httptest.NewRequest(http.MethodGet, sent.String(), nil))
		_, rest, _ := strings.Cut(w.Body.String(), `name="rd" value="`)
		value, _, _ := strings.Cut(rest, `"`)
		want, _ := url.PathUnescape(sent.Query().Get("rd"))
		if got, err := url.PathUnescape(html.UnescapeString(value)); err != nil || got != want {
			t.Errorf("%q: a check lets the browser return to %q, and login leads it to %q, %v", path, want, got, err)
		}
	}
}

// location is where a check sends a browser, nil if nowhere.
func location(t *testing.T, answer *authv3.CheckResponse) *url.URL {
	t.Helper()
	for _, option := range answer.GetDeniedResponse().GetHeaders() {
		if strings.EqualFold(option.GetHeader().GetKey(), "location") {
			header := option.GetHeader()
			u, err := url.Parse(header.GetValue() + string(header.GetRawValue()))
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
	}
	return nil
}
