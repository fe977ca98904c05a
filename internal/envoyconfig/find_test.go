package envoyconfig

import (
	"fmt"
	"strings"
	"testing"
)

// istio is a dump as istiod's gateways have: listeners by LDS, with chains by server
// name, routes by RDS, and the filter by ECDS.
const istio = `{"configs": [
{"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {"static_resources": {"listeners": [{"name": "not-this-one"}]}}},
{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "static_clusters": [{"cluster": {"secret": true}}]},
{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
 "static_listeners": [{"listener": {"name": "health", "address": {"socket_address": {"port_value": 15021}}, "filter_chains": [%[1]s]}}],
 "dynamic_listeners": [
  {"name": "warming", "warming_state": {"listener": {"name": "warming", "filter_chains": [%[2]s]}}},
  {"name": "0.0.0.0_8080", "active_state": {"listener": {"name": "0.0.0.0_8080", "address": {"socket_address": {"port_value": 8080}}, "filter_chains": [%[2]s]}}},
  {"name": "0.0.0.0_8443", "active_state": {"listener": {"name": "0.0.0.0_8443", "address": {"socket_address": {"port_value": 8443}}, "filter_chains": [
   {"filter_chain_match": {"server_names": ["shop.example"]}, "name": "shop", %[3]s},
   {"filter_chain_match": {"server_names": ["*.example"]}, "name": "others", %[4]s}]}}}]},
{"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
 "static_route_configs": [{"route_config": {"virtual_hosts": []}}],
 "dynamic_route_configs": [
  {"route_config": {"name": "http.8080", "ignore_port_in_host_matching": true, "virtual_hosts": [{"name": "shop.example:80", "domains": ["shop.example"], "routes": [
    {"name": "first", "match": {"prefix": "/", "case_sensitive": true}, "typed_per_filter_config": {"authz": {"@type": "x/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", "check_settings": {"context_extensions": {"coatcheck.policy": "[redacted]"}}}}}]}]}},
  {"route_config": {"name": "https.shop", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}}]}]}}]},
{"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump", "ecds_filters": [{"ecds_filter": {"@type": "x/envoy.config.core.v3.TypedExtensionConfig", "name": "authz",
  "typed_config": {"@type": "x/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", "grpc_service": {"envoy_grpc": {"cluster_name": "coatcheck"}},
   "filter_enabled_metadata": {"filter": "envoy.filters.http.rbac"}}}}]}
]}`

const manager = `"filters": [{"name": "hcm", "typed_config": {"@type": "x/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "http_filters": [%s], "rds": {"route_config_name": "%s"}}}]`

const byECDS = `{"name": "authz", "config_discovery": {"config_source": {"ads": {}}, "type_urls": ["x/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"]}}`

func istioConfig(t *testing.T) *Config {
	t.Helper()
	chain := func(filters, routes string) string { return fmt.Sprintf(manager, filters, routes) }
	config, err := Parse(fmt.Appendf(nil, istio, "{"+chain("", "health")+"}", "{"+chain(byECDS, "http.8080")+"}", chain(byECDS, "https.shop"), chain(byECDS, "https.others")))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// TestDump: listeners, routes and filters that a control plane has sent.
func TestDump(t *testing.T) {
	config := istioConfig(t)
	for _, test := range []struct {
		request Request
		where   Where
		want    string // listener and route, or a part of the error
	}{
		{Request{Scheme: "http", Host: "shop.example:8080", Path: "/"}, Where{}, `0.0.0.0_8080, shop.example:80, route 1 "first", prefix /`},
		{Request{Scheme: "http", Host: "other.example:8080", Path: "/"}, Where{}, "0.0.0.0_8080, , : no virtual host"},
		{Request{Scheme: "https", Host: "shop.example:8443", Path: "/"}, Where{}, "0.0.0.0_8443, all, route 1, prefix /"},
		{Request{Scheme: "https", Host: "a.example:8443", Path: "/"}, Where{}, `the routes come from the route configuration "https.others" of a control plane`},
		{Request{Scheme: "https", Host: "a.test:8443", Path: "/"}, Where{}, "no filter chain takes such a connection"},
		{Request{Scheme: "https", Host: "shop.example", Path: "/"}, Where{}, `several listeners ask an ext_authz service: name one of "0.0.0.0_8080" (port 8080), "0.0.0.0_8443" (port 8443)`},
		{Request{Scheme: "https", Host: "shop.example", Path: "/"}, Where{Listener: "0.0.0.0_8443"}, "0.0.0.0_8443, all, route 1, prefix /"},
		{Request{Host: "shop.example", Path: "/"}, Where{Listener: "health"}, "health, , : the listener has no ext_authz filter"},
		{Request{Host: "shop.example:15021", Path: "/"}, Where{}, "health, , : the listener has no ext_authz filter"},
		{Request{Host: "shop.example", Path: "/"}, Where{Listener: "warming"}, `there is no listener "warming"`},
		{Request{Host: "shop.example:8080", Path: "/"}, Where{Filter: "other"}, `there is no ext_authz filter "other" that asks over gRPC; there are "authz"`},
		{Request{Path: "/"}, Where{}, "has a host"},
	} {
		ways, err := config.Find(test.request, test.where)
		got := fmt.Sprint(err)
		if err == nil {
			w := ways[0]
			got = fmt.Sprintf("%s, %s, %s", w.Listener, w.VirtualHost, w.Route)
			if !w.Asks {
				got += ": " + w.WhyNot
			}
		}
		if !strings.Contains(got, test.want) || err == nil && !strings.HasPrefix(got, test.want) {
			t.Errorf("%+v, %+v: %s; want %s", test.request, test.where, got, test.want)
		}
	}
	ways, err := config.Find(Request{Host: "shop.example:8080", Path: "/"}, Where{})
	if err != nil || len(ways[0].Hidden) != 1 || ways[0].Extensions["coatcheck.policy"] != "" || len(ways[0].Notes) != 1 || !strings.Contains(ways[0].Notes[0], "filter_enabled_metadata") {
		t.Errorf("%+v, %v", ways, err)
	}
}

// TestReveal: values come from a file only where it agrees with the dump.
func TestReveal(t *testing.T) {
	dump := Way{Listener: "front", VirtualHost: "all", Route: "route 1, prefix /", Host: "h", Path: "/", Asks: true,
		Extensions: map[string]string{"a": "", "b": ""}, Hidden: []string{"a", "b"}}
	change := func(f func(*Way)) Way {
		file := dump
		file.Extensions, file.Hidden = map[string]string{"a": "1", "b": "2"}, nil
		f(&file)
		return file
	}
	got, err := Reveal([]Way{dump}, []Way{change(func(*Way) {})})
	if err != nil || got[0].Extensions["b"] != "2" || got[0].Hidden != nil || dump.Hidden == nil {
		t.Errorf("%+v, %v", got, err)
	}
	for want, f := range map[string]func(*Way){
		"route 2":                    func(w *Way) { w.Route = "route 2, prefix /" },
		"other keys":                 func(w *Way) { w.Extensions = map[string]string{"a": "1", "c": "2"} },
		"both hide":                  func(w *Way) { w.Hidden = []string{"a"} },
		"listener \"x\"":             func(w *Way) { w.Listener = "x" },
		"disabled for it":            func(w *Way) { w.Route, w.WhyNot, w.Asks = "", "disabled for it", false },
		"in Envoy the request takes": func(w *Way) { w.Path = "/other" },
	} {
		if got, err := Reveal([]Way{dump}, []Way{change(f)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", want, got, err)
		}
	}
	plain := change(func(*Way) {})
	other := change(func(w *Way) { w.Extensions = map[string]string{"a": "1", "b": "3"} })
	if _, err := Reveal([]Way{plain}, []Way{other}); err == nil || !strings.Contains(err.Error(), "another b") {
		t.Error(err)
	}
	if _, err := Reveal([]Way{dump, dump}, []Way{plain}); err == nil {
		t.Error("two ways, and one")
	}
}

// inRoutes is a configuration of one listener with these fields of the connection
// manager, and these routes.
func inRoutes(t *testing.T, fields, routes string) *Config {
	t.Helper()
	text := fmt.Sprintf(`
static_resources:
  listeners:
  - name: front
    filter_chains:
    - filters:
      - typed_config:
          "@type": x/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          http_filters:
          - {name: lua, typed_config: {"@type": x/some.Lua}}
          - name: authz
            typed_config: {"@type": x/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, grpc_service: {envoy_grpc: {cluster_name: c}}, allowed_headers: {patterns: [{prefix: x-}, {exact: Accept, ignore_case: true}]}, disallowed_headers: {patterns: [{exact: x-not}]}}
          %s
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [%s, {match: {prefix: /}}]}]}
`, fields, routes)
	config, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// TestUndecided: what depends on more than the configuration and the request is said,
// and not guessed.
func TestUndecided(t *testing.T) {
	const marked = `typed_per_filter_config: {authz: {"@type": x/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, check_settings: {context_extensions: {mark: a}}}}`
	for match, want := range map[string]string{
		`tls_context: {presented: true}`:                               "tls_context",
		`dynamic_metadata: [{filter: a}]`:                              "dynamic_metadata",
		`filter_state: [{key: a}]`:                                     "filter_state",
		`cookies: [{name: a}]`:                                         "cookies",
		`runtime_fraction: {default_value: {numerator: 1}}`:            "chance decides, with 1 of 100",
		`headers: [{name: x-request-id, present_match: true}]`:         "x-request-id is not known",
		`headers: [{name: X-Forwarded-Proto, exact_match: http}]`:      "x-forwarded-proto is not known",
		`headers: [{name: cookie, present_match: true}]`:               "cookie is not known",
		`headers: [{name: x-added, present_match: true}]`:              "early_header_mutation",
		`headers: [{name: ":scheme", exact_match: https}]`:             "scheme is not given",
		`headers: [{name: x-a, future_match: {}}]`:                     "future_match",
		`query_parameters: [{name: a, string_match: {custom: {}}}]`:    "custom",
		`query_parameters: [{name: b, present_match: false}]`:          "present_match: false",
		`headers: [{name: x-a, safe_regex_match: {regex: '(?=a)'}}]`:   "cannot be read here",
		`path_match_policy: {typed_config: {"@type": x/some.Matcher}}`: "some.Matcher",
	} {
		if !strings.HasPrefix(match, "path_match") {
			match = "prefix: /, " + match
		}
		config := inRoutes(t, `early_header_mutation_extensions: [{typed_config: {"@type": x/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation, mutations: [{append: {header: {key: X-Added, value: a}}}, {remove: x-gone}]}}]`,
			"{match: {"+match+"}, "+marked+"}")
		ways, err := config.Find(Request{Host: "h", Path: "/?a=1", Headers: map[string]string{"x-a": "1"}, Hidden: []string{"cookie"}}, Where{})
		if err != nil || len(ways) != 2 || !strings.Contains(ways[0].If, want) || ways[1].If != "" || Settled(ways) {
			t.Errorf("%s: %+v, %v", match, ways, err)
		}
		// Where another part of the match says no, nothing is open.
		config = inRoutes(t, "", "{match: {"+match+", headers: [{name: x-none, present_match: true}]}, "+marked+"}")
		if ways, err = config.Find(Request{Host: "h", Path: "/"}, Where{}); !strings.Contains(match, "headers") && (err != nil || len(ways) != 1) {
			t.Errorf("%s, and a header that is not there: %+v, %v", match, ways, err)
		}
	}
}

// TestCannotFollow: what is read, and chooses in a way that is not followed.
func TestCannotFollow(t *testing.T) {
	for _, test := range []struct{ fields, path, want string }{
		{"normalize_path: true", "/a/%%32e", "an escape within an escape"}, {"normalize_path: true", "/a/..;x/b", "differently"}, {"", "/a b", "percent-encoded"}, {"", "/é", "percent-encoded"},
	} {
		if ways, err := inRoutes(t, test.fields, "{match: {path: /x}}").Find(Request{Host: "h", Path: test.path}, Where{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %+v, %v", test, ways, err)
		}
	}
	for _, change := range []struct{ from, to, want string }{
		{"route_config: {", "route_config: {vhost_header: x, ", "vhost_header"},
		{"route_config: {virtual_hosts: [{", "route_config: {virtual_hosts: [{matcher: {}, ", "matcher"},
		{"name: front", "name: front\n    filter_chain_matcher: {a: b}", "filter_chain_matcher"},
		{"route_config:", "scoped_routes: {name: a}\n          other:", "scoped_routes"},
		{"{name: authz, typed_config: {\"@type\": x/" + extAuthzType + ",", "{name: authz, config_discovery: {type_urls: [x/" + extAuthzType + "]}, other: {a: b,", "comes from a control plane (ECDS)"},
		{"\"@type\": x/" + extAuthzType, "\"@type\": x/envoy.extensions.common.matching.v3.ExtensionWithMatcher", "holds other filters"},
		{"name: lua, typed_config: {\"@type\": x/some.Lua}", "name: second, typed_config: {\"@type\": x/" + extAuthzType + ", grpc_service: {}}", "several ext_authz filters"},
	} {
		text := strings.Replace(shortConfig, change.from, change.to, 1)
		if change.want == "several ext_authz filters" {
			text = strings.Replace(text, "grpc_service: {}", "grpc_service: {envoy_grpc: {cluster_name: d}}", 1)
		}
		config, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(change, err)
		}
		if ways, err := config.Find(Request{Host: "h", Path: "/"}, Where{}); err == nil || !strings.Contains(err.Error(), change.want) {
			t.Errorf("%s: %+v, %v", change.to, ways, err)
		}
	}
}

const shortConfig = `
static_resources:
  listeners:
  - name: front
    filter_chains:
    - filters:
      - typed_config:
          "@type": x/` + managerType + `
          http_filters:
          - {name: lua, typed_config: {"@type": x/some.Lua}}
          - {name: authz, typed_config: {"@type": x/` + extAuthzType + `, grpc_service: {envoy_grpc: {cluster_name: c}}}}
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}}]}]}
`

// TestHeaders: which headers Coatcheck is sent.
func TestHeaders(t *testing.T) {
	config := inRoutes(t, `early_header_mutation_extensions: [{typed_config: {"@type": x/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation, mutations: [{remove_on_match: {key_matcher: {prefix: x-user-}}}, {append: {header: {key: x-new}}}]}}]`, "{match: {path: /x}}")
	ways, err := config.Find(Request{Host: "h", Path: "/"}, Where{})
	if err != nil {
		t.Fatal(err)
	}
	sent, open := ways[0].Headers(map[string]string{"X-A": "1", "accept": "2", "origin": "3", "x-not": "4", "x-user-id": "5", "x-new": "6"})
	if got := fmt.Sprint(sent, open); got != "map[accept:2 x-a:1] [x-new]" {
		t.Error(got)
	}
}

// TestDomains: which virtual host a name takes.
func TestDomains(t *testing.T) {
	routes := &Routes{VirtualHosts: []*VirtualHost{
		{Name: "star", Domains: []string{"*"}}, {Name: "suffix", Domains: []string{"*.b.example"}}, {Name: "longer", Domains: []string{"*-a.b.example"}},
		{Name: "prefix", Domains: []string{"www.*"}}, {Name: "exact", Domains: []string{"x-a.b.example", "www.b.example"}},
	}}
	for name, want := range map[string]string{
		"X-A.b.example": "exact", "y-a.b.example": "longer", "-a.b.example": "suffix", ".b.example": "star", "www.test": "prefix", "www.": "star", "www.c.b.example": "suffix", "www.b.example": "exact", "": "star",
	} {
		if host := routes.host(name); host.Name != want {
			t.Errorf("%q: %s, want %s", name, host.Name, want)
		}
	}
}
