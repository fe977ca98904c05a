package e2e_test

import (
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// upstreamOverH2 makes Envoy speak HTTP/2 to the upstream, because Envoy sends
// trailers only that way.
func upstreamOverH2(b *bootstrapv3.Bootstrap) {
	options, err := anypb.New(&upstreamsv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: new(corev3.Http2ProtocolOptions)},
		}},
	})
	if err != nil {
		panic(err)
	}
	for _, cluster := range b.GetStaticResources().GetClusters() {
		if cluster.GetName() == "upstream" {
			cluster.TypedExtensionProtocolOptions = map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
		}
	}
}

// TestTrailersArrive shows that TestTrailers would see a trailer: without the filter
// it arrives.
func TestTrailersArrive(t *testing.T) {
	t.Parallel()
	d := startDeciding(t, extauthz.PolicySet{}, upstreamOverH2, func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) { m.HttpFilters = m.GetHttpFilters()[1:] })
	})
	got := newH2(t, d.URL).send(t, "POST", "shop.example", "/public", []string{"trailer: x-user-id"}, []string{"x-user-id: admin"})
	if got.sent == nil || len(got.sent.Trailers["X-User-Id"]) != 1 {
		t.Errorf("%d, %+v", got.status, got.sent)
	}
}

// TestTrailers sends identity headers as trailers, in every spelling. An upstream
// over HTTP/2 receives the other trailers, and no identity header.
func TestTrailers(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*bootstrapv3.Bootstrap){
		"envoy.yaml": func(*bootstrapv3.Bootstrap) {},
		"with underscores": func(b *bootstrapv3.Bootstrap) {
			rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
				m.CommonHttpProtocolOptions.HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_ALLOW
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDeciding(t, extauthz.PolicySet{}, upstreamOverH2, closingAtOnce, change)
			cookie, _ := login(t, d.manager, sessions.NewSession{UserID: "42"})
			client := newH2(t, d.URL)
			send := func(target string, names []string) answer {
				trailers := []string{"x-ours: yes"}
				for _, name := range names {
					trailers = append(trailers, name+": admin")
				}
				announced := "trailer: x-ours, " + strings.Join(names, ", ")
				got := client.send(t, "POST", "shop.example", target, []string{"cookie: " + cookie, announced}, trailers)
				if got.status == 0 {
					client = newH2(t, d.URL)
				}
				return got
			}
			passed := 0
			names := slices.Concat(rig.Spellings, sample(aliases(), 7))
			for i, name := range names {
				names[i] = strings.ToLower(name) // as HTTP/2 has them
			}
			for _, target := range []string{"/x", "/public", "/optional"} {
				for batch := range slices.Chunk(names, 40) {
					if name == "envoy.yaml" { // where one with an underscore is refused, or taken out
						batch = slices.DeleteFunc(slices.Clone(batch), func(s string) bool { return strings.Contains(s, "_") })
					}
					got := send(target, batch)
					if got.sent == nil {
						t.Errorf("%s %q: %d", target, batch, got.status)
						continue
					}
					if values := got.sent.Trailers["X-Ours"]; !slices.Equal(values, []string{"yes"}) {
						t.Fatalf("trailers do not arrive: %v", got.sent.Trailers)
					}
					passed++
					for arrived := range got.sent.Trailers {
						if arrived != "X-Ours" && len(got.sent.Trailers[arrived]) > 0 {
							t.Errorf("%s: the upstream was sent the trailer %s", target, arrived)
						}
					}
				}
			}
			t.Logf("%d requests with trailers", passed)
		})
	}
}
