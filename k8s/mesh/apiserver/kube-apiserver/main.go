// Command kube-apiserver is Kubernetes' own, as its repository builds it: no registry
// of Go modules has the program's package without its module, and no registry of
// packages has the program.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
