// Package mesh tests the overlays for Istio on Istio's own control plane and a real
// Envoy. It builds k8s/overlays with kustomize, gives the result to the program of
// istiod, and looks at what that tells Envoys: the order of the filters, the time that a
// check may take, the ports that are checked. Then Envoy itself follows that program, and
// clients sign in, are checked and refused through the real Coatcheck and a real Redis.
//
// Each trap, a small change of a file that switches the check off in silence, has a test
// that makes the change and sees the hole. They are why the files are as they are.
//
// It is a module of its own, so that the product does not depend on its packages. `make mesh`
// runs it. ztunnel and the injection of sidecars are not tested: they need a cluster.
package mesh
