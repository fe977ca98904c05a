package envoyconfig

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestHostileMatch: a match of very many fields, or a list of very many, costs a moment,
// and what is said of it stays short.
func TestHostileMatch(t *testing.T) {
	config := func(match string) string {
		return `{"static_resources":{"listeners":[{"name":"l","filter_chains":[{"filters":[{"typed_config":{"@type":"type.googleapis.com/` + managerType + `",
			"http_filters":[{"name":"a","typed_config":{"@type":"type.googleapis.com/` + extAuthzType + `","grpc_service":{"envoy_grpc":{"cluster_name":"c"}}}}],
			"route_config":{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":` + match + `},{"match":{"prefix":"/"}}]}]}}}]}]}]}}`
	}
	var fields, headers strings.Builder
	for i := range 8_000 {
		fmt.Fprintf(&fields, `,"x%d":1`, i)
		fmt.Fprintf(&headers, `,{"name":"x-envoy-%d","present_match":true}`, i)
	}
	for name, match := range map[string]string{
		"fields": `{"prefix":"/"` + fields.String() + `}`, "headers": `{"prefix":"/","headers":[{"name":"x-envoy-a"}` + headers.String() + `]}`,
		"matchers": `{"prefix":"/","headers":[{"name":"a"` + fields.String() + `}]}`,
	} {
		c, err := Parse([]byte(config(match)))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ways, err := c.Find(Request{Host: "h", Path: "/", Headers: map[string]string{"a": "1"}}, Where{})
		took := time.Since(start)
		size := 0
		for _, w := range ways {
			size += len(w.If) + len(w.Route)
		}
		if err != nil || took > 20*time.Second || size > 4<<10 {
			t.Errorf("%s: %d ways of %d bytes in %v, %v", name, len(ways), size, took, err)
		}
	}
}

// TestShownWithoutPassword: a source that is no URL although it looks like one is not
// repeated with what stands before its host.
func TestShownWithoutPassword(t *testing.T) {
	for _, source := range []string{"http://ada:hunter2@127.0.0.1:9901", "http://ada:hunter2@127.0.0.1:99 01", "https://ada:hunter2%zz@h/"} {
		if _, err := Load(t.Context(), source); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
	}
}
