// Package programs is empty. Its module pins the control planes, which no registry has as
// programs: kube-apiserver with etcd, istiod, envoy-gateway and egctl. The tests beside it
// build them.
//
// They are in a module of their own, so that the tests are built from few packages, and in
// one for all, so that they have the versions of their packages in common: what two of
// them need is compiled once.
package programs
