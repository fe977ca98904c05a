package e2e_test

import (
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/extauthz"
)

// asHost are spellings of a host H that some program takes for H.
var asHost = []string{
	"H", "H:80", "H:", "H:00080", "H:99999", "H:+80", "H:-0", "H:0x50", "H.", "H.:", "H.:80", "H:.", "H..", ":H", "H: ", "H:\t80", "u@H", "u:p@H", "H@x", "H,x", "x,H", "H;x", "H#", "H?", "H/", `H\`, "H%00", "H%2e", "H:80:80", "H:80,", "[H]",
}

// TestHostsAsEnvoy: a rule that opens a host opens that virtual host of Envoy alone. What
// Envoy takes for another host goes where the others go, and no rule takes it for this one.
func TestHostsAsEnvoy(t *testing.T) {
	t.Parallel()
	const header = "X-Virtual-Host"
	d := startDeciding(t, extauthz.PolicySet{
		Policies: []extauthz.Policy{{Name: "public", Session: "none"}, {Name: "signed-in"}},
		Rules:    []extauthz.Rule{{Hosts: []string{"public.example", "[::1]", "127.0.0.1"}, Policy: "public"}},
		Default:  "signed-in",
	}, func(b *bootstrapv3.Bootstrap) { onlyOneRoute(b) }, closingAtOnce, func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
			all := m.GetRouteConfig().GetVirtualHosts()[0]
			open := proto.CloneOf(all)
			open.Name, open.Domains = "open", []string{"public.example", "[::1]", "127.0.0.1"}
			for _, host := range []*routev3.VirtualHost{all, open} {
				host.RequestHeadersToAdd = append(host.RequestHeadersToAdd, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: header, Value: host.GetName()}})
			}
			m.GetRouteConfig().VirtualHosts = append(m.GetRouteConfig().VirtualHosts, open)
		})
	})
	var hosts []string
	for _, spelling := range asHost {
		for _, name := range []string{"public.example", "PUBLIC.example", "[::1]", "127.0.0.1"} {
			hosts = append(hosts, strings.Replace(spelling, "H", name, 1))
		}
	}
	hosts = append(hosts, "[0:0::1]", "[0::1]", "[::01]", "[::0001]:80", "[::1%250]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "127.1", "127.0.0.01", "0x7f.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "public\uff0eexample", "xn--public-.example")
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		client, reached := newH2(t, d.URL), 0
		for _, host := range hosts {
			var got answer
			if protocol == "HTTP/1.1" {
				got = sendRaw(t, d.URL, "GET", host, "/x", nil)
			} else if got = client.send(t, "GET", host, "/x", nil, nil); got.status == 0 {
				client = newH2(t, d.URL)
			}
			if got.sent == nil {
				continue
			}
			reached++
			if by := got.sent.Headers[header]; len(by) != 1 || by[0] != "open" {
				t.Errorf("%s %q: without a session it reached the virtual host %q", protocol, host, by)
			}
		}
		if reached < 10 {
			t.Errorf("%s: only %d of %d requests reached the upstream: the test shows little", protocol, reached, len(hosts))
		}
	}
}
