package waysin_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// rules ask for what the routes of envoy.yaml ask for, and for an administrator
// where something is written. Before an upstream that ignores letter case they
// do, too; before another one that would open more than it serves openly.
const rules = `
default_policy: signed-in
case_insensitive: CASELESS
policies:
- {name: public, session: none}
- {name: optional, session: optional}
- {name: signed-in}
- {name: admin, any_role: [admin]}
rules:
- {path_prefix: /public, policy: public}
- {path_prefix: /optional, policy: optional}
- {path_prefix: /admin, policy: admin}
- {path_prefix: /api, methods: [POST, PUT, PATCH, DELETE], policy: admin}
`

// startRuled runs fronts with one route, which names nothing: the rules decide.
func startRuled(t *testing.T, caseless bool) *lot {
	t.Helper()
	rules := strings.ReplaceAll(rules, "CASELESS", strconv.FormatBool(caseless))
	file := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := startLot(rig.Options{Arguments: []string{"--policy-file", file}}, func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
			host := m.GetRouteConfig().GetVirtualHosts()[0]
			host.Routes = host.Routes[len(host.Routes)-1:]
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// TestRules sends the tricks to rules on paths, where no route helps, and methods
// in every spelling.
func TestRules(t *testing.T) {
	ruled := map[bool]*lot{false: startRuled(t, false), true: startRuled(t, true)}
	list := corpus()
	if !full {
		list = sample(list, 16)
	}
	for i := range list {
		list[i].class = "rules: " + list[i].class
	}
	list = append(list, methods()...)
	onEvery(t, everyUpstream, func(t *testing.T, name string) {
		l := ruled[ignoresCase(name)]
		for n, protocol := range protocols {
			for k, f := range []front{shipped, bare} {
				s := l.sender(t, door{f, name}, protocol)
				for i, r := range list {
					if r.class == "methods" {
						s.method(anonymous, r)
						s.method(staff, r)
					} else if i%2 == (n+k)%2 {
						s.try(anonymous, r)
						if f == bare {
							s.try(staff, r)
						}
					}
				}
				s.client.close()
			}
			s := l.sender(t, door{open, name}, protocol)
			for _, r := range list {
				if r.class == "methods" {
					s.control(r, func(a reply) bool { return writes(a) && r.method != strings.ToUpper(r.method) })
				}
			}
			s.client.close()
		}
		if strings.Contains("django werkzeug", name) && seen.get(name, "methods").escapes == 0 {
			t.Errorf("no method in small letters is one of %s by the open control: the test would see no way in", name)
		}
	})
}

// methods are those that write, in spellings that some upstream reads as such,
// and with headers by which some program takes another method.
func methods() (list []request) {
	add := func(method string, lines ...string) {
		r := get("methods", "/api/x", lines...)
		r.method = method
		list = append(list, r)
	}
	for _, m := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		small := strings.ToLower(m)
		for _, spelling := range []string{m, small, m[:1] + small[1:], small[:1] + m[1:], m[:2] + small[2:], small[:len(m)-1] + m[len(m)-1:], m + " ", " " + m, m + "\t", m + "X", m + "\x00", m + "\r\n", m + "/", m + ":", strings.ReplaceAll(m, "E", "\u00c9"), strings.ReplaceAll(m, "S", "\u017f"), strings.ReplaceAll(small, "t", "T"), m + "," + m, "GET," + m, m + ",GET"} {
			add(spelling)
		}
	}
	for _, m := range []string{"GET", "HEAD", "OPTIONS", "TRACE", "FOO", "get", "M-SEARCH", "", "PROPFIND", "CONNECT"} {
		for _, line := range []string{"X-HTTP-Method-Override: POST", "X-Method-Override: POST", "X-HTTP-Method: DELETE", "_method: POST", "Access-Control-Request-Method: POST"} {
			add(m, line)
		}
	}
	return list
}

// writes reports whether an upstream took a request for one that writes.
func writes(a reply) bool {
	return a.page() == "api" && strings.Contains(" POST PUT PATCH DELETE ", " "+a.header.Get("X-Method")+" ")
}

// method sends a request that the upstream must not take for one that writes.
func (s *sender) method(as who, r request) {
	s.t.Helper()
	if as != anonymous {
		r.lines = append([]string{"Cookie: " + s.lot.cookies[as]}, r.lines...)
	}
	answer := s.follow(r)
	wrong := s.wrong(as, answer)
	if writes(answer) {
		wrong = "was taken for " + answer.header.Get("X-Method")
	}
	s.count(as, r, answer, wrong)
}
