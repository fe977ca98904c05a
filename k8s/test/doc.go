// Package manifests tests what people deploy: the manifests of k8s, the compose
// file and the Dockerfile. It is a module of its own, so that the product does not
// depend on its packages.
package manifests
