package login_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

var _ login.Authenticator = directory{}

// A tokens Method signs in by a one-time token, such as of a link in an e-mail.
type tokens struct {
	users   map[string]login.User // by the token
	handler *login.Handler
}

func (t *tokens) Mount(m *login.Mux, h *login.Handler) {
	t.handler = h
	m.Handle("GET token", t.callback)
}

func (t *tokens) callback(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	if !query.Has("token") {
		return login.ErrBadRequest
	}
	user, ok := t.users[query.Get("token")]
	if !ok {
		return login.ErrBadCredentials
	}
	delete(t.users, query.Get("token")) // a real one locks, and expires
	return t.handler.SignIn(w, r, user, query.Get(sessions.ReturnParameter))
}

// A second way of signing in, beside the password form.
func ExampleMethod() {
	server, err := redistest.New() // in your program: the Redis that you have
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := redisstore.NewClient(redisstore.ClientConfig{
		UniversalOptions: redis.UniversalOptions{Addrs: []string{server.Addr}, Password: redistest.Password, ReadTimeout: 10 * time.Second},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		log.Fatal(err)
	}
	var byLink login.Method = &tokens{users: map[string]login.User{"one-time": {ID: "42", Username: "Ada"}}}
	var handler *login.Handler
	handler, err = login.New(login.Config{
		Users: directory{}, Sessions: manager, Counters: redisstore.NewCounters(client), Methods: []login.Method{byLink},
	})
	if err != nil {
		log.Fatal(err)
	}

	site := httptest.NewTLSServer(handler)
	defer site.Close()
	browser := site.Client()
	browser.Jar, _ = cookiejar.New(nil)
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for range 2 {
		r, err := browser.Get(site.URL + "/.auth/token?token=one-time&rd=/reports")
		if err != nil {
			log.Fatal(err)
		}
		_ = r.Body.Close()
		fmt.Println(r.StatusCode, r.Header.Get("Location"), len(r.Cookies()))
	}

	// Output:
	// 303 /reports 1
	// 401  0
}

// An Authenticator that bounds nothing itself, such as a directory, is asked for a few
// passwords at a time.
func ExampleLimit() {
	var limiter *login.Limiter
	limiter, err := login.NewLimiter(login.LimiterConfig{Concurrent: login.DefaultConcurrent(), Queue: 100})
	if err != nil {
		log.Fatal(err)
	}
	users := login.Limit(directory{}, limiter) // for login.Config
	user, err := users.Authenticate(context.Background(), "ada", "correct horse")
	fmt.Println(user.ID, err)

	// A source of your own may use the limiter itself: login.ErrBusy becomes a 503.
	if err := limiter.Enter(context.Background()); err == nil {
		defer limiter.Leave()
	}
	fmt.Println(login.ErrBusy, login.MaxPassword)

	// Output:
	// 42 <nil>
	// too many passwords are being checked 1024
}

// The names of the texts that Config.Texts can replace.
func ExampleDefaultTexts() {
	fmt.Println(login.DefaultTexts()["sign_in"])
	// Output: Sign in
}

// A link that a browser can follow, and no other.
func ExampleCheckLink() {
	fmt.Println(login.CheckLink("/account/password"), login.CheckLink("javascript:alert(1)") != nil)
	// Output: <nil> true
}
