// Package answer makes the answer to Envoy, Envoy's CheckResponse, of a plain value:
//
//	a := &answer.Answer{Set: []answer.Header{{Name: "x-user-id", Value: "42"}}}
//	message := a.Message()      // the generated message
//	bytes := a.AppendTo(nil)    // the same message on the wire
//
// The two are the same for every Answer whose texts are UTF-8, which [Answer.Valid]
// reports. The generated message is what is easy to read and what a program's
// interceptors get. Making one takes a dozen pieces of memory, and marshalling it as
// long as all the rest of a check, so a server sends the bytes. [Encode] makes them in
// memory that gRPC gives back.
package answer

import (
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"
)

// An Answer is what Envoy is told about one request. The zero Answer allows it.
type Answer struct {
	// Status is the HTTP status of the client's response, and 0 where the request is
	// allowed: the upstream then decides the status.
	Status int
	// Code is the gRPC status, OK where the request is allowed.
	Code codes.Code
	// Set are headers of the request to the upstream, or of the response to the client.
	// Each takes the place of every header of its name.
	Set []Header
	// Remove are headers that the upstream does not get. A denial has none.
	Remove []string
	// Body is the client's response. An allowed request has none.
	Body string
	// Metadata is for Envoy's access log, under envoy.filters.http.ext_authz. No name
	// comes twice.
	Metadata []Header
}

// A Header is a name and its value.
type Header struct{ Name, Value string }

// Valid reports whether a can be sent: all of its texts are UTF-8. Envoy takes one byte
// that is not for a failure of the call, and with failure_mode_allow a failure for an
// allow (CVE-2023-27488).
func (a *Answer) Valid() bool {
	for _, text := range a.Remove {
		if !utf8.ValidString(text) {
			return false
		}
	}
	return utf8.ValidString(a.Body) && valid(a.Set) && valid(a.Metadata)
}

func valid(headers []Header) bool {
	for _, h := range headers {
		if !utf8.ValidString(h.Name) || !utf8.ValidString(h.Value) {
			return false
		}
	}
	return true
}

// denied reports whether a denies the request.
func (a *Answer) denied() bool { return a.Status != 0 }

// Message is the answer as Envoy's generated message. It shares no slice with a.
func (a *Answer) Message() *authv3.CheckResponse {
	m := &authv3.CheckResponse{
		Status:          &status.Status{Code: int32(a.Code)},
		DynamicMetadata: &structpb.Struct{Fields: make(map[string]*structpb.Value, len(a.Metadata))},
	}
	for _, h := range a.Metadata {
		m.DynamicMetadata.Fields[h.Name] = structpb.NewStringValue(h.Value)
	}
	if !a.denied() {
		m.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: options(a.Set), HeadersToRemove: append([]string(nil), a.Remove...),
		}}
		return m
	}
	m.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(a.Status)},
		Headers: options(a.Set), Body: a.Body,
	}}
	return m
}

// options has every header overwritten: the zero append_action would add our header
// beside the client's.
func options(set []Header) []*corev3.HeaderValueOption {
	out := make([]*corev3.HeaderValueOption, len(set))
	for i, h := range set {
		out[i] = &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: h.Name, Value: h.Value},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}
	}
	return out
}
