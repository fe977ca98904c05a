package login_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// TestUnreplicated: where replicas do not acknowledge an end, the session has ended all the
// same, the cookie goes, and browser, program and log are told what a failover could do.
func TestUnreplicated(t *testing.T) {
	r := newRigOn(t, redisstore.Config{WaitReplicas: 1, WaitTimeout: time.Millisecond}) // there is no replica
	cleared := (sessions.Cookie{}).Clear().String()
	lines := func() int { return strings.Count(r.log.String(), `"replicated":false`) }
	logged := 0
	ended := func(what string, n int, ids ...sessions.ID) {
		t.Helper()
		for _, id := range ids {
			if r.live(id) {
				t.Errorf("%s: a session lives", what)
			}
		}
		if now := lines(); now != logged+n {
			t.Errorf("%s: %d lines say that replicas have not acknowledged it, want %d:\n%s", what, now-logged, n, r.log.String())
		}
		logged = lines()
	}

	id := r.signIn("ada", "")
	a := r.send("logout", request{form: url.Values{}, id: id})
	r.want("signing out", a, http.StatusSeeOther)
	if a.Header.Get("Location") != "/.auth/login?signed_out=1&unconfirmed=1" || a.Header.Get("Set-Cookie") != cleared {
		t.Errorf("signing out: %v", a.Header)
	}
	ended("signing out", 1, id)

	id = r.signIn("ada", "")
	a = r.send("logout", request{method: "POST", id: id, header: http.Header{"Accept": {"application/json"}}})
	r.want("signing out, as JSON", a, http.StatusAccepted)
	var answer struct{ Code, Detail string }
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil || answer.Code != "not_replicated" || answer.Detail == "" || a.Header.Get("Set-Cookie") != cleared {
		t.Errorf("signing out, as JSON: %s %v", a.body, a.Header)
	}
	ended("signing out, as JSON", 1, id)

	id, second, third := r.signIn("ada", ""), r.signIn("ada", ""), r.signIn("ada", "")
	a = r.send("sessions", request{form: url.Values{"handle": {second.Key().Handle()}}, id: id})
	if a.Header.Get("Location") != "/.auth/sessions?ended=one&unconfirmed=1" {
		t.Errorf("one: %s %v", a.Status, a.Header)
	}
	ended("one", 1, second)
	a = r.send("sessions", request{json: map[string]any{"others": true}, id: id})
	r.want("others, as JSON", a, http.StatusAccepted)
	ended("others", 1, third)
	if a = r.send("sessions?ended=others&unconfirmed=1", request{id: id}); !strings.Contains(a.body, "All other browsers are signed out. The backup servers have not confirmed this yet.") {
		t.Errorf("the list says nothing of replicas:\n%s", a.body)
	}
	if a = r.send("sessions?unconfirmed=1", request{id: id}); strings.Contains(a.body, "backup servers") {
		t.Error("the list speaks of replicas where nothing has ended")
	}
	second = r.signIn("ada", "")
	a = r.send("logout/everywhere", request{form: url.Values{}, id: id})
	if a.Header.Get("Location") != "/.auth/login?signed_out=1&unconfirmed=1" || a.Header.Get("Set-Cookie") != cleared {
		t.Errorf("everywhere: %s %v", a.Status, a.Header)
	}
	ended("everywhere", 2, id, second)

	id = r.signIn("ada", "")
	a = r.send("login", request{form: credentials("ada", adaPassword), id: id})
	r.want("a login that replaces a session", a, http.StatusSeeOther)
	ended("a login that replaces a session", 1, id)
	if !r.live(r.cookie(a)) {
		t.Error("the new session does not live")
	}
}

// TestUnreplicatedLanguages: the sentence is in every language, and behind the one that it
// is about.
func TestUnreplicatedLanguages(t *testing.T) {
	r := newRig(t)
	for language, want := range map[string]string{
		"en": "You are signed out. The backup servers", "de": "Sie sind abgemeldet. Die Ersatzserver", "fr": "Votre session est fermée. Les serveurs de secours",
		"es": "Ha cerrado la sesión. Los servidores de respaldo", "pt": "A sessão foi encerrada. Os servidores de reserva",
	} {
		in := http.Header{"Accept-Language": {language}, "Accept": {"text/html"}}
		if a := r.send("login?signed_out=1&unconfirmed=1", request{header: in}); !strings.Contains(a.body, want) {
			t.Errorf("%s: the page lacks %q", language, want)
		}
		if a := r.send("login?signed_out=1", request{header: in}); strings.Contains(a.body, want) {
			t.Errorf("%s: the page says it of every end", language)
		}
	}
}
