package doctor

import (
	"net"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// The findings of the cluster by which Coatcheck is asked.
const (
	EnvoyClusterHTTP1    ID = "ENVOY_CLUSTER_HTTP1"
	EnvoyClusterPort     ID = "ENVOY_CLUSTER_PORT"
	EnvoyClusterTLS      ID = "ENVOY_CLUSTER_TLS"
	EnvoyHealthChecks    ID = "ENVOY_HEALTH_CHECKS"
	EnvoyCircuitBreakers ID = "ENVOY_CIRCUIT_BREAKERS"
)

var clusterRules = []Rule{
	{EnvoyClusterHTTP1, Error, "the cluster speaks HTTP/1", "gRPC needs HTTP/2. Every check is an error: 503 `ext_authz_error` in Envoy's access log, and no line in Coatcheck's.", "Envoy, `HttpProtocolOptions`", "set `explicit_http_config: {http2_protocol_options: {}}`, as `envoy/envoy.yaml` does"},
	{EnvoyClusterPort, Warning, "the cluster's address is not where Coatcheck listens", "Every check is an error: 503 `ext_authz_error` in Envoy's access log, and no line in Coatcheck's. Behind a Service with another port it is right.", "Coatcheck, `listen`", "correct the address in the cluster, or `listen`"},
	{EnvoyClusterTLS, Error, "one side speaks TLS and the other does not", "Every check is an error, because Coatcheck's `tls.cert_file` and the cluster's `transport_socket` do not fit.", "Coatcheck, `docs/operations.md`", "give the cluster a `transport_socket` with TLS, or remove it; `docs/operations.md` has both sides"},
	{EnvoyHealthChecks, Warning, "Envoy does not notice a replica that stops", "Without health checks requests fail in each rollout, until the replica's address is gone.", "Coatcheck, seen on Envoy 1.40; `envoy/envoy.yaml`", "copy `health_checks` of `envoy/envoy.yaml`"},
	{EnvoyCircuitBreakers, Warning, "a burst is refused by Envoy itself", "With the default of 1,024 requests in flight or waiting, Envoy makes an error of each further check.", "Envoy, `CircuitBreakers.Thresholds`", "set `max_requests` and `max_pending_requests`, as `envoy/envoy.yaml` does"},
}

// cluster looks at the cluster of that name.
func (e *envoy) cluster(name string, guards []guard) {
	cluster, ok := e.config.Cluster(name)
	if !ok {
		for _, g := range guards {
			if v := g.filter.Config.Get("grpc_service", "envoy_grpc", "cluster_name"); v.Text() == name {
				e.add(EnvoyUnread, e.doc.at(v), "cluster %q is not in what was read", name)
			}
		}
		return
	}
	at := e.doc.at(cluster)
	if speaks := protocolOf(cluster); !speaks.http2 {
		e.add(EnvoyClusterHTTP1, at, "cluster %q", name)
	}
	if limits := thresholds(cluster); limits.Get("max_requests").Int() <= 1024 || limits.Get("max_pending_requests").Int() <= 1024 {
		e.add(EnvoyCircuitBreakers, e.doc.at(limits, cluster), "max_requests is %s, max_pending_requests %s",
			orDefault(limits.Get("max_requests").Text()), orDefault(limits.Get("max_pending_requests").Text()))
	}
	endpoints := endpointsOf(cluster)
	if len(cluster.Get("health_checks").Items()) == 0 && resolves(cluster) && !allPipes(endpoints) {
		e.add(EnvoyHealthChecks, at, "cluster %q has no health_checks", name)
	}
	if e.known {
		e.reach(cluster, endpoints)
	}
}

func orDefault(text string) string {
	if text == "" {
		return "1024, the default"
	}
	return text
}

// thresholds are those of usual priority.
func thresholds(cluster envoyconfig.Value) envoyconfig.Value {
	for _, item := range cluster.Get("circuit_breakers", "thresholds").Items() {
		if p := item.Get("priority").Text(); p == "" || p == "DEFAULT" || p == "0" {
			return item
		}
	}
	return envoyconfig.Value{}
}

// resolves reports whether Envoy finds the endpoints itself: with EDS, a control plane
// knows which of them are ready.
func resolves(cluster envoyconfig.Value) bool {
	switch kind := cluster.Get("type").Text(); kind {
	case "EDS", "3", "ORIGINAL_DST", "4":
		return false
	}
	return !cluster.Get("cluster_type").Exists()
}

// A protocol is what a cluster speaks.
type protocol struct{ http2, trailers bool }

// protocolOf reads the options of the cluster, old and new. http2 is true where it speaks
// HTTP/2 always; trailers where it can, so that trailers reach the upstream.
func protocolOf(cluster envoyconfig.Value) protocol {
	options := cluster.Get("typed_extension_protocol_options").Entry("envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
	explicit := options.Get("explicit_http_config")
	always := explicit.Get("http2_protocol_options").Exists() || explicit.Get("http3_protocol_options").Exists() || cluster.Get("http2_protocol_options").Exists()
	negotiated := options.Get("auto_config").Exists()
	return protocol{
		http2:    always || negotiated && cluster.Get("transport_socket").Exists(),
		trailers: always || negotiated || options.Get("use_downstream_protocol_config").Exists(),
	}
}

func takesTrailers(cluster envoyconfig.Value) bool { return protocolOf(cluster).trailers }

// endpointsOf are the addresses that the cluster names.
func endpointsOf(cluster envoyconfig.Value) []envoyconfig.Value {
	var found []envoyconfig.Value
	for _, group := range cluster.Get("load_assignment", "endpoints").Items() {
		for _, item := range group.Get("lb_endpoints").Items() {
			found = append(found, item.Get("endpoint", "address"))
		}
	}
	return found
}

func allPipes(endpoints []envoyconfig.Value) bool {
	for _, address := range endpoints {
		if !address.Get("pipe").Exists() {
			return false
		}
	}
	return len(endpoints) > 0
}

// reach compares the cluster with where Coatcheck listens, and with its TLS.
func (e *envoy) reach(cluster envoyconfig.Value, endpoints []envoyconfig.Value) {
	path, isSocket := strings.CutPrefix(e.Listen, "unix://")
	_, port, _ := net.SplitHostPort(e.Listen)
	for _, address := range endpoints {
		pipe, socket := address.Get("pipe", "path"), address.Get("socket_address", "port_value")
		if isSocket && pipe.Text() != path || !isSocket && strconv.FormatInt(socket.Int(), 10) != port {
			e.add(EnvoyClusterPort, e.doc.at(pipe, socket, address, cluster), "listen is %s", e.Listen)
		}
	}
	switch secure, asks := e.TLS.CertFile != "", cluster.Get("transport_socket").Exists(); {
	case secure && !asks:
		e.add(EnvoyClusterTLS, e.doc.at(cluster), "tls.cert_file is set, and the cluster has no transport_socket")
	case !secure && asks && !strings.HasSuffix(cluster.Get("transport_socket", "name").Text(), "raw_buffer"):
		e.add(EnvoyClusterTLS, e.doc.at(cluster.Get("transport_socket")), "tls.cert_file is not set, and the cluster has a transport_socket")
	}
}
