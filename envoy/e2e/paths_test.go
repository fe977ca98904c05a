package e2e_test

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// moreTricks are for upstreams that cut off parameters, decode leniently or
// normalise more than Envoy. P, Q and q are as in pathTricks.
var moreTricks = []string{
	"P/%2e%2e;Q", "P/%2e%2e;/q", "P/%2E%2E;Q", "P/.%2e;Q", "P/.%2e;a/q", "P/%2e.;Q", "P/%2e.;x=1/q", "P/..;x=1/q", "P/..;x=1;y=2/q", "P/..%3bQ", "P/..%3B/q", "P/..%3bx=1/q", "P/%2e%2e%3b/q", "P/;/../q", "P/.;/..;/q", "P/.;/../q", "P/x;/..;/..;/q",
	"P/..;%2fq", "P/..;%5cq", "P/;x=1/../../q", "P;/../q", "P;x=/../q", "P/;%2e%2e/q", "P/%3b/../q", "P/..;;/q", "P/;..;/q", "P/..;a=b,c/q", "/;x=1/q", "/;x=1Q", "/.;Q", "/.;x=1Q", "Q;x=1/y", "Q;x=1;y=2", "Q;jsessionid=1", "Q/;x=1", "Q/.;", "Q/.;x=1", "Q/..;", "Q/x/..;", "Q/x/..;/", "Q/;/", "Q%3bx=1", "Q;%00", "Q;=", "Q;x=1=2", "Q;a%3db",
	"P/%20../q", "P/..%20/q", "P/.%20./q", "P/%09../q", "P/..%09/q", "P/..%0a/q", "P/..%0dQ", "P/..%00/q", "P/%00../q", "P/..%C2%A0/q", "P/..%c2%a0/q", "P/%E3%80%80../q", "P/..%e2%80%8b/q", "P/.%e2%80%8c./q", "P/..%ef%bb%bf/q", "P/%c2%ad../q", "P/.../q", "P/..../q", "P/../", "P/..", "P/.", "P/%2e", "P/%2e%2e", "P/%2E%2e/", "P/.%2e", "Q/%2e/", "Q%2e%2e", "Q.%2e",
	"P/%ef%bc%8e%ef%bc%8e/q", "P/%EF%BC%8E%EF%BC%8E%EF%BC%8Fq", "P/..%ef%bc%8fq", "P/..%ef%bc%bcq", "P/%e2%80%a5/q", "P/%E2%80%A5/q", "P/%ef%b9%92%ef%b9%92/q", "P/%e2%80%a4%e2%80%a4/q", "P/..%e2%88%95q", "P/..%e2%81%84q", "P/..%E2%88%96q", "P/..%ef%b9%a8q", "P/%e3%80%82%e3%80%82/q", "P/%ef%bd%a1%ef%bd%a1/q", "P/%ef%bc%8e./q",
	"P/\xc0\xae\xc0\xae/q", "P/..\xc0\xafq", "P/\xc0\xae./Q", "P/..\xc1\x9cq", "P/\xe0\x80\xae\xe0\x80\xae/q", "P/\xf8\x80\x80\x80\xae./q",
	"P/%c0%ae%c0%ae/q", "P/%C0%AE./q", "P/%c0%2e/q", "P/..%c0%af/q", "P/..%c0%2fq", "P/%e0%80%ae%e0%80%ae/q", "P/%f0%80%80%ae%f0%80%80%ae/q", "P/%f8%80%80%80%ae/q", "P/%c1%9c../q", "P/..%c1%9cq", "P/%fe%fe/q", "P/%ed%a0%80/../q", "P/%2%65%2%65/q", "P/%%32%65%%32%65/q", "P/%25%32%65%25%32%65/q", "P/%u002e%u002e/q", "P/%u002e%u002e%u002fq", "P/..%u2215q", "P/%U002e./q", "P/&#46;&#46;/q", "P/\\u002e\\u002e/q", "P/\\x2e\\x2e/q",
	"P/%3f/../q", "P/%3F/..Q", "P/%23/../q", "Q%3f", "Q%3Fx", "Q%23x", "P%3f/../q", "P%23Q", "P/%2523", "P/%255c..Q", "P/..%255cq", "P/%25252e%25252e/q", "P/x%252f..%252f..%252fq", "P/%2525", "P/%5c..%5c..%5cq", "P/..%5C..%5Cq", "P/x%5c..%5c..%5cq",
	"P/*/../q", "P/~/../q", "P/$/../q", "P/@/../q", "P/:/../q", "/:Q", "P/../../../../../q", "P/..//q", "P//../q", "P///../../q", "P/.//../q", "P/x//../../q", "P/../P/../q", "/P/../q", "//P/..Q", "/.//q", "/..//q", "/../q", "/..Q", "/%2e%2eQ", "/..;Q", "/%2e%2e;Q",
	"http://shop.example/P/%2e%2e;Q", "http://shop.example;Q", "http://shop.exampleP?Q", "*Q", "/*", "", "Q HTTP/1.1",
}

// routeTricks are targets that make a page of an open route and one of a closed
// route look alike.
func routeTricks() []string {
	var list []string
	pairs := [][2]string{{"/public", "/secret"}, {"/x", "/admin"}, {"/public", "/admin"}, {"/optional", "/admin"}, {"/public/x", "/admin/x"}, {"/.auth", "/admin"}}
	if !full {
		pairs = pairs[:2]
	}
	for _, pair := range pairs {
		replace := strings.NewReplacer("P", pair[0], "Q", pair[1], "q", pair[1][1:])
		for _, trick := range slices.Concat(pathTricks, moreTricks) {
			list = append(list, replace.Replace(trick))
		}
		list = append(list, encodings(pair[1])...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// guard is the least privileged client that may see a page by envoy.yaml's routes.
func guard(page string) string {
	below := func(prefix string) bool { return page == prefix || strings.HasPrefix(page, prefix+"/") }
	switch page, _, _ = strings.Cut(page, "?"); {
	case below("/public"), below("/optional"), below("/.auth"):
		return "anonymous"
	case below("/admin"):
		return "admin"
	}
	return "staff"
}

// TestTricksOnRoutes sends tricks to envoy.yaml's own routes, without any policy
// or rule, over both protocols. A client may see every page that it reaches, in each
// way that the upstream could read the path.
func TestTricksOnRoutes(t *testing.T) {
	t.Parallel()
	list := routeTricks()
	for name, change := range someSettings() {
		t.Run(name, func(t *testing.T) {
			d := startDeciding(t, extauthz.PolicySet{}, change, closingAtOnce)
			cookie, _ := login(t, d.manager, sessions.NewSession{UserID: "42", Roles: []string{"staff"}})
			for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
				passed, refused := 0, 0
				client := newH2(t, d.URL)
				for _, target := range list {
					for _, who := range []string{"anonymous", "staff"} {
						var lines []string
						if who == "staff" {
							lines = []string{"cookie: " + cookie}
						}
						var got answer
						if protocol == "HTTP/1.1" {
							got = sendRaw(t, d.URL, "GET", "shop.example", target, lines)
						} else if got = client.send(t, "GET", "shop.example", target, lines, nil); got.status == 0 {
							client = newH2(t, d.URL) // ended by Envoy
						}
						if got.sent == nil {
							refused++
							if got.status == 200 {
								t.Errorf("%s %q for %s: a 200 of Envoy", protocol, target, who)
							}
							continue
						}
						passed++
						for _, page := range readings(got.sent.Path) {
							if may := guard(page); may == "admin" || may == "staff" && who != "staff" {
								t.Errorf("%s %q: %s was served %q, which can be %q, for %s", protocol, target, who, got.sent.Path, page, may)
							}
						}
					}
				}
				t.Logf("%s: %d reached the upstream, %d were refused", protocol, passed, refused)
				if passed < 50 || refused < 500 {
					t.Errorf("%s: %d reached the upstream, %d were refused: the test shows little", protocol, passed, refused)
				}
			}
		})
	}
}

// closingAtOnce saves the second for which Envoy reads a connection that it closes.
func closingAtOnce(b *bootstrapv3.Bootstrap) {
	rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) { m.DelayedCloseTimeout = durationpb.New(time.Millisecond) })
}

// sendRaw is send for targets to which Envoy may answer by closing the connection:
// status 0.
func sendRaw(t *testing.T, url, method, host, target string, lines []string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	all := append([]string{method + " " + target + " HTTP/1.1", "Host: " + host, "Connection: close"}, lines...)
	if _, err := conn.Write([]byte(strings.Join(all, "\r\n") + "\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return answer{}
	}
	return read(t, response)
}

// exempted enables the route that envoy.yaml has in comments, as its reader would,
// and requires no session there.
func exempted(t *testing.T) func(*bootstrapv3.Bootstrap) {
	t.Helper()
	text, err := os.ReadFile("../envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile(`(?m)^              # (- match: \{path_separated_prefix: /shop\}|  .*)$`)
	if n := len(example.FindAll(text, -1)); n != 6 {
		t.Fatalf("the example has %d lines", n)
	}
	changed := example.ReplaceAll(text, []byte("              $1"))
	changed = []byte(strings.Replace(string(changed), "coatcheck.paths: parameters}", "coatcheck.paths: parameters, coatcheck.session: none}", 1))
	b, err := rig.Parse(changed)
	if err != nil {
		t.Fatal(err)
	}
	var route *routev3.Route
	rig.ChangeFront(b, routesOf(func(routes []*routev3.Route) []*routev3.Route {
		route = routes[0]
		return routes
	}))
	if route.GetMatch().GetPathSeparatedPrefix() != "/shop" {
		t.Fatalf("the first route is %v", route)
	}
	return func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFront(b, routesOf(func(routes []*routev3.Route) []*routev3.Route {
			return append([]*routev3.Route{route}, routes...)
		}))
	}
}

// TestPermittedParameters: an application on that route gets its parameters, and no
// trick leads out of it.
func TestPermittedParameters(t *testing.T) {
	t.Parallel()
	for name, change := range someSettings() {
		t.Run(name, func(t *testing.T) {
			d := startDeciding(t, extauthz.PolicySet{}, change, exempted(t), closingAtOnce)
			for target, status := range map[string]int{
				"/shop": 200, "/shop/a;jsessionid=1F.node-1/b": 200, "/shop/a;x=1;y=%20,2": 200, "/shop/a;x": 400, "/shop/a;": 400, "/shop/;x=1/secret": 400,
				"/shop;x=1": 400, "/secret;x=1": 400, "/public;x=1": 400, "/shop/a%3bx=1": 400, "/shop/%00": 400, "/shop/a?b;c": 200, "/public/ok?a;b": 200, "/public/ok?a%3b%2f..%2f": 200,
			} {
				if got := sendRaw(t, d.URL, "GET", "shop.example", target, nil); got.status != status {
					t.Errorf("%s: %d, want %d", target, got.status, status)
				}
			}
			client, passed := newH2(t, d.URL), 0
			for _, trick := range slices.Concat(pathTricks, moreTricks) {
				for _, closed := range []string{"/secret", "/admin"} {
					target := strings.NewReplacer("P", "/shop", "Q", closed, "q", closed[1:]).Replace(trick)
					got := client.send(t, "GET", "shop.example", target, nil, nil)
					if got.status == 0 {
						client = newH2(t, d.URL)
					}
					if got.sent == nil {
						continue
					}
					passed++
					for _, page := range readings(got.sent.Path) {
						if page != "/shop" && !strings.HasPrefix(page, "/shop/") && !strings.HasPrefix(page, "/shop?") {
							t.Errorf("%q: %q leads to %q", target, got.sent.Path, page)
						}
					}
				}
			}
			if passed < 5 {
				t.Errorf("only %d reached the upstream", passed)
			}
		})
	}
}
