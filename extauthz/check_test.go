package extauthz_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

var liveID, otherID = sessions.NewID(), sessions.NewID()

// fake answers as a manager would, or as the test says.
type fake struct {
	session sessions.Session
	err     error
	block   bool
	panics  any
	calls   int
	fields  []string
}

func (f *fake) Touch(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error) {
	f.calls++
	f.fields = fields
	switch {
	case f.block:
		<-ctx.Done()
		return nil, ctx.Err()
	case f.panics != nil:
		panic(f.panics)
	case f.err != nil:
		return nil, f.err
	case id != liveID:
		return nil, sessions.ErrNotFound
	}
	s := f.session
	s.Key = id.Key()
	return &s, nil
}

var ada = sessions.Session{
	UserID: "42", Username: "Ada Löwe", Roles: []string{"staff", "a,b", ""},
	Fields: map[string]string{"tenant": "acme\r\n", "big": strings.Repeat("x", 4097)},
}

func ours(id sessions.ID) string { return sessions.DefaultCookieName + "=" + id.Reveal() }

// A check is a request in words: "METHOD path", header lines, extensions.
type check struct {
	request    string
	lines      []string // "name: value"
	joined     bool     // in the headers map, as without encode_raw_headers
	extensions map[string]string
}

func (c check) message() *authv3.CheckRequest {
	method, path, _ := strings.Cut(c.request, " ")
	h := &authv3.AttributeContext_HttpRequest{Id: "1", Method: method, Path: path, Host: "shop.example", Scheme: "https", Protocol: "HTTP/2"}
	for _, line := range c.lines {
		name, value, _ := strings.Cut(line, ": ")
		if !c.joined {
			if h.HeaderMap == nil {
				h.HeaderMap = new(corev3.HeaderMap)
			}
			h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
			continue
		}
		if h.Headers == nil {
			h.Headers = make(map[string]string)
		}
		if former, ok := h.Headers[name]; ok {
			value = former + "," + value
		}
		h.Headers[name] = value
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: h}, ContextExtensions: c.extensions,
	}}
}

// An answer is a CheckResponse in words.
type answer struct {
	status   int // 200 for OK
	set      map[string]string
	removed  []string
	body     string
	reason   string
	session  string
	response *authv3.CheckResponse
}

func read(t *testing.T, response *authv3.CheckResponse) answer {
	t.Helper()
	a := answer{status: 200, set: make(map[string]string), response: response}
	options := response.GetOkResponse().GetHeaders()
	if denied := response.GetDeniedResponse(); denied != nil {
		a.status, a.body, options = int(denied.GetStatus().GetCode()), denied.GetBody(), denied.GetHeaders()
	}
	if (a.status == 200) != (response.GetStatus().GetCode() == 0) {
		t.Errorf("status %d with the gRPC code %d", a.status, response.GetStatus().GetCode())
	}
	for _, option := range options {
		name, value := option.GetHeader().GetKey(), option.GetHeader().GetValue()
		if _, twice := a.set[name]; twice || value == "" || option.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("%s: %q, twice: %v, %v", name, value, twice, option.GetAppendAction())
		}
		a.set[name] = value
	}
	a.removed = response.GetOkResponse().GetHeadersToRemove()
	for _, name := range a.removed {
		if _, ok := a.set[strings.ToLower(name)]; ok {
			t.Errorf("%s is set and removed", name)
		}
	}
	if a.status != 200 && a.set["cache-control"] != "no-store" {
		t.Errorf("status %d may be cached: %v", a.status, a.set)
	}
	a.reason = response.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
	a.session = response.GetDynamicMetadata().GetFields()["session"].GetStringValue()
	return a
}

// both asks the server through each reader, the generated message and the wire,
// and wants one answer.
func both(t *testing.T, s extauthz.Sessions, config extauthz.Config, c check) answer {
	t.Helper()
	if config.Timeout == 0 {
		config.Timeout = 10 * time.Second
	}
	server, err := extauthz.New(s, config)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := server.Check(t.Context(), c.message())
	if err != nil {
		t.Fatalf("an error is no verdict: %v", err)
	}
	wire, err := dial(t, server).Check(t.Context(), c.message())
	if err != nil {
		t.Fatalf("an error is no verdict: %v", err)
	}
	if a, b := prototext.Format(direct), prototext.Format(wire); squeeze(a) != squeeze(b) && !c.joined {
		t.Errorf("directly:\n%s\nover the wire:\n%s", a, b)
	}
	return read(t, wire)
}

// squeeze takes out the blanks that prototext puts in at random.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func dial(t *testing.T, server *extauthz.Server) authv3.AuthorizationClient {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	g := grpc.NewServer(grpc.ForceServerCodecV2(extauthz.Codec()))
	extauthz.Register(g, server)
	go func() { _ = g.Serve(listener) }()
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("passthrough:bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return authv3.NewAuthorizationClient(conn)
}

var (
	optional = map[string]string{"coatcheck.session": "optional"}
	public   = map[string]string{"coatcheck.session": "none"}
)

func TestVerdicts(t *testing.T) {
	broken := fmt.Errorf("%w: roles", sessions.ErrBroken)
	for _, test := range []struct {
		name   string
		cookie string
		routes map[string]string
		err    error
		status int
		reason string
		asked  bool // Sessions
	}{
		{"live", ours(liveID), nil, nil, 200, "ok", true},
		{"no cookie", "a=1", nil, nil, 401, "no_cookie", false},
		{"malformed", sessions.DefaultCookieName + "=junk", nil, nil, 401, "malformed_cookie", false},
		{"two cookies", ours(liveID) + "; " + ours(liveID), nil, nil, 401, "ambiguous_cookie", false},
		{"unknown", ours(otherID), nil, nil, 401, "not_found", true},
		{"expired", ours(liveID), nil, sessions.ErrExpired, 401, "expired", true},
		{"broken", ours(liveID), nil, broken, 401, "broken_record", true},
		{"unknown layout", ours(liveID), nil, sessions.ErrLayout, 503, "unknown_layout", true},
		{"outage", ours(liveID), nil, errors.New("refused"), 503, "unavailable", true},
		{"the store's own deadline", ours(liveID), nil, context.DeadlineExceeded, 503, "unavailable", true},
		{"a caller's cancellation", ours(liveID), nil, context.Canceled, 503, "unavailable", true},

		{"optional, live", ours(liveID), optional, nil, 200, "ok", true},
		{"optional, no cookie", "", optional, nil, 200, "no_cookie", false},
		{"optional, malformed", sessions.DefaultCookieName + "=", optional, nil, 200, "malformed_cookie", false},
		{"optional, two cookies", ours(liveID) + "; " + ours(otherID), optional, nil, 200, "ambiguous_cookie", false},
		{"optional, unknown", ours(otherID), optional, nil, 200, "not_found", true},
		{"optional, expired", ours(liveID), optional, sessions.ErrExpired, 200, "expired", true},
		{"optional, broken", ours(liveID), optional, broken, 200, "broken_record", true},
		{"optional, unknown layout", ours(liveID), optional, sessions.ErrLayout, 503, "unknown_layout", true},
		{"optional, outage", ours(liveID), optional, errors.New("refused"), 503, "unavailable", true},

		{"public, live", ours(liveID), public, nil, 200, "public", false},
		{"public, outage", ours(liveID), public, errors.New("refused"), 200, "public", false},

		{"role", ours(liveID), map[string]string{"coatcheck.roles": "x, staff,"}, nil, 200, "ok", true},
		{"role missing", ours(liveID), map[string]string{"coatcheck.roles": "x,y"}, nil, 403, "missing_role", true},
		{"role in another case", ours(liveID), map[string]string{"coatcheck.roles": "Staff"}, nil, 403, "missing_role", true},
		{"role, not signed in", "", map[string]string{"coatcheck.roles": "staff"}, nil, 401, "no_cookie", false},
		{"optional with role", ours(liveID), map[string]string{"coatcheck.session": "optional", "coatcheck.roles": "staff"}, nil, 200, "ok", true},
		{"optional with role, missing", ours(liveID), map[string]string{"coatcheck.session": "optional", "coatcheck.roles": "x"}, nil, 403, "missing_role", true},
		{"optional with role, not signed in", "", map[string]string{"coatcheck.session": "optional", "coatcheck.roles": "staff"}, nil, 401, "no_cookie", false},

		{"no role named", ours(liveID), map[string]string{"coatcheck.roles": " , "}, nil, 403, "bad_route", false},
		{"bad role name", ours(liveID), map[string]string{"coatcheck.roles": "staff,ad min"}, nil, 403, "bad_route", false},
		{"public with role", ours(liveID), map[string]string{"coatcheck.session": "none", "coatcheck.roles": "staff"}, nil, 403, "bad_route", false},
		{"unknown value", ours(liveID), map[string]string{"coatcheck.session": "None"}, nil, 403, "bad_route", false},
		{"empty value", ours(liveID), map[string]string{"coatcheck.session": ""}, nil, 403, "bad_route", false},
		{"unknown key", ours(liveID), map[string]string{"coatcheck.role": "staff"}, nil, 403, "bad_route", false},
		{"key in another case", ours(liveID), map[string]string{"Coatcheck.Session": "none"}, nil, 403, "bad_route", false},
		{"another reader's key", ours(liveID), map[string]string{"x": "2"}, nil, 403, "bad_route", false},
	} {
		for _, joined := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, joined: %v", test.name, joined), func(t *testing.T) {
				f := &fake{session: ada, err: test.err}
				c := check{request: "GET /x", joined: joined, extensions: test.routes, lines: []string{"x-user-id: 1", "X-User-Name: 1", "X_User.Roles: 1"}}
				if test.cookie != "" {
					c.lines = append(c.lines, "cookie: "+test.cookie)
				}
				a := both(t, f, extauthz.Config{}, c)
				if a.status != test.status || a.reason != test.reason || (f.calls > 0) != test.asked {
					t.Errorf("status %d, %s, asked: %v; want %d, %s, %v", a.status, a.reason, f.calls > 0, test.status, test.reason, test.asked)
				}
				if signedIn := test.reason == "ok" || test.reason == "missing_role"; signedIn != (a.session != "") {
					t.Errorf("the metadata's session is %q", a.session)
				}
				if test.status == 200 {
					checkIdentity(t, a, test.reason == "ok")
				}
				if (a.set["www-authenticate"] == "Session") != (test.status == 401) || (a.set["retry-after"] != "") != (test.status == 503) {
					t.Errorf("headers are %v", a.set)
				}
			})
		}
	}
}

// checkIdentity wants every managed header set or removed, aliases removed, and
// the session ID gone.
func checkIdentity(t *testing.T, a answer, signedIn bool) {
	t.Helper()
	want := map[string]string{}
	if signedIn {
		want = map[string]string{
			"x-user-id": "42", "x-user-name": "Ada%20L%C3%B6we", "x-user-roles": "staff,a%2Cb", "x-user-session": string(liveID.Key()),
		}
	}
	for _, name := range []string{"x-user-id", "x-user-name", "x-user-roles", "x-user-session"} {
		if a.set[name] != want[name] || slices.Contains(a.removed, name) == signedIn {
			t.Errorf("%s is %q, removed: %v", name, a.set[name], a.removed)
		}
	}
	if !slices.Contains(a.removed, "X_User.Roles") {
		t.Errorf("the alias is not removed: %v", a.removed)
	}
}

// TestPathAsItCame: in a path Envoy writes "!" for bytes that are no UTF-8, and the path
// that it shows as a header, if it does, has them.
func TestPathAsItCame(t *testing.T) {
	for _, test := range []struct {
		request, raw, reason string
	}{
		{"GET /public/!!!!/secret", "/public/\xc0\xae\xc0\xae/secret", "noncanonical_path"},
		{"GET /public/..!/secret", "/public/..\xff/secret", "noncanonical_path"},
		{"GET /public/a!b", "/public/a\xa0b", "noncanonical_path"},
		{"GET /public/a!b", "/public/a!b", "public"},
		{"GET /public?!", "/public?\xff", "public"},
		{"GET /public?a=1", "/public?a=1", "public"},
	} {
		for _, paths := range []extauthz.Paths{extauthz.PathsSafe, extauthz.PathsParameters, extauthz.PathsStrict} {
			a := both(t, &fake{}, extauthz.Config{Paths: paths}, check{
				request: test.request, lines: []string{":path: " + test.raw}, extensions: map[string]string{"coatcheck.session": "none"},
			})
			if a.reason != test.reason {
				t.Errorf("%s, %s as %q: %s, want %s", paths, test.request, test.raw, a.reason, test.reason)
			}
		}
	}
}

func TestMakesNoSense(t *testing.T) {
	message := func(m *authv3.CheckRequest) *authv3.CheckRequest { return m }
	for name, test := range map[string]struct {
		m      *authv3.CheckRequest
		reason string
	}{
		"nil":                      {message(nil), "bad_request"},
		"empty":                    {&authv3.CheckRequest{}, "bad_request"},
		"TCP":                      {&authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}}, "bad_request"},
		"CONNECT":                  {check{request: "CONNECT"}.message(), "bad_request"},
		"star":                     {check{request: "OPTIONS *"}.message(), "bad_request"},
		"absolute form":            {check{request: "GET http://h/x"}.message(), "bad_request"},
		"line feed":                {check{request: "GET /x\ny"}.message(), "bad_request"},
		"DEL":                      {check{request: "GET /x\x7f"}.message(), "bad_request"},
		"alias no UTF-8":           {check{request: "GET /x", lines: []string{"x-user-\xff: 1"}}.message(), "bad_request"},
		"nominates":                {check{request: "GET /x", lines: []string{"connection: Upgrade, X-User-Id"}}.message(), "bad_request"},
		"nominates alias":          {check{request: "GET /x", lines: []string{"connection: keep-alive", "connection:  x_user_roles\t,close"}}.message(), "bad_request"},
		"nominates behind a blank": {check{request: "GET /x", lines: []string{"connection: Upgrade,\xa0x-user-id"}}.message(), "bad_request"},
		"nominates behind a quote": {check{request: "GET /x", lines: []string{"connection: \"Upgrade\", \"x-user-id\""}}.message(), "bad_request"},
		"nominates others":         {check{request: "GET /x", lines: []string{"connection: keep-alive, Upgrade, user-agent, x-user", "cookie: " + ours(liveID)}}.message(), "ok"},
		"on a public one":          {check{request: "GET x", extensions: public}.message(), "bad_request"},
		"on a mistyped":            {check{request: "GET x", extensions: map[string]string{"coatcheck.x": ""}}.message(), "bad_route"},
		"no UTF-8 in path":         {check{request: "GET /\xff", lines: []string{"cookie: " + ours(liveID)}}.message(), "noncanonical_path"},
		"no UTF-8 behind":          {check{request: "GET /?\xff", lines: []string{"cookie: " + ours(liveID)}}.message(), "ok"},
	} {
		f := &fake{session: ada}
		server, err := extauthz.New(f, extauthz.Config{})
		if err != nil {
			t.Fatal(err)
		}
		response, err := server.Check(t.Context(), test.m)
		if err != nil {
			t.Fatal(err)
		}
		if a := read(t, response); a.reason != test.reason || test.reason != "ok" && f.calls > 0 {
			t.Errorf("%s: %d %s, asked %d times", name, a.status, a.reason, f.calls)
		}
	}
}

func TestRefusals(t *testing.T) {
	nav := func(more ...string) []string {
		return append([]string{"sec-fetch-mode: navigate", "sec-fetch-dest: document"}, more...)
	}
	long := "/" + strings.Repeat("x", 2048)
	for _, test := range []struct {
		name, login, request string
		lines                []string
		status               int
		location             string
	}{
		{"no login", "", "GET /x", nav(), 401, ""},
		{"navigation", "/login", "GET /a?b=c&d", nav(), 302, "/login?rd=%2Fa%3Fb%3Dc%26d"},
		{"HEAD", "/login", "HEAD /x", nav(), 302, "/login?rd=%2Fx"},
		{"POST", "/login", "POST /x", nav(), 401, ""},
		{"lower-case method", "/login", "get /x", nav(), 400, ""},
		{"without dest", "/login", "GET /x", []string{"sec-fetch-mode: navigate"}, 302, "/login?rd=%2Fx"},
		{"frame", "/login", "GET /x", []string{"sec-fetch-mode: navigate", "sec-fetch-dest: iframe"}, 401, ""},
		{"fetch", "/login", "GET /x", []string{"sec-fetch-mode: cors", "accept: text/html"}, 401, ""},
		{"dest alone", "/login", "GET /x", []string{"sec-fetch-dest: document", "accept: text/html"}, 401, ""},
		{"websocket", "/login", "GET /x", []string{"sec-fetch-mode: websocket", "sec-fetch-dest: empty"}, 401, ""},
		{"old browser", "/login", "GET /x", []string{"accept: application/xml;q=0.9, Text/HTML;q=0.8"}, 302, "/login?rd=%2Fx"},
		{"program", "/login", "GET /x", []string{"accept: */*"}, 401, ""},
		{"not quite", "/login", "GET /x", []string{"accept: text/htmlx, xtext/html"}, 401, ""},
		{"gRPC", "/login", "GET /x", nav("content-type: application/grpc-web+proto"), 401, ""},
		{"login with a query", "https://id.example/in?a=b", "GET /x", nav(), 302, "https://id.example/in?a=b&rd=%2Fx"},
		{"two slashes", "/login", "GET //evil.example", nav(), 400, ""},
		{"slash and backslash", "/login", `GET /\evil.example`, nav(), 400, ""},
		{"too long", "/login", "GET " + long, nav(), 302, "/login?rd=%2F"},
		{"bytes", "/login", "GET /?\u00f6#", nav(), 302, "/login?rd=%2F%3F%C3%B6%23"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := both(t, &fake{}, extauthz.Config{LoginURL: test.login}, check{request: test.request, lines: test.lines})
			if a.status != test.status || a.set["location"] != test.location {
				t.Errorf("%d to %q, want %d to %q", a.status, a.set["location"], test.status, test.location)
			}
			if grpc := test.name == "gRPC"; grpc && a.body != "" || !grpc && a.status == 401 && a.body == "" {
				t.Errorf("the body is %q", a.body)
			}
		})
	}
}

func TestCookieHeader(t *testing.T) {
	for _, test := range []struct {
		name   string
		lines  []string
		joined bool
		keep   bool
		want   string // the header set
		gone   bool   // the header removed
	}{
		{"only ours", []string{"cookie: " + ours(otherID)}, false, false, "", true},
		{"others", []string{"cookie: a=1; " + ours(otherID) + "; b=ö"}, false, false, "a=1; b=ö", false},
		{"others' bytes", []string{"cookie: a=\xff; " + ours(otherID) + "; b=2"}, false, false, "b=2", false},
		{"lines", []string{"cookie: a=1", "Cookie: " + ours(otherID), "cookie: b=2"}, false, false, "a=1; b=2", false},
		{"thrice", []string{"cookie: " + ours(otherID) + "; a=1; " + ours(liveID), "cookie: " + ours(liveID)}, false, false, "a=1", false},
		{"not our cookie", []string{"cookie: a=\xff"}, false, false, "", false},
		{"kept", []string{"cookie: " + ours(otherID)}, false, true, "", false},
		{"joined", []string{"cookie: a=1", "cookie: " + ours(otherID)}, true, false, "a=1", false},
	} {
		for _, route := range []map[string]string{optional, public} {
			t.Run(fmt.Sprint(test.name, " ", route), func(t *testing.T) {
				a := both(t, &fake{session: ada}, extauthz.Config{KeepCookie: test.keep},
					check{request: "GET /x", lines: test.lines, joined: test.joined, extensions: route})
				if a.status != 200 || a.set["cookie"] != test.want || slices.Contains(a.removed, "cookie") != test.gone {
					t.Errorf("%d, set %q, removed %v", a.status, a.set["cookie"], a.removed)
				}
			})
		}
	}
}

func TestFields(t *testing.T) {
	var out bytes.Buffer
	f := &fake{session: ada}
	a := both(t, f, extauthz.Config{
		Fields: []extauthz.FieldHeader{{Field: "tenant", Header: "x-user-tenant-id"}, {Field: "big", Header: "x-user-big"}, {Field: "absent", Header: "x-user-absent"}},
		Logger: slog.New(slog.NewTextHandler(&out, nil)),
	}, check{request: "GET /x", lines: []string{"cookie: " + ours(liveID), "x-user-agent: grpc-web", "x_user_agent: 1", "x-user-big: 1"}})
	if !slices.Equal(f.fields, []string{"tenant", "big", "absent"}) {
		t.Errorf("asked for %v", f.fields)
	}
	if a.set["x-user-tenant-id"] != "acme%0D%0A" {
		t.Errorf("headers are %v", a.set)
	}
	for name, gone := range map[string]bool{"x-user-big": true, "x-user-absent": true, "x_user_agent": true, "x-user-agent": false} {
		if slices.Contains(a.removed, name) != gone {
			t.Errorf("%s removed: %v, want %v", name, !gone, gone)
		}
	}
	if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "omitted_fields=[big]") {
		t.Errorf("the log lacks the omitted field: %s", out.String())
	}
}

// TestDeadline: our own ends the wait, the caller's if it is earlier, and a
// caller that hangs up ends nothing.
func TestDeadline(t *testing.T) {
	message := check{request: "GET /x", lines: []string{"cookie: " + ours(liveID)}}.message()
	ask := func(ctx context.Context, timeout time.Duration, f *fake) (answer, time.Duration) {
		t.Helper()
		server, err := extauthz.New(f, extauthz.Config{Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		response, err := server.Check(ctx, message)
		if err != nil {
			t.Fatal(err)
		}
		return read(t, response), time.Since(begin)
	}
	if a, took := ask(t.Context(), 100*time.Millisecond, &fake{block: true}); a.status != 503 || a.reason != "timeout" || took > 20*time.Second {
		t.Errorf("ours: %d %s after %v", a.status, a.reason, took)
	}
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if a, took := ask(soon, time.Minute, &fake{block: true}); a.status != 503 || a.reason != "timeout" || took > 20*time.Second {
		t.Errorf("theirs: %d %s after %v", a.status, a.reason, took)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if a, _ := ask(gone, time.Minute, &fake{session: ada}); a.status != 200 {
		t.Errorf("hung up: %d %s", a.status, a.reason)
	}
}

// TestAnswerBeforeTheirDeadline: an Envoy that has waited in vain takes the check for an
// error, which failure_mode_allow makes an allow. So the answer is there before; on a
// busy machine one of many times is enough, since none was at their deadline.
func TestAnswerBeforeTheirDeadline(t *testing.T) {
	message := check{request: "GET /x", lines: []string{"cookie: " + ours(liveID)}}.message()
	server, err := extauthz.New(&fake{block: true}, extauthz.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, timeout := range []time.Duration{20 * time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond} {
		early := 0
		for range 50 {
			if early > 0 {
				break
			}
			theirs, cancel := context.WithTimeout(t.Context(), timeout)
			response, err := server.Check(theirs, message)
			if err != nil {
				t.Fatal(err)
			}
			if a := read(t, response); a.status != 503 || a.reason != "timeout" {
				t.Errorf("%v: %d %s", timeout, a.status, a.reason)
			}
			if end, _ := theirs.Deadline(); time.Now().Before(end) {
				early++
			}
			cancel()
		}
		if early == 0 {
			t.Errorf("no answer came within %v", timeout)
		}
	}
}

func TestPanic(t *testing.T) {
	for _, panics := range []any{"text", errors.New("error"), 7} {
		a := both(t, &fake{panics: panics}, extauthz.Config{}, check{request: "GET /x", lines: []string{"cookie: " + ours(liveID)}})
		if a.status != 503 || a.reason != "internal" {
			t.Errorf("%v: %d %s", panics, a.status, a.reason)
		}
	}
}

// faulty is a store that breaks its contract.
type faulty struct{ s *sessions.Session }

func (n faulty) Touch(context.Context, sessions.ID, ...string) (*sessions.Session, error) {
	return n.s, nil
}

func TestNobodyIsNotSomebody(t *testing.T) {
	for _, s := range []*sessions.Session{nil, {}} {
		a := both(t, faulty{s}, extauthz.Config{}, check{request: "GET /x", lines: []string{"cookie: " + ours(liveID)}})
		if a.status != 503 {
			t.Errorf("%v: %d %s", s, a.status, a.reason)
		}
	}
}

// TestNew names everything that is wrong at once.
func TestNew(t *testing.T) {
	_, err := extauthz.New(nil, extauthz.Config{
		Cookie: sessions.Cookie{Name: "a b"}, HeaderPrefix: "x-user-", LoginURL: "javascript:1", Timeout: -1, Log: extauthz.LogConfig{Decisions: "some"},
		Fields: []extauthz.FieldHeader{{Field: "tenant", Header: "x-user-id"}},
	})
	for _, want := range []string{"no sessions", "cookie name", "login URL", "timeout", "logged decisions", "x-user-id is taken"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q: %v", want, err)
		}
	}
	for name, config := range map[string]extauthz.Config{
		"prefix of all":       {HeaderPrefix: "x-"},
		"Envoy's prefix":      {HeaderPrefix: "x-envoy-"},
		"prefix in capitals":  {HeaderPrefix: "X-User-"},
		"prefix without end":  {HeaderPrefix: "x-user"},
		"reserved field":      {Fields: []extauthz.FieldHeader{{Field: "roles", Header: "x-user-r"}}},
		"header outside":      {Fields: []extauthz.FieldHeader{{Field: "a", Header: "x-a"}}},
		"header in capitals":  {Fields: []extauthz.FieldHeader{{Field: "a", Header: "x-user-A"}}},
		"grpc-web's":          {Fields: []extauthz.FieldHeader{{Field: "a", Header: "x-user-agent"}}},
		"header twice":        {Fields: []extauthz.FieldHeader{{Field: "a", Header: "x-user-a"}, {Field: "b", Header: "x-user-a"}}},
		"login on no host":    {LoginURL: "//evil.example"},
		"login by script":     {LoginURL: "javascript:alert(1)"},
		"login with user":     {LoginURL: "https://a:b@id.example/"},
		"login with fragment": {LoginURL: "/login#x"},
		"login with newline":  {LoginURL: "/login\n"},
	} {
		if _, err := extauthz.New(&fake{}, config); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
