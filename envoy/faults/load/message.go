package load

import (
	"bytes"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/sessions"
)

// The forms in which Envoy sends headers: joined in a map, or as they came.
const (
	joined = iota
	raw
	forms
)

// adminRole is what the route [history.Role] asks for.
const adminRole = "admin"

// placeholder stands in a template for a session ID, and is as long as one.
var placeholder = strings.Repeat("~", 43)

// A template is an encoded CheckRequest with a placeholder: the ID in it is replaced, and
// nothing is encoded again.
type template struct {
	text []byte
	at   int // of the placeholder; below 0: it has none
}

// with is the message with an ID of 43 characters.
func (t *template) with(id string) []byte {
	message := bytes.Clone(t.text)
	if t.at >= 0 {
		copy(message[t.at:], id)
	}
	return message
}

// templates has one for each route and form; bare is those without a cookie.
type templates struct{ cookie, bare [3][forms]template }

// newTemplates asks for the role admin by the short form, and where Envoy sends headers as they
// came by a policy, unless its name is empty.
func newTemplates(policy string) (t templates, err error) {
	for route := range t.cookie {
		for form := range forms {
			if t.cookie[route][form], err = newTemplate(history.Route(route), form, policy, sessions.DefaultCookieName+"="+placeholder); err != nil {
				return t, err
			}
			if t.bare[route][form], err = newTemplate(history.Route(route), form, policy, "theme=dark"); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

func newTemplate(route history.Route, form int, policy, session string) (template, error) {
	text, err := proto.Marshal(request(route, form, policy, "theme=dark; "+session+"; lang=en"))
	return template{text: text, at: bytes.Index(text, []byte(placeholder))}, err
}

// request is a CheckRequest as Envoy 1.40 sends it.
func request(route history.Route, form int, policy, cookie string) *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{
		Id: "1234567890", Method: "GET", Scheme: "https", Host: "shop.example", Path: "/orders/7?page=2", Protocol: "HTTP/2",
	}
	headers := [][2]string{
		{":authority", "shop.example"}, {":method", "GET"}, {":path", http.Path}, {":scheme", "https"},
		{"accept", "application/json"}, {"user-agent", "Mozilla/5.0 (X11; Linux x86_64)"}, {"cookie", cookie},
	}
	if form == joined {
		http.Headers = make(map[string]string)
		for _, h := range headers {
			http.Headers[h[0]] = h[1]
		}
	} else {
		http.HeaderMap = new(corev3.HeaderMap)
		for _, h := range headers {
			http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
		}
	}
	asks := extensions[route]
	if route == history.Role && form == raw && policy != "" {
		asks = map[string]string{"coatcheck.policy": policy}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: http}, ContextExtensions: asks,
	}}
}

var extensions = map[history.Route]map[string]string{
	history.Optional: {"coatcheck.session": "optional"},
	history.Role:     {"coatcheck.roles": adminRole},
}

// A codec sends a message that is encoded already.
type codec struct{}

var _ encoding.CodecV2 = codec{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	return proto.Unmarshal(data.Materialize(), v.(proto.Message))
}
