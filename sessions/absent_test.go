package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/memstore"
)

// TestAbsent: what is certain is a 401, and everything else is an outage.
func TestAbsent(t *testing.T) {
	_, malformed := sessions.ParseID("x")
	_, broken := sessions.Record{sessions.FieldVersion: "1"}.Decode("session:x")
	_, layout := sessions.Record{sessions.FieldVersion: "2"}.Decode("session:x")
	for _, err := range []error{
		sessions.ErrNotFound, sessions.ErrExpired, sessions.ErrBroken, sessions.ErrNoCookie, sessions.ErrMalformed,
		sessions.ErrAmbiguousCookie, malformed, broken, fmt.Errorf("touching: %w", sessions.ErrNotFound),
		errors.Join(sessions.ErrNotFound, sessions.ErrExpired), errors.Join(nil, fmt.Errorf("a: %w", broken)),
	} {
		if !sessions.Absent(err) {
			t.Errorf("%v is taken for an outage", err)
		}
	}
	for _, err := range []error{
		nil, sessions.ErrLayout, layout, io.EOF, context.DeadlineExceeded, context.Canceled, errors.New("session not found"),
		sessions.ErrEnded, sessions.ErrReserved, sessions.ErrFieldExists, sessions.ErrHandleAmbiguous,
		fmt.Errorf("%w: %w", sessions.ErrNotFound, io.EOF), errors.Join(sessions.ErrNotFound, sessions.ErrLayout),
		fmt.Errorf("a: %w", errors.Join(context.DeadlineExceeded, sessions.ErrExpired)), severed{},
	} {
		if sessions.Absent(err) {
			t.Errorf("%v is taken for an absence", err)
		}
	}
}

// TestTooFarIsAbsent: a session of a login that grants more time than the checks do is
// broken, and no outage.
func TestTooFarIsAbsent(t *testing.T) {
	store := memstore.New(memstore.Config{})
	login, err := sessions.NewManager(store, sessions.Config{AbsoluteTimeout: 100 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	checks, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := login.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checks.Touch(t.Context(), id); !errors.Is(err, sessions.ErrBroken) || !sessions.Absent(err) {
		t.Errorf("%v is taken for an outage", err)
	}
}

// severed joins no errors, and cannot be compared.
type severed []error

func (severed) Error() string     { return "severed" }
func (s severed) Unwrap() []error { return s }

// TestFromRequest: as a server of net/http reads a request, over HTTP/1.1 and HTTP/2.
func TestFromRequest(t *testing.T) {
	id, other := sessions.NewID(), sessions.NewID()
	ours := sessions.DefaultCookieName + "=" + id.Reveal()
	var got sessions.ID
	var err error
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, err = sessions.Cookie{}.FromRequest(r) })
	for _, protocol := range []int{1, 2} {
		server := httptest.NewUnstartedServer(handler)
		server.EnableHTTP2 = protocol == 2
		server.StartTLS()
		for _, test := range []struct {
			lines []string
			want  error
		}{
			{[]string{ours}, nil},
			{[]string{"a=1; " + ours + "; b=2"}, nil},
			{[]string{"a=1", ours}, nil},
			{nil, sessions.ErrNoCookie},
			{[]string{""}, sessions.ErrNoCookie},
			{[]string{"__host-session=" + id.Reveal()}, sessions.ErrNoCookie},
			{[]string{"__Host-session =" + id.Reveal()}, sessions.ErrNoCookie},
			{[]string{ours + "x"}, sessions.ErrMalformed},
			{[]string{`__Host-session="` + id.Reveal() + `"`}, sessions.ErrMalformed},
			{[]string{ours, ours}, sessions.ErrAmbiguousCookie},
			{[]string{ours + "; " + sessions.DefaultCookieName + "=" + other.Reveal()}, sessions.ErrAmbiguousCookie},
			{[]string{"a=1," + ours}, sessions.ErrNoCookie}, // another cookie's value: these lines are not joined
		} {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
			r.Header["Cookie"] = test.lines
			response, sent := server.Client().Do(r)
			if sent != nil || response.ProtoMajor != protocol {
				t.Fatalf("HTTP/%d: %v, %v", protocol, response, sent)
			}
			response.Body.Close()
			if !errors.Is(err, test.want) || (err == nil) != (got == id) || err != nil && !sessions.Absent(err) {
				t.Errorf("HTTP/%d, %s: %v, want %v", protocol, strings.ReplaceAll(strings.Join(test.lines, " | "), id.Reveal(), "ID"), err, test.want)
			}
		}
		server.Close()
	}
}
