package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// host is the name in the overlay's Gateway.
const host = "app.example.com"

// An object is a Kubernetes object, as its file has it.
type object map[string]any

// is reports whether it is the object of this kind and name.
func (o object) is(kind, name string) bool {
	return o["kind"] == kind && o.of("metadata")["name"] == name
}

// of follows keys down to a mapping, which it makes if there is none.
func (o object) of(keys ...string) object {
	for _, key := range keys {
		switch inside := o[key].(type) {
		case object:
			o = inside
		case map[string]any:
			o = inside
		default:
			made := object{}
			o[key] = made
			o = made
		}
	}
	return o
}

// items are the mappings of a list.
func (o object) items(key string) []object {
	list, _ := o[key].([]any)
	var found []object
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			found = append(found, m)
		}
	}
	return found
}

// objects is the whole overlay, or a change of it.
type objects []object

// overlay builds the overlay as kubectl apply -k does, with what operators add to it: the
// certificate, and the Service of the application.
func overlay(t *testing.T) objects {
	t.Helper()
	return build(t, "../../overlays/envoy-gateway")
}

func build(t *testing.T, dir string) objects {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var list objects
	for _, r := range built.Resources() {
		tree, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, tree)
	}
	return append(list, certificate(t), object{
		"apiVersion": "v1", "kind": "Service", "metadata": object{"name": "shop", "namespace": "shop"},
		"spec": object{"ports": []any{object{"name": "http", "port": 80, "targetPort": "http"}}},
	})
}

func (l objects) text(t *testing.T) string {
	t.Helper()
	var documents []string
	for _, o := range l {
		text, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, string(text))
	}
	return strings.Join(documents, "---\n")
}

// find is the object of a kind and a name, which must be there.
func (l objects) find(t *testing.T, kind, name string) object {
	t.Helper()
	for _, o := range l {
		if o.is(kind, name) {
			return o
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// without leaves an object out.
func (l objects) without(kind, name string) objects {
	return slices.DeleteFunc(slices.Clone(l), func(o object) bool { return o.is(kind, name) })
}

// forFiles changes what Envoy Gateway cannot read from files: labels of namespaces, and
// the addresses behind a Service without one.
func (l objects) forFiles(t *testing.T) objects {
	t.Helper()
	for i, o := range l {
		switch o["kind"] {
		case "Gateway":
			for _, listener := range o.of("spec").items("listeners") {
				listener.of("allowedRoutes")["namespaces"] = object{"from": "All"}
			}
		case "Service":
			o.of("spec")["clusterIP"] = "10.0.0." + strconv.Itoa(i+1)
		}
	}
	return l
}

// onHost makes of it what Envoy Gateway runs on a host: its kinds alone, a free port in
// place of 443, and in place of each Service a Backend with an address of this machine,
// in the namespace of what names it. (From files, Envoy Gateway 1.9.1 loses the kinds of
// policies, and so refuses each reference of theirs to another namespace. With egctl and
// with Kubernetes it permits them.)
func (l objects) onHost(t *testing.T, front string, backends map[string]object) objects {
	t.Helper()
	known := []any{"GatewayClass", "Gateway", "HTTPRoute", "SecurityPolicy", "ClientTrafficPolicy", "ReferenceGrant", "Namespace", "Secret"}
	var list objects
	for _, o := range l.forFiles(t) {
		if !slices.Contains(known, o["kind"]) {
			continue
		}
		toBackends(o)
		switch o["kind"] {
		case "Gateway":
			_, port, _ := net.SplitHostPort(front)
			number, err := strconv.Atoi(port)
			if err != nil {
				t.Fatal(err)
			}
			o.of("spec").items("listeners")[0]["port"] = number
		case "GatewayClass":
			o.of("spec")["parametersRef"] = object{"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "host", "namespace": "gateway"}
		case "SecurityPolicy":
			if o.of("spec")["extAuth"] != nil {
				// Tests that are not about deadlines may run on a busy machine.
				o.of("spec", "extAuth")["timeout"] = "10s"
				delete(o.of("spec", "extAuth", "grpc").items("backendRefs")[0], "namespace")
			}
		}
		list = append(list, o)
	}
	for _, name := range slices.Sorted(maps.Keys(backends)) {
		namespace, name, _ := strings.Cut(name, "/")
		list = append(list, object{
			"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "Backend", "metadata": object{"name": name, "namespace": namespace},
			"spec": object{"endpoints": []any{backends[namespace+"/"+name]}},
		})
	}
	return append(list, object{
		"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy", "metadata": object{"name": "host", "namespace": "gateway"},
		"spec": object{"provider": object{"type": "Host", "host": object{"envoyVersion": envoyVersion}}},
	})
}

// toBackends makes references to Services such to Backends of the same names.
func toBackends(o object) {
	for _, key := range []string{"backendRefs", "to"} {
		for _, reference := range o.items(key) {
			reference["group"], reference["kind"] = "gateway.envoyproxy.io", "Backend"
			delete(reference, "port")
		}
	}
	for _, inside := range o {
		switch inside := inside.(type) {
		case object:
			toBackends(inside)
		case map[string]any:
			toBackends(inside)
		case []any:
			for _, item := range inside {
				if m, ok := item.(map[string]any); ok {
					toBackends(m)
				}
			}
		}
	}
}

// at is an endpoint of a Backend.
func at(t *testing.T, address string) object {
	t.Helper()
	ip, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return object{"ip": object{"address": ip, "port": number}}
}

// certificate is the Secret that cert-manager would make.
func certificate(t *testing.T) object {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return object{
		"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": "front-tls", "namespace": "gateway"}, "type": "kubernetes.io/tls",
		"data": object{
			"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
		},
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
