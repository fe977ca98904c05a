package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestNominatedHeaders: no client takes its identity away from a program behind the next
// proxy, which does not forward the headers that Connection names (RFC 9110, section
// 7.6.1). Envoy takes Connection away itself, but not from a request that asks for a
// WebSocket.
func TestNominatedHeaders(t *testing.T) {
	t.Parallel()
	var received atomic.Pointer[http.Header]
	behind := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { received.Store(new(r.Header.Clone())) }))
	t.Cleanup(behind.Close)
	next := httptest.NewServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: behind.Listener.Addr().String()}))
	t.Cleanup(next.Close)
	for name, change := range map[string]func(*bootstrapv3.Bootstrap){
		"envoy.yaml": func(*bootstrapv3.Bootstrap) {},
		"headers joined": func(b *bootstrapv3.Bootstrap) {
			rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) { f.EncodeRawHeaders = false })
		},
		"all headers sent": func(b *bootstrapv3.Bootstrap) {
			rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) { f.AllowedHeaders = nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDeciding(t, extauthz.PolicySet{}, change, func(b *bootstrapv3.Bootstrap) { rig.ClusterAt(b, "upstream", next.Listener.Addr().String()) })
			cookie, _ := login(t, d.manager, sessions.NewSession{UserID: "42", Roles: []string{"staff"}})
			const websocket = "\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
			reached := 0
			for _, line := range []string{
				"Connection: Upgrade" + websocket, "Connection: keep-alive, Upgrade" + websocket, "Connection: x-user-id, x-user-roles",
				"Connection: Upgrade, x-user-id" + websocket, "Connection: Upgrade,X-User-Id" + websocket, "Connection: x-user-roles ,\tupgrade" + websocket,
				"Connection: Upgrade\r\nConnection: x-user-id" + websocket, "Connection: x-user-id\r\nConnection: Upgrade" + websocket,
			} {
				received.Store(nil)
				status, _ := d.sendOdd(t, odd{method: "GET", target: "/x", host: "shop.example", line: line}, cookie)
				header := received.Load()
				if header == nil {
					if status != 400 {
						t.Errorf("%q: %d", line, status)
					}
					continue
				}
				reached++
				if id, roles := header.Get("X-User-Id"), header.Get("X-User-Roles"); id != "42" || roles != "staff" {
					t.Errorf("%q: behind the next proxy the user is %q with the roles %q", line, id, roles)
				}
			}
			if reached < 3 {
				t.Errorf("only %d requests reached the upstream", reached)
			}
		})
	}
}
