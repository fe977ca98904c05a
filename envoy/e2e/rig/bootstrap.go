package rig

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	// The extensions that envoy.yaml names: an Any of an unknown type is an error.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

// Bootstrap reads envoy.yaml strictly: a misspelt field is an error, also inside a
// typed_config.
func Bootstrap() (*bootstrapv3.Bootstrap, error) {
	path, err := find("envoy/envoy.yaml")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(text)
}

// Parse reads an Envoy configuration in YAML, strictly.
func Parse(text []byte) (*bootstrapv3.Bootstrap, error) {
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	bootstrap := new(bootstrapv3.Bootstrap)
	return bootstrap, protojson.Unmarshal(asJSON, bootstrap)
}

// find looks for a file of the module from the working directory upwards.
func find(name string) (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", fmt.Errorf("no %s here or above", name)
}

func replaceAddresses(b *bootstrapv3.Bootstrap, front, admin string, clusters map[string][]string) error {
	errs := []error{
		replace(b.GetStaticResources().GetListeners()[0].GetAddress(), front),
		replace(b.GetAdmin().GetAddress(), admin),
	}
	for _, cluster := range b.GetStaticResources().GetClusters() {
		locality := cluster.GetLoadAssignment().GetEndpoints()[0]
		model := locality.GetLbEndpoints()[0]
		locality.LbEndpoints = nil
		for _, address := range clusters[cluster.GetName()] {
			endpoint := proto.CloneOf(model)
			errs = append(errs, replace(endpoint.GetEndpoint().GetAddress(), address))
			locality.LbEndpoints = append(locality.LbEndpoints, endpoint)
		}
	}
	return errors.Join(errs...)
}

func replace(address *corev3.Address, by string) error {
	host, port, err := net.SplitHostPort(by)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	socket := address.GetSocketAddress()
	socket.Address = host
	socket.PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(n)}
	return nil
}

func write(b *bootstrapv3.Bootstrap, path string) error {
	text, err := protojson.Marshal(b)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
