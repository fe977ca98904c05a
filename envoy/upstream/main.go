// Command upstream stands where envoy.yaml expects an upstream, and echoes
// each request. With -check it reports whether a running one answers, because its
// image has no shell.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/coatcheck/coatcheck/envoy/upstream/echo"
)

// Loopback alone, because a client that reaches an upstream directly can send any
// header.
const address = "127.0.0.1:8081"

func main() {
	check := flag.Bool("check", false, "end with status 0 if an upstream listens")
	flag.Parse()
	if *check {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			log.Fatal(err)
		}
		_ = conn.Close()
		return
	}
	// Without a handler the first process of a container does not end by SIGTERM.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	server := echo.NewServer()
	server.Addr = address
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
