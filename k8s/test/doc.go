// Package manifests tests what people deploy: the manifests of k8s, the compose
// file and the Dockerfile. It is a module of its own, so that the product needs
// none of what it imports.
package manifests
