package gateway

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
)

// aliases are at least 500 names that some upstream reads as one of Coatcheck's headers:
// every character that a header name may have in place of each hyphen, in three spellings.
func aliases() []string {
	const between = "-_.!#$%&'*+^`|~"
	var list []string
	for i, one := range between {
		for j, two := range between {
			word := []string{"id", "roles", "name", "session"}[(i+j)%4]
			name := "x" + string(one) + "user" + string(two) + word
			list = append(list, name, strings.ToUpper(name), strings.ToUpper(name[:1])+name[1:3]+strings.ToUpper(name[3:5])+name[5:])
		}
	}
	return list
}

// normal is the spelling in which Coatcheck compares names.
func normal(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}

// ours are the headers that Coatcheck sets for ada.
var ours = map[string]string{"X-User-Id": "42", "X-User-Name": "ada", "X-User-Roles": "staff"}

// TestAliases: no header of a client's reaches the upstream as an identity, on a route
// with a session and on one without.
func TestAliases(t *testing.T) {
	m := start(t)
	m.until(t, 401, "GET /orders")
	ada := m.signIn(t, "ada")
	list := aliases()
	if len(list) < 500 {
		t.Fatalf("only %d aliases", len(list))
	}
	passed, past := 0, 0
	for _, name := range list {
		for _, request := range []string{"GET /orders", "GET /public", "GET /optional"} {
			lines := []string{name + ": forged"}
			if request == "GET /orders" {
				lines = append(lines, ada)
			}
			a := m.send(t, request, "", lines...)
			if a.sent == nil { // underscores are refused
				if a.status == 200 {
					t.Errorf("%s: 200 without an echo", name)
				}
				continue
			}
			passed++
			if forged(a.sent.Headers, request == "GET /orders") {
				past++
				t.Errorf("%s with %s: the upstream received %v", request, name, a.sent.Headers)
			}
		}
	}
	t.Logf("%d aliases: %d requests reached the upstream, %d got past", len(list), passed, past)
	if passed < 2*len(list) {
		t.Errorf("only %d of %d requests reached the upstream: the test shows little", passed, 3*len(list))
	}
}

// forged reports whether the headers have an identity that Coatcheck has not set.
func forged(headers map[string][]string, signedIn bool) bool {
	for name, values := range headers {
		if !strings.HasPrefix(normal(name), "x-user-") {
			continue
		}
		known := name == "X-User-Session" || len(values) == 1 && values[0] == ours[name]
		if !signedIn || !known || slices.Contains(values, "forged") {
			return true
		}
	}
	return false
}

// tricks turn /public, which is open, and a closed path Q, which is q behind its slash,
// into targets that some program reads as Q.
var tricks = []string{
	"Q", "Q/", "/Q", "//Q", "/./q", "/.Q", "/x/../q", "/x/%2e%2e/q", "/x/%2E%2E/q", "/x/.%2e/q", "/x/..%2fq", "/x%2f..%2fq", "/%2e/q", "/%2fq", "%2fq", "/%5cq", `/\q`, `\q`,
	"/public/..Q", "/public/../q", "/public/%2e%2eQ", "/public/.%2E/q", "/public/..%2fq", "/public/..%2Fq", "/public/..%5cq", "/public/..%5Cq", `/public/..\q`, `/public\..\q`, "/public%2f..Q", "/public%2F..%2Fq", "/public%5c..%5cq", "/public//..Q", "/public/.//..Q", "/public/x/../..Q",
	"/public/..;Q", "/public/..;/q", "/public/;/..Q", "/public;/..Q", "/public;x=1/..Q", "/public/..;x=1Q", "/public/%2e%2e;Q", "/public/..%3bQ", "/public%3b/..Q",
	"Q;", "Q;x", "Q;x=1", "Q;/x", "/;Q", "/;x/q", "Q%3B", "Q%3bx", "Q%00", "Q%00/x", "/public%00Q", "/public/%00/..Q", "/public/..%00Q", "Q%20", "Q%09", "Q%0a", "Q%0d%0a", "Q%7F", "Q%2e", "Q.", "Q/%2e", "Q%2f", "Q%2F", "Q%5c", "Q%2fx",
	"Q?/public", "Q?", "Q?x=/public", "/public?Q", "/public?/..Q", "/public?x/../..Q", "/public%3fQ", "/public%3F/..Q", "Q%3f", "Q%3F/public", "Q#/public", "/public#Q", "/public#/..Q", "Q%23", "/public%23/..Q", "/public?#Q",
	"/public/%252e%252eQ", "/public/%252e%252e%252fq", "/public/..%252fq", "/public/..%255cq", "Q%252f", "Q%25", "/public/%25252e%25252eQ",
	"/public/%c0%ae%c0%aeQ", "/public/%C0%AE%C0%AE/q", "/public/..%c0%afq", "/public/..%C0%AFq", "/public/..%c1%9cq", "/public/%e0%80%aeQ", "/public/%uff0e%uff0eQ", "/public/%u002e%u002eQ", "/public/..%u2215q", "/public/..%EF%BC%8Fq", "/public/\uff0e\uff0eQ", "Q\xff", "Q%FF", "Q%", "Q%2", "Q%zz",
	"Q%E2%80%8B", "Q%C2%A0", "Q%C2%AD", "http://app.example.comQ", "HTTP://APP.EXAMPLE.COMQ", "http://evil.exampleQ", "http://evil.example/public/..Q", "http:/Q", "file://Q", "q", "*", "/public/..Q?x", "/public/../public/..Q", "/PUBLIC/..Q", "/public/. ./q", "/public/.../q", "/public/....//q", "/public/..\tQ",
}

// targets are at least 200 paths, for both kinds of closed path.
func targets() []string {
	var list []string
	for _, closed := range []string{"/admin", "/orders"} {
		replace := strings.NewReplacer("Q", closed, "/q", closed, `\q`, `\`+closed[1:], "q", closed[1:], "/public", "/public")
		for _, trick := range tricks {
			list = append(list, replace.Replace(trick))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestTricks: no spelling of a path reaches the upstream that it could read as a path for
// which the client has no right: an anonymous one beyond /public and /optional, and ada,
// who is no administrator, below /admin.
func TestTricks(t *testing.T) {
	m := start(t)
	m.until(t, 401, "GET /orders")
	ada := m.signIn(t, "ada")
	list := targets()
	if len(list) < 200 {
		t.Fatalf("only %d targets", len(list))
	}
	passed, past := 0, 0
	for _, target := range list {
		for _, cookie := range []string{"Accept: */*", ada} {
			sent := m.send(t, "GET "+target, "", cookie).sent
			if sent == nil {
				continue
			}
			passed++
			for _, reading := range readings(sent.Path) {
				if closed := below(reading, "/admin") || cookie != ada && !below(reading, "/public") && !below(reading, "/optional"); closed {
					past++
					t.Errorf("%q reached the upstream as %q, which can be read as %q", target, sent.Path, reading)
				}
			}
		}
	}
	t.Logf("%d targets: %d requests reached the upstream, %d got past", len(list), passed, past)
	if passed < 20 {
		t.Errorf("only %d reached the upstream: the test shows little", passed)
	}
}

func below(reading, prefix string) bool {
	return reading == prefix || strings.HasPrefix(reading, prefix+"/")
}

// readings are what upstreams make of a target: as it is, decoded once and twice, with
// "\" for "/", without parameters, cut at a NUL; each resolved.
func readings(target string) []string {
	raw, _, _ := strings.Cut(target, "?")
	once := unescaped(raw)
	var found []string
	for _, p := range []string{raw, once, unescaped(once)} {
		cut, _, _ := strings.Cut(p, "\x00")
		for _, q := range []string{p, cut, strings.ReplaceAll(p, `\`, "/"), withoutParameters(p), strings.TrimSpace(p)} {
			found = append(found, path.Clean("/"+strings.ToLower(q)))
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// unescaped decodes each valid escape, and keeps the others.
func unescaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if text, err := url.PathUnescape(s[i:min(i+3, len(s))]); err == nil && s[i] == '%' {
			fmt.Fprint(&b, text)
			i += 2
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// withoutParameters cuts each segment at its ";".
func withoutParameters(p string) string {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
}
