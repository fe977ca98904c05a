// Package apiserver applies every overlay of k8s/overlays, with every component, to a real
// kube-apiserver with etcd, as kubectl apply --server-side --validate=strict does. The
// server has the kinds of Istio, Gateway API, Envoy Gateway and the Prometheus operator,
// and admits pods by the profile of their namespace. There is no kubelet and no
// controller: no pod runs. It is a module of its own, so that the product does not depend
// on the client of Kubernetes.
package apiserver
