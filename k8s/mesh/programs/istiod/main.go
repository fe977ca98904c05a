// Command istiod is Istio's control plane over files: it reads a mesh configuration
// and manifests, as kustomize builds them, and serves what istiod makes of them by
// ADS in plain text, to an Envoy or a test.
//
//	istiod MESH.yaml MANIFESTS.yaml
//
// It prints the address once it serves, and ends on SIGTERM. The code that makes
// the answers is Istio's own. It runs on a Kubernetes in memory, which Istio has for its
// tests, so manifests are read and never validated: a real API server does that in
// another module.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/test"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: istiod MESH.yaml MANIFESTS.yaml")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "istiod:", err)
		os.Exit(1)
	}
}

func run(meshFile, manifestsFile string) error {
	settings, err := readMesh(meshFile)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(manifestsFile)
	if err != nil {
		return err
	}
	configs, objects, err := split(string(text))
	if err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
	return test.Wrap(func(t test.Failer) {
		server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
			Configs: configs, KubernetesObjects: objects, MeshConfig: settings,
			ListenerBuilder: func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
		})
		fmt.Println(server.Listener.Addr())
		<-ended
	})
}

// readMesh reads a MeshConfig over Istio's defaults. Unlike istiod, which ignores a
// key that it does not know, it refuses one.
func readMesh(file string) (*meshconfig.MeshConfig, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	if err := new(meshconfig.MeshConfig).UnmarshalJSON(asJSON); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return mesh.ApplyMeshConfigDefaults(string(text))
}

// split tells Istio's configuration, which Gateway API is a part of, from the objects
// of Kubernetes.
func split(text string) (configs []config.Config, objects []runtime.Object, err error) {
	decode := kube.IstioCodec.UniversalDeserializer().Decode
	for document := range strings.SplitSeq(text, "\n---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		parsed, unknown, err := crd.ParseInputs(document)
		if err != nil {
			return nil, nil, fmt.Errorf("%w in\n%s", err, document)
		}
		configs = append(configs, parsed...)
		if len(unknown) == 0 {
			continue
		}
		object, _, err := decode([]byte(document), nil, nil)
		if err != nil {
			return nil, nil, fmt.Errorf("%w in\n%s", err, document)
		}
		objects = append(objects, object)
	}
	return configs, objects, nil
}
