package envoyconfig

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/internal/docstest"
)

// TestShippedFile reads the envoy.yaml that operators copy.
func TestShippedFile(t *testing.T) {
	config, err := Load(t.Context(), filepath.Join(docstest.Root, "envoy", "envoy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Listeners) != 1 || config.Listeners[0].Name != "front" || config.Listeners[0].Port != 8000 || len(config.Listeners[0].Chains) != 1 {
		t.Fatalf("%+v", config.Listeners)
	}
	manager := config.Listeners[0].Chains[0].Manager
	filters := manager.ExtAuthz()
	if len(filters) != 1 || filters[0].Service() != "coatcheck" || filters[0].Config.Get("grpc_service", "timeout").Text() != "0.2s" || filters[0].Config.Line() == 0 {
		t.Errorf("%+v", filters)
	}
	if names := manager.Routes.VirtualHosts[0].Routes[len(manager.Routes.VirtualHosts[0].Routes)-1].String(); !strings.HasSuffix(names, ", prefix /") {
		t.Error(names)
	}
	for path, want := range map[string]string{"/admin/x": "coatcheck.roles=admin", "/public": "coatcheck.session=none", "/": "", "/adminx": ""} {
		ways, err := config.Find(Request{Host: "shop.example", Path: path}, Where{})
		if err != nil || len(ways) != 1 || !ways[0].Asks || ways[0].Service != "coatcheck" || pairsOf(ways[0].Extensions) != want {
			t.Errorf("%s: %+v, %v", path, ways, err)
		}
	}
}

func pairsOf(extensions map[string]string) string {
	text := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(extensions), "map["), "]")
	return strings.ReplaceAll(text, ":", "=")
}

// TestLenient: what an Envoy has beside that which is read does not matter, and both
// spellings of a field are the same.
func TestLenient(t *testing.T) {
	const text = `{"staticResources": {"listeners": [
		{"name": "tcp", "filterChains": [{"filters": [{"name": "x", "typedConfig": {"@type": "type.googleapis.com/some.company.Filter", "a": [1, {"b": null}]}}]}]},
		{"name": "http", "address": {"socketAddress": {"portValue": "8443"}}, "filterChains": [{"filters": [
			{"name": "hcm", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
			 "future_field": {"x": 1}, "mergeSlashes": true,
			 "httpFilters": [{"name": "lua", "typedConfig": {"@type": "x/some.company.Lua"}},
			  {"name": "authz", "typedConfig": {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
			   "value": {"grpcService": {"googleGrpc": {"targetUri": "coatcheck:9001"}}}}}],
			 "routeConfig": {"virtualHosts": [{"name": "all", "domains": ["*"], "routes": [
			  {"match": {"pathSeparatedPrefix": "/a"}, "typedPerFilterConfig": {"authz": {"@type": "x/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
			   "checkSettings": {"contextExtensions": {"coatcheck.roles": "a", "camelCase": "b"}}}}},
			  {"match": {"prefix": "/b"}, "typedPerFilterConfig": {"authz": {"@type": "x/some.company.Settings"}}},
			  {"match": {"prefix": "/c", "future_match": {}}},
			  {"match": {"prefix": "/"}}]}]}}}]}]}]}}`
	config, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path string) []Way {
		t.Helper()
		ways, err := config.Find(Request{Scheme: "https", Host: "shop.example", Path: path}, Where{})
		if err != nil {
			t.Error(path, err)
			return make([]Way, 2)
		}
		return ways
	}
	if w := ask("//a")[0]; w.Path != "/a" || w.Service != "coatcheck:9001" || w.Filter != "authz" || pairsOf(w.Extensions) != "camelCase=b coatcheck.roles=a" {
		t.Errorf("%+v", w)
	}
	if w := ask("/b")[0]; len(w.Notes) != 1 || !strings.Contains(w.Notes[0], "some.company.Settings") {
		t.Errorf("%+v", w)
	}
	if ways := ask("/c"); len(ways) != 2 || !strings.Contains(ways[0].If, "future_match") || ways[1].If != "" {
		t.Errorf("%+v", ways)
	}
}

// TestRefusedTexts: an error says what is wrong, and repeats nothing of the text.
func TestRefusedTexts(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	for name, text := range map[string]string{
		"empty": "", "a list": "[secret]", "another file": "redis: {password: secret}", "not YAML": "a: [secret", "two documents": "static_resources: {}\n---\nsecret: 1\n",
		"bad JSON": `{"static_resources": secret`, "aliases": bomb + "static_resources: {}\n", "a cycle": "static_resources: &s {secret: *s}\n",
		"too deep": `{"configs": [` + strings.Repeat("[", 300) + `"secret"` + strings.Repeat("]", 300) + "]}", "a number": "7", "null": "null",
	} {
		if config, err := Parse([]byte(text)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %+v, %v", name, config, err)
		}
	}
	if _, err := Parse(make([]byte, maxSize+1)); err == nil {
		t.Error("a text of more than 64 MiB is read")
	}
}

// TestLoad: sources that cannot be read are named, without a password.
func TestLoad(t *testing.T) {
	answers := map[string]string{"/config_dump": `{"configs": []}`, "/large": strings.Repeat(" ", maxSize+1), "/html": "<html>"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/config_dump", http.StatusFound)
			return
		}
		if answers[r.URL.Path] == "" {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(answers[r.URL.Path]))
	}))
	defer server.Close()
	dir := t.TempDir()
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte("static_resources: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		server.URL: "", server.URL + "/": "", server.URL + "/config_dump?include_eds": "", good: "",
		server.URL + "/stats": "status 404", server.URL + "/moved": "status 302", server.URL + "/large": "larger than 64 MiB", server.URL + "/html": "neither a bootstrap",
		"http://127.0.0.1:1": "connection refused", "http://u:hunter2@127.0.0.1:1": "refused", dir: "it is a directory", filepath.Join(dir, "none"): "no such file", "http://[": "not a URL",
	} {
		_, err := Load(t.Context(), source)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
}
