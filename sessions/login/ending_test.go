package login_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
)

// showing are header lines that show sessions: a cookie line, and perhaps bearer
// credentials.
func showing(cookies string, bearer ...sessions.ID) http.Header {
	header := http.Header{"Cookie": {cookies}}
	for _, id := range bearer {
		header.Add("Authorization", "Bearer "+id.Reveal())
	}
	return header
}

// cookieLine shows IDs in one Cookie line.
func cookieLine(ids ...sessions.ID) string {
	var pairs []string
	for _, id := range ids {
		pairs = append(pairs, sessions.DefaultCookieName+"="+id.Reveal())
	}
	return strings.Join(pairs, "; ")
}

func takesBearer(c *login.Config) { c.BearerLogin = true }

// TestSigningOutEndsAllPresented, in each form, and so does a login.
func TestSigningOutEndsAllPresented(t *testing.T) {
	r := newRig(t, takesBearer)
	const name = sessions.DefaultCookieName
	for form, header := range map[string]func(a, b sessions.ID) http.Header{
		"two cookies": func(a, b sessions.ID) http.Header { return showing(cookieLine(a, b)) },
		"beside rubbish": func(a, b sessions.ID) http.Header {
			return showing(name + "=x; " + cookieLine(a, b) + "; " + name + "=")
		},
		"on two lines":      func(a, b sessions.ID) http.Header { return http.Header{"Cookie": {cookieLine(a), cookieLine(b)}} },
		"cookie and bearer": func(a, b sessions.ID) http.Header { return showing(cookieLine(a), b) },
		"two bearers":       func(a, b sessions.ID) http.Header { return showing("", a, b) },
		"lines joined on way": func(a, b sessions.ID) http.Header {
			return showing("c=1," + cookieLine(a) + "," + cookieLine(b) + ",d")
		},
		"in quotes":      func(a, b sessions.ID) http.Header { return showing(name + `="` + a.Reveal() + `"; ` + cookieLine(b)) },
		"the same twice": func(a, b sessions.ID) http.Header { return showing(cookieLine(a, b, a), a) },
	} {
		for _, way := range []string{"logout", "logout/everywhere", "login"} {
			t.Run(form+", "+way, func(t *testing.T) {
				a, b, other := r.signIn("ada", ""), r.signIn("bob", ""), r.signIn("ada", "")
				q := request{form: url.Values{}, header: header(a, b)}
				if way == "login" {
					q.form = credentials("ada", adaPassword)
				}
				answer := r.send(way, q)
				r.want("signing out", answer, http.StatusSeeOther)
				if r.live(a) || r.live(b) {
					t.Errorf("it says %q; the first is live: %v, the second: %v", answer.Header.Get("Location"), r.live(a), r.live(b))
				}
				if alone := way != "logout/everywhere"; r.live(other) != alone {
					t.Errorf("the session that was not presented is live: %v", !alone)
				}
				_ = r.sessions.Revoke(t.Context(), other.Key())
				if id := r.cookie(answer); way == "login" && !r.live(id) {
					t.Error("the new session is not")
				}
			})
		}
	}
}

// TestTooManyPresented: more sessions than are ended at once are not said to be
// ended, and the cookie stays.
func TestTooManyPresented(t *testing.T) {
	r := newRig(t, takesBearer)
	for _, way := range []string{"logout", "logout/everywhere", "login"} {
		var ids []sessions.ID
		for range sessions.MaxPresented + 1 {
			ids = append(ids, r.signIn("bob", ""))
		}
		if way == "logout/everywhere" { // which one of them would end all
			for i := range ids {
				ids[i], _, _ = r.sessions.Create(t.Context(), sessions.NewSession{UserID: fmt.Sprint("user", i)})
			}
		}
		q := request{form: url.Values{}, header: showing(cookieLine(ids...))}
		if way == "login" {
			q.form = credentials("ada", adaPassword)
		}
		a := r.send(way, q)
		r.want(way, a, http.StatusServiceUnavailable)
		r.untouched(way, a)
		if a.Header.Get("Retry-After") == "" || !strings.Contains(a.body, "more sessions than can be signed out") {
			t.Errorf("%s: it does not say why: %s", way, a.body)
		}
		for i, id := range ids {
			if r.live(id) != (i == sessions.MaxPresented) {
				t.Errorf("%s: session %d is live: %v", way, i, r.live(id))
			}
		}
		if n := r.count("42"); n != 0 {
			t.Errorf("%s: the login was refused and left %d sessions", way, n)
		}
		q.header.Set("Accept", "application/json")
		if a = r.send(way, q); way != "login" && !strings.Contains(a.body, `"code":"too_many_sessions_shown"`) {
			t.Errorf("%s: %s", way, a.body)
		}
		_ = r.sessions.Revoke(t.Context(), ids[sessions.MaxPresented].Key())
	}
	if strings.Contains(r.log.String(), `"level":"ERROR"`) {
		t.Errorf("what a client does is logged as a fault of ours:\n%s", r.log.String())
	}
}

// TestPlantedManyKeepNobodySignedIn: a sibling domain may plant as many IDs as it
// likes behind commas; its victim signs in and out all the same.
func TestPlantedManyKeepNobodySignedIn(t *testing.T) {
	r := newRig(t)
	planted := "a=1"
	for range 100 {
		planted += "," + cookieLine(sessions.NewID())
	}
	id := r.signIn("ada", "")
	a := r.send("login", request{form: credentials("ada", adaPassword), header: showing(planted + "; " + cookieLine(id))})
	r.want("login", a, http.StatusSeeOther)
	if r.live(id) {
		t.Error("the presented session is alive after the login")
	}
	id = r.cookie(a)
	r.want("logout", r.send("logout", request{form: url.Values{}, header: showing(planted + "; " + cookieLine(id))}), http.StatusSeeOther)
	if r.live(id) {
		t.Error("the presented session is alive after the logout")
	}
}

// TestOneCannotBeEnded: each presented session that can be ended is, and no user is
// told that all is.
func TestOneCannotBeEnded(t *testing.T) {
	r, f := newFickle(t)
	for _, way := range []string{"logout", "logout/everywhere", "login"} {
		a, b := r.signIn("bob", ""), r.signIn("bob", "")
		f.key = "" // neither is new to it
		f.failing = map[string]int{"revoke presented": 1}
		q := request{form: url.Values{}, header: showing(cookieLine(a, b))}
		if way == "login" {
			q.form = credentials("ada", adaPassword)
		}
		got := r.send(way, q)
		r.want(way, got, http.StatusServiceUnavailable)
		r.untouched(way, got)
		if r.live(b) || r.count("42") != 0 {
			t.Errorf("%s: the second is live: %v; ada has %d sessions", way, r.live(b), r.count("42"))
		}
		_, _ = r.sessions.RevokeUser(t.Context(), "43")
	}
}

// TestOthersOfASessionThatEnded: who was signed out meanwhile ends nothing, and is
// not told otherwise.
func TestOthersOfASessionThatEnded(t *testing.T) {
	var r *rig
	late := &lateRevoker{}
	r = newRig(t, func(c *login.Config) {
		late.Manager = c.Sessions.(*sessions.Manager)
		c.Sessions = late
	})
	id, other := r.signIn("ada", ""), r.signIn("ada", "")
	late.before = func() { _ = late.Revoke(t.Context(), id.Key()) }
	a := r.send("sessions", request{form: url.Values{"others": {"1"}}, id: id})
	if !r.live(other) || a.Header.Get("Location") != "/.auth/login?rd=/.auth/sessions" {
		t.Errorf("the other is live: %v; it leads to %q", r.live(other), a.Header.Get("Location"))
	}
}

// A lateRevoker does something before it ends others.
type lateRevoker struct {
	*sessions.Manager
	before func()
}

func (l *lateRevoker) List(ctx context.Context, userID string) ([]*sessions.Session, int, error) {
	if l.before != nil {
		l.before()
	}
	return l.Manager.List(ctx, userID)
}

// endings are the lines of the log about ended sessions, from the offset on.
func (r *rig) endings(from int) (lines []map[string]any) {
	r.Helper()
	for line := range strings.Lines(r.log.String()[from:]) {
		var attributes map[string]any
		if err := json.Unmarshal([]byte(line), &attributes); err != nil {
			r.Fatal(err)
		}
		if attributes["msg"] == "session ended" {
			lines = append(lines, attributes)
		}
	}
	return lines
}

// TestEveryEndIsLogged, in one shape: which session, whose, why, by whom, from
// where; and never an ID.
func TestEveryEndIsLogged(t *testing.T) {
	r := newRig(t)
	form := func(values url.Values, presented sessions.ID) request {
		return request{form: values, id: presented, from: "192.0.2.7"}
	}
	for _, test := range []struct {
		why      string
		endpoint string
		request  func(presented, other sessions.ID) request
		ended    func(presented, other sessions.ID) []sessions.ID
	}{
		{"logout", "logout", func(presented, _ sessions.ID) request { return form(url.Values{}, presented) },
			func(presented, _ sessions.ID) []sessions.ID { return []sessions.ID{presented} }},
		{"logout", "sessions", func(presented, _ sessions.ID) request {
			return form(url.Values{"handle": {presented.Key().Handle()}}, presented)
		},
			func(presented, _ sessions.ID) []sessions.ID { return []sessions.ID{presented} }},
		{"everywhere", "logout/everywhere", func(presented, _ sessions.ID) request { return form(url.Values{}, presented) },
			func(presented, other sessions.ID) []sessions.ID { return []sessions.ID{presented, other} }},
		{"others", "sessions", func(presented, _ sessions.ID) request { return form(url.Values{"others": {"1"}}, presented) },
			func(_, other sessions.ID) []sessions.ID { return []sessions.ID{other} }},
		{"chosen", "sessions", func(presented, other sessions.ID) request {
			return form(url.Values{"handle": {other.Key().Handle()}}, presented)
		},
			func(_, other sessions.ID) []sessions.ID { return []sessions.ID{other} }},
		{"replaced", "login", func(presented, _ sessions.ID) request { return form(credentials("ada", adaPassword), presented) },
			func(presented, _ sessions.ID) []sessions.ID { return []sessions.ID{presented} }},
	} {
		presented, other := r.signIn("ada", ""), r.signIn("ada", "")
		from := len(r.log.String())
		r.want(test.why, r.send(test.endpoint, test.request(presented, other)), http.StatusSeeOther)
		var got, want []string
		for _, line := range r.endings(from) {
			got = append(got, fmt.Sprint(line["session"]))
			delete(line, "session")
			for name, value := range map[string]any{
				"level": "INFO", "user_id": "42", "sessions": 1.0, "why": test.why, "by": "42", "address": "192.0.2.7",
			} {
				if line[name] != value {
					t.Errorf("%s: %s is %v, want %v", test.why, name, line[name], value)
				}
			}
			if len(line) != 8 { // and time and msg
				t.Errorf("%s: the attributes are %v", test.why, line)
			}
		}
		for _, id := range test.ended(presented, other) {
			want = append(want, id.Key().Handle())
			if strings.Contains(r.log.String(), id.Reveal()) {
				t.Error("the log holds an ID")
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the lines are about %v, want %v", test.why, got, want)
		}
		_, _ = r.sessions.RevokeUser(t.Context(), "42")
	}
	from := len(r.log.String())
	r.send("logout", request{form: url.Values{}, id: sessions.NewID()})
	if lines := r.endings(from); len(lines) > 0 {
		t.Errorf("nothing ended, and the log says %v", lines)
	}
	planted := r.signIn("bob", "")
	from = len(r.log.String())
	r.send("login", request{form: credentials("ada", adaPassword), id: planted})
	if lines := r.endings(from); len(lines) != 1 || lines[0]["user_id"] != "43" || lines[0]["by"] != "42" {
		t.Errorf("ada's login ended bob's session, and the log says %v", lines)
	}
}

// TestManySessions: a hundred have a row or a line each, and the rest are counted.
func TestManySessions(t *testing.T) {
	r := newRig(t)
	const n = 130
	var id sessions.ID
	for i := range n {
		created, _, err := r.sessions.Create(t.Context(), sessions.NewSession{UserID: "42", Username: "Ada"})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			id = created // the oldest
		}
	}
	a := r.send("sessions", request{id: id})
	checkMarkup(t, a)
	if got := strings.Count(a.body, `name="handle"`); got != 100 || !strings.Contains(a.body, "This browser") || !strings.Contains(a.body, "30 more are not shown") {
		t.Errorf("%d rows: %s", got, a.body[max(0, len(a.body)-1000):])
	}
	var list struct {
		Sessions []struct{ Current bool }
		More     int
	}
	a = r.send("sessions", request{id: id, header: http.Header{"Accept": {"application/json"}}})
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list.Sessions) != 100 || list.More != 30 || !list.Sessions[0].Current {
		t.Errorf("%d sessions, %d more (%v)", len(list.Sessions), list.More, err)
	}
	from := len(r.log.String())
	r.want("everywhere", r.send("logout/everywhere", request{form: url.Values{}, id: id}), http.StatusSeeOther)
	ended := 0.0
	lines := r.endings(from)
	for _, line := range lines {
		ended += line["sessions"].(float64)
	}
	if len(lines) != 101 || ended != n || lines[100]["session"] != "" || r.count("42") != 0 {
		t.Errorf("%d lines about %v sessions, the last is %v; %d are left", len(lines), ended, lines[len(lines)-1], r.count("42"))
	}
}
