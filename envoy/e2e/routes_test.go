package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2" //nolint:depguard // requests that can be repeated by their seed
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3" // that routes name
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/envoyconfig"
	"github.com/coatcheck/coatcheck/internal/testtools"
)

// routesOfAllKinds is a route configuration with each kind of domain and of match. A
// route without extensions gets its own, by which the test knows it: mark and its name.
const routesOfAllKinds = `
name: kinds
typed_per_filter_config: {extensions: {level: routes, routes: "1"}}
virtual_hosts:
- name: exact
  domains: [exact.example, "exact.example:99", "Upper.example"]
  typed_per_filter_config: {extensions: {level: host, host: "1"}}
  routes:
  - {name: path, match: {path: /path}}
  - {name: path-any-case, match: {path: /Case/Path, case_sensitive: false}}
  - {name: separated, match: {path_separated_prefix: /separated}}
  - {name: separated-any-case, match: {path_separated_prefix: /case/separated, case_sensitive: false}}
  - {name: regex, match: {safe_regex: {regex: "/regex/[0-9]+|/other"}}}
  - {name: regex-dot, match: {safe_regex: {regex: "/dot/.*\\.php"}}}
  - {name: template, match: {path_match_policy: {name: t, typed_config: {"@type": type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: "/t/{id}/files/{rest=**}"}}}}
  - {name: template-star, match: {path_match_policy: {name: t, typed_config: {"@type": type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: "/s/*/{a=x/*}.js"}}}}
  - {name: connect, match: {connect_matcher: {}}}
  - {name: method, match: {prefix: /m, headers: [{name: ":method", string_match: {exact: POST}}]}}
  - {name: method-prefix, match: {prefix: /m, headers: [{name: ":method", string_match: {safe_regex: {regex: "P.*"}}}]}}
  - {name: authority, match: {prefix: /authority, headers: [{name: ":authority", string_match: {suffix: ".example"}}]}}
  - {name: path-header, match: {prefix: /ph, headers: [{name: ":path", string_match: {contains: "q=1"}}]}}
  - {name: exact-header, match: {prefix: /h, headers: [{name: x-kind, string_match: {exact: a}}]}}
  - {name: prefix-header, match: {prefix: /h, headers: [{name: X-Kind, string_match: {prefix: B, ignore_case: true}}]}}
  - {name: suffix-header, match: {prefix: /h, headers: [{name: x-kind, string_match: {suffix: z}}]}}
  - {name: contains-header, match: {prefix: /h, headers: [{name: x-kind, string_match: {contains: mid}}]}}
  - {name: regex-header, match: {prefix: /h, headers: [{name: x-kind, string_match: {safe_regex: {regex: "v[0-9]+"}}}]}}
  - {name: range-header, match: {prefix: /h, headers: [{name: x-number, range_match: {start: "5", end: "10"}}]}}
  - {name: present-header, match: {prefix: /hp, headers: [{name: x-there, present_match: true}]}}
  - {name: absent-header, match: {prefix: /hp, headers: [{name: x-absent, present_match: false}, {name: x-there2, present_match: true, invert_match: true}]}}
  - {name: inverted-header, match: {prefix: /ih, headers: [{name: x-kind, string_match: {exact: a}, invert_match: true}]}}
  - {name: missing-as-empty, match: {prefix: /eh, headers: [{name: x-kind, string_match: {exact: ""}, treat_missing_header_as_empty: true}]}}
  - {name: missing-inverted, match: {prefix: /eh, headers: [{name: x-kind, string_match: {exact: "a"}, treat_missing_header_as_empty: true, invert_match: true}]}}
  - {name: removed-early, match: {prefix: /re, headers: [{name: x-user-plan, present_match: true}]}}
  - {name: two-headers, match: {prefix: /h2, headers: [{name: x-kind, present_match: true}, {name: x-number, present_match: true}]}}
  - {name: query, match: {prefix: /q, query_parameters: [{name: v, string_match: {exact: "2"}}]}}
  - {name: query-present, match: {prefix: /q, query_parameters: [{name: flag, present_match: true}]}}
  - {name: query-bare, match: {prefix: /q, query_parameters: [{name: bare}]}}
  - {name: query-regex, match: {prefix: /q, query_parameters: [{name: r, string_match: {safe_regex: {regex: "[a-z]+"}}}]}}
  - {name: grpc, match: {prefix: /g, grpc: {}}}
  - {name: always, match: {prefix: /always, runtime_fraction: {default_value: {numerator: 100}}}}
  - {name: never, match: {prefix: /never, runtime_fraction: {default_value: {numerator: 0}}}}
  - {name: sometimes, match: {prefix: /sometimes, runtime_fraction: {default_value: {numerator: 50}}}}
  - {name: by-key, match: {prefix: /by-key, runtime_fraction: {default_value: {numerator: 0}, runtime_key: some.key}}}
  - {name: overrides, match: {prefix: /overrides}, typed_per_filter_config: {extensions: {level: route, mark: overrides}}}
  - {name: bare, match: {prefix: /bare}, typed_per_filter_config: {none: true}}
  - {name: disabled, match: {prefix: /disabled}, typed_per_filter_config: {disabled: true}}
  - {name: switched-off, match: {prefix: /off}, typed_per_filter_config: {off: true}}
  - {name: wrapped, match: {prefix: /wrapped}, typed_per_filter_config: {wrapped: {level: wrapped, mark: wrapped}}}
  - {name: direct, match: {prefix: /direct}, direct_response: {status: 204}}
  - {name: redirect, match: {prefix: /redirect}, redirect: {path_redirect: /path}}
  - {name: weighted, match: {prefix: /weighted}, weighted: [weighted]}
  - {name: weighted-two, match: {prefix: /drawn}, weighted: [one, two]}
  - {name: prefix, match: {prefix: /prefix}}
  - {name: question, match: {prefix: "/prefix?q"}}
- {name: suffix, domains: ["*.suffix.example"], routes: [{name: suffix, match: {prefix: /}}]}
- {name: suffix-longer, domains: ["*-a.suffix.example"], routes: [{name: suffix-longer, match: {prefix: /}}]}
- {name: beginning, domains: ["beginning.*"], routes: [{name: beginning, match: {prefix: /}}]}
- {name: beginning-longer, domains: ["beginning.long.*"], routes: [{name: beginning-longer, match: {prefix: /}}]}
- {name: both, domains: ["beginning.suffix.example"], routes: [{name: both, match: {prefix: /}}]}
- name: off
  domains: [off.example]
  typed_per_filter_config: {disabled: true}
  routes:
  - {name: on-again, match: {prefix: /on}, typed_per_filter_config: {extensions: {mark: on-again}}}
  - {name: still-off, match: {prefix: /}, typed_per_filter_config: {none: true}}
- name: tls
  domains: [tls.example]
  require_tls: ALL
  typed_per_filter_config: {extensions: {host: tls}}
  routes: [{name: tls, match: {prefix: /}}]
- name: rest
  domains: ["*"]
  routes:
  - {name: root, match: {prefix: /}}
`

const (
	perRoute = `{"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", %s}`
	wrapper  = `{"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", %s}`
)

// kinds makes the route configuration of its short form.
func kinds(t *testing.T) *routev3.RouteConfiguration {
	t.Helper()
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(routesOfAllKinds), &tree); err != nil {
		t.Fatal(err)
	}
	configure(t, tree, "")
	for _, host := range tree["virtual_hosts"].([]any) {
		host := host.(map[string]any)
		configure(t, host, "")
		for _, route := range host["routes"].([]any) {
			route := route.(map[string]any)
			configure(t, route, fmt.Sprint(route["name"]))
			action(t, route)
		}
	}
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	config := new(routev3.RouteConfiguration)
	if err := protojson.Unmarshal(text, config); err != nil {
		t.Fatal(err)
	}
	return config
}

// configure writes the settings of the filter in full.
func configure(t *testing.T, level map[string]any, mark string) {
	short, _ := level["typed_per_filter_config"].(map[string]any)
	if short == nil && mark == "" || short["none"] != nil {
		delete(level, "typed_per_filter_config")
		return
	}
	if short == nil {
		short = map[string]any{"extensions": map[string]any{"mark": mark}}
	}
	extensions := func(of any) string {
		text, err := json.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(perRoute, fmt.Sprintf(`"check_settings": {"context_extensions": %s}`, text))
	}
	text := ""
	switch {
	case short["disabled"] != nil:
		text = fmt.Sprintf(perRoute, `"disabled": true`)
	case short["off"] != nil:
		text = fmt.Sprintf(wrapper, `"disabled": true`)
	case short["wrapped"] != nil:
		text = fmt.Sprintf(wrapper, `"config": `+extensions(short["wrapped"]))
	default:
		text = extensions(short["extensions"])
	}
	var full map[string]any
	if err := json.Unmarshal([]byte(text), &full); err != nil {
		t.Fatal(err)
	}
	level["typed_per_filter_config"] = map[string]any{rig.FilterName: full}
}

// action sends a route to the upstream, or to it by several names.
func action(t *testing.T, route map[string]any) {
	if route["direct_response"] != nil || route["redirect"] != nil {
		return
	}
	to := map[string]any{"cluster": "upstream"}
	if names, ok := route["weighted"].([]any); ok {
		var clusters []any
		for _, name := range names {
			cluster := map[string]any{"name": "upstream", "weight": 1, "typed_per_filter_config": map[string]any{"extensions": map[string]any{"cluster": name}}}
			configure(t, cluster, "")
			clusters = append(clusters, cluster)
		}
		to = map[string]any{"weighted_clusters": map[string]any{"clusters": clusters}}
		delete(route, "weighted")
	}
	if route["name"] == "connect" {
		to["upgrade_configs"] = []any{map[string]any{"upgrade_type": "CONNECT", "connect_config": map[string]any{}}}
	}
	route["route"] = to
}

// withKinds puts the routes into the front, and beside it a listener, "plain", that
// normalises neither path nor host.
func withKinds(t *testing.T, plain string) func(*bootstrapv3.Bootstrap) {
	return func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
			m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: kinds(t)}
			m.UpgradeConfigs = append(m.UpgradeConfigs, &hcmv3.HttpConnectionManager_UpgradeConfig{UpgradeType: "CONNECT"})
		})
		front := b.GetStaticResources().GetListeners()[0]
		second := proto.CloneOf(front)
		second.Name = "plain"
		_, port, err := net.SplitHostPort(plain)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		second.GetAddress().GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(n)}
		b.StaticResources.Listeners = []*listenerv3.Listener{second}
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
			m.StatPrefix = "plain"
			m.NormalizePath, m.MergeSlashes, m.StripTrailingHostDot = wrapperspb.Bool(false), false, false
			m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_KEEP_UNCHANGED
			m.StripPortMode = nil
			m.EarlyHeaderMutationExtensions = nil
			m.GetRouteConfig().IgnorePortInHostMatching = false
			m.GetRouteConfig().IgnorePathParametersInPathMatching = true
		})
		b.StaticResources.Listeners = []*listenerv3.Listener{front, second}
	}
}

// routed are requests of different kinds: host, request line, and header lines.
func routed() (list []string) {
	add := func(host string, lines ...string) {
		for _, line := range lines {
			list = append(list, host+"|"+line)
		}
	}
	add("exact.example",
		"GET /path", "GET /path?x=1", "GET /path/", "GET /pathx", "GET /PATH", "GET /case/path", "GET /CASE/PATH?a",
		"GET /separated", "GET /separated/a", "GET /separated?x", "GET /separatedx", "GET /Case/Separated/x", "GET /case/separatedx",
		"GET /regex/12", "GET /regex/12?a", "GET /regex/12x", "GET /other", "GET /xother", "GET /dot/a.php", "GET /dot/a/b.php", "GET /dot/aphp",
		"GET /t/1/files/", "GET /t/1/files/a/b", "GET /t/1/files", "GET /t/1/2/files/a", "GET /t//files/a", "GET /t/a=b/files/x", "GET /t/a*b/files/x*", "GET /t/%C3%B6/files/x?q",
		"GET /s/1/x/2.js", "GET /s/1/x/2/3.js", "GET /s/1/y/2.js", "GET /s/1/x/.js",
		"POST /m", "PUT /m", "GET /m", "GET /authority", "GET /ph?q=1", "GET /ph?q=2",
		"GET /h|x-kind: a", "GET /h|X-Kind: a", "GET /h|x-kind: bcd", "GET /h|x-kind: xyz", "GET /h|x-kind: amidst", "GET /h|x-kind: v12", "GET /h|x-kind: v1x", "GET /h|x-kind: A", "GET /h",
		"GET /h|x-kind: a,z", "GET /h|x-kind: a,b",
		"GET /h|x-number: 5", "GET /h|x-number: 10", "GET /h|x-number: 9x", "GET /h|x-number: -1",
		"GET /hp|x-there: 1", "GET /hp|x-there:", "GET /hp", "GET /hp|x-absent: 1", "GET /hp|x-there2: 1",
		"GET /ih", "GET /ih|x-kind: a", "GET /ih|x-kind: b", "GET /eh", "GET /eh|x-kind: a", "GET /eh|x-kind: b", "GET /re|x-user-plan: gold", "GET /re",
		"GET /h2|x-kind: 1|x-number: 1", "GET /h2|x-kind: 1",
		"GET /q?v=2", "GET /q?v=3", "GET /q?v=3&v=2", "GET /q?a&v=2", "GET /q?flag", "GET /q?flag=", "GET /q?flags", "GET /q?bare=1", "GET /q?r=abc", "GET /q?r=Abc", "GET /q", "GET /q?v=%32",
		"POST /g|content-type: application/grpc", "POST /g|content-type: application/grpc+proto", "POST /g|content-type: application/grpc-web", "GET /g",
		"GET /always", "GET /never", "GET /overrides", "GET /bare", "GET /disabled", "GET /off", "GET /wrapped", "GET /direct", "GET /redirect", "GET /weighted",
		"GET /prefix", "GET /prefixed", "GET /prefix?q", "GET /nowhere", "GET /", "HEAD /path", "OPTIONS /path",
		// Paths as Envoy reads them.
		"GET //path", "GET /x/../path", "GET /./path", "GET /p%61th", "GET /path%2f", "GET /%2e%2e/path", "GET /separated%2fa", "GET /separated%5ca", `GET /separated\a`, "GET /separated//a",
		"GET /separated/..", "GET /separated/.", "GET /separated/...", "GET /separated/.a", "GET /separated/a.", "GET /separated/%7euser%20x", "GET /separated/%zz", "GET /separated/%", "GET /separated/%4",
		"GET /separated/[a]@:!$&'()*+,=", `GET /separated/"<>`, "GET /separated/%00", "GET /separated/a%3Bb", "GET /path;a=b", "GET /separated;a=b/c", "GET /separated/%c3%b6",
		"GET /separated/a#b", "GET /path?a/../b//c%2f", "GET //", "GET ///", "GET /a//", "GET /../../path", "GET /separated/%2E%2E", "GET /separated/.%2e/path", "GET /separated/%2", "GET /separated?%41#f",
	)
	for _, host := range []string{
		"EXACT.example", "exact.example:99", "exact.example:8080", "exact.example.", "exact.example.:99", "upper.example", "a.suffix.example", "b-a.suffix.example", "-a.suffix.example", ".suffix.example",
		"suffix.example", "beginning.x", "beginning.", "beginning.long.x", "beginning.suffix.example", "other.example", "127.0.0.1", "[::1]:80", "exact.example:x", "exact.examples",
	} {
		add(host, "GET /path")
	}
	// Parameters, which the second listener's routes ignore in each segment.
	add("exact.example", "GET /path;a=b/c", "GET /pa;a/th", "GET /case;a/path", "GET /t;a/1;b/files;c/x", "GET /separated;a=b/c;d?e;f", "GET /regex;a/12;b", "GET /;a/path", "GET /path;?x;/y", "GET /t/1;x/files/a", "GET /t/1/files;x/a", "GET /t/1/files/a;x/b?c;d")
	add("other.example", "GET //", "GET ///", "GET ////?//", "GET //a//", "GET /a;/b;", "GET /;", "GET /;a=b")
	add("off.example", "GET /on", "GET /x")
	add("tls.example", "GET /")
	return list
}

// TestRoutesAsEnvoy: for every request the reader of Envoy's configuration finds the
// context_extensions, host and path that Envoy sends to Coatcheck, or that it sends
// nothing: from the file and from the config dump.
func TestRoutesAsEnvoy(t *testing.T) {
	t.Parallel()
	plain, err := testtools.Addr()
	if err != nil {
		t.Fatal(err)
	}
	d := startDeciding(t, extauthz.PolicySet{}, withKinds(t, plain))
	sources := make(map[string]*envoyconfig.Config)
	for _, source := range []string{d.Config, d.Admin} {
		if sources[source], err = envoyconfig.Load(t.Context(), source); err != nil {
			t.Fatal(err)
		}
	}
	front := d.URL
	marks, unasked := make(map[string]int), 0
	for _, listener := range []string{"front", "plain"} {
		d.URL = front
		if listener == "plain" {
			d.URL = "http://" + plain
		}
		for _, text := range routed() {
			parts := strings.Split(text, "|")
			request := envoyRequest(parts)
			real := d.asEnvoy(t, parts)
			for _, way := range waysOf(t, request, listener, sources[d.Config], sources[d.Admin]) {
				compareWay(t, listener+" "+text, way, real)
			}
			if real == nil {
				unasked++
			}
			marks[real.GetContextExtensions()["mark"]]++
		}
	}
	for _, host := range kinds(t).GetVirtualHosts() {
		for _, route := range host.GetRoutes() {
			switch name := route.GetName(); name {
			case "connect", "never", "sometimes", "by-key", "bare", "disabled", "switched-off", "weighted-two", "question", "still-off", "tls":
			default:
				if marks[name] == 0 {
					t.Errorf("no request took route %s", name)
				}
			}
		}
	}
	if unasked < 10 {
		t.Errorf("only %d requests were not checked", unasked)
	}
	d.URL = front
	undecidedRoutes(t, d, sources[d.Config])
}

// waysOf is the way of a request by the file, and by the config dump, whose hidden
// values the file reveals.
func waysOf(t *testing.T, r envoyconfig.Request, listener string, file, dump *envoyconfig.Config) []envoyconfig.Way {
	t.Helper()
	byFile, err := file.Find(r, envoyconfig.Where{Listener: listener})
	if err != nil || len(byFile) != 1 || byFile[0].If != "" {
		t.Errorf("%s %+v: %+v, %v", listener, r, byFile, err)
		return nil
	}
	byDump, err := dump.Find(r, envoyconfig.Where{Listener: listener})
	if err != nil || len(byDump) != 1 || len(byDump[0].Hidden) != len(byFile[0].Extensions) {
		t.Errorf("%s %+v, by the dump: %+v, %v", listener, r, byDump, err)
		return nil
	}
	revealed, err := envoyconfig.Reveal(byDump, byFile)
	if err != nil {
		t.Errorf("%s %+v: %v", listener, r, err)
		return nil
	}
	return []envoyconfig.Way{byFile[0], revealed[0]}
}

// envoyRequest is the request that the parts describe.
func envoyRequest(parts []string) envoyconfig.Request {
	method, path, _ := strings.Cut(parts[1], " ")
	r := envoyconfig.Request{Scheme: "http", Method: method, Host: parts[0], Path: path, Headers: make(map[string]string)}
	for _, line := range parts[2:] {
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.ToLower(name), strings.TrimSpace(value)
		if former, ok := r.Headers[name]; ok {
			value = former + "," + value
		}
		r.Headers[name] = value
	}
	return r
}

// asEnvoy sends the request, and returns what Envoy asks for it; nil for nothing.
func (d *deciding) asEnvoy(t *testing.T, parts []string) *authv3.AttributeContext {
	t.Helper()
	d.decided()
	lines := append([]string{"Host: " + parts[0], "Content-Length: 0"}, parts[2:]...)
	sendAs(t, d.Stack, parts[1], lines...)
	return d.asked()
}

// asked is what Envoy has asked since decided was called; nil for nothing.
func (d *deciding) asked() *authv3.AttributeContext {
	if _, _, asked := d.decided(); !asked {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sent.GetAttributes()
}

func compareWay(t *testing.T, request string, way envoyconfig.Way, real *authv3.AttributeContext) {
	t.Helper()
	if way.Asks != (real != nil) {
		t.Errorf("%s: asks %v (%s), and Envoy asked %v", request, way.Asks, way.WhyNot, real != nil)
		return
	}
	if real == nil {
		if way.WhyNot == "" {
			t.Errorf("%s: it is not said why Envoy does not ask", request)
		}
		return
	}
	http := real.GetRequest().GetHttp()
	if !maps.Equal(way.Extensions, real.GetContextExtensions()) || way.Host != http.GetHost() || way.Path != http.GetPath() {
		t.Errorf("%s: %v %s%s by %s; Envoy sent %v %s%s", request, way.Extensions, way.Host, way.Path, way.Route, real.GetContextExtensions(), http.GetHost(), http.GetPath())
	}
}

// TestRandomRoutesAsEnvoy is TestRoutesAsEnvoy with targets that routes take, into which
// pieces are put. What the reader says that it cannot tell is not compared.
func TestRandomRoutesAsEnvoy(t *testing.T) {
	t.Parallel()
	plain, err := testtools.Addr()
	if err != nil {
		t.Fatal(err)
	}
	d := startDeciding(t, extauthz.PolicySet{}, closingAtOnce, withKinds(t, plain))
	config, err := envoyconfig.Load(t.Context(), d.Config)
	if err != nil {
		t.Fatal(err)
	}
	hosts := strings.Fields("exact.example exact.example exact.example exact.example exact.example other.example EXACT.example:8 a.suffix.example beginning.x off.example tls.example exact.example. exact.example.. [::1]:9 a,b exact.example:0 exact.example:8x :80 *")
	targets := strings.Fields("/ /path /case/path /separated/a /regex/12 /dot/a.php /t/1/files/a /s/1/x/2.js /prefix /on /ph?q=1 /q?v=2")
	pieces := strings.Fields(`/ / a 1 PATH . .. // \ ; ; ; ;/ x=1 ? # %2e %2E %2f %5C %41 %25 %00 %0a %20 %7e ~ %c3%b6 %ff %zz % * = : @ ! ' " < + & { | q?v=2`)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	compared := 0
	for range count(1_000, 40_000) {
		host, target := hosts[random.IntN(len(hosts))], targets[random.IntN(len(targets))]
		for range 1 + random.IntN(3) {
			at := 1 + random.IntN(len(target))
			target = target[:at] + pieces[random.IntN(len(pieces))] + target[at:]
		}
		for listener, url := range map[string]string{"front": d.URL, "plain": "http://" + plain} {
			ways, err := config.Find(envoyRequest([]string{host, "GET " + target}), envoyconfig.Where{Listener: listener})
			if err != nil || !envoyconfig.Settled(ways) {
				continue
			}
			d.decided()
			sendRaw(t, url, "GET", host, target, nil)
			compareWay(t, fmt.Sprintf("seed %d: %s %s%s", seed, listener, host, target), ways[0], d.asked())
			compared++
		}
	}
	if t.Logf("%d requests were compared", compared); compared < 700 {
		t.Error("the test shows little")
	}
}

// undecidedRoutes: where chance or a runtime key decides, all ways are named, and
// Envoy takes one of them.
func undecidedRoutes(t *testing.T, d *deciding, config *envoyconfig.Config) {
	for _, path := range []string{"/sometimes", "/by-key", "/drawn"} {
		request := envoyRequest([]string{"exact.example", "GET " + path})
		ways, err := config.Find(request, envoyconfig.Where{Listener: "front"})
		if err != nil || len(ways) != 2 || ways[0].If == "" || envoyconfig.Settled(ways) {
			t.Errorf("%s: %+v, %v", path, ways, err)
			continue
		}
		for range 10 {
			real := d.asEnvoy(t, []string{"exact.example", "GET " + path})
			one := false
			for _, way := range ways {
				one = one || way.Asks == (real != nil) && maps.Equal(way.Extensions, real.GetContextExtensions())
			}
			if !one {
				t.Errorf("%s: Envoy sent %v, which is none of %+v", path, real, ways)
			}
		}
	}
}
