package e2e_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// guarded are rules of every kind. The signed-in user has the role staff, not admin.
var guarded = extauthz.PolicySet{
	Policies: []extauthz.Policy{
		{Name: "public", Session: "none"}, {Name: "staff", AnyRole: []string{"staff"}}, {Name: "admin", AnyRole: []string{"admin"}},
		{Name: "owner", AllRoles: []string{"owner"}}, {Name: "signed-in"}, {Name: "internal", AnyRole: []string{"internal"}},
	},
	Rules: []extauthz.Rule{
		{Hosts: []string{"internal.example", "*.internal.example"}, Policy: "internal"},
		{Path: "/secret", Policy: "admin"},
		{PathPrefix: "/admin", Policy: "admin"},
		{PathTemplate: "/users/{id}/orders", Policy: "owner"},
		{PathTemplate: "/files/{name}/{rest...}", Policy: "owner"},
		{PathPrefix: "/api", Methods: []string{"DELETE", "PUT", "POST"}, Policy: "admin"},
		{PathPrefix: "/api", Methods: []string{"GET", "HEAD"}, Policy: "staff"},
		{PathPrefix: "/public", Policy: "public"},
		{Hosts: []string{"shop.example"}, Policy: "signed-in"},
	},
	Default: "admin",
}

// pathTricks turn an open path P and a closed one Q, which begins with /q..., into
// request targets that some program reads as Q. q is Q without its slash.
var pathTricks = []string{
	"Q", "Q/", "Q//", "Q/.", "Q/./", "Q/x/..", "/Q", "//Q", "///Q", "/./q", "/.Q", "/x/../q", "/x/%2e%2e/q", "/x/%2E%2E/q", "/x/.%2e/q", "/x/..%2fq", "/x/..%2Fq", "/x%2f..%2fq",
	"P/..Q", "P/../q", "P/%2e%2eQ", "P/.%2E/q", "P/..%2fq", "P/..%5cq", "P/..%5Cq", `P/..\q`, `P\..\q`, "P%2f..Q", "P%5c..%5cq", "P//..Q", "P/.//..Q", "P/x/../..Q", "P/..;Q", "P/..;/q", "P/;/..Q", "P;/..Q", "P;x=1/..Q",
	"Q;", "Q;x", "Q;x=1", "Q;/x", "/;Q", "/;x/q", "Q%3B", "Q%3bx", "Q%00", "Q%00/x", "P%00Q", "P/%00/..Q", "Q%20", "Q%09", "Q%0a", "Q%0d%0a", "Q%7F", "Q%2e", "Q.", "Q/%2e", "Q%2f", "Q%2F", "Q%5c", "Q%2fx", "Q%2Fx", "Q%5Cx",
	"Q?P", "Q?", "Q?x=P", "Q??", "P?Q", "P?/..Q", "P?x/../..Q", "P%3fQ", "P%3F/..Q", "Q%3f", "Q%3FP", "Q#P", "P#Q", "P#/..Q", "Q%23", "Q%23P", "P%23/..Q", "P?#Q", "Q?#P",
	"P/%252e%252eQ", "P/%252e%252e%252fq", "P/..%252fq", "Q%252f", "Q%25", "P/%c0%ae%c0%aeQ", "P/%C0%AE%C0%AE/q", "P/..%c0%afq", "P/..%C0%AFq", "P/%e0%80%aeQ", "P/%uff0e%uff0eQ", "P/%u002e%u002eQ", "P/\uff0e\uff0eQ", "P/..%EF%BC%8Fq", "Q%EF%BC%8F", "Q\xff", "Q%FF", "Q%ff", "Q%C3%B6", "Q%c3%b6", "Qö", "Q/%C3%B6", "Q%", "Q%2", "Q%zz", "Q%%32%66",
	"Q%E2%80%8B", "Q%C2%A0", "Q%C2%AD", "%2fq", "%2Fq", "/%2fq", "/%2Fq", "/%5cq", `\q`, `/\q`, "/%2e/q", "/%2E/q", "q", "*", "//evil.exampleQ", "//evil.example/..Q", "http://shop.exampleQ", "HTTP://shop.exampleQ", "http://evil.exampleQ", "http://shop.example/P/..Q", "http://x@shop.exampleQ", "https://shop.exampleQ", "http:/Q", "file://Q",
	"Q|", "Q[x]", "Q%5B", "Q%7B%7D", "Q{x}", "Q^", "Q`", "Q\"", "Q%22", "Q'", "Q%27", "Q<>", "Q$", "Q%24", "Q&x", "Q%26x", "Q+", "Q%2B", "Q,", "Q=1", "Q:", "Q%3A80", "Q@x", "Q%40x", "Q!", "Q~", "Q%7E", "Q*", "Q()",
	"P/Q", "PQ", "P/.Q", "P/..", "P/../", "P/...Q", "P/.../q", "P/..a/..Q", "P/.a/q",
}

// encodings spell letters of q in other ways.
func encodings(q string) []string {
	var out []string
	for _, i := range []int{1, len(q) - 1} {
		out = append(out,
			fmt.Sprintf("%s%%%02x%s", q[:i], q[i], q[i+1:]), fmt.Sprintf("%s%%%02X%s", q[:i], q[i], q[i+1:]),
			fmt.Sprintf("%s%%25%02x%s", q[:i], q[i], q[i+1:]), fmt.Sprintf("%s%%u00%02x%s", q[:i], q[i], q[i+1:]), q[:i]+"%00"+q[i:], q[:i]+"\t"+q[i:])
	}
	return out
}

// An odd is a request that two programs may read in two ways.
type odd struct{ method, target, host, line string }

func oddRequests() []odd {
	var list []odd
	add := func(o odd) {
		if o.method == "" {
			o.method = "GET"
		}
		if o.host == "" {
			o.host = "shop.example"
		}
		if !slices.Contains(list, o) {
			list = append(list, o)
		}
	}
	for _, pair := range [][2]string{{"/public", "/secret"}, {"/public/x", "/admin"}, {"/public", "/users/7/orders"}, {"/api", "/files/a/b"}} {
		replace := strings.NewReplacer("P", pair[0], "Q", pair[1], "q", pair[1][1:])
		for _, trick := range pathTricks {
			add(odd{target: replace.Replace(trick)})
		}
		for _, target := range encodings(pair[1]) {
			add(odd{target: target})
		}
	}
	for _, host := range []string{
		"internal.example", "INTERNAL.example", "Internal.Example.", "internal.example:80", "internal.example.:443", "internal.example..", "internal.example:", "internal.example:x", "internal.example:99999999",
		"a.internal.example", "A.B.Internal.example", ".internal.example", "internal.example,shop.example", "shop.example,internal.example", "shop.example, internal.example", "shop.example;internal.example",
		"shop.example@internal.example", "internal.example@shop.example", "u:p@internal.example", "shop.example#internal.example", "shop.example/internal.example", `shop.example\internal.example`, "shop.example?internal.example", "shop.example internal.example",
		"internal%2eexample", "%69nternal.example", "internal\u3002example", "internal\uff0eexample", "ınternal.example", "\u24d8nternal.example", "xn--nternal-q4a.example", "internal.example%00", "internal.example\tx", "*.internal.example", "*", "[internal.example]", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.1", "127.1", "0x7f000001", "017700000001", "shop.example", "SHOP.EXAMPLE", "shop.example.", "shop.example:8443", "-", "_", "a..b", strings.Repeat("a", 64) + ".internal.example",
	} {
		add(odd{target: "/x", host: host})
		add(odd{target: "/public", host: host})
	}
	for _, line := range []string{"Host: internal.example", "X-Forwarded-Host: internal.example", "X-Host: internal.example", "Forwarded: host=internal.example", "X-Original-Host: internal.example", "X-Forwarded-Server: internal.example", ":authority: internal.example"} {
		add(odd{target: "/x", line: line})
	}
	for _, name := range []string{"X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Forwarded-Path", "X-Forwarded-Prefix", "X-Original-Path", "X-Envoy-Original-Path", "X-Envoy-Original-Url", "X-Accel-Redirect", "Referer", "X-Replaced-Path", ":path"} {
		add(odd{target: "/public", line: name + ": /secret"})
		add(odd{target: "/secret", line: name + ": /public"})
	}
	for _, name := range []string{"X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "_method", ":method", "Access-Control-Request-Method"} {
		add(odd{target: "/api/x", line: name + ": DELETE"})
		add(odd{target: "/api/x", method: "DELETE", line: name + ": GET"})
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "delete", "Delete", "FOO", "GETX", "PROPFIND", "M-SEARCH", "GET\t", "CONNECT"} {
		add(odd{target: "/api/x", method: method})
		add(odd{target: "/secret", method: method})
	}
	for _, line := range []string{"X-User-Roles: admin", "X_User_Roles: admin", "x.user.roles: admin", "Connection: x-user-roles", "Connection: cookie", "Cookie: " + sessions.DefaultCookieName + "=x", "Cookie: admin=1", "Authorization: Bearer admin", "X-Coatcheck.Policy: public", "Coatcheck.Policy: public", "coatcheck.session: none", "User-Agent: kube-probe/1.0", "X-Forwarded-Proto: https", "X-Forwarded-For: 127.0.0.1", "Transfer-Encoding: chunked\r\n\r\n0", "Content-Length: 0", "Upgrade: h2c", "Origin: null", "Accept: text/html"} {
		add(odd{target: "/secret", line: line})
		add(odd{target: "/api/x", line: line})
	}
	return list
}

// settings are Envoys that normalise differently before the check.
var settings = map[string]func(*bootstrapv3.Bootstrap){
	"envoy.yaml": func(*bootstrapv3.Bootstrap) {},
	"as it came": func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
			m.NormalizePath, m.MergeSlashes, m.StripPortMode = wrapperspb.Bool(false), false, nil
			m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_KEEP_UNCHANGED
			m.CommonHttpProtocolOptions.HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_ALLOW
		})
	},
	"unescape and forward": func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
			m.MergeSlashes, m.PathWithEscapedSlashesAction = false, hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD
		})
	},
	"slashes merged, path kept": func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
			m.NormalizePath, m.PathWithEscapedSlashesAction = wrapperspb.Bool(false), hcmv3.HttpConnectionManager_KEEP_UNCHANGED
		})
	},
}

// someSettings are two of the settings, or all of them in the long form.
func someSettings() map[string]func(*bootstrapv3.Bootstrap) {
	if full {
		return settings
	}
	return map[string]func(*bootstrapv3.Bootstrap){"envoy.yaml": settings["envoy.yaml"], "as it came": settings["as it came"]}
}

// TestTricks sends requests that two programs read differently, under Envoys
// that normalise differently. Each is refused, or the same policy allows the request
// that the upstream received, in each way that it could read it.
func TestTricks(t *testing.T) {
	t.Parallel()
	list := oddRequests()
	if len(list) < 300 {
		t.Fatalf("only %d requests", len(list))
	}
	for name, change := range someSettings() {
		t.Run(name, func(t *testing.T) {
			d := startDeciding(t, guarded, change, func(b *bootstrapv3.Bootstrap) { onlyOneRoute(b) })
			staff := sessions.NewSession{UserID: "42", Roles: []string{"staff"}}
			cookie, key := login(t, d.manager, staff)
			session, err := d.manager.Lookup(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			passed, refused := 0, 0
			for _, o := range list {
				status, sent := d.sendOdd(t, o, cookie)
				reason, policy, asked := d.decided()
				if sent == nil {
					refused++
					continue
				}
				passed++
				if !asked || status != 200 {
					t.Errorf("%+v: reached the upstream with status %d, asked: %v", o, status, asked)
				}
				for _, reading := range readings(sent.Path) {
					for _, host := range hostReadings(sent.Host) {
						e, err := d.server.Explain(t.Context(), asSeen(sent.Method, host, reading), extauthz.WithSession(session, nil))
						if err != nil || !e.Allow || e.Policy != policy || string(e.Reason) != reason {
							t.Errorf("%+v: %s by %s, but the upstream saw %s %s %s, which can be %s %s: %s by %s", o, reason, policy, sent.Method, sent.Host, sent.Path, host, reading, e.Reason, e.Policy)
						}
					}
				}
				if want := policy != "public"; (len(sent.Headers["X-User-Id"]) == 1 && sent.Headers["X-User-Id"][0] == "42") != want {
					t.Errorf("%+v: by %s, and the upstream was sent %v", o, policy, sent.Headers)
				}
			}
			t.Logf("%d requests: %d reached the upstream, %d were refused", len(list), passed, refused)
			if passed < 50 {
				t.Errorf("only %d reached the upstream: the test shows little", passed)
			}
		})
	}
}

// onlyOneRoute removes the routes that state a requirement.
func onlyOneRoute(b *bootstrapv3.Bootstrap) {
	rig.ChangeFront(b, routesOf(func(routes []*routev3.Route) []*routev3.Route { return routes[len(routes)-1:] }))
}

// routesOf changes the routes of the first virtual host.
func routesOf(change func([]*routev3.Route) []*routev3.Route) func(*hcmv3.HttpConnectionManager) {
	return func(m *hcmv3.HttpConnectionManager) {
		host := m.GetRouteConfig().GetVirtualHosts()[0]
		host.Routes = change(host.Routes)
	}
}

// sendOdd sends a request unchanged. sent is nil if the upstream received no request.
// A closed connection without an answer counts as a refusal.
func (d *deciding) sendOdd(t *testing.T, o odd, cookie string) (status int, sent *rig.Echoed) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	d.decided()
	lines := []string{o.method + " " + o.target + " HTTP/1.1", "Host: " + o.host, "Cookie: " + cookie}
	if o.line != "" {
		lines = append(lines, o.line)
	}
	if o.method != "GET" && o.method != "HEAD" && o.method != "CONNECT" && !strings.HasPrefix(o.line, "Transfer") && !strings.HasPrefix(o.line, "Content") {
		lines = append(lines, "Content-Length: 0")
	}
	if !strings.HasPrefix(o.line, "Transfer") && !strings.HasPrefix(o.line, "Connection") {
		lines = append(lines, "Connection: close")
	}
	if _, err := conn.Write([]byte(strings.Join(lines, "\r\n") + "\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "GET"})
	if err != nil {
		return 0, nil
	}
	if o.method == "HEAD" || response.Header.Get("Content-Type") != "application/json" {
		response.Body.Close()
		return response.StatusCode, nil
	}
	a := read(t, response)
	return a.status, a.sent
}

// asSeen is a check of the request that an upstream received.
func asSeen(method, host, target string) *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: method, Host: host, Path: target},
	}}}
}

// readings are the targets that upstreams make of one: as it is; decoded once and
// twice, by programs that are strict and by lenient ones; with "\" for "/"; cut at
// a NUL; without parameters; trimmed; and each of these resolved as path.Clean
// does, if that changes more than a slash at the end.
func readings(target string) []string {
	raw, _, _ := strings.Cut(target, "?")
	once := unescaped(raw)
	found := []string{target}
	for _, reading := range []string{raw, once, unescaped(once), lenient.Replace(raw), lenient.Replace(once), unescaped(withoutParameters(raw))} {
		cut, _, _ := strings.Cut(reading, "\x00")
		query, _, _ := strings.Cut(reading, "?")
		fragment, _, _ := strings.Cut(reading, "#")
		bare := withoutParameters(reading)
		for _, p := range []string{reading, strings.ReplaceAll(reading, `\`, "/"), cut, query, fragment, bare, trimmed(reading), trimmed(bare)} {
			clean := path.Clean("/" + p)
			if strings.HasSuffix(p, "/") && clean != "/" {
				clean += "/"
			}
			if reading != raw {
				clean = (&url.URL{Path: clean}).EscapedPath()
			}
			if !slices.Contains(found, clean) {
				found = append(found, clean)
			}
		}
	}
	return found
}

// unescaped decodes each valid escape, and keeps the others.
func unescaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if text, err := url.PathUnescape(s[i:min(i+3, len(s))]); err == nil && s[i] == '%' {
			b.WriteString(text)
			i += 2
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// lenient decodes what only some programs do: overlong UTF-8, %u, and characters
// that Unicode or a code page makes dots and slashes of.
var lenient = strings.NewReplacer(
	"\xc0\xae", ".", "\xc0\xaf", "/", "\xc1\x9c", `\`, "\xc0\x2e", ".", "\xc0\x2f", "/", "\xe0\x80\xae", ".", "\xe0\x80\xaf", "/", "\xf0\x80\x80\xae", ".", "\xf8\x80\x80\x80\xae", ".",
	"%u002e", ".", "%U002e", ".", "%u002f", "/", "%u2215", "/", "%uff0e", ".", "&#46;", ".",
	"\uff0e", ".", "\ufe52", ".", "\u2024", ".", "\u3002", ".", "\uff61", ".", "\u2025", "..", "\uff0f", "/", "\u2215", "/", "\u2044", "/", "\uff3c", "/", "\u2216", "/", "\ufe68", "/",
	"\u200b", "", "\u200c", "", "\u00ad", "", "\ufeff", "", "\n", "", "\r", "", "\t", "",
)

// trimmed takes blanks off both ends of each segment.
func trimmed(p string) string {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i] = strings.TrimSpace(s)
	}
	return strings.Join(segments, "/")
}

// withoutParameters cuts each segment at its ";".
func withoutParameters(p string) string {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
}

// hostReadings are the hosts that programs make of a Host.
func hostReadings(host string) []string {
	found := []string{host}
	for _, separator := range []string{",", ";", "/", "#", "?", `\`, " "} {
		before, after, ok := strings.Cut(host, separator)
		if ok {
			found = append(found, before, after)
		}
	}
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		found = append(found, host[i+1:])
	}
	return append(found, strings.TrimSuffix(strings.ToLower(host), "."))
}
