package rig

import (
	"net"
	"net/http"

	"github.com/coatcheck/coatcheck/envoy/upstream/echo"
)

// Echoed is the answer of an Echo.
type Echoed = echo.Request

// An Echo is an upstream that answers with the request, as JSON, over
// HTTP/1.1 and cleartext HTTP/2.
type Echo struct {
	Addr   string
	server *http.Server
}

// NewEcho starts an upstream on a free port.
func NewEcho() (*Echo, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &Echo{Addr: listener.Addr().String(), server: echo.NewServer()}
	go func() { _ = e.server.Serve(listener) }()
	return e, nil
}

// Close ends the upstream.
func (e *Echo) Close() { _ = e.server.Close() }
