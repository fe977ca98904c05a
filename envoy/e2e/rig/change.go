package rig

import (
	"fmt"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// FilterName is the name under which routes configure the filter.
const FilterName = "envoy.filters.http.ext_authz"

// ChangeFront changes the HTTP connection manager, with its routes.
func ChangeFront(b *bootstrapv3.Bootstrap, change func(*hcmv3.HttpConnectionManager)) {
	filter := b.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetFilters()[0]
	manager := new(hcmv3.HttpConnectionManager)
	unpack(filter.GetTypedConfig(), manager)
	change(manager)
	pack(filter.GetTypedConfig(), manager)
}

// ChangeFilter changes the ext_authz filter.
func ChangeFilter(b *bootstrapv3.Bootstrap, change func(*extauthzv3.ExtAuthz)) {
	ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
		for _, filter := range m.GetHttpFilters() {
			if filter.GetName() == FilterName {
				config := new(extauthzv3.ExtAuthz)
				unpack(filter.GetTypedConfig(), config)
				change(config)
				pack(filter.GetTypedConfig(), config)
			}
		}
	})
}

// AddRoute puts a route to the upstream before all others, with its context
// extensions.
func AddRoute(b *bootstrapv3.Bootstrap, match *routev3.RouteMatch, needs map[string]string) {
	config := new(anypb.Any)
	pack(config, &extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_CheckSettings{
		CheckSettings: &extauthzv3.CheckSettings{ContextExtensions: needs},
	}})
	ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
		host := m.GetRouteConfig().GetVirtualHosts()[0]
		host.Routes = append([]*routev3.Route{{
			Match: match,
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "upstream"},
			}},
			TypedPerFilterConfig: map[string]*anypb.Any{FilterName: config},
		}}, host.Routes...)
	})
}

func unpack(any *anypb.Any, m proto.Message) {
	if err := any.UnmarshalTo(m); err != nil {
		panic(fmt.Sprintf("envoy.yaml is not as the rig expects it: %v", err))
	}
}

func pack(any *anypb.Any, m proto.Message) {
	if err := any.MarshalFrom(m); err != nil {
		panic(err)
	}
}

// ClusterAt gives all endpoints of a cluster this address, instead of the addresses
// of the stack.
func ClusterAt(b *bootstrapv3.Bootstrap, name, address string) {
	for _, cluster := range b.GetStaticResources().GetClusters() {
		if cluster.GetName() != name {
			continue
		}
		for _, endpoint := range cluster.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints() {
			if err := replace(endpoint.GetEndpoint().GetAddress(), address); err != nil {
				panic(err)
			}
		}
	}
}
