package browser_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// User agents of browsers that are not run.
const (
	firefox = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:151.0) Gecko/20100101 Firefox/151.0"
	safari  = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.1"
)

// signInElsewhere signs a user in as another browser would.
func signInElsewhere(t *testing.T, s *rig.Stack, username, userAgent string) {
	t.Helper()
	form := url.Values{"username": {username}, "password": {password}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/.auth/login", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("User-Agent", userAgent)
	transport := &http.Transport{ResponseHeaderTimeout: patience}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSeeOther {
		t.Fatalf("signing in elsewhere: status %d", response.StatusCode)
	}
}

// evil is another site, with forms that post to the front. It returns its port.
func evil(t *testing.T, front string) (port string) {
	t.Helper()
	page := strings.NewReplacer("{front}", front, "{password}", password).Replace(`<!doctype html><title>evil</title>
<form id="login" method="post" action="{front}/.auth/login">
<input type="hidden" name="username" value="ben"><input type="hidden" name="password" value="{password}"><button>a</button></form>
<form id="logout" method="post" action="{front}/.auth/logout"><button>b</button></form>
<form id="everywhere" method="post" action="{front}/.auth/logout/everywhere"><button>c</button></form>
<form id="others" method="post" action="{front}/.auth/sessions"><input type="hidden" name="others" value="1"><button>d</button></form>
<form id="upstream" method="post" action="{front}/optional/orders"><button>e</button></form>
`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page))
	}))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s, after %v", what, patience)
		}
	}
}
