package login_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

var _ throttle.Counters = (*redisstore.Counters)(nil)

// TestLogin: the cookie, the way on, and what the session knows.
func TestLogin(t *testing.T) {
	r := newRig(t)
	form := credentials("ada", adaPassword)
	form.Set("rd", "/app?a=1&b=2#c")
	a := r.send("login", request{form: form, from: "192.0.2.7"})
	r.want("login", a, http.StatusSeeOther)
	if got := a.Header.Get("Location"); got != "/app?a=1&b=2#c" {
		t.Errorf("it leads to %q", got)
	}
	id := r.cookie(a)
	if got, want := a.Header.Get("Set-Cookie"), sessions.DefaultCookieName+"="+id.Reveal()+"; Path=/; HttpOnly; Secure; SameSite=Lax"; got != want {
		t.Errorf("the cookie is %q, want %q", got, want)
	}
	s, err := r.sessions.Inspect(t.Context(), id.Key())
	if err != nil {
		t.Fatal(err)
	}
	if s.UserID != "42" || s.Username != "Ada" || !slices.Equal(s.Roles, []string{"staff", "ops"}) || s.Address != "192.0.2.7" ||
		!strings.Contains(s.UserAgent, "Firefox/143") || s.Fields["tenant"] != "acme" {
		t.Errorf("the session is %+v", s)
	}
}

// TestFixation plants what an attacker could plant: a presented ID leads nowhere
// after the login.
func TestFixation(t *testing.T) {
	r := newRig(t)
	for name, plant := range map[string]func() sessions.ID{
		"nothing":             func() sessions.ID { return sessions.ID{} },
		"an ID never issued":  sessions.NewID,
		"one's own session":   func() sessions.ID { return r.signIn("ada", "") },
		"another's session":   func() sessions.ID { return r.signIn("bob", "") },
		"a session that died": func() sessions.ID { id := r.signIn("ada", ""); _ = r.sessions.Revoke(t.Context(), id.Key()); return id },
	} {
		presented := plant()
		other := r.signIn("ada", "")
		a := r.send("login", request{form: credentials("ada", adaPassword), id: presented})
		r.want(name, a, http.StatusSeeOther)
		id := r.cookie(a)
		if id == presented || !r.live(id) || !r.live(other) {
			t.Errorf("%s: the new session is not, or the wrong one ended", name)
		}
		if presented != (sessions.ID{}) && r.live(presented) {
			t.Errorf("%s: the presented session is still alive", name)
		}
	}
	for _, header := range []string{"=x", "=", "; " + sessions.DefaultCookieName, "=" + strings.Repeat("A", 43) + "; " + sessions.DefaultCookieName + "=" + strings.Repeat("A", 43)} {
		a := r.send("login", request{form: credentials("ada", adaPassword), header: http.Header{"Cookie": {sessions.DefaultCookieName + header}}})
		r.want(header, a, http.StatusSeeOther)
	}
}

// A fickle Manager notes what it is asked, and fails where told.
type fickle struct {
	*sessions.Manager
	mu      sync.Mutex
	asked   []string
	failing map[string]int // how often still
	key     sessions.Key   // of the session created last
}

func (f *fickle) ask(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, what)
	if f.failing[what] > 0 {
		f.failing[what]--
		return errors.New("on purpose")
	}
	return nil
}

func (f *fickle) Create(ctx context.Context, n sessions.NewSession) (sessions.ID, *sessions.Session, error) {
	if err := f.ask("create"); err != nil {
		return sessions.ID{}, nil, err
	}
	id, s, err := f.Manager.Create(ctx, n)
	f.key = id.Key()
	return id, s, err
}

func (f *fickle) Revoke(ctx context.Context, key sessions.Key) error {
	what := "revoke presented"
	if key == f.key {
		what = "revoke new"
	}
	if err := f.ask(what); err != nil {
		return err
	}
	return f.Manager.Revoke(ctx, key)
}

func newFickle(t *testing.T) (*rig, *fickle) {
	f := &fickle{failing: make(map[string]int)}
	r := newRig(t, func(c *login.Config) {
		f.Manager = c.Sessions.(*sessions.Manager)
		c.Sessions = f
	})
	return r, f
}

// TestLoginOrder: a login makes the new session first and ends the presented one second.
// If it cannot end that one, it ends the new one.
func TestLoginOrder(t *testing.T) {
	r, f := newFickle(t)
	presented := r.signIn("ada", "")
	f.asked = nil
	id := r.cookie(r.send("login", request{form: credentials("ada", adaPassword), id: presented}))
	if got := strings.Join(f.asked, ", "); got != "create, revoke presented" {
		t.Errorf("the order is %s", got)
	}

	f.asked, f.failing = nil, map[string]int{"revoke presented": 1}
	a := r.send("login", request{form: credentials("ada", adaPassword), id: id})
	r.want("the presented session cannot be ended", a, http.StatusServiceUnavailable)
	r.untouched("the presented session cannot be ended", a)
	if got := strings.Join(f.asked, ", "); got != "create, revoke presented, revoke new" || r.count("42") != 1 || !r.live(id) {
		t.Errorf("%s; %d sessions", got, r.count("42"))
	}

	f.failing = map[string]int{"create": 1}
	a = r.send("login", request{form: credentials("ada", adaPassword), id: id})
	r.want("none can be made", a, http.StatusServiceUnavailable)
	r.untouched("none can be made", a)
	if !r.live(id) {
		t.Error("the presented session is gone, and there is no other")
	}
}

// TestSameRefusal: who guesses names learns nothing, at no status.
func TestSameRefusal(t *testing.T) {
	r := newRig(t)
	for _, asJSON := range []bool{false, true} {
		for i := range 7 {
			var got []answer
			for _, name := range []string{"ada", "eve"} { // of one length
				q := request{form: credentials(name, "wrong"), from: "192.0.2.1"}
				if asJSON {
					q = request{json: map[string]string{"username": name, "password": "wrong"}, from: "198.51.100.1"}
				}
				a := r.send("login", q)
				a.Header.Del("Date")
				got = append(got, a)
			}
			want := http.StatusUnauthorized
			if i >= 5 {
				want = http.StatusTooManyRequests
			}
			r.want("known", got[0], want)
			r.want("unknown", got[1], want)
			if strings.ReplaceAll(got[0].body, "ada", "eve") != got[1].body {
				t.Errorf("attempt %d: the bodies differ:\n%s\n%s", i, got[0].body, got[1].body)
			}
			for name := range got[0].Header {
				if a, b := got[0].Header[name], got[1].Header[name]; !slices.Equal(a, b) {
					t.Errorf("attempt %d: %s is %q and %q", i, name, a, b)
				}
			}
			if len(got[0].Header) != len(got[1].Header) {
				t.Errorf("the headers are %v and %v", got[0].Header, got[1].Header)
			}
			r.untouched("refused", got[0])
		}
	}
}

// TestImplausible: what no account can have is refused without work, as if wrong.
func TestImplausible(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string][2]string{
		"no username": {"", adaPassword}, "no password": {"ada", ""}, "neither": {"", ""},
		"long username": {strings.Repeat("a", 257), "x"}, "long password": {"ada", strings.Repeat("a", 1025)},
		"NUL": {"ada\x00", adaPassword}, "no UTF-8": {"ada\xff", adaPassword}, "line end": {"ada\n", adaPassword},
	} {
		for range 10 { // and is not counted
			a := r.send("login", request{form: credentials(c[0], c[1])})
			r.want(name, a, http.StatusUnauthorized)
			if !strings.Contains(a.body, "Wrong username or password.") || a.Header.Get("WWW-Authenticate") != "Session" {
				t.Errorf("%s: it looks different: %s", name, a.body)
			}
		}
	}
	if n := r.users.asked.Load(); n != 0 {
		t.Errorf("%d passwords were looked at", n)
	}
	for _, c := range [][2]string{{strings.Repeat("a", 256), "x"}, {"ada", strings.Repeat("a", 1024)}} {
		r.send("login", request{form: credentials(c[0], c[1])})
	}
	if n := r.users.asked.Load(); n != 2 {
		t.Errorf("%d of 2 of the longest passwords were looked at", n)
	}
}

// TestUnreadable: the wrong kinds of body.
func TestUnreadable(t *testing.T) {
	r := newRig(t)
	good := `{"username":"ada","password":"` + adaPassword + `"}`
	typed := func(t string) http.Header { return http.Header{"Content-Type": {t}} }
	for name, test := range map[string]struct {
		q      request
		status int
	}{
		"no type":              {request{json: good, header: http.Header{"Content-Type": nil}}, 415},
		"text":                 {request{json: good, header: typed("text/plain")}, 415},
		"text that says JSON":  {request{json: good, header: typed("text/plain; application/json")}, 415},
		"multipart":            {request{json: good, header: typed("multipart/form-data; boundary=x")}, 415},
		"other JSON":           {request{json: good, header: typed("application/json-patch+json")}, 415},
		"JSON with a charset":  {request{json: good, header: typed("application/json; charset=utf-8")}, 200},
		"no JSON":              {request{json: `username=ada`}, 400},
		"a list":               {request{json: `[]`}, 400},
		"a number as username": {request{json: `{"username":1}`}, 400},
		"an unknown member":    {request{json: `{"username":"ada","pasword":"x"}`}, 400},
		"something behind it":  {request{json: good + good}, 400},
		"nothing":              {request{json: ``}, 400},
		"a type cut short":     {request{json: good, header: typed("application/json; charset=")}, 415},
		"bad escapes":          {request{json: "username=%zz&password=x", header: typed("application/x-www-form-urlencoded")}, 400},
		"a large form":         {request{form: url.Values{"username": {"ada"}, "x": {strings.Repeat("x", 17<<10)}}}, 413},
		"a large JSON":         {request{json: `{"username":"` + strings.Repeat("x", 17<<10) + `"}`}, 413},
		"large blanks behind":  {request{json: good + strings.Repeat(" ", 17<<10)}, 413},
		"in the query":         {request{method: "POST", form: url.Values{}}, 401},
	} {
		a := r.send("login?username=ada&password="+url.QueryEscape(adaPassword), test.q)
		r.want(name, a, test.status)
		if test.status != 200 {
			r.untouched(name, a)
		}
	}
}

// TestCrossOrigin: what another site can make a browser send.
func TestCrossOrigin(t *testing.T) {
	r := newRig(t)
	host := strings.TrimPrefix(r.http.URL, "http://")
	id := r.signIn("ada", "")
	for _, test := range []struct {
		header http.Header
		good   bool
	}{
		{nil, true},
		{http.Header{"Sec-Fetch-Site": {"same-origin"}}, true},
		{http.Header{"Sec-Fetch-Site": {"none"}}, true},
		{http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"null"}}, true},
		{http.Header{"Origin": {"http://" + host}}, true},
		{http.Header{"Sec-Fetch-Site": {"cross-site"}}, false},
		{http.Header{"Sec-Fetch-Site": {"same-site"}}, false},
		{http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"http://" + host}}, false},
		{http.Header{"Origin": {"https://evil.example"}}, false},
		{http.Header{"Origin": {"http://" + host + ".evil.example"}}, false},
		{http.Header{"Origin": {"null"}}, false},
	} {
		for endpoint, q := range map[string]request{
			"login":             {form: credentials("bob", bobPassword)},
			"login?json":        {json: map[string]string{"username": "bob", "password": bobPassword}},
			"logout":            {form: url.Values{}, id: id},
			"logout/everywhere": {form: url.Values{}, id: id},
			"sessions":          {form: url.Values{"others": {"1"}}, id: id},
		} {
			if test.good && endpoint != "login" && endpoint != "login?json" {
				continue // it would end the session
			}
			q.header = test.header
			a := r.send(endpoint, q)
			if refused := a.StatusCode == http.StatusForbidden; refused == test.good || a.StatusCode >= 500 {
				t.Errorf("%s with %v: %s", endpoint, test.header, a.Status)
			}
			if !test.good {
				r.untouched(endpoint, a)
			}
		}
	}
	if !r.live(id) {
		t.Error("another site has signed out a user")
	}
	for _, endpoint := range []string{"logout", "sessions", "session"} { // a link from elsewhere
		r.want(endpoint, r.send(endpoint, request{id: id, header: http.Header{"Sec-Fetch-Site": {"cross-site"}}}), http.StatusOK)
	}
	if !r.live(id) {
		t.Error("a GET has signed out a user")
	}
}

// TestUnavailable: without Redis no user gets in or is signed out, and no
// password is looked at.
func TestUnavailable(t *testing.T) {
	r := newRig(t)
	id := r.signIn("ada", "")
	asked := r.users.asked.Load()
	r.redis.Kill()
	for name, q := range map[string]request{
		"login":             {form: credentials("ada", adaPassword)},
		"login?presented":   {form: credentials("ada", adaPassword), id: id},
		"login?page":        {id: id},
		"logout":            {form: url.Values{}, id: id},
		"logout?page":       {id: id},
		"logout/everywhere": {form: url.Values{}, id: id},
		"sessions":          {id: id},
		"sessions?one":      {form: url.Values{"handle": {id.Key().Handle()}}, id: id},
		"sessions?others":   {form: url.Values{"others": {"1"}}, id: id},
		"session":           {id: id},
	} {
		for _, accept := range []string{"text/html", "application/json"} {
			q.header = http.Header{"Accept": {accept}}
			a := r.send(name, q)
			r.want(name, a, http.StatusServiceUnavailable)
			r.untouched(name, a)
			if a.Header.Get("Retry-After") != "5" {
				t.Errorf("%s: Retry-After %q", name, a.Header.Get("Retry-After"))
			}
			if isJSON := strings.HasPrefix(a.Header.Get("Content-Type"), "application/problem+json"); isJSON != (accept == "application/json" || name == "session") {
				t.Errorf("%s: %s for %s", name, a.Header.Get("Content-Type"), accept)
			}
		}
	}
	if n := r.users.asked.Load() - asked; n != 0 {
		t.Errorf("%d passwords were looked at", n)
	}
	// Who tried to sign in finds the form again, and the way on.
	form := credentials("ada", adaPassword)
	form.Set("rd", "/app")
	if a := r.send("login", request{form: form}); !strings.Contains(a.body, `value="/app"`) || !strings.Contains(a.body, `value="ada"`) || strings.Contains(a.body, "canary") {
		t.Errorf("the form is lost: %s", a.body)
	}
	// Who shows nothing gets the form without Redis.
	r.want("the form", r.send("login", request{}), http.StatusOK)
}

// TestUsersUnavailable: a fault of the user source is 503, and no attempt.
func TestUsersUnavailable(t *testing.T) {
	r := newRig(t)
	for name, fault := range map[string]error{"source": errors.New("the database is down"), "busy": login.ErrBusy, "deadline": context.DeadlineExceeded} {
		r.users.fail(fault)
		for range 12 {
			a := r.send("login", request{form: credentials("ada", adaPassword)})
			r.want(name, a, http.StatusServiceUnavailable)
			r.untouched(name, a)
			if a.Header.Get("Retry-After") == "" || strings.Contains(a.body, "database") {
				t.Errorf("%s: %v\n%s", name, a.Header, a.body)
			}
		}
	}
	if r.count("42") != 0 {
		t.Error("a session was made")
	}
	r.users.fail(nil)
	r.signIn("ada", "")
}

// TestUnfitUser: a user whom no session can hold is a mistake of the source.
func TestUnfitUser(t *testing.T) {
	r := newRig(t)
	for name, user := range map[string]login.User{
		"a reserved attribute": {ID: "42", Attributes: map[string]string{"roles": "[]"}},
		"no ID":                {Username: "ada"},
		"an empty role":        {ID: "42", Roles: []string{""}},
	} {
		r.users.users["ada"] = user
		presented := r.signIn("bob", "")
		a := r.send("login", request{form: credentials("ada", adaPassword), id: presented})
		r.want(name, a, http.StatusServiceUnavailable)
		r.untouched(name, a)
		if !r.live(presented) || r.count("42") != 0 {
			t.Errorf("%s: something has changed", name)
		}
	}
	if got := r.log.String(); !strings.Contains(got, `field \"roles\": reserved name`) {
		t.Errorf("the log does not say why: %s", got)
	}
}

// TestClientLeaves: in the middle of a check the attempt stays counted; after it,
// the login is carried to its end.
func TestClientLeaves(t *testing.T) {
	r := newRig(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	r.users.pause = func(ctx context.Context) {
		entered <- struct{}{}
		<-ctx.Done()
		<-leave
	}
	presented, _, err := r.sessions.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	leaveWith := func(err error) {
		r.users.fail(err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = r.try(ctx, "login", request{form: credentials("ada", adaPassword), id: presented})
		}()
		<-entered
		cancel()
		leave <- struct{}{}
		<-done
	}
	for range 5 {
		leaveWith(context.Canceled)
	}
	eventually(t, "logged", func() bool { return strings.Count(r.log.String(), `"outcome":"cancelled"`) == 5 })
	if got := r.wrong("ada", ""); got != http.StatusTooManyRequests {
		t.Errorf("leaving early made attempts free: %d", got)
	}
	r.admin.FlushDB(t.Context())
	if presented, _, err = r.sessions.Create(t.Context(), sessions.NewSession{UserID: "42"}); err != nil {
		t.Fatal(err)
	}
	leaveWith(nil)
	eventually(t, "the presented session ended", func() bool { return !r.live(presented) })
	if r.count("42") != 1 {
		t.Errorf("%d sessions, want the new one", r.count("42"))
	}
}

// eventually waits for what the server does after its client has left.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s", what)
		}
	}
}

// TestJSONLogin: for single-page applications, with the cookie.
func TestJSONLogin(t *testing.T) {
	r := newRig(t)
	a := r.send("login", request{json: map[string]any{"username": "ada", "password": adaPassword, "return": "/app"}})
	r.want("login", a, http.StatusOK)
	var got map[string]any
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	id := r.cookie(a)
	if got["user_id"] != "42" || got["username"] != "Ada" || got["location"] != "/app" || got["handle"] != id.Key().Handle() || len(got["roles"].([]any)) != 2 {
		t.Errorf("the answer is %s", a.body)
	}
	if _, there := got["id"]; there || strings.Contains(a.body, id.Reveal()) {
		t.Errorf("the ID is in the body: %s", a.body)
	}
	a = r.send("login", request{json: map[string]any{"username": "ada", "password": "wrong"}})
	r.want("wrong", a, http.StatusUnauthorized)
	if a.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(a.body, `"code":"bad_credentials"`) || !strings.Contains(a.body, `"status":401`) {
		t.Errorf("the problem is %v %s", a.Header, a.body)
	}
	a = r.send("login", request{json: map[string]any{"username": "ada", "password": adaPassword, "bearer": true}})
	r.want("bearer", a, http.StatusForbidden)
	r.untouched("bearer", a)
	if !strings.Contains(a.body, "bearer_not_allowed") || r.count("42") != 1 {
		t.Errorf("%s; %d sessions", a.body, r.count("42"))
	}
}

// TestBearerLogin: the ID in the body, no cookie; and it signs out.
func TestBearerLogin(t *testing.T) {
	r := newRig(t, func(c *login.Config) { c.BearerLogin = true })
	a := r.send("login", request{json: map[string]any{"username": "ada", "password": adaPassword, "bearer": true}})
	r.want("login", a, http.StatusOK)
	r.untouched("login", a)
	var got struct{ ID string }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	id, err := sessions.ParseID(got.ID)
	if err != nil || !r.live(id) {
		t.Fatalf("the answer is %s", a.body)
	}
	bearer := func(values ...string) http.Header {
		return http.Header{"Authorization": values, "Accept": {"application/json"}}
	}
	for name, test := range map[string]struct {
		q      request
		status int
	}{
		"bearer":            {request{header: bearer("Bearer " + got.ID)}, 200},
		"in lower case":     {request{header: bearer("bearer " + got.ID)}, 200},
		"with cookie":       {request{header: bearer("Bearer " + got.ID), id: id}, 401},
		"twice":             {request{header: bearer("Bearer "+got.ID, "Bearer "+got.ID)}, 401},
		"basic":             {request{header: bearer("Basic " + got.ID)}, 401},
		"padded":            {request{header: bearer("Bearer " + got.ID + "=")}, 401},
		"basic with cookie": {request{header: bearer("Basic x"), id: id}, 200}, // credentials for another program
		"no scheme":         {request{header: bearer(got.ID)}, 401},
	} {
		r.want(name, r.send("session", test.q), test.status)
	}
	a = r.send("login", request{json: map[string]any{"username": "ada", "password": adaPassword}})
	if r.cookie(a) == (sessions.ID{}) || strings.Contains(a.body, `"id"`) {
		t.Error("without asking the ID is in the body")
	}
	r.want("logout", r.send("logout", request{method: "POST", header: bearer("Bearer " + got.ID)}), http.StatusNoContent)
	if r.live(id) {
		t.Error("the session lives")
	}
	off := newRig(t)
	r.want("not allowed", off.send("session", request{header: bearer("Bearer " + off.signIn("ada", "").Reveal())}), http.StatusUnauthorized)
}

// TestRedisDiesMidway: while the password is checked. Right or not checked, it is
// 503, and no user is signed in.
func TestRedisDiesMidway(t *testing.T) {
	for name, said := range map[string]error{"the right password": nil, "not checked": login.ErrBusy} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.users.fail(said)
			entered, killed := make(chan struct{}), make(chan struct{})
			r.users.pause = func(context.Context) {
				entered <- struct{}{}
				<-killed
			}
			got := make(chan answer)
			go func() {
				a, err := r.try(t.Context(), "login", request{form: credentials("ada", adaPassword)})
				if err != nil {
					t.Error(err)
				}
				got <- a
			}()
			<-entered
			r.redis.Kill()
			close(killed)
			a := <-got
			r.want(name, a, http.StatusServiceUnavailable)
			r.untouched(name, a)
		})
	}
}

// TestRedisFull: no user gets in or is signed out, and no password is looked
// at; signing out still works.
func TestRedisFull(t *testing.T) {
	r := newRig(t)
	id := r.signIn("ada", "")
	asked := r.users.asked.Load()
	if err := r.admin.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	a := r.send("login", request{form: credentials("ada", adaPassword), id: id})
	r.want("login", a, http.StatusServiceUnavailable)
	r.untouched("login", a)
	if n := r.users.asked.Load() - asked; n != 0 || !r.live(id) {
		t.Errorf("%d passwords were looked at; signed in: %v", n, r.live(id))
	}
	r.want("who am I", r.send("session", request{id: id}), http.StatusOK)
	r.want("logout", r.send("logout", request{form: url.Values{}, id: id}), http.StatusSeeOther)
	if r.live(id) {
		t.Error("signed out, and the session lives")
	}
}
