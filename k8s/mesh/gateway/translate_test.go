package gateway

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// translate asks Envoy Gateway what it makes of files: its objects with their statuses,
// and Envoy's configuration.
func translate(t *testing.T, list objects) object {
	t.Helper()
	file := filepath.Join(t.TempDir(), "overlay.yaml")
	must(t, os.WriteFile(file, []byte(list.forFiles(t).text(t)), 0o600))
	command := exec.Command(egctl, "x", "translate", "--from", "gateway-api", "--to", "gateway-api,xds", "-t", "all", "-o", "yaml", "-f", file)
	out, err := command.Output()
	if err != nil {
		t.Fatalf("egctl: %v\n%s", err, out)
	}
	var tree map[string]any
	must(t, yaml.Unmarshal(out, &tree))
	return tree
}

// every calls visit for each mapping inside, with the key that it has.
func every(key string, inside any, visit func(key string, o object)) {
	switch inside := inside.(type) {
	case object:
		every(key, map[string]any(inside), visit)
	case map[string]any:
		visit(key, inside)
		for k, v := range inside {
			every(k, v, visit)
		}
	case []any:
		for _, item := range inside {
			every(key, item, visit)
		}
	}
}

// conditions are the statuses, as "type reason status".
func conditions(tree object) []string {
	var found []string
	every("", tree, func(key string, o object) {
		if key == "conditions" {
			found = append(found, fmt.Sprintf("%s %s %s", o["type"], o["reason"], o["status"]))
		}
	})
	return found
}

// A route is a route of Envoy's, and what its filters do for it.
type route struct {
	path   string
	filter string            // the ext_authz filter that is switched on for it, by its last part
	needs  map[string]string // the context extensions
	closed bool              // every request is answered 500
}

const filterName = "envoy.filters.http.ext_authz/"

// routes are those of the Gateway, in Envoy's order.
func routes(tree object) []route {
	var found []route
	every("", tree["xds"], func(key string, o object) {
		if key != "routeConfig" || o["name"] != "gateway/front/https" {
			return
		}
		for _, virtual := range o.items("virtualHosts") {
			for _, r := range virtual.items("routes") {
				found = append(found, readRoute(r))
			}
		}
	})
	return found
}

func readRoute(r object) route {
	one := route{needs: map[string]string{}, closed: fmt.Sprint(r.of("directResponse")["status"]) == "500"}
	for _, kind := range []string{"path", "prefix", "pathSeparatedPrefix"} {
		if path, ok := r.of("match")[kind].(string); ok {
			one.path = path
		}
	}
	for name, value := range r.of("typedPerFilterConfig") {
		if strings.HasPrefix(name, filterName) {
			one.filter = strings.TrimPrefix(name, filterName)
			for k, v := range object(value.(map[string]any)).of("checkSettings", "contextExtensions") {
				one.needs[k] = v.(string)
			}
		}
	}
	return one
}

// TestTranslation: Envoy Gateway accepts the overlay, and every route but login's is
// checked, with what it requires.
func TestTranslation(t *testing.T) {
	tree := translate(t, overlay(t))
	all := conditions(tree)
	for _, c := range all {
		if !strings.HasSuffix(c, " True") {
			t.Errorf("a condition is %s", c)
		}
	}
	if merged := count(all, "Merged Merged True"); merged != 4 { // three policies, and the Gateway's, which says so, too
		t.Errorf("%d policies are merged: %q", merged, all)
	}
	want := []route{
		{"/.well-known/change-password", "", map[string]string{}, false},
		{"/optional", "securitypolicy/shop/optional", map[string]string{"coatcheck.session": "optional"}, false},
		{"/public", "securitypolicy/shop/public", map[string]string{"coatcheck.session": "none"}, false},
		{"/.auth", "", map[string]string{}, false},
		{"/admin", "securitypolicy/shop/admin", map[string]string{"coatcheck.roles": "admin"}, false},
		{"/", "securitypolicy/gateway/coatcheck", map[string]string{}, false},
	}
	if got := routes(tree); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the routes are\n%v, not\n%v", got, want)
	}
}

func count(list []string, want string) (n int) {
	for _, s := range list {
		if s == want {
			n++
		}
	}
	return n
}

// TestFilters: each filter of the overlay is closed, in time, and the last before the
// router; and its cluster is what envoy.yaml recommends.
func TestFilters(t *testing.T) {
	tree := translate(t, overlay(t))
	names := 0
	every("", tree["xds"], func(key string, o object) {
		if key == "httpFilters" && strings.HasPrefix(fmt.Sprint(o["name"]), filterName) {
			names++
			f := o.of("typedConfig")
			if f["failureModeAllow"] != nil || f["clearRouteCache"] != nil {
				t.Errorf("%s is open, or chooses another route: %v", o["name"], f)
			}
			if timeout, status := f.of("grpcService")["timeout"], f.of("statusOnError")["code"]; timeout != "0.200s" || status != "ServiceUnavailable" {
				t.Errorf("%s has the timeout %v, and answers %v without a verdict", o["name"], timeout, status)
			}
		}
		if list := o.items("httpFilters"); key == "typedConfig" && len(list) > 2 {
			checkManager(t, o, list)
		}
		if key == "cluster" && strings.HasPrefix(fmt.Sprint(o["name"]), "securitypolicy/") {
			checkCluster(t, o)
		}
	})
	if names != 4 {
		t.Errorf("there are %d filters", names)
	}
}

// TestSidecarOfGateway: with components/envoy-gateway-sidecar every check goes to the
// socket, on the same routes.
func TestSidecarOfGateway(t *testing.T) {
	dir := t.TempDir()
	k8s, err := filepath.Abs("../..")
	must(t, err)
	below, err := filepath.Rel(dir, k8s)
	must(t, err)
	text := fmt.Sprintf("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [%[1]s/overlays/envoy-gateway]\ncomponents: [%[1]s/components/envoy-gateway-sidecar]\n", below)
	must(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600))
	tree := translate(t, build(t, dir))
	for _, c := range conditions(tree) {
		if !strings.HasSuffix(c, " True") {
			t.Errorf("a condition is %s", c)
		}
	}
	if got, want := routes(tree), routes(translate(t, overlay(t))); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the routes are\n%v, not\n%v", got, want)
	}
	sockets := 0
	every("", tree["xds"], func(key string, o object) {
		if key == "pipe" && o["path"] == "/run/coatcheck/check.sock" {
			sockets++
		}
	})
	if sockets != 4 {
		t.Errorf("%d clusters are at the socket", sockets)
	}
}

func checkManager(t *testing.T, manager object, filters []object) {
	t.Helper()
	last := slices.IndexFunc(filters, func(f object) bool { return !strings.HasPrefix(fmt.Sprint(f["name"]), filterName) })
	if last != len(filters)-1 || filters[last]["name"] != "envoy.filters.http.router" {
		t.Errorf("a filter stands between the checks and the router: %v", filters)
	}
	for key, want := range map[string]any{"normalizePath": true, "mergeSlashes": true, "pathWithEscapedSlashesAction": "UNESCAPE_AND_REDIRECT", "useRemoteAddress": true} {
		if manager[key] != want {
			t.Errorf("%s is %v", key, manager[key])
		}
	}
	if manager.of("commonHttpProtocolOptions")["headersWithUnderscoresAction"] != "REJECT_REQUEST" || len(manager.items("earlyHeaderMutationExtensions")) != 1 {
		t.Error("identity headers are not removed before the check")
	}
}

func checkCluster(t *testing.T, cluster object) {
	t.Helper()
	thresholds, health := cluster.of("circuitBreakers").items("thresholds"), cluster.items("healthChecks")
	if len(thresholds) == 0 || fmt.Sprint(thresholds[0]["maxRequests"]) != "16384" {
		t.Errorf("%s: its circuit breaker is %v", cluster["name"], thresholds)
	}
	if len(health) != 1 || health[0].of("grpcHealthCheck")["serviceName"] != "envoy.service.auth.v3.Authorization" {
		t.Errorf("%s: its health check is %v", cluster["name"], health)
	}
}

// What is wrong is said in a status, with an exit status of 0, or not at all.
func TestTranslationOfMistakes(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(objects) objects
		says   string             // a condition
		holds  func([]route) bool // of Envoy's routes
	}{
		{"no ReferenceGrant", func(l objects) objects { return l.without("ReferenceGrant", "checks") }, "Accepted Invalid False", closed},
		{"no certificate", func(l objects) objects { return l.without("Secret", "front-tls") }, "ResolvedRefs InvalidCertificateRef False", func(r []route) bool { return len(r) == 0 }},
		// The trap: the only word of it is in the status of the other policy.
		{"a policy of a route without mergeType", func(l objects) objects { return append(l, corsAlone("")) }, "Overridden Overridden True", func(r []route) bool { return !checked(r) }},
		{"and with it", func(l objects) objects { return append(l, corsAlone("StrategicMerge")) }, "Merged Merged True", checked},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := translate(t, c.change(overlay(t)))
			if got := conditions(tree); !slices.Contains(got, c.says) {
				t.Errorf("no condition is %s: %q", c.says, got)
			}
			if got := routes(tree); !c.holds(got) {
				t.Errorf("the routes are %v", got)
			}
		})
	}
}

// checked reports whether each of the application's routes has a filter.
func checked(routes []route) bool {
	return !slices.ContainsFunc(routes, func(r route) bool { return !strings.HasPrefix(r.path, "/.") && r.filter == "" })
}

// closed reports whether no request gets through one of the application's routes.
func closed(routes []route) bool {
	return len(routes) > 0 && !slices.ContainsFunc(routes, func(r route) bool { return !strings.HasPrefix(r.path, "/.") && !r.closed })
}

// corsAlone is a policy for the whole route that its author thinks only adds CORS.
func corsAlone(merge string) object {
	spec := object{
		"targetRefs": []any{object{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "shop"}},
		"cors":       object{"allowOrigins": []any{"https://other.example.com"}},
	}
	if merge != "" {
		spec["mergeType"] = merge
	}
	return object{"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy", "metadata": object{"name": "cors", "namespace": "shop"}, "spec": spec}
}
