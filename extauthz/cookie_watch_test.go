package extauthz

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
)

// A watched is a server whose notices the test reads.
type watched struct {
	*Server
	log  *bytes.Buffer
	time time.Time
}

func newWatched(t *testing.T, c Config) *watched {
	t.Helper()
	w := &watched{log: new(bytes.Buffer), time: time.Now()}
	c.Logger, c.Metrics, c.Log.Decisions = slog.New(slog.NewJSONHandler(w.log, nil)), prometheus.NewRegistry(), LogFaults
	var err error
	if w.Server, err = New(oneSession{fuzzID}, c); err != nil {
		t.Fatal(err)
	}
	w.cookies.names.now = func() time.Time { return w.time }
	return w
}

// asks sends a request with these Cookie lines to a route of this requirement.
func (w *watched) asks(session string, cookies ...string) {
	r := &request{http: true, method: "GET", path: "/", host: "shop.example", extensions: map[string]string{"coatcheck.session": session}}
	r.cookies.Lines = cookies
	w.check(context.Background(), w.bare, r)
}

func (w *watched) said(name notice.Name) int {
	return strings.Count(w.log.String(), `"notice":"`+string(name)+`"`) - strings.Count(w.log.String(), "no longer so")
}

func lookalike(name string) string { return name + "=" + sessions.NewID().Reveal() }

// TestNoCookieHeader: a thousand checks without any Cookie header are said once, on
// routes of every kind; the first header ends it, and a server that has seen one never
// says it.
func TestNoCookieHeader(t *testing.T) {
	w := newWatched(t, Config{})
	for i := range 5 * manyChecks {
		if i == manyChecks-1 && w.said(notice.NoCookieHeader) != 0 {
			t.Fatal("said too early")
		}
		w.asks([]string{"required", "optional", "none"}[i%3])
	}
	if n := w.said(notice.NoCookieHeader); n != 1 || !w.cookies.board.Stands(notice.NoCookieHeader) {
		t.Fatalf("said %d times: %s", n, w.log)
	}
	if !strings.Contains(w.log.String(), "allowed_headers") || !strings.Contains(w.log.String(), "1000") {
		t.Errorf("without number or cure: %s", w.log)
	}
	w.asks("none", "a=1")
	if w.cookies.board.Stands(notice.NoCookieHeader) || strings.Count(w.log.String(), "no longer so") != 1 {
		t.Errorf("it stands after a Cookie header: %s", w.log)
	}
	w.log.Reset()
	for range 3 * manyChecks {
		w.asks("required")
	}
	if w.log.Len() > 0 {
		t.Errorf("said after a Cookie header was there: %s", w.log)
	}
}

// TestNonsenseIsNoCheck: what is no HTTP request says nothing about Cookie headers.
func TestNonsenseIsNoCheck(t *testing.T) {
	w := newWatched(t, Config{})
	for range 2 * manyChecks {
		w.check(context.Background(), w.bare, &request{malformed: true, http: true})
		w.check(context.Background(), w.bare, &request{})
	}
	if w.log.Len() > 0 {
		t.Error(w.log)
	}
}

// TestOtherCookieName: login sets a cookie of another name. The line has the names, and
// no value.
func TestOtherCookieName(t *testing.T) {
	w := newWatched(t, Config{Cookie: sessions.Cookie{Name: "__Host-session"}})
	var sent []string
	for range 3 * manyLookalikes {
		cookie := lookalike("__Host-sid")
		sent = append(sent, strings.TrimPrefix(cookie, "__Host-sid="))
		w.asks("required", "theme=dark; "+cookie)
	}
	text := w.log.String()
	if n := w.said(notice.OtherCookieName); n != 1 || !strings.Contains(text, `"cookie.name":"__Host-session","seen":["__Host-sid"]`) {
		t.Fatalf("said %d times: %s", n, text)
	}
	for _, value := range sent {
		if strings.Contains(text, value) {
			t.Fatalf("the line has the value: %s", text)
		}
	}
	w.asks("required", sessions.DefaultCookieName+"="+fuzzID.Reveal()) // a live session
	w.log.Reset()
	w.time = w.time.Add(48 * time.Hour)
	for range 3 * manyLookalikes {
		w.asks("required", lookalike("__Host-sid"))
	}
	if w.log.Len() > 0 || w.cookies.board.Stands(notice.OtherCookieName) {
		t.Errorf("said after a live session: %s", w.log)
	}
}

// TestOtherCookieNameOnlyOurs: cookies of other programs without our form, and a cookie
// of our name, are no notice.
func TestOtherCookieNameOnlyOurs(t *testing.T) {
	w := newWatched(t, Config{})
	id := sessions.NewID().Reveal()
	for range 2 * manyLookalikes {
		for _, cookie := range []string{
			"a=" + id[:42], "a=" + id + "a", "a=" + strings.Repeat("!", 43), "a", "=" + id, `a="` + id[:41] + `"`, "b c=" + id,
			strings.Repeat("a", 300) + "=" + id, "a=" + id[:42] + "_", // spare bits
			sessions.DefaultCookieName + "=" + id, sessions.DefaultCookieName + "=" + id + "; x=" + id,
		} {
			w.asks("required", cookie)
		}
	}
	if w.log.Len() > 0 {
		t.Error(w.log)
	}
}

// TestOtherCookieNameAttacked: a client that sends names of its own choice fills no log,
// gets no ID and no control character into it, and hides neither a name that most
// clients send, nor the default name, nor a name that clients send an hour later.
func TestOtherCookieNameAttacked(t *testing.T) {
	w := newWatched(t, Config{Cookie: sessions.Cookie{Name: "sid"}})
	flood := func(n int, name ...string) {
		for i := range n {
			if len(name) > 0 && i%3 == 0 {
				w.asks("required", lookalike(name[0]))
			}
			w.asks("required", lookalike(fmt.Sprint("junk", i))+"; "+lookalike(sessions.NewID().Reveal())+"; "+lookalike(strings.Repeat("n", 200)))
		}
	}
	if flood(20_000); w.said(notice.OtherCookieName) != 1 || w.log.Len() > 1200 {
		t.Fatalf("%d lines, %d bytes: %s", w.said(notice.OtherCookieName), w.log.Len(), w.log)
	}
	w.log.Reset()
	later := func() {
		w.time = w.time.Add(notice.Pause)
		var err error // a board whose hour has passed
		if w.cookies.board, err = notice.NewBoard(w.decisions.logger, nil, notice.OtherCookieName); err != nil {
			t.Fatal(err)
		}
	}
	later()
	if flood(300, "__Secure-sid"); !strings.Contains(w.log.String(), `"__Secure-sid"`) {
		t.Errorf("a third of the clients is hidden: %s", w.log)
	}
	w.log.Reset()
	later()
	w.asks("required", lookalike(sessions.DefaultCookieName))
	if flood(300); !strings.Contains(w.log.String(), `"seen":["__Host-session",`) {
		t.Errorf("the default name is hidden: %s", w.log)
	}
}

// TestNamesAreRedacted: a name that could be a session ID is not repeated.
func TestNamesAreRedacted(t *testing.T) {
	w := newWatched(t, Config{})
	id := sessions.NewID().Reveal()
	for range manyLookalikes {
		w.asks("required", lookalike("x."+id))
	}
	if strings.Contains(w.log.String(), id) || w.said(notice.OtherCookieName) != 1 {
		t.Error(w.log)
	}
}

// TestWatchAtOnce: checks at once count, and the notice is one line (with the race
// detector).
func TestWatchAtOnce(t *testing.T) {
	w := newWatched(t, Config{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range manyChecks {
				w.asks("optional")
			}
			for range manyLookalikes {
				w.asks("required", lookalike("sid"))
			}
			w.asks("required", sessions.DefaultCookieName+"="+fuzzID.Reveal())
		})
	}
	all.Wait()
	if !w.cookies.settled.Load() {
		t.Error("no session was seen")
	}
}

// TestWatchCosts: neither an ordinary check nor one without a session costs an
// allocation, or a lock, before a session was seen and afterwards.
func TestWatchCosts(t *testing.T) {
	w := newWatched(t, Config{})
	none, other := &request{http: true}, &request{http: true}
	other.cookies.Lines = []string{"_ga=GA1.1.1234567890.1234567890; theme=dark; csrf=" + strings.Repeat("a", 42)}
	anonymous, live := &identity{outcome: NoCookie}, &identity{outcome: OK, session: new(sessions.Session)}
	w.cookies.names.mu.Lock() // a check would hang here
	defer w.cookies.names.mu.Unlock()
	for name, look := range map[string]func(){
		"without a Cookie header": func() { w.cookies.look(none, anonymous) },
		"without our cookie":      func() { w.cookies.look(other, anonymous) },
		"live":                    func() { w.cookies.look(other, live) },
	} {
		if n := testing.AllocsPerRun(100, look); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
