package waysin_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/sessions"
)

// spellings of the Cookie header with the session ID V, whose name is N. A blank
// behind the name is not among them: it makes another cookie, which signs no user
// in and goes on to the upstream, and no browser keeps one.
var spellings = []string{
	"N=V", "a=b; N=V", "N=V; a=b", "a=b;N=V;c=d", "a=b;  N=V", "a=b;\tN=V", `N="V"`, "N= V", "N=\tV", " N=V", "N=V ", `a="; N=V; b="`, `a="x; N=V"`, "n=V", "=N=V", "N=V=", "N==V", "$Version=1; N=V; $Path=/", "%5F%5FHost-session=V", "__Host%2Dsession=V", "a=b;;N=V", ";N=V", "a; N=V", "N=x; N=V", "N=V; N=x", "N=V; N=V", "a=b\r\nCookie: N=V", "N=V\r\nCookie: a=b", "N=V\r\nCookie: N=V", "\u00e9=1; N=V", "a=\xff; N=V", "N=V; \xff=1", "a=b; N=V\xa0", "a=b;\x0bN=V", "a=b;\x0cN=V", "a=b;\xa0N=V", "N=%V", `N=\V`, "N=V#", "N[]=V", "N.x=V",
}

// planted are cookies that another host of the domain can set: the name of the
// first is not ours.
var planted = []string{
	"a=1,N=V", "a=1, N=V", "a=1 ,N=V", "a=1,b=2,N=V", `a="1,N=V"`, "a=1,,N=V", "a=1,\tN=V", "a=1%2cN=V", "a=N=V", "a,N=V", ",N=V", "a=1,N =V", "a=1,N=V,b=2", "=1,N=V", "a=1|N=V", "a=1&N=V", "a=1 N=V", "a=1:N=V", "N-=V", "xN=V", "n=V", "__host-session=V", "__HOST-SESSION=V", "__Secure-session=V", "session=V", "N =V", "N\t=V", "$N=V", "a=b\x00N=V", "=N=V", `a=\"; N2=V`,
}

// TestCookies: the session ID reaches no upstream as a cookie that it reads, in
// any spelling, and no cookie that another host has planted authenticates.
func TestCookies(t *testing.T) {
	l := theLot(t)
	onEvery(t, everyUpstream, func(t *testing.T, name string) {
		for _, protocol := range protocols {
			for _, f := range []front{shipped, alone, joined} {
				s := l.sender(t, door{f, name}, protocol)
				for _, target := range []string{"/optional/x", "/secret"} {
					for _, text := range spellings {
						s.cookie(cookie("cookies", target, text, l, staff), staff, "")
					}
					for _, text := range planted {
						s.cookie(cookie("planted cookies", target, text, l, admin), anonymous, "")
						s.cookie(cookie("planted cookies", target, text, l, admin), staff, l.cookies[staff]+"; ")
					}
				}
				s.client.close()
			}
			s := l.sender(t, door{open, name}, protocol)
			for _, text := range spellings {
				s.control(cookie("cookies", "/secret", text, l, staff), func(a reply) bool { return strings.Contains(fmt.Sprint(a.seen().Cookies), l.ids[staff].Reveal()) })
			}
			s.client.close()
		}
		if seen.get(name, "cookies").escapes == 0 {
			t.Errorf("no session ID reaches %s by the open control: the test would see no way in", name)
		}
	})
}

func cookie(class, target, text string, l *lot, of who) request {
	n, _, _ := strings.Cut(l.cookies[of], "=")
	return get(class, target, "Cookie: "+strings.NewReplacer("N", n, "V", l.ids[of].Reveal()).Replace(text))
}

// cookie sends a request whose cookies are its own, from a client that may be no
// more than that, and before whose cookie another may stand.
func (s *sender) cookie(r request, as who, before string) {
	s.t.Helper()
	if before != "" {
		r.lines = []string{strings.Replace(r.lines[0], "Cookie: ", "Cookie: "+before, 1)}
	}
	answer := s.follow(r)
	s.count(as, r, answer, s.wrongCookie(as, answer))
}

// wrongCookie says whom a cookie signs in that it must not, or where it went.
func (s *sender) wrongCookie(as who, answer reply) string {
	if page := answer.page(); page == "" || need(page) > may[as] {
		return s.wrong(as, answer)
	}
	told := identity(answer.seen())
	for name, value := range told {
		if as == anonymous || !s.lot.belongs(as, value) {
			return fmt.Sprintf("told the upstream %s: %s", name, value)
		}
	}
	if as == anonymous {
		return ""
	}
	for name, value := range answer.seen().Cookies {
		if strings.Contains(fmt.Sprint(value), s.lot.ids[as].Reveal()) && (len(told) > 0 || name == sessions.DefaultCookieName) {
			return fmt.Sprintf("showed the upstream the session ID in the cookie %q", name)
		}
	}
	return ""
}
