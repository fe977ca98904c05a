// Command kube-apiserver is Kubernetes' own, as its repository builds it, with its store,
// etcd, in the same process:
//
//	kube-apiserver FOLDER ADDRESS PEER [flag ...]
//
// etcd keeps its files in FOLDER and listens on ADDRESS, for the server, and on PEER, where
// no other etcd will ask for it. The flags are kube-apiserver's. No registry has the
// programs, and Kubernetes needs etcd's packages anyway, for its own tests.
package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: kube-apiserver FOLDER ADDRESS PEER [flag ...]")
		os.Exit(2)
	}
	if err := store(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
	command := app.NewAPIServerCommand()
	command.SetArgs(append([]string{"--etcd-servers", "http://" + os.Args[2]}, os.Args[4:]...))
	os.Exit(cli.Run(command))
}

// store starts etcd, which ends with the process.
func store(dir, address, peer string) error {
	config := embed.NewConfig()
	clients, peers := []url.URL{{Scheme: "http", Host: address}}, []url.URL{{Scheme: "http", Host: peer}}
	config.Dir = dir
	config.UnsafeNoFsync = true // the folder goes with the test
	config.LogLevel = "error"
	config.ListenClientUrls, config.AdvertiseClientUrls = clients, clients
	config.ListenPeerUrls, config.AdvertisePeerUrls = peers, peers
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return nil
	case err := <-etcd.Err():
		return err
	case <-time.After(time.Minute):
		return errors.New("not ready within a minute")
	}
}
