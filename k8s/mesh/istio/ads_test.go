package mesh_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// A proxy is an Envoy of the mesh, as it names itself to istiod.
type proxy struct {
	kind, ip, name, namespace string // kind: router, sidecar, waypoint
	labels                    map[string]string
	metadata                  map[string]string
}

func (p proxy) id() string {
	return fmt.Sprintf("%s~%s~%s.%s~%s.svc.cluster.local", p.kind, p.ip, p.name, p.namespace, p.namespace)
}

func (p proxy) node() *corev3.Node {
	labels := make(map[string]any)
	for k, v := range p.labels {
		labels[k] = v
	}
	meta := map[string]any{"NAMESPACE": p.namespace, "LABELS": labels, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0"}
	for k, v := range p.metadata {
		meta[k] = v
	}
	fields, err := structpb.NewStruct(meta)
	if err != nil {
		panic(err)
	}
	return &corev3.Node{Id: p.id(), Cluster: p.name, Metadata: fields}
}

// told is what istiod tells a proxy.
type told struct {
	listeners []*listenerv3.Listener
	clusters  []*clusterv3.Cluster
	routes    []*routev3.RouteConfiguration
}

// ask asks istiod, as the proxy would.
func ask(t *testing.T, address string, p proxy) told {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	get := func(of proto.Message, names ...string) *discoveryv3.DiscoveryResponse {
		url := "type.googleapis.com/" + string(of.ProtoReflect().Descriptor().FullName())
		if err := stream.Send(&discoveryv3.DiscoveryRequest{Node: p.node(), TypeUrl: url, ResourceNames: names}); err != nil {
			t.Fatal(err)
		}
		for {
			answer, err := stream.Recv()
			if err != nil {
				t.Fatalf("istiod has no %s: %v", url, err)
			}
			if answer.GetTypeUrl() == url {
				return answer
			}
		}
	}
	var all told
	all.clusters = decode[*clusterv3.Cluster](t, get(&clusterv3.Cluster{}))
	all.listeners = decode[*listenerv3.Listener](t, get(&listenerv3.Listener{}))
	if names := all.routeNames(t); len(names) > 0 {
		all.routes = decode[*routev3.RouteConfiguration](t, get(&routev3.RouteConfiguration{}, names...))
	}
	for _, m := range all.managers(t, nil) {
		if inline := m.GetRouteConfig(); inline != nil {
			all.routes = append(all.routes, inline)
		}
	}
	return all
}

func decode[M proto.Message](t *testing.T, answer *discoveryv3.DiscoveryResponse) []M {
	t.Helper()
	var list []M
	for _, resource := range answer.GetResources() {
		m, err := resource.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m.(M))
	}
	return list
}

func (a told) routeNames(t *testing.T) []string {
	var names []string
	for _, m := range a.managers(t, nil) {
		if name := m.GetRds().GetRouteConfigName(); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// chains are the filter chains of the listeners, those of fallbacks too, for which keep,
// if there is one, holds.
func (a told) chains(keep func(*listenerv3.Listener, *listenerv3.FilterChain) bool) []*listenerv3.FilterChain {
	var chains []*listenerv3.FilterChain
	for _, l := range a.listeners {
		of := slices.Clone(l.GetFilterChains())
		if d := l.GetDefaultFilterChain(); d != nil {
			of = append(of, d)
		}
		for _, c := range of {
			if keep == nil || keep(l, c) {
				chains = append(chains, c)
			}
		}
	}
	return chains
}

// managers are the HTTP connection managers of these filter chains.
func (a told) managers(t *testing.T, keep func(*listenerv3.Listener, *listenerv3.FilterChain) bool) []*hcmv3.HttpConnectionManager {
	t.Helper()
	var managers []*hcmv3.HttpConnectionManager
	for _, c := range a.chains(keep) {
		for _, f := range c.GetFilters() {
			if !f.GetTypedConfig().MessageIs(&hcmv3.HttpConnectionManager{}) {
				continue
			}
			m := new(hcmv3.HttpConnectionManager)
			if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
				t.Fatal(err)
			}
			managers = append(managers, m)
		}
	}
	return managers
}

// inbound is about what comes to a sidecar or a waypoint for this port; 0: any.
func inbound(port uint32) func(*listenerv3.Listener, *listenerv3.FilterChain) bool {
	return func(l *listenerv3.Listener, c *listenerv3.FilterChain) bool {
		return l.GetTrafficDirection() == corev3.TrafficDirection_INBOUND &&
			(port == 0 || c.GetFilterChainMatch().GetDestinationPort().GetValue() == port)
	}
}

// names are those of the HTTP filters, in their order.
func names(m *hcmv3.HttpConnectionManager) []string {
	var list []string
	for _, f := range m.GetHttpFilters() {
		list = append(list, f.GetName())
	}
	return list
}

// checks are the ext_authz filters of a manager.
func checks(t *testing.T, m *hcmv3.HttpConnectionManager) []*extauthzv3.ExtAuthz {
	t.Helper()
	var list []*extauthzv3.ExtAuthz
	for _, f := range m.GetHttpFilters() {
		if f.GetTypedConfig().MessageIs(&extauthzv3.ExtAuthz{}) {
			e := new(extauthzv3.ExtAuthz)
			if err := f.GetTypedConfig().UnmarshalTo(e); err != nil {
				t.Fatal(err)
			}
			list = append(list, e)
		}
	}
	return list
}

// asksForTCP reports whether a TCP connection to this port is checked: by a network
// filter, which Istio adds to every port, and which a shadow rule before it turns on.
func (a told) asksForTCP(t *testing.T, port uint32) bool {
	t.Helper()
	for _, c := range a.chains(nil) {
		if p := c.GetFilterChainMatch().GetDestinationPort().GetValue(); p != 0 && p != port {
			continue
		}
		for _, f := range c.GetFilters() {
			if !f.GetTypedConfig().MessageIs(&networkrbacv3.RBAC{}) {
				continue
			}
			r := new(networkrbacv3.RBAC)
			if err := f.GetTypedConfig().UnmarshalTo(r); err != nil {
				t.Fatal(err)
			}
			if ports := shadowPorts(r.GetShadowRules()); slices.Contains(ports, port) || slices.Contains(ports, anyPort) {
				return true
			}
		}
	}
	return false
}

// anyPort stands for a rule about every port.
const anyPort = 0

// shadowPorts are the ports for which the rules turn a check on.
func shadowPorts(rules *rbacv3.RBAC) []uint32 {
	var ports []uint32
	for _, policy := range rules.GetPolicies() {
		for _, p := range policy.GetPermissions() {
			before := len(ports)
			for _, all := range p.GetAndRules().GetRules() {
				for _, one := range all.GetOrRules().GetRules() {
					if one.GetDestinationPort() != 0 {
						ports = append(ports, one.GetDestinationPort())
					}
				}
			}
			if len(ports) == before {
				ports = append(ports, anyPort)
			}
		}
	}
	return ports
}

func (a told) cluster(t *testing.T, name string) *clusterv3.Cluster {
	t.Helper()
	i := slices.IndexFunc(a.clusters, func(c *clusterv3.Cluster) bool { return c.GetName() == name })
	if i < 0 {
		t.Fatalf("there is no cluster %s", name)
	}
	return a.clusters[i]
}

// route finds a route by its name.
func (a told) route(t *testing.T, name string) *routev3.Route {
	t.Helper()
	for _, config := range a.routes {
		for _, host := range config.GetVirtualHosts() {
			for _, r := range host.GetRoutes() {
				if r.GetName() == name {
					return r
				}
			}
		}
	}
	t.Fatalf("there is no route %s", name)
	return nil
}
