package waysin_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// tricks turn an open path P and a closed one Q, which begins with /q, into
// request targets that some program reads as Q.
var tricks = map[string][]string{
	"plain": {"Q", "Q/", "Q/x", "PQ", "P/x", "P", "/"},
	"dots": {
		"P/..Q", "P/../q", "P/x/../..Q", "P/./..Q", "P/%2e%2eQ", "P/%2E%2EQ", "P/.%2eQ", "P/%2e.Q", "P/.%2EQ", "P/%2e/%2e%2eQ", "P/x/%2e%2e/%2e%2eQ", "/x/../q", "/x/%2e%2e/q",
		"P/...Q", "P/.../q", "P/..a/..Q", "P/.a/q", "P/.Q", "P/..", "P/../", "/./q", "/.Q", "Q/.", "Q/./", "Q/x/..", "Q/%2e", "/%2e/q", "/%2E/q", "P/..%20Q", "P/.%20./q", "P/..%00Q", "P/%2e%2e%00Q",
	},
	"parameters": {
		"P/%2e%2e;Q", "P/%2E%2E;Q", "P/.%2e;Q", "P/%2e.;Q", "P/.%2e;aQ", "P/%2e%2e;a=bQ", "P/%2e%2e;a=b;c=dQ", "P/%2e%2e;;Q", "P/%2e%2e;%2fQ", "P/%2e%2e;x/.%2e;y/q", "P/x/%2e%2e;/%2e%2e;Q", "P/;/%2e%2eQ", "P;/%2e%2e;Q", "P;x=1/%2e%2e;Q",
		"P/..;Q", "P/..;/q", "P/..;a=b/q", "P/;/..Q", "P;/..Q", "P;x=1/..Q", "P/.;/..;Q", "P/%2e;/%2e%2e;Q", "P/..;/..;Q", "P/..%3bQ", "P/%2e%2e%3bQ", "P/%2e%2e%3Bx=1Q", "P/%252e%252e;Q", "P/%2e%2e;%00Q",
		"Q;", "Q;x", "Q;x=1", "Q;/x", "Q;x/y", "Q;jsessionid=1", "Q;x=1;y=2/z", "Q%3B", "Q%3bx", "Q%3bx=1/y", "/;Q", "/;x/q", "/;x=1/q", "/.;/q", "/%2e;/q", "/x/..;/q", "/x/%2e%2e;/q", "//;Q", "/;/;Q",
		"Q;%2e%2e", "Q;/..", "Q;a/%2e%2e;b/x", "P/q;/%2e%2e;/%2e%2e;Q", "P/%2e%2e;/public;/%2e%2e;Q",
	},
	"decoded twice": {
		"P/%252e%252eQ", "P/%252e%252e%252fq", "P/..%252fq", "P/%25%32%65%25%32%65Q", "Q%252f", "Q%25", "/%2573ecret", "/%2561dmin", "Q%%32%66", "P/%2%65%2%65Q", "P/%%32e%%32eQ", "P%252f%252e%252e%252fq", "P/%252e%252e%253bQ", "P/%25252e%25252e%25252fq",
	},
	"slashes": {
		"//Q", "/Q", "///Q", "Q//", "Q//x", "P//..Q", "P/.//..Q", "P//%2e%2eQ", "P//%2e%2e//q", "P/..%2fq", "P/..%2Fq", "P%2f..Q", "P%2f..%2fq", "P%2F%2e%2e%2Fq", "P/%2e%2e%2fq", "/x/..%2fq", "/x%2f..%2fq", "Q%2f", "Q%2fx", "Q%2F..%2F", "%2fq", "/%2fq", "/%2Fq", "P//..//..//q", "/x//..//q",
		"//evil.exampleQ", "//evil.example/..Q", "//shop.exampleQ", "/./Q", "/.//q",
	},
	"backslashes": {
		`P/..\q`, `P\..\q`, "P/..%5cq", "P/..%5Cq", "P%5c..%5cq", `\q`, `/\q`, "/%5cq", "Q%5c", "Q%5Cx", `Q\x`, "P/%2e%2e%5cq", `P/%2e%2e\q`, `P/.\.\.\q`, "P/%5c../q", `/x\..\q`,
	},
	"control characters": {
		"Q%00", "Q%00/x", "P%00Q", "P/%00/..Q", "P/..%00/q", "Q%09", "Q%0a", "Q%0d%0a", "Q%7F", "Q%20", "Q%20/", "/%20q", "Q%01", "Q%1f", "Q%0b", "P/%09..Q", "P/..%09Q", "P/..%0aQ", "P/..%0d%0aQ", "Q\t", "Q\x0b", "Q\x00", "Q\x7f", "P/.\t./q", "P/..\x00Q", "Q%c2%85", "Q%a0",
	},
	"unicode": {
		"P/\xc0\xae\xc0\xaeQ", "P/..\xc0\xafq", "P/%c0%ae%c0%aeQ", "P/%C0%AE%C0%AE/q", "P/..%c0%afq", "P/..%C0%AFq", "P/..%c1%9cq", "P/%e0%80%aeQ", "P/%e0%80%ae%e0%80%ae%e0%80%afq", "P/%f0%80%80%ae%f0%80%80%aeQ", "P/%uff0e%uff0eQ", "P/%u002e%u002eQ", "P/%u002e%u002e%u002fq", "P/..%u2215q", "P/..%u2216q",
		"P/\uff0e\uff0eQ", "P/%EF%BC%8E%EF%BC%8E%EF%BC%8Fq", "P/..%EF%BC%8Fq", "P/..%E2%88%95q", "P/..%E2%81%84q", "Q%EF%BC%8F", "Q%EF%BC%9B", "Q\xff", "Q%FF", "Q%C3%B6", "Qö", "Q%E2%80%8B", "Q%C2%A0", "Q%C2%AD", "P/.%E2%80%8B./q", "P/%e2%80%a5Q", "/%EF%BD%93ecret", "/%C5%BFecret", "/adm%C4%B1n", "/\u24b6dmin",
	},
	"absolute form": {
		"http://shop.exampleQ", "hTTp://shop.exampleQ", "http://evil.exampleQ", "http://shop.exampleP/..Q", "http://shop.exampleP/%2e%2e;Q", "http://x@shop.exampleQ", "https://shop.exampleQ", "http:/Q", "http://Q", "file://Q", "http://shop.example;Q", "http://shop.exampleP?Q", "http://shop.example:80Q", "q", "*", "shop.exampleQ", "ws://shop.exampleQ", "http://shop.example\\Q", "http:\\\\shop.exampleQ",
	},
	"letter case": {
		"/ADMIN", "/Admin", "/aDmin/x", "/Admin/Page.txt", "/admin/PAGE.TXT", "/SECRET", "/Secret", "/secreT", "/PUBLIC/..Q", "/Public/%2e%2e;Q", "/PUBLIC/x", "/%41dmin", "/%41DMIN/x", "/adm%49n", "/%53ecret", "/Optional", "/OPTIONAL/x",
	},
	"queries and fragments": {
		"Q?P", "Q?", "Q??", "P?Q", "P?/..Q", "P?x/../..Q", "P?/%2e%2e;Q", "P%3fQ", "P%3F/..Q", "P%3F/%2e%2e;Q", "Q%3f", "Q%3FP", "Q#P", "P#Q", "P#/..Q", "Q%23", "Q%23P", "P%23/..Q", "P%23/%2e%2e;Q", "P?#Q", "Q?#P", "?Q", "/?Q", "P?a;b", "P/%2e%2e;Q?x=1", "P/%2e%2e%23/q", "P/%2e%2e?Q",
	},
	"other characters": {
		"Q|", "Q[x]", "Q%5B", "Q%7B%7D", "Q{x}", "Q^", "Q`", "Q\"", "Q%22", "Q'", "Q%27", "Q<>", "Q$", "Q%24", "Q&x", "Q%26x", "Q+", "Q%2B", "Q,", "Q=1", "Q:", "Q%3A80", "Q::$DATA", "Q@x", "Q%40x", "Q!", "Q~", "~Q", "Q%7E", "Q*", "Q()", "Q.", "Q..", "Q...", "Q.json", "Q.html", "Q%2e", "Q%", "Q%2", "Q%zz", "Q.txt%20", "Q~1",
	},
	"encoded letters": {
		"/%73ecret", "/secre%74", "/%73%65%63%72%65%74", "/%61dmin", "/adm%69n", "/%61%64%6d%69%6e/x", "/%61dmin/%70age.txt", "/s%65cret.txt", "/secret%2etxt", "/%70ublic/..Q", "/%70ublic/%2e%2e;Q", "/public%2f%2e%2e%2f%73ecret", "/%u0073ecret", "/%u0061dmin",
	},
}

// pairs are open and closed paths.
var pairs = [][2]string{{"/public", "/secret"}, {"/public", "/admin"}, {"/optional/x", "/admin/x"}, {"/public/x", "/secret.txt"}, {"/optional", "/admin/page.txt"}}

// corpus is each trick on each pair.
func corpus() (list []request) {
	met := make(map[string]bool)
	for _, class := range slices.Sorted(maps.Keys(tricks)) { // always the same list, and so the same sample
		templates := tricks[class]
		for _, pair := range pairs {
			replace := strings.NewReplacer("P", pair[0], "Q", pair[1], "q", pair[1][1:])
			for _, template := range templates {
				if class == "letter case" && strings.Contains(template, "P") { // PUBLIC, PAGE
					replace = strings.NewReplacer("Q", pair[1])
				}
				target := replace.Replace(template)
				if !met[target] {
					met[target] = true
					list = append(list, get(class, target))
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b request) int { return strings.Compare(a.class+a.target, b.class+b.target) })
	return list
}

var protocols = []string{"HTTP/1.1", "HTTP/2"}

// onEvery does something for each upstream, some at a time, and prints how far it
// is.
func onEvery(t *testing.T, names []string, do func(t *testing.T, upstream string)) {
	t.Helper()
	var working sync.WaitGroup
	turns := make(chan struct{}, 6)
	for _, name := range names {
		working.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			do(t, name)
			say("%s: %s is done", t.Name(), name)
		})
	}
	working.Wait()
}

// TestPaths sends every trick to every upstream: no page that asks for a session
// is served without one, and no page of the administrator to the staff.
func TestPaths(t *testing.T) {
	l, list := theLot(t), corpus()
	if len(list) < 1000 {
		t.Fatalf("only %d targets", len(list))
	}
	if !full {
		list = sample(list, 7)
	}
	onEvery(t, everyUpstream, func(t *testing.T, name string) {
		for n, protocol := range protocols {
			for _, f := range []front{shipped, alone, bare} {
				s := l.sender(t, door{f, name}, protocol)
				for i, r := range list {
					if turn := i%2 == n; f == shipped || turn {
						s.try(anonymous, r)
						if turn && (f == shipped || i%4 < 2) {
							s.try(staff, r)
						}
					}
				}
				s.client.close()
			}
			for k, f := range []front{open, openBare} {
				s := l.sender(t, door{f, name}, protocol)
				for i, r := range list {
					if i%2 == n && (k == 0 || i%4 < 2) {
						s.tryOpen(r)
					}
				}
				s.client.close()
			}
		}
	})
	controls(t)
}

// sample is one request of every n.
func sample(list []request, n int) (some []request) {
	for i, r := range list {
		if i%n == 0 {
			some = append(some, r)
		}
	}
	return some
}

// controls fails unless the tricks that are known to work would have been seen
// to.
func controls(t *testing.T) {
	t.Helper()
	for upstream, classes := range map[string][]string{
		"tomcat":        {"parameters", "dots"},
		"tomcat-loose":  {"parameters", "dots", "slashes", "backslashes"},
		"jetty-loose":   {"parameters", "dots"},
		"express":       {"dots"},
		"django":        {"dots"},
		"gunicorn":      {"dots"},
		"werkzeug":      {"dots"},
		"decodes-twice": {"dots", "decoded twice"},
	} {
		for _, class := range classes {
			if seen.get(upstream, class).escapes == 0 {
				t.Errorf("no %s leads to a page of %s that its route does not: the test would see no way in", class, upstream)
			}
		}
	}
}

// TestPermittedParameters sends every trick to routes that let parameters pass:
// they open what they say, ";name=value", and no page that asks for a session.
// (Routes of one upstream that ask for different roles do not go with them.)
func TestPermittedParameters(t *testing.T) {
	l, list := theLot(t), corpus()
	if !full {
		list = sample(list, 7)
	}
	for i := range list {
		list[i].class = "permitted: " + list[i].class
	}
	onEvery(t, everyUpstream, func(t *testing.T, name string) {
		for n, protocol := range protocols {
			s := l.sender(t, door{permitting, name}, protocol)
			for i, r := range list {
				if i%2 == n {
					s.try(anonymous, r)
				}
			}
			if got := s.try(anonymous, get("plain", "/public/a;x=1/b;y=2")); got.page() != "public" {
				t.Errorf("%s: a path with parameters is served %q with status %d", name, got.page(), got.status)
			}
			s.client.close()
		}
	})
}

// TestLetterCase: before an upstream that ignores letter case, routes that do not
// are a way in for the staff, as envoy.yaml says; those that do are none.
func TestLetterCase(t *testing.T) {
	l := theLot(t)
	for _, protocol := range protocols {
		told, ignored := l.sender(t, door{cased, "express"}, protocol), l.sender(t, door{shipped, "express"}, protocol)
		for _, target := range []string{"/ADMIN", "/Admin/x", "/aDMIN/y"} {
			r := get("letter case", target, "Cookie: "+l.cookies[staff])
			if !told.control(r, func(a reply) bool { return a.page() == "admin" }) {
				t.Errorf("%s is no page of Express: the test would see no way in", target)
			}
			ignored.try(staff, get("letter case", target))
		}
		told.client.close()
		ignored.client.close()
	}
}

// TestPlainRequests: the fronts serve what they should to who may see it.
func TestPlainRequests(t *testing.T) {
	l := theLot(t)
	onEvery(t, everyUpstream, func(t *testing.T, name string) {
		for _, protocol := range protocols {
			for _, f := range []front{shipped, alone, bare, joined} {
				s := l.sender(t, door{f, name}, protocol)
				for _, c := range []struct {
					as     who
					target string
					page   string
				}{
					{anonymous, "/public", "public"}, {anonymous, "/public/x", "public"}, {anonymous, "/optional", "optional"}, {anonymous, "/public/page.txt", "public"},
					{staff, "/secret", "secret"}, {staff, "/secret.txt", "secret"}, {staff, "/api/x", "api"}, {staff, "/elsewhere?x=1;y", "other"}, {staff, "/optional/a%20b", "optional"},
					{admin, "/admin", "admin"}, {admin, "/admin/x", "admin"}, {admin, "/admin/page.txt?x=/../", "admin"}, {admin, "/secret", "secret"},
				} {
					if c.target == "/secret.txt" && !hasFiles(name) {
						continue
					}
					if got := s.try(c.as, get("plain", c.target)); got.page() != c.page {
						t.Errorf("%s behind %q, %s: %s asks for %s and is served %q with status %d, want %q", name, f, protocol, c.as, c.target, got.page(), got.status, c.page)
					}
				}
				s.client.close()
			}
		}
	})
}

// hasFiles reports whether an upstream serves files, too.
func hasFiles(name string) bool {
	return slices.Contains([]string{"express", "django", "gunicorn", "werkzeug", "decodes-twice"}, name)
}
