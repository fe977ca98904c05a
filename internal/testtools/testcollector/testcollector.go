// Package testcollector is an OpenTelemetry collector for tests: it receives spans by
// OTLP over gRPC and keeps them.
//
//	collector := testcollector.Start(t)
//	// spans go to collector.Addr
//	spans := collector.Await(t, 20*time.Second, func(s []testcollector.Span) bool { return len(s) > 2 })
package testcollector

import (
	"context"
	"encoding/hex"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// A Span is what was received of one.
type Span struct {
	Service             string // service.name
	Name                string
	TraceID, ID, Parent string            // in hexadecimal digits; Parent is empty where there is none
	Attributes          map[string]string // as text
	Text                string            // everything of the span and its resource
	Failed              bool
}

// A Collector is a running server. It is safe for concurrent use.
type Collector struct {
	collectorv1.UnimplementedTraceServiceServer
	Addr string

	mu      sync.Mutex
	spans   []Span
	headers metadata.MD // of the last export
}

// Start serves on a free port until the test ends.
func Start(t testing.TB, options ...grpc.ServerOption) *Collector {
	t.Helper()
	return StartAt(t, "127.0.0.1:0", options...)
}

// StartAt is Start at an address.
func StartAt(t testing.TB, address string, options ...grpc.ServerOption) *Collector {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{Addr: listener.Addr().String()}
	server := grpc.NewServer(options...)
	collectorv1.RegisterTraceServiceServer(server, c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return c
}

// Export implements the service.
func (c *Collector) Export(ctx context.Context, r *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers, _ = metadata.FromIncomingContext(ctx)
	for _, of := range r.GetResourceSpans() {
		resource := attributes(of.GetResource().GetAttributes())
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, Span{
					Service: resource["service.name"], Name: s.GetName(), Attributes: attributes(s.GetAttributes()),
					TraceID: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
					Failed: s.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR, Text: of.GetResource().String() + s.String(),
				})
			}
		}
	}
	return new(collectorv1.ExportTraceServiceResponse), nil
}

func attributes(pairs []*commonv1.KeyValue) map[string]string {
	all := make(map[string]string)
	for _, pair := range pairs {
		all[pair.GetKey()] = pair.GetValue().GetStringValue()
		if _, text := pair.GetValue().GetValue().(*commonv1.AnyValue_StringValue); !text {
			all[pair.GetKey()] = pair.GetValue().String()
		}
	}
	return all
}

// Spans returns what has come so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Header returns the values of a header of the last export.
func (c *Collector) Header(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headers.Get(name)
}

// Await returns the spans as soon as enough have come, and fails the test after a time.
func (c *Collector) Await(t testing.TB, patience time.Duration, enough func([]Span) bool) []Span {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if spans := c.Spans(); enough(spans) {
			return spans
		}
	}
	t.Fatalf("not enough spans came: %+v", c.Spans())
	return nil
}
