// Package echo is an upstream that answers with the request that it received.
package echo

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// A Request is a request as the upstream received it, in the answer's JSON.
type Request struct {
	Method   string              `json:"method"`
	Host     string              `json:"host"`
	Path     string              `json:"path"`    // percent-encoded where it is no UTF-8, which JSON is
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
	_ = e.Encode(Request{Method: r.Method, Host: r.Host, Path: escaped(r.RequestURI), Headers: r.Header, Trailers: r.Trailer})
}

// escaped encodes what is beyond ASCII of a text that is not UTF-8.
func escaped(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if s[i] < utf8.RuneSelf {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}
