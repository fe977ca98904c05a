package extauthz

import (
	"net/http"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/coatcheck/coatcheck/sessions"
)

// retryAfter is what a 503 advises, in seconds: about the time that a store needs to
// be in use again once it is back.
const retryAfter = 1

// pagePolicy keeps an operator's page from running scripts and from being framed (ASVS
// 5.0, 3.4.3 and 3.4.6). It may hold styles, and may use styles, images, fonts and forms
// of the same host.
const pagePolicy = "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// respond makes the answer to Envoy. This file is the only one that builds
// Envoy's messages.
func (s *Server) respond(r *request, d *decision) *authv3.CheckResponse {
	response := &authv3.CheckResponse{DynamicMetadata: metadata(d)}
	if d.allow {
		response.Status = &status.Status{Code: int32(codes.OK)}
		response.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: s.allowed(r, d)}
		return response
	}
	class := d.reason.info().class
	response.Status = &status.Status{Code: int32(denials[class].code)}
	response.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied(r, d, class)}
	return response
}

// lastResort is a denial that uses no part of a request or of a server.
func lastResort() *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(denials[unavailable].code)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(denials[unavailable].status)},
			Headers: options([]header{{"cache-control", "no-store"}, {"retry-after", strconv.Itoa(retryAfter)}}),
		}},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"reason": structpb.NewStringValue(string(Internal))}},
	}
}

// allowed sets the identity, and removes every header that could be taken for one.
func (s *Server) allowed(r *request, d *decision) *authv3.OkHttpResponse {
	set, remove := d.policy.headers.identity(d.identity.session)
	remove = s.bare.plain.headers.strip(r.managed, set, remove)
	if !s.config.KeepCookie {
		set, remove = s.cutCredentials(r, set, remove)
	}
	return &authv3.OkHttpResponse{Headers: options(set), HeadersToRemove: remove}
}

// cutCredentials keeps the session ID from the upstream. An Authorization header
// that holds one is removed whole, because it should hold nothing else.
func (s *Server) cutCredentials(r *request, set []header, remove []string) ([]header, []string) {
	if rest, found := s.config.Cookie.Cut(r.cookies); found && rest == "" {
		remove = append(remove, "cookie")
	} else if found {
		set = append(set, header{"cookie", rest})
	}
	if s.config.Bearer && sessions.HoldsBearer(r.authorization) {
		remove = append(remove, "authorization")
	}
	return set, remove
}

// denied is a refusal in the form that suits the client: a redirect or a page for a
// person, a status for a program, and no body for gRPC, since Envoy makes the gRPC
// status of the HTTP status and the body.
func denied(r *request, d *decision, c class) *authv3.DeniedHttpResponse {
	f := d.policy.refusal
	set := append(make([]header, 0, 8), header{"cache-control", "no-store"})
	if location := f.location(r, c); location != "" {
		set = append(set, header{"location", location})
		return &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode_Found},
			Headers: options(set),
		}
	}
	switch c {
	case anonymous:
		// Not Basic, for which browsers would ask for a password.
		set = append(set, header{"www-authenticate", "Session"})
	case unavailable:
		set = append(set, header{"retry-after", strconv.Itoa(retryAfter)})
	}
	body, set := f.body(r, c, d.identity.session != nil, set)
	return &authv3.DeniedHttpResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(denials[c].status)},
		Headers: options(set),
		Body:    body,
	}
}

// options has every header overwritten: the zero append_action would add our header
// beside the client's.
func options(set []header) []*corev3.HeaderValueOption {
	out := make([]*corev3.HeaderValueOption, len(set))
	for i, h := range set {
		out[i] = &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: h.name, Value: h.value},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}
	}
	return out
}

// metadata is for Envoy's access log, under envoy.filters.http.ext_authz.
func metadata(d *decision) *structpb.Struct {
	fields := map[string]*structpb.Value{"reason": structpb.NewStringValue(string(d.reason))}
	if d.identity.session != nil {
		fields["session"] = structpb.NewStringValue(d.identity.session.Key.Handle())
	}
	if d.policy.name != "" {
		fields["policy"] = structpb.NewStringValue(d.policy.name)
	}
	return &structpb.Struct{Fields: fields}
}

// status is the HTTP status of a decision. It is 0 where the request is allowed,
// because the upstream decides the status.
func (d *decision) status(r *request) int {
	if d.allow {
		return 0
	}
	class := d.reason.info().class
	if d.policy.refusal.location(r, class) != "" {
		return http.StatusFound
	}
	return denials[class].status
}
