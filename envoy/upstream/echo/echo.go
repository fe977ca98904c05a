// Package echo is an upstream that answers with the request that it received.
package echo

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// A Request is a request as the upstream received it, in the answer's JSON.
type Request struct {
	Method   string              `json:"method"`
	Host     string              `json:"host"`
	Path     string              `json:"path"`
	Headers  map[string][]string `json:"headers"` // names as net/http writes them
	Trailers map[string][]string `json:"trailers,omitempty"`
}

// NewServer makes a server that speaks HTTP/1.1 and cleartext HTTP/2.
func NewServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: http.HandlerFunc(echo), Protocols: protocols, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 1 << 20,
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // the trailers come behind it
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(Request{Method: r.Method, Host: r.Host, Path: r.RequestURI, Headers: r.Header, Trailers: r.Trailer})
}
