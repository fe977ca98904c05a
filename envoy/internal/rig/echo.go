package rig

import (
	"encoding/json"
	"net"
	"net/http"
	"time"
)

// An Echo is an upstream that answers with what it was sent, as JSON, over
// HTTP/1.1 and cleartext HTTP/2.
type Echo struct {
	Addr   string
	server *http.Server
}

// Echoed is what an Echo answers.
type Echoed struct {
	Method  string              `json:"method"`
	Host    string              `json:"host"`
	Path    string              `json:"path"`
	Headers map[string][]string `json:"headers"` // names as net/http writes them
}

// NewEcho starts an upstream on a free port.
func NewEcho() (*Echo, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	e := &Echo{Addr: listener.Addr().String(), server: &http.Server{
		Handler: http.HandlerFunc(echo), Protocols: protocols, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 1 << 20,
	}}
	go func() { _ = e.server.Serve(listener) }()
	return e, nil
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(Echoed{Method: r.Method, Host: r.Host, Path: r.RequestURI, Headers: r.Header})
}

// Close ends the upstream.
func (e *Echo) Close() { _ = e.server.Close() }
