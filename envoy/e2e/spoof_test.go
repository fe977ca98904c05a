package e2e_test

import (
	"maps"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// withoutEnvoysHelp leaves the defence to Coatcheck alone: Envoy neither removes
// identity headers early nor refuses underscores. What allowed_headers hides
// from Coatcheck it could not remove, so that goes with it, as envoy.yaml says.
func withoutEnvoysHelp(b *bootstrapv3.Bootstrap) {
	rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
		m.EarlyHeaderMutationExtensions = nil
		m.CommonHttpProtocolOptions.HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_ALLOW
	})
	rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) { f.AllowedHeaders = nil })
}

// TestSpoofedHeaders sends each spelling, once and twice, alone and all
// together: the upstream sees only Coatcheck's identity headers.
func TestSpoofedHeaders(t *testing.T) {
	t.Parallel()
	for name, bootstrap := range map[string]func(*bootstrapv3.Bootstrap){
		"envoy.yaml":           nil,
		"without Envoy's help": withoutEnvoysHelp,
		"without raw headers": func(b *bootstrapv3.Bootstrap) {
			withoutEnvoysHelp(b)
			rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) { f.EncodeRawHeaders = false })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, rig.Options{Patient: true, Bootstrap: bootstrap, Arguments: []string{"--headers-fields", "tenant"}})
			m := manager(t, s, sessions.Config{})
			user := sessions.NewSession{UserID: "42"}
			live, key := login(t, m, user)
			signedIn := map[string]string{"X-User-Id": "42", "X-User-Session": string(key)}
			refused := 0
			try := func(path, cookie string, want map[string]string, lines ...string) {
				t.Helper()
				if cookie != "" {
					lines = append(lines, "Cookie: "+cookie)
				}
				got := send(t, s, "GET "+path, lines...)
				switch {
				case bootstrap == nil && got.status == 400 && got.sent == nil:
					refused++ // an underscore, by Envoy
				case got.status != 200:
					t.Errorf("%s %q: status %d", path, lines, got.status)
				case !maps.Equal(got.identity(), want):
					t.Errorf("%s %q: the upstream was sent %v, want %v", path, lines, got.identity(), want)
				}
			}
			for _, route := range []struct {
				path, cookie string
				want         map[string]string
			}{
				{"/x", live, signedIn},
				{"/optional", live, signedIn},
				{"/optional", "", nil},
				{"/public", live, nil},
				{"/public", "", nil},
			} {
				var all []string
				for _, spelling := range rig.Spellings {
					one := spelling + ": admin"
					try(route.path, route.cookie, route.want, one)
					try(route.path, route.cookie, route.want, one, one)
					all = append(all, one)
				}
				try(route.path, route.cookie, route.want, all...)
			}
			t.Logf("%d requests with an underscore were refused by Envoy itself", refused)
		})
	}
}
