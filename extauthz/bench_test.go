package extauthz

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/sessions"
)

// browser is a CheckRequest as Envoy sends it for a browser's 25 headers, and further
// ones: name, value.
func browser(b *testing.B, cookie string, extensions map[string]string, lines ...string) []byte {
	b.Helper()
	headers := new(corev3.HeaderMap)
	for i := range 24 {
		headers.Headers = append(headers.Headers, &corev3.HeaderValue{
			Key: fmt.Sprintf("sec-ch-something-%d", i), RawValue: []byte("a value of the usual length, such as this"),
		})
	}
	headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: "cookie", RawValue: []byte("_ga=GA1.1.1234567890.1234567890; theme=dark; " + cookie)})
	for i := 0; i < len(lines); i += 2 {
		headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: lines[i], RawValue: []byte(lines[i+1])})
	}
	text, err := proto.Marshal(&authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/api/items?page=2", Host: "shop.example", HeaderMap: headers,
		}},
		ContextExtensions: extensions,
	}})
	if err != nil {
		b.Fatal(err)
	}
	return text
}

// checkWire decides the bytes of a CheckRequest, as gRPC has a server do it.
func (s *Server) checkWire(ctx context.Context, b []byte) mem.BufferSlice {
	return checker(ctx, s, b)()
}

// checker is checkWire without what gRPC would have allocated.
func checker(ctx context.Context, s *Server, b []byte) func() mem.BufferSlice {
	c, received := Codec(), mem.BufferSlice{mem.SliceBuffer(b)}
	decode := func(r any) error { return c.Unmarshal(received, r) }
	return func() mem.BufferSlice {
		response, err := handle(s, ctx, decode, nil)
		if err != nil {
			panic(err)
		}
		data, err := c.Marshal(response)
		if err != nil {
			panic(err)
		}
		return data
	}
}

func readWire(p *policies, b []byte) *request {
	r := &reader{wanted: &p.wanted}
	r.fromWire(b)
	return &r.request
}

// BenchmarkCheck is everything of a check but gRPC and Redis.
func BenchmarkCheck(b *testing.B) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		b.Fatal(err)
	}
	ours := sessions.DefaultCookieName + "=" + fuzzID.Reveal()
	for _, bench := range []struct {
		name    string
		request []byte
	}{
		{"live", browser(b, ours, nil)},
		{"role", browser(b, ours, map[string]string{"coatcheck.roles": "admin,staff"})},
		{"no cookie", browser(b, "a=1", nil)},
		{"8 KB of cookies", browser(b, "filler="+strings.Repeat("x", 8000)+"; "+ours, nil)},
		{"public", browser(b, ours, map[string]string{"coatcheck.session": "none"})},
	} {
		b.Run(bench.name, func(b *testing.B) {
			run := checker(b.Context(), server, bench.request)
			b.ReportAllocs()
			for b.Loop() {
				run().Free()
			}
		})
	}
}

// BenchmarkRefused is everything of a check that is refused: a person gets a page, a
// program a line.
func BenchmarkRefused(b *testing.B) {
	server, err := New(oneSession{fuzzID}, Config{LoginURL: "/login"})
	if err != nil {
		b.Fatal(err)
	}
	ours := sessions.DefaultCookieName + "=" + fuzzID.Reveal()
	admin := map[string]string{"coatcheck.roles": "admin"}
	for name, lines := range map[string][]string{
		"program": {"accept", "*/*"},
		"person":  {"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "accept-language", "pt-BR,pt;q=0.9,en-US;q=0.8,en;q=0.7", "sec-fetch-mode", "navigate", "sec-fetch-dest", "document"},
	} {
		b.Run(name, func(b *testing.B) {
			request := browser(b, ours, admin, append(lines, "x-request-id", "bed266bf-0000-4000-8000-000000000000")...)
			run := checker(b.Context(), server, request)
			b.ReportAllocs()
			for b.Loop() {
				run().Free()
			}
		})
	}
}

// BenchmarkRead compares the two readers.
func BenchmarkRead(b *testing.B) {
	text := browser(b, sessions.DefaultCookieName+"="+fuzzID.Reveal(), nil)
	w := &wanted{prefix: DefaultHeaderPrefix}
	b.Run("wire", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := &reader{wanted: w}
			r.fromWire(text)
		}
	})
	b.Run("generated", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := new(authv3.CheckRequest)
			if err := proto.Unmarshal(text, m); err != nil {
				b.Fatal(err)
			}
			r := &reader{wanted: w}
			r.fromProto(m)
		}
	})
}
