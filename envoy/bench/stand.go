package main

import (
	"flag"
	"net"
	"net/http"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// stand is a server of this program, for comparison: `bench bare` and `bench naive`.
func stand(name, self, command string) program {
	return program{name: name, binary: self, arguments: []string{
		command, "-listen", "127.0.0.1:{port}", "-metrics", "127.0.0.1:{metrics}", "-redis", "{redis}",
	}}
}

// standAddresses are where a stand listens, and its Redis.
type standAddresses struct{ listen, metrics, redis string }

func parseStand(args []string) (a standAddresses, err error) {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.StringVar(&a.listen, "listen", "", "address of the checks (gRPC)")
	flags.StringVar(&a.metrics, "metrics", "", "address of the metrics (HTTP)")
	flags.StringVar(&a.redis, "redis", "", "address of Redis")
	return a, flags.Parse(args)
}

// serve serves checks with the defaults of gRPC, as the first example of its
// documentation does, and Go's own metrics beside them.
func (a standAddresses) serve(checks authv3.AuthorizationServer) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector())
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	metrics := &http.Server{Addr: a.metrics, Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = metrics.ListenAndServe() }() // without it, allocations are unknown
	listener, err := net.Listen("tcp", a.listen)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, checks)
	return server.Serve(listener)
}

// client is a Redis client with go-redis' defaults.
func (a standAddresses) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: a.redis, Password: redistest.Password})
}
