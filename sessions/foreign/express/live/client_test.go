package live_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// client sends each request as it stands and follows nothing.
var client = &http.Client{
	Timeout:       30 * time.Second,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a request to an application behind Envoy: "GET /path", with a Cookie
// header for each line of cookie, and a body in JSON.
func (v *site) ask(t testing.TB, a *app, request, cookie string, body ...string) answer {
	t.Helper()
	return send(t, v.URL, a.name, request, cookie, body...)
}

// ask sends a request to the application itself, past Envoy.
func (a *app) ask(t testing.TB, request, cookie string) answer {
	t.Helper()
	return send(t, "http://"+a.address, a.name, request, cookie)
}

func send(t testing.TB, to, host, request, cookie string, body ...string) answer {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(t.Context(), method, to+path, strings.NewReader(strings.Join(body, "")))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	if cookie != "" {
		r.Header["Cookie"] = strings.Split(cookie, "\n")
	}
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, text}
}

// came fails the test if the answer has another status.
func (w answer) came(t testing.TB, status int) answer {
	t.Helper()
	if w.status != status {
		t.Errorf("the answer was %d, not %d: %.300s", w.status, status, w.body)
	}
	return w
}

// headers are what the echo was sent, with names in lower case.
func (w answer) headers(t testing.TB) map[string]string {
	t.Helper()
	var echoed struct{ Headers map[string][]string }
	if err := json.Unmarshal(w.body, &echoed); err != nil {
		t.Fatalf("no echo answered: %.300s", w.body)
	}
	flat := make(map[string]string)
	for name, values := range echoed.Headers {
		flat[strings.ToLower(name)] = strings.Join(values, "\n")
	}
	return flat
}

// user is whom the application's own answer names: its ID, or "" for a visitor.
func (w answer) user(t testing.TB) string {
	t.Helper()
	if w.status >= 500 { // the application could not read its own session
		return ""
	}
	var said struct{ User json.RawMessage }
	if err := json.Unmarshal(w.body, &said); err != nil {
		t.Fatalf("the application answered %d: %.300s", w.status, w.body)
	}
	var text string
	if json.Unmarshal(said.User, &text) == nil { // null, too
		return text
	}
	return string(said.User)
}

// told is whom Coatcheck has told the echo of.
func (w answer) told(t testing.TB) string {
	t.Helper()
	id, err := url.PathUnescape(w.headers(t)["x-user-id"])
	if err != nil || id == "" {
		t.Errorf("an allowed request without an x-user-id that can be decoded: %v", err)
	}
	return id
}

// cookie is the Cookie header that a browser sends after this answer, "" if it sets none.
func (w answer) cookie(name string) string {
	for _, line := range w.header.Values("Set-Cookie") {
		if pair, _, _ := strings.Cut(line, ";"); strings.HasPrefix(pair, name+"=") {
			return pair
		}
	}
	return ""
}

// A person is signed in.
type person struct {
	cookie string // the Cookie header
	sid    string // what the cookie names
	key    string // in Redis
}

// signIn signs a user in at the application itself.
func (v *site) signIn(t testing.TB, a *app, query string) person {
	t.Helper()
	w := a.ask(t, "GET /login?"+query, "").came(t, http.StatusFound)
	return v.person(t, w.cookie(v.cookie))
}

func (v *site) person(t testing.TB, cookie string) person {
	t.Helper()
	value, err := url.PathUnescape(strings.TrimPrefix(cookie, v.cookie+"="))
	if err != nil || !strings.HasPrefix(value, "s:") {
		t.Fatal("the application set no signed cookie")
	}
	sid, _, _ := strings.Cut(value[2:], ".")
	return person{cookie: cookie, sid: sid, key: v.key(sid)}
}

// signed is a cookie's value as express-session signs it.
func signed(sid, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(sid))
	return "s:" + sid + "." + base64.RawStdEncoding.EncodeToString(mac.Sum(nil))
}

// encoded is what encodeURIComponent makes of a cookie's value.
func encoded(value string) string { return strings.ReplaceAll(url.QueryEscape(value), "+", "%20") }
