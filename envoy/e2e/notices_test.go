package e2e_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// said is how many lines of Coatcheck's log have a text.
func said(s *rig.Stack, text string) int { return strings.Count(s.Coatcheck.Output(), text) }

// logs waits for a line of Coatcheck's log.
func logs(t *testing.T, s *rig.Stack, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); said(s, text) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no line with %s", text)
		}
	}
}

// TestShortDeadline: an Envoy that gives a check 50 ms, and takes one that is late for an
// allow, gets our 503 from behind a Redis that hangs; and the log says what to change.
func TestShortDeadline(t *testing.T) {
	s := start(t, rig.Options{
		// Each check waits for its whole time: no breaker refuses it at once.
		Arguments: []string{"--redis-breaker-failures", "0"},
		Bootstrap: func(b *bootstrapv3.Bootstrap) {
			rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) {
				f.FailureModeAllow = true
				f.GetGrpcService().Timeout = durationpb.New(50 * time.Millisecond)
				f.GetGrpcService().RetryPolicy = nil
			})
		},
	})
	cookie, _ := login(t, manager(t, s, sessions.Config{}), ada)
	for range 20 {
		send(t, s, "GET /x", "Cookie: "+cookie)
	}
	logs(t, s, `"notice":"envoy_deadline","envoy":"50ms","timeout":"150ms"`)
	must(t, s.Redis.Pause())
	defer func() { must(t, s.Redis.Resume()) }()
	ours := 0
	for range 10 { // on a busy machine a process may stand still for longer than the time that is left
		ours = 0
		for range 40 {
			if a := send(t, s, "GET /x", "Cookie: "+cookie); a.status == 503 && a.header.Get("Retry-After") != "" {
				ours++ // and else an allow: Envoy has not had an answer in time
			}
		}
		t.Logf("of 40 answers %d are ours, %d late", ours, 40-ours)
		if ours >= 20 {
			break
		}
	}
	if ours < 20 {
		t.Errorf("of 40 checks behind a Redis that hangs %d were late, and allowed", 40-ours)
	}
	if n := said(s, `"notice":"envoy_deadline"`); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// TestHiddenCookies: an Envoy whose allowed_headers lack cookie. A thousand checks later
// the log says so, once, however many checks follow.
func TestHiddenCookies(t *testing.T) {
	s := start(t, rig.Options{Patient: true, Arguments: []string{"--log-decisions", "faults"}, Bootstrap: func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) {
			f.AllowedHeaders.Patterns = slices.DeleteFunc(f.AllowedHeaders.Patterns, func(m *matcherv3.StringMatcher) bool { return m.GetExact() == "cookie" })
		})
	}})
	cookie, _ := login(t, manager(t, s, sessions.Config{}), ada)
	ask(t, s, 999, cookie, 401)
	if said(s, "no_cookie_header") != 0 {
		t.Error("said too early")
	}
	ask(t, s, 1, cookie, 401)
	logs(t, s, `"notice":"no_cookie_header"`)
	ask(t, s, 1001, cookie, 401)
	if n := said(s, `"notice":"no_cookie_header"`); n != 1 {
		t.Errorf("said %d times", n)
	}
	if said(s, strings.TrimPrefix(cookie, sessions.DefaultCookieName+"=")) != 0 {
		t.Error("the log has an ID")
	}
}

// TestCookieOfAnotherName: login and checks have different names.
func TestCookieOfAnotherName(t *testing.T) {
	s := start(t, rig.Options{Patient: true, Arguments: []string{"--log-decisions", "faults", "--cookie-name", "__Host-sid"}})
	cookie, _ := login(t, manager(t, s, sessions.Config{}), ada) // as __Host-session
	ask(t, s, 300, cookie, 401)
	logs(t, s, `"notice":"other_cookie_name","cookie.name":"__Host-sid","seen":["__Host-session"]`)
	if n := said(s, `"notice":"other_cookie_name"`); n != 1 || said(s, strings.TrimPrefix(cookie, sessions.DefaultCookieName+"=")) != 0 {
		t.Errorf("said %d times", n)
	}
	ask(t, s, 1, strings.Replace(cookie, "session", "sid", 1), 200)
	logs(t, s, "no longer so: cookies of another name")
}

// ask sends n requests on one connection, each of which must have this status.
func ask(t *testing.T, s *rig.Stack, n int, cookie string, status int) {
	t.Helper()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	for range n {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Cookie", cookie)
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if read(t, response); response.StatusCode != status {
			t.Fatalf("status %d, want %d", response.StatusCode, status)
		}
	}
}
