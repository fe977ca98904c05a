package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/memstore"
	"github.com/coatcheck/coatcheck/sessions/web"
)

// A service that reads the session cookie itself.
func Example() {
	manager, err := sessions.NewManager(memstore.New(memstore.Config{}), sessions.Config{}) // in your program: a store in Redis
	if err != nil {
		fmt.Println(err)
		return
	}
	var asked web.Sessions = manager
	var guard *web.Guard
	guard, err = web.New(asked, web.Config{LoginURL: "/.auth/login", Timeout: web.DefaultTimeout})
	if err != nil {
		fmt.Println(err)
		return
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if session := web.FromContext(r.Context()); session != nil {
			fmt.Fprint(w, "hello ", session.Username)
			return
		}
		fmt.Fprint(w, "hello stranger")
	})
	mux := http.NewServeMux()
	mux.Handle("/", guard.Optional(hello))
	mux.Handle("/cart", guard.Require(hello))
	mux.Handle("/admin", guard.Require(hello, "admin"))

	id, _, err := manager.Create(context.Background(), sessions.NewSession{UserID: "42", Username: "Ada"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, path := range []string{"/", "/cart", "/admin"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(path, "without:", w.Code)
		r.AddCookie(sessions.Cookie{}.New(id))
		w = httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(path, "with:", w.Code)
	}
	// Output:
	// / without: 200
	// / with: 200
	// /cart without: 401
	// /cart with: 200
	// /admin without: 401
	// /admin with: 403
}

// A service behind Envoy and Coatcheck, which have done the check.
func ExampleBehind() {
	guard, err := web.Behind(web.HeaderConfig{Prefix: web.DefaultPrefix, Fields: map[string]string{"plan": "x-user-plan"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := guard.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := web.FromContext(r.Context())
		fmt.Fprint(w, session.UserID, " ", session.Username, " ", session.Roles, " ", session.Fields["plan"])
	}))
	r := httptest.NewRequest(http.MethodGet, "/cart", nil) // as it comes from Envoy
	r.Header.Set("X-User-Id", "42")
	r.Header.Set("X-User-Name", "Ada%20L%C3%B6we")
	r.Header.Set("X-User-Roles", "staff,ops")
	r.Header.Set("X-User-Plan", "free")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Body)
	r.Header["X_user_id"] = []string{"1"} // from a program that added to it
	w = httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Code)
	// Output:
	// 42 Ada Löwe [staff ops] free
	// 400
}
