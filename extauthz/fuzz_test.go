package extauthz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical"
	"github.com/coatcheck/coatcheck/extauthz/internal/canonical/canonicaltest"
	"github.com/coatcheck/coatcheck/sessions"
)

// oneSession knows one session and nothing else.
type oneSession struct{ id sessions.ID }

func (o oneSession) Touch(_ context.Context, id sessions.ID, _ ...string) (*sessions.Session, error) {
	if id != o.id {
		return nil, sessions.ErrNotFound
	}
	return &sessions.Session{
		Key: id.Key(), UserID: "42", Username: "Ada\xff", Roles: []string{"staff"}, ExpiresAt: time.Now().Add(time.Hour),
	}, nil
}

var fuzzID = func() sessions.ID {
	id, err := sessions.ParseID("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
	if err != nil {
		panic(err)
	}
	return id
}()

// FuzzCheckRequest: for any bytes there is an answer that can be sent; it
// admits to a route that needs a session only with the one live ID, and names a
// user only then; and where the generated code can read the bytes, we read the
// same.
func FuzzCheckRequest(f *testing.F) {
	for _, seed := range requestSeeds(f) {
		f.Add(seed)
		f.Add(seed[:len(seed)/2])
	}
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add(protowire.AppendTag(nil, 1, protowire.StartGroupType))
	server, err := New(oneSession{fuzzID}, Config{LoginURL: "/login", Bearer: true, Fields: []FieldHeader{{"tenant", "x-user-tenant"}}})
	if err != nil {
		f.Fatal(err)
	}
	policed, err := New(oneSession{fuzzID}, Config{LoginURL: "/login"})
	if err == nil {
		err = policed.SetPolicies(fuzzPolicies)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := readWire(server.bare, b)
		response := server.check(t.Context(), server.bare, r).Message()
		if _, err := proto.Marshal(response); err != nil {
			t.Fatalf("the answer cannot be sent: %v", err)
		}
		ok := response.GetOkResponse()
		if (ok == nil) == (response.GetDeniedResponse() == nil) {
			t.Fatalf("neither allowed nor denied, or both: %v", response)
		}
		checkAdmission(t, r, ok, b)
		m := new(authv3.CheckRequest)
		sound := proto.Unmarshal(b, m) == nil
		if sound {
			checkSameReading(t, server, r, m)
		}
		checkPolicies(t, policed, b, m, sound)
	})
}

// fuzzCondition reads all that it can and holds where a header says so.
type fuzzCondition struct{}

func (fuzzCondition) Fields() []string  { return nil }
func (fuzzCondition) Headers() []string { return []string{"x-plan", "accept"} }
func (fuzzCondition) String() string    { return "fuzz" }
func (fuzzCondition) Holds(_ context.Context, in Input) (bool, error) {
	for _, s := range []string{in.Method, in.Host, in.Path, in.Headers["x-plan"], in.Headers["accept"], in.SourceAddress, in.SourcePrincipal} {
		if !utf8.ValidString(s) {
			return false, fmt.Errorf("%q is no UTF-8", s)
		}
	}
	if path, ok := canonical.Path(canonicaltest.Encode(in.Path)); !ok || path != in.Path {
		return false, fmt.Errorf("%q is no canonical path", in.Path)
	}
	return in.Headers["x-plan"] == "gold", nil
}

var fuzzPolicies = PolicySet{
	Policies: []Policy{
		{Name: "staff", AnyRole: []string{"staff"}, Origins: []string{"https://app.example"}, Preflight: true},
		{Name: "gold", Session: "optional", Condition: fuzzCondition{}, Headers: []string{"id"}},
		{Name: "shadow", Shadow: true, AllRoles: []string{"x"}, Condition: fuzzCondition{}},
	},
	Rules: []Rule{
		{PathPrefix: "/gold", Policy: "gold"}, {Hosts: []string{"*.shadow.example"}, PathTemplate: "/{a}/{rest...}", Policy: "shadow"},
	},
	Default: "staff",
}

// checkPolicies decides the same bytes by policies. There is an answer that can
// be sent; to a client that is not signed in only what a policy lets through; and both
// readers and Explain come to the same.
func checkPolicies(t *testing.T, server *Server, b []byte, m *authv3.CheckRequest, sound bool) {
	p := server.policies.Load()
	r := readWire(p, b)
	response := server.check(t.Context(), p, r).Message()
	if _, err := proto.Marshal(response); err != nil {
		t.Fatalf("the answer cannot be sent: %v", err)
	}
	d := server.decide(t.Context(), p, r)
	if d.reason == Internal || d.reason == ConditionError {
		t.Fatalf("%s: %v", d.reason, d.err)
	}
	if d.allow != (response.GetOkResponse() != nil) {
		t.Fatalf("decided %v, answered %v", d.allow, response)
	}
	known := strings.Contains(string(b), fuzzID.Reveal())
	if d.allow && !known && d.reason != Preflight && d.policy.name == "staff" {
		t.Fatalf("admitted without the session: %+v", d)
	}
	if d.allow && d.reason == ConditionFalse && !d.shadow {
		t.Fatalf("admitted though the condition does not hold: %+v", d)
	}
	if sound {
		checkSameReading(t, server, r, m)
	}
}

// checkAdmission holds an allowed answer to what was sent.
func checkAdmission(t *testing.T, r *request, ok *authv3.OkHttpResponse, b []byte) {
	if ok == nil {
		return
	}
	paths := Paths(r.extensions["coatcheck.paths"])
	if raw, _, _ := strings.Cut(r.path, "?"); !paths.admit(r.path) || canonicaltest.ReadAlike(raw) != nil || r.method != strings.ToUpper(r.method) {
		t.Fatalf("admitted %s %q by %q", r.method, r.path, paths)
	}
	open := r.extensions["coatcheck.session"] == "none" || r.extensions["coatcheck.session"] == "optional"
	known := strings.Contains(string(b), fuzzID.Reveal())
	if !open && !known {
		t.Fatal("admitted without the session")
	}
	set := make(map[string]bool)
	for _, option := range ok.GetHeaders() {
		name, value := option.GetHeader().GetKey(), option.GetHeader().GetValue()
		set[name] = true
		if value == "" || option.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Fatalf("%s: %q, %v", name, value, option.GetAppendAction())
		}
		if name == "cookie" {
			// A foreign cookie of the same value is the client's own business.
			if _, err := (sessions.Cookie{}).Read(sessions.CookieHeader{Lines: []string{value}, Joined: r.cookies.Joined}); !errors.Is(err, sessions.ErrNoCookie) {
				t.Fatalf("our cookie goes upstream: %q", value)
			}
		} else if strings.Contains(value, fuzzID.Reveal()) {
			t.Fatalf("%s carries the session ID", name)
		}
	}
	if set["x-user-id"] && !known {
		t.Fatal("named a user without the session")
	}
	for _, name := range ok.GetHeadersToRemove() {
		if set[strings.ToLower(name)] {
			t.Fatalf("%s is set and removed", name)
		}
	}
	for _, name := range append([]string{"x-user-id", "x-user-name", "x-user-roles", "x-user-session", "x-user-tenant"}, r.managed...) {
		same := func(other string) bool { return strings.EqualFold(other, name) }
		if !set[strings.ToLower(name)] && !slices.ContainsFunc(ok.GetHeadersToRemove(), same) && !same("x-user-agent") {
			t.Fatalf("%q is neither set nor removed", name)
		}
	}
}

// checkSameReading compares the two readers. The generated message keeps maps,
// whose order is lost, and of a repeated key the last value.
func checkSameReading(t *testing.T, server *Server, wire *request, m *authv3.CheckRequest) {
	generated := server.policies.Load().wanted.read(m)
	if wire.malformed && generated.malformed {
		return // each has read as far as it got
	}
	for what, pair := range map[string][2]string{
		"scheme": {wire.scheme, generated.scheme}, "address": {wire.address, generated.address}, "principal": {wire.principal, generated.principal},
		"method": {wire.method, generated.method}, "host": {wire.host, generated.host}, "path": {wire.path, generated.path},
	} {
		if pair[0] != pair[1] {
			t.Fatalf("%s is %q on the wire and %q in the message", what, pair[0], pair[1])
		}
	}
	if wire.http != generated.http || wire.malformed != generated.malformed || wire.cookies.Joined != generated.cookies.Joined {
		t.Fatalf("%+v is not %+v", wire, generated)
	}
	if !maps.Equal(wire.extensions, generated.extensions) {
		t.Fatalf("extensions are %v and %v", wire.extensions, generated.extensions)
	}
	h := m.GetAttributes().GetRequest().GetHttp()
	if len(h.GetHeaders()) > 0 && len(h.GetHeaderMap().GetHeaders()) > 0 {
		return
	}
	if wire.origin != generated.origin || wire.fetchSite != generated.fetchSite || wire.wantsMethod != generated.wantsMethod ||
		!maps.EqualFunc(wire.headers, generated.headers, bytes.Equal) {
		t.Fatalf("%+v is not %+v", wire, generated)
	}
	if len(h.GetHeaders()) > 0 {
		return
	}
	if !slices.Equal(wire.cookies.Lines, generated.cookies.Lines) {
		t.Fatalf("cookies are %q and %q", wire.cookies.Lines, generated.cookies.Lines)
	}
	if !slices.Equal(wire.authorization, generated.authorization) {
		t.Fatalf("credentials are %q and %q", wire.authorization, generated.authorization)
	}
	if wire.upgrade != generated.upgrade {
		t.Fatalf("asks for a WebSocket on the wire: %v, in the message: %v", wire.upgrade, generated.upgrade)
	}
}

// requestSeeds are CheckRequests as Envoy sends them, and some that it does not.
func requestSeeds(f *testing.F) [][]byte {
	cookie := "a=1; " + sessions.DefaultCookieName + "=" + fuzzID.Reveal() + "; b=\xff"
	raw := func(pairs ...string) *corev3.HeaderMap {
		m := new(corev3.HeaderMap)
		for i := 0; i < len(pairs); i += 2 {
			m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
		}
		return m
	}
	with := func(h *authv3.AttributeContext_HttpRequest, extensions map[string]string) *authv3.CheckRequest {
		return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request:           &authv3.AttributeContext_Request{Http: h},
			ContextExtensions: extensions,
		}}
	}
	requests := []*authv3.CheckRequest{
		{},
		with(nil, nil),
		with(&authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/x", HeaderMap: raw("cookie", cookie, "x-user-id", "1", "X_User.Id", "1")}, nil),
		with(&authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/x", HeaderMap: raw("cookie", cookie, "cookie", cookie)}, nil),
		with(&authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/x", HeaderMap: raw("cookie", cookie)}, map[string]string{"coatcheck.session": "optional", "coatcheck.roles": "staff, x"}),
		with(&authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/x", HeaderMap: raw("x.user.name", "1", "sec-fetch-mode", "navigate")}, map[string]string{"coatcheck.session": "none"}),
		with(&authv3.AttributeContext_HttpRequest{Method: "CONNECT", Host: "a:443"}, map[string]string{"Coatcheck.Session": "none", "other": "1"}),
		with(&authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/x", Headers: map[string]string{
			"cookie": "a=1," + sessions.DefaultCookieName + "=" + fuzzID.Reveal(), "accept": "text/html", "x-user-roles": "admin",
		}}, nil),
		with(&authv3.AttributeContext_HttpRequest{Method: "POST", Scheme: "https", Host: "Shop.example:80", Path: "/gold/%20?x", HeaderMap: raw("cookie", cookie, "origin", "https://shop.example", "x-plan", "gold", "accept", "application/json")}, nil),
		with(&authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/x!", HeaderMap: raw(":path", "/x\xff", "cookie", cookie)}, nil),
		with(&authv3.AttributeContext_HttpRequest{Method: "OPTIONS", Host: "a", Path: "/", HeaderMap: raw("origin", "https://app.example", "access-control-request-method", "PUT")}, nil),
		with(&authv3.AttributeContext_HttpRequest{Method: "GET", Host: "a.shadow.example", Path: "/a/b", HeaderMap: raw("upgrade", "websocket", "sec-fetch-site", "cross-site", "x-plan", "a", "x-plan", "b")}, map[string]string{"coatcheck.policy": "shadow"}),
		with(&authv3.AttributeContext_HttpRequest{Method: "GET", Host: "a", Path: "/", HeaderMap: raw("upgrade", "websocket", "connection", "upgrade, X_User.Id", "cookie", cookie, "authorization", "Bearer "+fuzzID.Reveal())}, map[string]string{"coatcheck.session": "None", "coatcheck.paths": "parameters"}),
		{Attributes: &authv3.AttributeContext{
			Source: &authv3.AttributeContext_Peer{Principal: "spiffe://a/b", Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "192.0.2.7"}}}},
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "GET", Host: "b", Path: "/gold/..", Headers: map[string]string{"origin": "null", "x-plan": "gold"},
			}},
		}},
		{Attributes: &authv3.AttributeContext{Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/x"}}}}}},
	}
	var seeds [][]byte
	for _, m := range requests {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		// Twice, a message says all again: it replaces what a map has, and adds to a list.
		seeds = append(seeds, b, bytes.Repeat(b, 2))
	}
	return seeds
}

// FuzzHeaderValue: what is encoded is visible ASCII and decodes to what it was.
func FuzzHeaderValue(f *testing.F) {
	for _, s := range []string{"42", "Ada Löwe", "a,b", "100%", "\r\nx-user-id: 1", "\x00\xff", "", "%2C"} {
		f.Add(s, "staff")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		encoded := new(texts).value(a)
		for i := range len(encoded) {
			if c := encoded[i]; c <= ' ' || c >= 0x7f || c == ',' {
				t.Fatalf("%q holds %q", encoded, c)
			}
		}
		if back, err := url.PathUnescape(encoded); err != nil || back != a {
			t.Fatalf("%q became %q and %q, %v", a, encoded, back, err)
		}
		var back []string
		for part := range strings.SplitSeq(new(texts).list([]string{a, b}), ",") {
			if name, err := url.PathUnescape(part); err != nil {
				t.Fatal(err)
			} else if name != "" {
				back = append(back, name)
			}
		}
		if want := slices.DeleteFunc([]string{a, b}, func(s string) bool { return s == "" }); !slices.Equal(back, want) {
			t.Fatalf("the list %q came back as %q", want, back)
		}
	})
}

// FuzzReturn: the redirect goes to the login URL, and back only to the host that
// the browser is on.
func FuzzReturn(f *testing.F) {
	for _, path := range []string{"/", "/cart?a=1&rd=//evil", "//evil.example", `/\evil.example`, "/%2f/evil", "/a#b", "/\t/evil", "", "/" + strings.Repeat("x", sessions.MaxReturn)} {
		f.Add(path)
	}
	login, err := sessions.ParseLoginURL("https://id.example/login?from=envoy")
	if err != nil {
		f.Fatal(err)
	}
	home := &url.URL{Scheme: "https", Host: "shop.example", Path: "/x"}
	f.Fuzz(func(t *testing.T, path string) {
		if !(&request{http: true, path: path}).makesSense() {
			return
		}
		location, err := url.Parse(sessions.LoginLocation(login, path))
		if err != nil || location.Scheme != "https" || location.Host != "id.example" || location.Path != "/login" || location.Query().Get("from") != "envoy" {
			t.Fatalf("%q leads to %v, %v", path, location, err)
		}
		back := location.Query().Get("rd")
		if back != path && back != "/" {
			t.Fatalf("%q came back as %q", path, back)
		}
		// A browser reads a backslash as a slash.
		resolved, err := home.Parse(strings.ReplaceAll(back, `\`, "/"))
		if err == nil && resolved.Host != home.Host {
			t.Fatalf("%q leads back to %v", path, resolved)
		}
	})
}

// FuzzRoute: context_extensions are understood in full or refused.
func FuzzRoute(f *testing.F) {
	f.Add("coatcheck.session", "optional", "coatcheck.roles", "a, b,,c")
	f.Add("coatcheck.session", "none", "coatcheck.roles", "a")
	f.Add("coatcheck.roles", "", "coatcheck.x", "y")
	f.Add("coatcheck.paths", "parameters", "coatcheck.policy", "y")
	f.Add("roles", "staff", "", "")
	name := regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`)
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		r := &reader{wanted: new(wanted)}
		r.extension([]byte(k1), []byte(v1))
		r.extension([]byte(k2), []byte(v2))
		got, err := routeOf(r.extensions, nil)
		if err != nil {
			return
		}
		for key := range r.extensions {
			if _, ours := ourKeys[key]; !ours {
				t.Fatalf("%q is passed over", key)
			}
		}
		if paths, ok := r.extensions["coatcheck.paths"]; ok && string(got.paths) != paths {
			t.Fatalf("%v became %+v", r.extensions, got)
		}
		_, restricted := r.extensions["coatcheck.roles"]
		if restricted != (len(got.roles) > 0) || restricted && got.session == none {
			t.Fatalf("%v became %+v", r.extensions, got)
		}
		for _, role := range got.roles {
			if !name.MatchString(role) {
				t.Fatalf("role %q", role)
			}
		}
		if got.session != required && r.extensions["coatcheck.session"] == "" {
			t.Fatalf("%v became %+v", r.extensions, got)
		}
	})
}
