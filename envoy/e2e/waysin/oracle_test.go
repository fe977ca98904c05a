package waysin_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// need is what a page, or a route, asks for.
func need(name string) int {
	switch strings.TrimSuffix(name, ".") {
	case "admin":
		return 2
	case "public", "optional":
		return 0
	}
	return 1 // every other page, and every other route
}

// may is the most that a sender may see.
var may = map[who]int{anonymous: 0, staff: 1, admin: 2}

// counts are what became of requests.
type counts struct {
	sent, bad, unauthorized, forbidden, otherwise, open, allowed, breaches int
	controls, escapes                                                      int
}

// A ledger counts, by upstream and class.
type ledger struct {
	mu     sync.Mutex
	counts map[[2]string]*counts
}

var seen = ledger{counts: make(map[[2]string]*counts)}

func (l *ledger) of(upstream, class string, change func(*counts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := [2]string{upstream, class}
	if l.counts[key] == nil {
		l.counts[key] = new(counts)
	}
	change(l.counts[key])
}

// get is what was counted so far.
func (l *ledger) get(upstream, class string) (c counts) {
	l.of(upstream, class, func(found *counts) { c = *found })
	return c
}

func (l *ledger) print(w io.Writer) {
	const line = "%-13s %-32s %7v %7v %7v %6v %6v %7v %7v %8v | %8v %7v\n"
	fmt.Fprintf(w, line, "upstream", "class", "sent", "400", "401/302", "403", "else", "public", "allowed", "WAYS IN", "control", "ways in")
	var sum counts
	for _, key := range slices.SortedFunc(maps.Keys(l.counts), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		c := l.counts[key]
		fmt.Fprintf(w, line, key[0], key[1], c.sent, c.bad, c.unauthorized, c.forbidden, c.otherwise, c.open, c.allowed, c.breaches, c.controls, c.escapes)
		sum.sent += c.sent
		sum.breaches += c.breaches
		sum.controls += c.controls
		sum.escapes += c.escapes
	}
	fmt.Fprintf(w, "%d requests, %d ways in; %d requests to the open control, %d ways in there\n", sum.sent, sum.breaches, sum.controls, sum.escapes)
}

// A sender sends requests to one door, over one protocol, and judges what comes
// back.
type sender struct {
	t        *testing.T
	lot      *lot
	door     door
	protocol string
	client   client
}

func (l *lot) sender(t *testing.T, d door, protocol string) *sender {
	s := &sender{t: t, lot: l, door: d, protocol: protocol}
	s.client = &one{address: l.address[d]}
	if protocol == "HTTP/2" {
		s.client = &two{address: l.address[d]}
	}
	return s
}

// follow sends a request, and after it what redirects ask for, as browsers do.
func (s *sender) follow(r request) (answer reply) {
	for range 4 {
		answer = s.client.send(r)
		target, ok := redirect(answer)
		if !ok || answer.page() != "" {
			return answer
		}
		r.target = target
		if answer.status == http.StatusSeeOther || answer.status == http.StatusFound {
			r.method, r.body = "GET", ""
		}
	}
	return answer
}

// redirect is where an answer leads on the same host, the login page excepted.
func redirect(r reply) (target string, ok bool) {
	location := r.header.Get("Location")
	if r.status < 300 || r.status > 399 || location == "" {
		return "", false
	}
	target = location
	if u, err := url.Parse(location); err == nil && u.Host != "" {
		if u.Host != "shop.example" {
			return "", false
		}
		_, target, _ = strings.Cut(location, "shop.example")
	}
	return target, strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "/.auth/")
}

// try sends a request as a user, and looks for a way in.
func (s *sender) try(as who, r request) reply {
	if as != anonymous {
		r.lines = append(slices.Clip(r.lines), "Cookie: "+s.lot.cookies[as])
	}
	answer := s.follow(r)
	wrong := s.wrong(as, answer)
	s.count(as, r, answer, wrong)
	return answer
}

// count enters what became of a request, and reports what is wrong.
func (s *sender) count(as who, r request, answer reply, wrong string) {
	s.t.Helper()
	seen.of(s.door.upstream, r.class, func(c *counts) {
		c.sent++
		switch page := answer.page(); {
		case wrong != "":
			c.breaches++
		case page != "" && need(page) == 0:
			c.open++
		case page != "":
			c.allowed++
		case answer.status == 400:
			c.bad++
		case answer.status == 401 || answer.status == 302:
			c.unauthorized++
		case answer.status == 403:
			c.forbidden++
		default:
			c.otherwise++
		}
	})
	if wrong != "" {
		s.report(as, r, wrong)
	}
}

// wrong says what an upstream showed or was sent that it must not; it is empty
// where all is well.
func (s *sender) wrong(as who, answer reply) string {
	page := answer.page()
	if page == "" {
		return ""
	}
	if need(page) > may[as] {
		return "was served the page " + page
	}
	for name, value := range identity(answer.seen()) {
		if as == anonymous || !s.lot.belongs(as, value) {
			return fmt.Sprintf("told the upstream %s: %s", name, value)
		}
	}
	if as != anonymous && strings.Contains(string(answer.body), s.lot.ids[as].Reveal()) {
		return "showed the upstream the session ID: " + string(answer.body)
	}
	return ""
}

// belongs reports whether a value of an identity header is this person's.
func (l *lot) belongs(as who, value string) bool {
	n := users[as]
	return slices.Contains([]string{n.UserID, n.Username, strings.Join(n.Roles, ","), string(l.keys[as])}, value)
}

// identity is what an upstream was sent under the managed prefix, in any
// spelling, as headers or trailers.
func identity(s shown) map[string]string {
	found := make(map[string]string)
	for _, list := range []map[string]any{s.Headers, s.Trailers} {
		for name, value := range list {
			normal := strings.Map(func(r rune) rune {
				if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
					return r
				}
				return '-'
			}, strings.ToLower(name))
			if !strings.HasPrefix(normal, "x-user-") {
				continue
			}
			values, _ := value.([]any)
			if len(values) != 1 {
				values = []any{fmt.Sprint(value)}
			}
			found[name] = fmt.Sprint(values[0])
		}
	}
	return found
}

// report fails the test, with a few examples of each class.
func (s *sender) report(as who, r request, wrong string) {
	s.t.Helper()
	if seen.get(s.door.upstream, r.class).breaches > 3 {
		s.t.Fail()
		return
	}
	s.t.Errorf("%s: %s behind %q, %s, %s: %q %q host %q %q trailers %q: %s", r.class, s.door.upstream, s.door.front, s.protocol, as, r.method, r.target, r.host, r.lines, r.trailers, wrong)
}

// tryOpen sends a request to a control, and reports whether it was a way in
// there: the page asks for more than the route.
func (s *sender) tryOpen(r request) bool {
	return s.control(r, func(answer reply) bool { return need(answer.page()) > need(answer.header.Get("X-Route")) })
}

// control sends a request to a control, and reports whether it was a way in
// there, which it can be only where the upstream served a page.
func (s *sender) control(r request, wayIn func(reply) bool) bool {
	answer := s.follow(r)
	escaped := answer.page() != "" && wayIn(answer)
	seen.of(s.door.upstream, r.class, func(c *counts) {
		c.controls++
		if escaped {
			c.escapes++
		}
	})
	return escaped
}
