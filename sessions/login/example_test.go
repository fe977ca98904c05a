package login_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A directory asks the server that knows your users, such as LDAP.
type directory struct{}

func (directory) Authenticate(_ context.Context, username, password string) (login.User, error) {
	if username != "ada" || password != "correct horse" {
		return login.User{}, login.ErrBadCredentials
	}
	return login.User{ID: "42", Username: "Ada", Roles: []string{"staff"}}, nil
}

// A login handler with users of one's own, from the form to the page that asked.
func Example() {
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
	handler, err := login.New(login.Config{
		Users: directory{}, Sessions: manager, Counters: redisstore.NewCounters(client), Name: "Example Ltd",
	})
	if err != nil {
		log.Fatal(err)
	}

	// A browser posts the form. Your program: http.Handle("/.auth/", handler).
	form := url.Values{"username": {"ada"}, "password": {"correct horse"}, "rd": {"/reports"}}
	r := httptest.NewRequest(http.MethodPost, "/.auth/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	cookie := w.Result().Cookies()[0]
	fmt.Println(w.Code, w.Header().Get("Location"), cookie.Name, cookie.Secure, cookie.HttpOnly)

	// Output: 303 /reports __Host-session true true
}
