package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/memstore"
)

// The cookie carries the session ID from login to the authorization side and back.
func ExampleCookie() {
	var cookie sessions.Cookie // __Host-session, the default
	if err := cookie.Validate(); err != nil {
		fmt.Println(err)
	}
	id := sessions.NewID()
	set := cookie.New(id) // for http.SetCookie
	fmt.Println(set.Name == sessions.DefaultCookieName, set.Secure, set.HttpOnly)

	lines := []string{"theme=dark; " + sessions.DefaultCookieName + "=" + id.Reveal()}
	read, err := cookie.Read(sessions.CookieHeader{Lines: lines})
	fmt.Println(read == id, err)
	rest, found := cookie.Cut(sessions.CookieHeader{Lines: lines}) // for an upstream
	fmt.Println(rest, found)
	fmt.Println("clear:", cookie.Clear().MaxAge)

	// Output:
	// true true true
	// true <nil>
	// theme=dark true
	// clear: -1
}

// A request without one usable cookie says why.
func ExampleCookie_Read() {
	id := sessions.NewID().Reveal()
	sid := "__Host-sid=" + id // where login is configured for another name
	fmt.Println(sessions.Cookie{}.Lookalikes(sessions.CookieHeader{Lines: []string{"theme=dark; " + sid}}))
	for _, line := range []string{"theme=dark", "__Host-session=short", "__Host-session=" + id + "; __Host-session=" + id} {
		_, err := sessions.Cookie{}.Read(sessions.CookieHeader{Lines: []string{line}})
		switch {
		case errors.Is(err, sessions.ErrNoCookie):
			fmt.Println("anonymous")
		case errors.Is(err, sessions.ErrMalformed), errors.Is(err, sessions.ErrAmbiguousCookie):
			fmt.Println("refused:", err)
		}
	}
	// Output:
	// [__Host-sid]
	// anonymous
	// refused: malformed session ID
	// refused: more than one session cookie
}

// Programs may present the ID as a bearer token instead.
func ExampleCookie_ReadWithBearer() {
	id := sessions.NewID()
	header := http.Header{"Authorization": {"Bearer " + id.Reveal()}}
	read, err := sessions.Cookie{}.ReadWithBearer(sessions.CookieHeader{Lines: header["Cookie"]}, header["Authorization"])
	fmt.Println(read == id, err)
	_, n := sessions.ReadBearer(header["Authorization"])
	fmt.Println(n, sessions.HoldsBearer(header["Authorization"]))
	ids, more := sessions.Cookie{}.AllPresented(sessions.CookieHeader{}, header["Authorization"]) // at a logout
	fmt.Println(len(ids), more, len(ids) <= sessions.MaxPresented)
	// Output:
	// true <nil>
	// 1 true
	// 1 false true
}

// An ID hides itself in logs and texts; only Reveal gives it away.
func ExampleID() {
	id := sessions.NewID()
	fmt.Printf("%v %x %s\n", id, id, slog.AnyValue(id).Resolve())
	again, err := sessions.ParseID(id.Reveal())
	fmt.Println(again == id, id != (sessions.ID{}), err)
	// Output:
	// [session ID] [session ID] [session ID]
	// true true <nil>
}

// The key names the record, and its handle names the session to people.
func ExampleKey() {
	id, err := sessions.ParseID("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	if err != nil {
		fmt.Println(err)
	}
	key := id.Key()
	fmt.Println(key, key == sessions.Key(sessions.KeyPrefix+key.Hash()))
	fmt.Println(key.Handle())
	again, err := sessions.ParseKey(string(key))
	fmt.Println(again == key, err)
	// Output:
	// session:DwBzhbb51LfusnSGBa_hqYSgo7-j8BTQnip4TOnlzRo true
	// DwBzhbb51Lfu
	// true <nil>
}

// The authorization side sends a browser to login, and login back.
func ExampleIsLocalPath() {
	for _, path := range []string{"/reports?year=2026", "//evil.example", `/\evil.example`} {
		if len(path) > sessions.MaxReturn || !sessions.IsLocalPath(path) {
			path = "/"
		}
		fmt.Println("/.auth/login?" + sessions.ReturnParameter + "=" + path)
	}
	// Output:
	// /.auth/login?rd=/reports?year=2026
	// /.auth/login?rd=/
	// /.auth/login?rd=/
}

// A service checks a request by itself.
func ExampleAbsent() {
	manager, err := sessions.NewManager(memstore.New(memstore.Config{}), sessions.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	check := func(r *http.Request) int {
		id, err := sessions.Cookie{}.FromRequest(r)
		if err == nil {
			_, err = manager.Touch(r.Context(), id)
		}
		switch {
		case err == nil:
			return http.StatusOK
		case sessions.Absent(err):
			return http.StatusUnauthorized // or send the browser to sign in
		}
		return http.StatusServiceUnavailable // it is not known who that is: keep the cookie
	}
	r := httptest.NewRequest(http.MethodGet, "/cart", nil)
	fmt.Println(check(r))
	id, _, err := manager.Create(context.Background(), sessions.NewSession{UserID: "42"})
	r.AddCookie(sessions.Cookie{}.New(id))
	fmt.Println(check(r), err)
	away, end := context.WithCancel(context.Background())
	end()
	fmt.Println(check(r.WithContext(away)))
	// Output:
	// 401
	// 200 <nil>
	// 503
}

// Where a browser without a session is sent.
func ExampleLoginLocation() {
	login, err := sessions.ParseLoginURL("https://login.example/?from=shop")
	fmt.Println(sessions.LoginLocation(login, "/cart?item=1"), err)
	fmt.Println(sessions.LoginLocation(login, "//evil.example"))
	_, err = sessions.ParseLoginURL("login.example")
	fmt.Println(err)
	// Output:
	// https://login.example/?from=shop&rd=%2Fcart%3Fitem%3D1 <nil>
	// https://login.example/?from=shop&rd=%2F
	// login URL "login.example" must be a path that begins with one /, or an http or https URL
}
