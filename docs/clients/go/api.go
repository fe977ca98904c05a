package service

import (
	"context"
	"net/http"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"

	sessionsv1 "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
)

// NewAPI returns a client of the session API, for services that may not read Redis, over
// an HTTP client that trusts the API's certificate. Its errors say by [Absent] whether it
// is certain that there is no session.
func NewAPI(client *http.Client, url, tokenFile string) sessionsv1connect.SessionServiceClient {
	direct := *client // follows no redirect, which would take the token along
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return sessionsv1connect.NewSessionServiceClient(&direct, url, connect.WithInterceptors(withToken{tokenFile}))
}

// withToken reads the token for each call, because it rotates, and gives a call a second;
// Watch goes on for as long as its context.
type withToken struct{ file string }

func (w withToken) into(h http.Header) error {
	text, err := os.ReadFile(w.file)
	if err != nil {
		return connect.NewError(connect.CodeUnauthenticated, err)
	}
	token, _, _ := strings.Cut(string(text), "\n")
	h.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	return nil
}

func (w withToken) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, q connect.AnyRequest) (connect.AnyResponse, error) {
		if err := w.into(q.Header()); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return next(ctx, q)
	}
}

func (w withToken) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		_ = w.into(conn.RequestHeader()) // without a token the API answers Unauthenticated
		return conn
	}
}

func (w withToken) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// ByKey names the session whose key an upstream receives in x-user-session.
func ByKey(key string) *sessionsv1.SessionName {
	return &sessionsv1.SessionName{Name: &sessionsv1.SessionName_Key{Key: key}}
}

// Absent reports whether an error of the API says that there is no session. Every other
// error says that it is unknown: answer 503.
func Absent(err error) bool {
	// A 404 that did not come from the API, but from a proxy or a wrong URL, is Unimplemented.
	return connect.CodeOf(err) == connect.CodeNotFound
}
