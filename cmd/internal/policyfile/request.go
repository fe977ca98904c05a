package policyfile

import (
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// A Request is what a client sends.
type Request struct {
	Scheme             string // http or https; may be empty
	Host, Method, Path string
	Headers            map[string]string // names in any case
	Source             string            // the client's IP address; may be empty
	Principal          string            // its name in its certificate; may be empty
}

// A Route is what Envoy's route sets in context_extensions, without the prefix
// coatcheck. An empty field is not set.
type Route struct {
	Policy, Session, Roles, Paths string
}

// CheckRequest returns what Envoy sends for the request, on a route with these
// context_extensions.
func (r Request) CheckRequest(extensions map[string]string) *authv3.CheckRequest {
	headers := new(corev3.HeaderMap)
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: strings.ToLower(name), RawValue: []byte(r.Headers[name])})
	}
	source := &authv3.AttributeContext_Peer{Principal: r.Principal}
	if r.Source != "" {
		source.Address = &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: r.Source}}}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: source,
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Scheme: r.Scheme, Method: r.Method, Host: r.Host, Path: r.Path, HeaderMap: headers,
		}},
		ContextExtensions: extensions,
	}}
}

// Extensions are the route's context_extensions.
func (r Route) Extensions() map[string]string {
	extensions := map[string]string{"coatcheck.policy": r.Policy, "coatcheck.session": r.Session, "coatcheck.roles": r.Roles, "coatcheck.paths": r.Paths}
	maps.DeleteFunc(extensions, func(_, value string) bool { return value == "" })
	return extensions
}
