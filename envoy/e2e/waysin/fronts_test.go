package waysin_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A front is an Envoy listener; there is one of each kind for each upstream.
type front string

const (
	// shipped is envoy.yaml as it is.
	shipped front = "envoy.yaml"
	// alone leaves the paths to Coatcheck, as Istio and Envoy Gateway do.
	alone front = "Coatcheck alone"
	// bare forwards paths unchanged: only Coatcheck looks at them.
	bare front = "as it came"
	// joined shows Coatcheck headers whose lines Envoy has joined by commas.
	joined front = "headers joined"
	// permitting lets parameters pass on every route.
	permitting front = "parameters permitted"
	// cased tells letters apart before upstreams that do not.
	cased front = "letters told apart"
	// open checks nothing and removes nothing: the control.
	open front = "open"
	// openBare is open and forwards paths as they came.
	openBare front = "open, as it came"
)

var everyFront = []front{shipped, alone, bare, joined, permitting, cased, open, openBare}

// change makes the front of envoy.yaml this one.
func (f front) change(b *bootstrapv3.Bootstrap) {
	switch f {
	case alone:
		rig.ChangeFront(b, withoutRefusals)
	case bare:
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) { withoutRefusals(m); asItCame(m) })
	case joined:
		rig.ChangeFilter(b, func(e *extauthzv3.ExtAuthz) { e.EncodeRawHeaders = false })
	case permitting:
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) { withoutRefusals(m); permitParameters(m) })
	case open:
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) { withoutRefusals(m); unguarded(m) })
	case openBare:
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) { withoutRefusals(m); asItCame(m); unguarded(m) })
	}
}

// withoutRefusals takes away the routes by which Envoy itself refuses paths.
func withoutRefusals(m *hcmv3.HttpConnectionManager) {
	host := m.GetRouteConfig().GetVirtualHosts()[0]
	host.Routes = slices.DeleteFunc(host.GetRoutes(), func(r *routev3.Route) bool { return r.GetDirectResponse() != nil })
}

// permitParameters says so on every route that is checked.
func permitParameters(m *hcmv3.HttpConnectionManager) {
	for _, r := range m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
		route := new(extauthzv3.ExtAuthzPerRoute)
		if config := r.GetTypedPerFilterConfig()[rig.FilterName]; config != nil {
			if err := config.UnmarshalTo(route); err != nil {
				panic(err)
			}
		}
		if route.GetDisabled() {
			continue
		}
		needs := maps.Clone(route.GetCheckSettings().GetContextExtensions())
		if needs == nil {
			needs = make(map[string]string)
		}
		needs["coatcheck.paths"] = "parameters"
		route.Override = &extauthzv3.ExtAuthzPerRoute_CheckSettings{CheckSettings: &extauthzv3.CheckSettings{ContextExtensions: needs}}
		config, err := anypb.New(route)
		if err != nil {
			panic(err)
		}
		r.TypedPerFilterConfig = map[string]*anypb.Any{rig.FilterName: config}
	}
}

func asItCame(m *hcmv3.HttpConnectionManager) {
	m.NormalizePath, m.MergeSlashes = wrapperspb.Bool(false), false
	m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_KEEP_UNCHANGED
}

// unguarded leaves the router alone, and says in X-Route which route it took.
func unguarded(m *hcmv3.HttpConnectionManager) {
	m.EarlyHeaderMutationExtensions = nil
	m.CommonHttpProtocolOptions.HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_ALLOW
	m.HttpFilters = m.GetHttpFilters()[len(m.GetHttpFilters())-1:]
	for _, r := range m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
		r.TypedPerFilterConfig = nil
		name := strings.TrimPrefix(r.GetMatch().GetPathSeparatedPrefix(), "/")
		r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: "x-route", Value: name + "."}})
	}
}

// caseless is what envoy.yaml advises where an upstream ignores the case of
// paths.
func caseless(m *hcmv3.HttpConnectionManager) {
	for _, r := range m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
		if r.GetMatch().GetSafeRegex() == nil {
			r.Match.CaseSensitive = wrapperspb.Bool(false)
		}
	}
}

// A lot is a stack with a front of every kind before each upstream.
type lot struct {
	*rig.Stack
	address map[door]string
	cookies map[who]string // Cookie headers
	ids     map[who]sessions.ID
	keys    map[who]sessions.Key
}

// A door is a front before an upstream.
type door struct {
	front    front
	upstream string
}

// who sends a request.
type who string

const (
	anonymous who = "anonymous"
	staff     who = "staff"
	admin     who = "admin"
)

// users have sessions; anonymous has none.
var users = map[who]sessions.NewSession{
	staff: {UserID: "id-of-staff", Username: "name-of-staff", Roles: []string{"staff"}},
	admin: {UserID: "id-of-admin", Username: "name-of-admin", Roles: []string{"staff", "admin"}},
}

// shared is the stack of envoy.yaml, once a test has asked for it.
var shared *lot

func theLot(t *testing.T) *lot {
	t.Helper()
	if shared == nil {
		l, err := startLot(rig.Options{}, func(*bootstrapv3.Bootstrap) {})
		if err != nil {
			t.Fatal(err)
		}
		shared = l
	}
	return shared
}

// startLot runs a stack whose fronts are those of envoy.yaml after a change.
func startLot(o rig.Options, change func(*bootstrapv3.Bootstrap)) (*lot, error) {
	l := &lot{address: make(map[door]string), cookies: make(map[who]string), ids: make(map[who]sessions.ID), keys: make(map[who]sessions.Key)}
	doors, err := l.doors()
	if err != nil {
		return nil, err
	}
	o.Coatcheck, o.Patient = binary, true
	o.Arguments = append(o.Arguments, "--log-decisions", "faults", "--login-url", "/.auth/login")
	o.Bootstrap = func(b *bootstrapv3.Bootstrap) {
		change(b)
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
			// No test reads the log. A client that breaks the protocol need not wait a second.
			m.AccessLog, m.DelayedCloseTimeout = nil, durationpb.New(5*time.Millisecond)
		})
		listeners := b.GetStaticResources().GetListeners()
		for _, d := range doors {
			listeners = append(listeners, l.listener(b, d))
		}
		for _, u := range site.byName {
			b.StaticResources.Clusters = append(b.StaticResources.Clusters, cluster(b, u))
		}
		b.StaticResources.Listeners = listeners
	}
	if l.Stack, err = rig.Start(o); err != nil {
		return nil, err
	}
	return l, l.signIn()
}

// doors gives each door an address of its own.
func (l *lot) doors() ([]door, error) {
	var doors []door
	for name := range site.byName {
		for _, f := range everyFront {
			addr, err := testtools.Addr()
			if err != nil {
				return nil, err
			}
			doors = append(doors, door{f, name})
			l.address[door{f, name}] = addr
		}
	}
	return doors, nil
}

func (l *lot) listener(b *bootstrapv3.Bootstrap, d door) *listenerv3.Listener {
	b = proto.CloneOf(b)
	d.front.change(b)
	rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
		if ignoresCase(d.upstream) && d.front != cased {
			caseless(m)
		}
		for _, r := range m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
			if r.GetRoute().GetCluster() == "upstream" {
				r.GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: d.upstream}
			}
		}
	})
	listener := b.GetStaticResources().GetListeners()[0]
	listener.Name = fmt.Sprintf("%s %s", d.front, d.upstream)
	socket(listener.GetAddress(), l.address[d])
	return listener
}

// cluster copies envoy.yaml's cluster of the upstream for another upstream.
func cluster(b *bootstrapv3.Bootstrap, u upstream) *clusterv3.Cluster {
	var model, checks *clusterv3.Cluster
	for _, c := range b.GetStaticResources().GetClusters() {
		switch c.GetName() {
		case "upstream":
			model = c
		case "coatcheck":
			checks = c
		}
	}
	model = proto.CloneOf(model)
	model.Name = u.name
	model.LoadAssignment.ClusterName = u.name
	socket(model.LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().GetAddress(), u.address)
	if u.http2 {
		model.TypedExtensionProtocolOptions = checks.GetTypedExtensionProtocolOptions()
	}
	return model
}

func socket(a *corev3.Address, address string) {
	host, port, _ := strings.Cut(address, ":")
	var n uint32
	if _, err := fmt.Sscan(port, &n); err != nil {
		panic(err)
	}
	a.GetSocketAddress().Address = host
	a.GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: n}
}

// signIn makes a session for each user.
func (l *lot) signIn() error {
	client := l.Redis.Client()
	defer func() { _ = client.Close() }()
	m, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		return err
	}
	for w, n := range users {
		id, session, err := m.Create(context.Background(), n)
		if err != nil {
			return err
		}
		l.ids[w], l.keys[w], l.cookies[w] = id, session.Key, sessions.DefaultCookieName+"="+id.Reveal()
	}
	return nil
}
