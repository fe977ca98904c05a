package e2e_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestStrictTransport adds what docs/operations.md adds to envoy.yaml where TLS
// ends: then every answer has the header once, from Envoy and from the others.
func TestStrictTransport(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "```yaml\n# envoy: hsts\n")
	block, _, closed := strings.Cut(rest, "```")
	if !closed {
		t.Fatal("docs/operations.md has no block for envoy: hsts")
	}
	var tree map[string]any
	must(t, yaml.Unmarshal([]byte(block), &tree))
	asJSON, err := json.Marshal(tree)
	must(t, err)
	more := new(routev3.RouteConfiguration)
	must(t, protojson.Unmarshal(asJSON, more))

	s := pages(t, rig.Options{Bootstrap: func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) { proto.Merge(m.GetRouteConfig(), more) })
	}})
	live, _ := login(t, manager(t, s, sessions.Config{}), ada)
	for request, status := range map[string]int{
		"GET /x": 200, "GET /public": 200, "GET /y": 401, "GET /.auth/login": 200, "GET /.auth/session": 401, "GET /.auth/nothing": 404,
	} {
		var cookie []string
		if request == "GET /x" {
			cookie = []string{"Cookie: " + live}
		}
		got := send(t, s, request, cookie...)
		if got.status != status {
			t.Errorf("%s: status %d, want %d", request, got.status, status)
		}
		if values := got.header.Values("Strict-Transport-Security"); len(values) != 1 || values[0] != "max-age=31536000" {
			t.Errorf("%s: %q", request, values)
		}
	}
}
