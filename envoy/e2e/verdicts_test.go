package e2e_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// connectable makes Envoy check CONNECT requests, which have no path.
func connectable(b *bootstrapv3.Bootstrap) {
	rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
		m.UpgradeConfigs = append(m.UpgradeConfigs, &hcmv3.HttpConnectionManager_UpgradeConfig{
			UpgradeType: "CONNECT", Enabled: wrapperspb.Bool(true),
		})
	})
	rig.AddRoute(b, &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}},
	}, nil)
}

func prefix(path string) *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: path}}
}

func TestVerdicts(t *testing.T) {
	s := start(t, rig.Options{
		Patient:   true,
		Arguments: []string{"--login-url", "/login?from=envoy", "--headers-fields", "tenant,big"},
		Bootstrap: func(b *bootstrapv3.Bootstrap) {
			connectable(b)
			rig.AddRoute(b, prefix("/mistyped"), map[string]string{"coatcheck.session": "requird"})
			rig.AddRoute(b, prefix("/maybe-staff"), map[string]string{"coatcheck.session": "optional", "coatcheck.roles": "x, staff"})
		},
	})
	m := manager(t, s, sessions.Config{})
	live, key := login(t, m, ada)
	revoked, gone := login(t, m, ada)
	if err := m.Revoke(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	expired, broken, newer := sessions.NewID(), sessions.NewID(), sessions.NewID()
	redis := s.Redis.Client()
	defer redis.Close()
	for id, fields := range map[sessions.ID][]any{
		expired: {"v", "1", "user_id", "42", "expires_at", "2020-01-01T00:00:00Z"},
		broken:  {"v", "1", "user_id", "42", "expires_at", "soon"},
		newer:   {"v", "2", "user_id", "42", "expires_at", time.Now().Add(time.Hour).Format(time.RFC3339)},
	} {
		if err := redis.HSet(t.Context(), string(id.Key()), fields...).Err(); err != nil {
			t.Fatal(err)
		}
		redis.Expire(t.Context(), string(id.Key()), time.Hour)
	}
	identity := map[string]string{
		"X-User-Id": "42", "X-User-Name": "Ada%20L%C3%B6we", "X-User-Roles": "staff,a%2Cb",
		"X-User-Session": string(key), "X-User-Tenant": "acme%0D%0Ax-user-id:%201",
	}
	anonymous := map[string]string{}

	for _, test := range []struct {
		name, request, cookie string
		status                int
		reason                string
		identity              map[string]string
	}{
		{"live session", "GET /x", live, 200, "ok", identity},
		{"no cookie", "GET /x", "", 401, "no_cookie", nil},
		{"malformed", "GET /x", sessions.DefaultCookieName + "=junk", 401, "malformed_cookie", nil},
		{"unknown", "GET /x", cookieFor(sessions.NewID()), 401, "not_found", nil},
		{"revoked", "GET /x", revoked, 401, "not_found", nil},
		{"expired", "GET /x", cookieFor(expired), 401, "expired", nil},
		{"broken", "GET /x", cookieFor(broken), 401, "broken_record", nil},
		{"newer layout", "GET /x", cookieFor(newer), 503, "unknown_layout", nil},
		{"two cookies", "GET /x", live + "; " + live, 401, "ambiguous_cookie", nil},
		{"role missing", "GET /admin/x", live, 403, "missing_role", nil},
		{"role missing, not signed in", "GET /admin/x", "", 401, "no_cookie", nil},
		{"optional, live", "GET /optional", live, 200, "ok", identity},
		{"optional, no cookie", "GET /optional", "", 200, "no_cookie", anonymous},
		{"optional, malformed", "GET /optional", sessions.DefaultCookieName + "=junk", 200, "malformed_cookie", anonymous},
		{"optional, unknown", "GET /optional", revoked, 200, "not_found", anonymous},
		{"optional, broken", "GET /optional", cookieFor(broken), 200, "broken_record", anonymous},
		{"optional, two cookies", "GET /optional", live + "; " + live, 200, "ambiguous_cookie", anonymous},
		{"optional, newer layout", "GET /optional", cookieFor(newer), 503, "unknown_layout", nil},
		{"optional with roles, has one", "GET /maybe-staff", live, 200, "ok", identity},
		{"optional with roles, no cookie", "GET /maybe-staff", "", 401, "no_cookie", nil},
		{"public, live", "GET /public/x", live, 200, "public", anonymous},
		{"public, no cookie", "GET /public/x", "", 200, "public", anonymous},
		{"the prefix ends at a slash", "GET /publicity", "", 401, "no_cookie", nil},
		{"dots lead to the protected", "GET /public/../x", "", 401, "no_cookie", nil},
		{"mistyped route", "GET /mistyped", live, 403, "bad_route", nil},
		{"CONNECT", "CONNECT a.example:443", live, 400, "bad_request", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			logged := len(s.Coatcheck.Output())
			var lines []string
			if test.cookie != "" {
				lines = append(lines, "Cookie: "+test.cookie)
			}
			got := send(t, s, test.request, lines...).is(t, test.status)
			if test.identity != nil && !maps.Equal(got.identity(), test.identity) {
				t.Errorf("the upstream was sent %v, want %v", got.identity(), test.identity)
			}
			if len(got.cookies()) > 0 {
				t.Errorf("the upstream was sent cookies: %v", got.cookies())
			}
			waitFor(t, `"reason":"`+test.reason+`"`, func() string { return s.Coatcheck.Output()[logged:] })
			if test.status != 200 && got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control is %q", got.header.Get("Cache-Control"))
			}
			if test.status == 401 && got.header.Get("Www-Authenticate") != "Session" {
				t.Errorf("WWW-Authenticate is %q", got.header.Get("Www-Authenticate"))
			}
			if test.status == 503 && got.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
	t.Run("the access log has reason and handle", func(t *testing.T) {
		send(t, s, "GET /x", "Cookie: "+live)
		waitFor(t, fmt.Sprintf(`"session":%q`, key.Handle()), s.Envoy.Output)
	})
}

// waitFor waits for a text in the output of a process, because it may arrive later
// than the answer.
func waitFor(t *testing.T, want string, output func() string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(output(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s in %s", want, output())
		}
	}
}

// TestRefusals: each kind of client gets the same refusal in its own form.
func TestRefusals(t *testing.T) {
	s := start(t, rig.Options{Patient: true, Arguments: []string{"--login-url", "/login?from=envoy"}})
	navigation := []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}
	for _, test := range []struct {
		name, request string
		lines         []string
		status        int
		location      string
	}{
		{"program", "GET /x", nil, 401, ""},
		{"navigation", "GET /cart?a=1&b=%20", navigation, 302, "/login?from=envoy&rd=%2Fcart%3Fa%3D1%26b%3D%2520"},
		{"old browser", "GET /x", []string{"Accept: text/html,*/*"}, 302, "/login?from=envoy&rd=%2Fx"},
		{"HEAD", "HEAD /x", navigation, 302, "/login?from=envoy&rd=%2Fx"},
		{"POST", "POST /x", append([]string{"Content-Length: 0"}, navigation...), 401, ""},
		{"fetch", "GET /x", []string{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: text/html"}, 401, ""},
		{"frame", "GET /x", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, 401, ""},
		{"two slashes", "GET //evil.example/x", navigation, 302, "/login?from=envoy&rd=%2Fevil.example%2Fx"}, // merged by Envoy
	} {
		t.Run(test.name, func(t *testing.T) {
			got := send(t, s, test.request, test.lines...).is(t, test.status)
			if location := got.header.Get("Location"); location != test.location {
				t.Errorf("Location is %q, want %q", location, test.location)
			}
		})
	}
	t.Run("gRPC", func(t *testing.T) {
		got := send(t, s, "POST /pkg.Service/Method", append([]string{"Content-Type: application/grpc", "Content-Length: 0"}, navigation...)...)
		if got.status != 200 || got.header.Get("Grpc-Status") != "16" || got.header.Get("Grpc-Message") != "" || got.sent != nil {
			t.Errorf("got %d, %v", got.status, got.header)
		}
	})
}

// TestPublicAsksNothing: a route without a session and a malformed session ID cost no
// Redis command, and a check of a live session costs one round trip.
func TestPublicAsksNothing(t *testing.T) {
	s := start(t, rig.Options{Patient: true})
	m := manager(t, s, sessions.Config{})
	live, _ := login(t, m, ada)
	redis := s.Redis.Client()
	defer redis.Close()
	for _, test := range []struct {
		name, path, cookie string
		want               map[string]int
	}{
		{"public", "/public", live, map[string]int{}},
		{"no cookie", "/x", "other=1", map[string]int{}},
		{"junk", "/x", sessions.DefaultCookieName + "=" + strings.Repeat("*", 43), map[string]int{}},
		{"two", "/x", live + "; " + live, map[string]int{}},
		{"live", "/x", live, map[string]int{"hmget": 1, "pexpireat": 1, "pttl": 1}},
		{"unknown", "/x", cookieFor(sessions.NewID()), map[string]int{"hmget": 1, "pexpireat": 1, "pttl": 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys := redis.DBSize(t.Context()).Val()
			redis.ConfigResetStat(t.Context())
			send(t, s, "GET "+test.path, "Cookie: "+test.cookie)
			got := make(map[string]int)
			for line := range strings.Lines(redis.Info(t.Context(), "commandstats").Val()) {
				name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
				var n int
				if _, err := fmt.Sscanf(rest, "calls=%d", &n); err == nil && !strings.Contains("time config|resetstat info auth hello client|setinfo", name) {
					got[name] = n
				}
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("Redis was sent %v, want %v", got, test.want)
			}
			if now := redis.DBSize(t.Context()).Val(); now != keys {
				t.Errorf("%d keys, %d before", now, keys)
			}
		})
	}
}
