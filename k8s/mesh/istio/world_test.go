package mesh_test

import (
	"fmt"
	"strings"
)

// A place is one pod of a Service, where the Service leads.
type place struct {
	namespace, service string
	ip                 string
	labels             map[string]string
	ports              []port
}

type port struct {
	name           string
	number, target int
}

// manifests are the Service, the pod, and what Kubernetes makes of them.
func (p place) manifests() string {
	var labels, ports, endpoints strings.Builder
	for k, v := range p.labels {
		fmt.Fprintf(&labels, "    %s: %q\n", k, v)
	}
	for _, port := range p.ports {
		fmt.Fprintf(&ports, "  - {name: %s, port: %d, targetPort: %d}\n", port.name, port.number, port.target)
		fmt.Fprintf(&endpoints, "- {name: %s, port: %d, protocol: TCP}\n", port.name, port.target)
	}
	return together(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %[2]s-1
  namespace: %[1]s
  labels:
%[4]sspec:
  serviceAccountName: %[2]s
  nodeName: node
status:
  phase: Running
  podIP: %[3]s
  podIPs: [{ip: %[3]s}]
  conditions: [{type: Ready, status: "True"}]`, p.namespace, p.service, p.ip, labels.String()),
		fmt.Sprintf(`apiVersion: v1
kind: Service
metadata:
  name: %[2]s
  namespace: %[1]s
spec:
  clusterIP: 10.96.0.%[5]d
  selector:
%[3]s  ports:
%[4]s`, p.namespace, p.service, labels.String(), ports.String(), 1+len(p.namespace+p.service)),
		p.slice(p.service, endpoints.String(), p.service+"-1"))
}

// slice are the endpoints of a Service.
func (p place) slice(service, ports, pod string) string {
	target := ""
	if pod != "" {
		target = fmt.Sprintf(", targetRef: {kind: Pod, name: %s, namespace: %s}", pod, p.namespace)
	}
	return fmt.Sprintf(`apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: %[2]s-1
  namespace: %[1]s
  labels: {kubernetes.io/service-name: %[2]s}
addressType: IPv4
endpoints:
- {addresses: [%[3]s], conditions: {ready: true}%[5]s}
ports:
%[4]s`, p.namespace, service, p.ip, ports, target)
}

// endpoints are those of a Service that an overlay brings itself.
func endpoints(namespace, service, port, address string) string {
	ip, number, _ := strings.Cut(address, ":")
	return place{namespace: namespace, ip: ip}.slice(service, fmt.Sprintf("- {name: %s, port: %s, protocol: TCP}\n", port, number), "")
}

// The pods of the tests that only look at what istiod tells.
var (
	gatewayPod = place{"istio-ingress", "istio-ingress", "10.0.0.2", map[string]string{"app": "istio-ingress", "istio": "ingress"}, []port{{"http2", 80, 80}, {"https", 443, 443}}}
	shopPod    = place{"shop", "shop", "10.0.0.3", map[string]string{"app": "shop"}, []port{{"http", 8080, 8080}, {"tcp-db", 5432, 5432}}}
	otherPod   = place{"other", "other", "10.0.0.4", map[string]string{"app": "other"}, []port{{"http", 8080, 8080}, {"tcp-db", 5432, 5432}}}

	gatewayProxy = proxy{kind: "router", ip: gatewayPod.ip, name: "istio-ingress-1", namespace: "istio-ingress", labels: gatewayPod.labels}
	shopProxy    = proxy{kind: "sidecar", ip: shopPod.ip, name: "shop-1", namespace: "shop", labels: shopPod.labels}
	otherProxy   = proxy{kind: "sidecar", ip: otherPod.ip, name: "other-1", namespace: "other", labels: otherPod.labels}
	waypoint     = proxy{kind: "waypoint", ip: "10.0.0.6", name: "waypoint-1", namespace: "shop", labels: map[string]string{"gateway.networking.k8s.io/gateway-name": "waypoint", "istio.io/gateway-name": "waypoint"}}
)

// world is the pods, and the endpoints of Coatcheck's own Services.
func world() string {
	return together(gatewayPod.manifests(), shopPod.manifests(), otherPod.manifests(),
		endpoints("coatcheck", "coatcheck-mesh", "grpc", "10.0.0.9:9001"),
		endpoints("coatcheck", "coatcheck", "grpc", "10.0.0.9:9001"),
		endpoints("coatcheck", "coatcheck-login", "http", "10.0.0.10:8080"))
}
