package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
)

// A filter is how ext_authz is configured. Everything else is envoy.yaml in each case.
type filter string

const (
	ours     filter = "envoy.yaml"       // as envoy.yaml has it
	defaults filter = "default settings" // only the server's address is set
	noFilter filter = "no filter"
)

// A front is a listener of Envoy, with envoy.yaml but for the filter and its server.
type front struct {
	name   string
	server string // the name of a program; with noFilter, not used
	filter filter
	file   string // an Envoy configuration instead of envoy.yaml
	logs   bool   // the access log is written, to a file
	change func(*bootstrapv3.Bootstrap)
}

// startEnvoy runs one Envoy with a listener for each front and a cluster for each
// server. It has one worker: with two, the machines that most readers have would have
// no core left for the server.
func (w *world) startEnvoy(fronts []front) error {
	binary, err := testtools.Program("envoy", "ENVOY")
	if err != nil {
		return err
	}
	bootstrap, err := w.bootstrap(fronts)
	if err != nil {
		return err
	}
	text, err := protojson.Marshal(bootstrap)
	if err != nil {
		return err
	}
	config := filepath.Join(w.dir, "envoy.json")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return err
	}
	w.envoy, err = rig.Run("envoy", binary, nil, "-c", config, "--concurrency", "1", "--disable-hot-restart",
		"--log-level", "warn", "--service-node", "bench", "--service-cluster", "bench")
	if err != nil {
		return err
	}
	return w.envoy.Answers(w.fronts[fronts[len(fronts)-1].name])
}

func (w *world) bootstrap(fronts []front) (*bootstrapv3.Bootstrap, error) {
	whole, err := rig.Bootstrap()
	if err != nil {
		return nil, err
	}
	admin, err := testtools.Addr()
	if err != nil {
		return nil, err
	}
	setAddress(whole.GetAdmin().GetAddress(), admin)
	resources := whole.GetStaticResources()
	clusters, err := clustersFor(resources.GetClusters(), w.servers)
	if err != nil {
		return nil, err
	}
	resources.Clusters, resources.Listeners = clusters, nil
	for _, f := range fronts {
		listener, err := f.listener(filepath.Join(w.dir, "access.log"))
		if err != nil {
			return nil, err
		}
		if w.fronts[f.name], err = testtools.Addr(); err != nil {
			return nil, err
		}
		setAddress(listener.GetAddress(), w.fronts[f.name])
		resources.Listeners = append(resources.Listeners, listener)
	}
	return whole, nil
}

// clustersFor replaces the cluster of Coatcheck by one for each server. The others stay,
// because routes name them, and get no requests.
func clustersFor(clusters []*clusterv3.Cluster, servers map[string]*server) ([]*clusterv3.Cluster, error) {
	i := slices.IndexFunc(clusters, func(c *clusterv3.Cluster) bool { return c.GetName() == "coatcheck" })
	if i < 0 {
		return nil, fmt.Errorf("envoy.yaml has no cluster coatcheck")
	}
	model := clusters[i]
	all := slices.Delete(slices.Clone(clusters), i, i+1)
	for name, s := range servers {
		c := proto.CloneOf(model)
		c.Name, c.LoadAssignment.ClusterName = name, name
		c.HealthChecks = nil // a server that is compared need not answer them
		setAddress(c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress(), s.address)
		all = append(all, c)
	}
	return all, nil
}

// listener is envoy.yaml's listener for a front. Envoy answers itself instead of the
// upstream, and mostly writes no access log: neither is to be measured.
func (f front) listener(log string) (*listenerv3.Listener, error) {
	b, err := f.parsed()
	if err != nil {
		return nil, err
	}
	if f.change != nil {
		f.change(b)
	}
	rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
		if !f.logs {
			m.AccessLog = nil
		}
		for _, l := range m.GetAccessLog() {
			logTo(l, log)
		}
		m.GetCommonHttpProtocolOptions().MaxHeadersCount = wrapperspb.UInt32(200) // 100, and those that Coatcheck adds
		for _, route := range m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
			if route.GetRoute().GetCluster() == "upstream" {
				route.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
					Status: 200, Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "ok"}},
				}}
			}
		}
		if f.filter == noFilter {
			m.HttpFilters = slices.DeleteFunc(m.HttpFilters, func(h *hcmv3.HttpFilter) bool { return h.GetName() == rig.FilterName })
		}
	})
	rig.ChangeFilter(b, func(e *extauthzv3.ExtAuthz) {
		if f.filter == defaults {
			*e = extauthzv3.ExtAuthz{
				Services: e.Services, TransportApiVersion: e.TransportApiVersion,
			}
			e.GetGrpcService().RetryPolicy = nil
		}
		e.GetGrpcService().GetEnvoyGrpc().ClusterName = f.server
		e.GetGrpcService().Timeout = durationpb.New(patience + time.Second)
	})
	listener := b.GetStaticResources().GetListeners()[0]
	listener.Name = f.name
	return listener, nil
}

// logTo has an access log written to a file instead of Envoy's output.
func logTo(l *accesslogv3.AccessLog, path string) {
	stdout := new(streamv3.StdoutAccessLog)
	if err := l.GetTypedConfig().UnmarshalTo(stdout); err != nil {
		panic(err) // envoy.yaml has another one
	}
	if err := l.GetTypedConfig().MarshalFrom(&filev3.FileAccessLog{
		Path: path, AccessLogFormat: &filev3.FileAccessLog_LogFormat{LogFormat: stdout.GetLogFormat()},
	}); err != nil {
		panic(err) // it has just been a message
	}
	l.Name = "envoy.access_loggers.file"
}

func (f front) parsed() (*bootstrapv3.Bootstrap, error) {
	if f.file == "" {
		return rig.Bootstrap()
	}
	text, err := os.ReadFile(f.file)
	if err != nil {
		return nil, err
	}
	return rig.Parse(text)
}

func setAddress(address *corev3.Address, by string) {
	n, err := strconv.ParseUint(port(by), 10, 16)
	if err != nil {
		panic(err) // it comes from testtools.Addr
	}
	address.GetSocketAddress().Address = "127.0.0.1"
	address.GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(n)}
}
