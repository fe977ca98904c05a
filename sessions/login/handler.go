package login

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/internal/notice"
)

// A Handler serves the endpoints below its base path and, where there is a
// [Config.PasswordURL], /.well-known/change-password; elsewhere it answers 404. It is safe
// for concurrent use.
type Handler struct {
	config      Config
	endpoints   map[string]methods // by their names below the base path
	crossOrigin *http.CrossOriginProtection
	pages       map[string]*pages // by language
	languages   []string          // of pages; the first is for browsers that ask for none of them
	metrics     *metrics
	policy      string // Content-Security-Policy
	logKey      []byte // random
	notices     *notice.Board
	originLine  atomic.Int64 // the second of the last line about a post of our own page that was refused
}

// methods are what an endpoint serves, by the HTTP method; GET stands for HEAD, too.
type methods map[string]serve

// A serve answers, or returns why it does not.
type serve func(http.ResponseWriter, *http.Request) *problem

// arrivalKey is where the context of a request has the time of its arrival.
type arrivalKey struct{}

// arrival is when a request of a Method arrived, zero if it came another way.
func arrival(r *http.Request) time.Time {
	t, _ := r.Context().Value(arrivalKey{}).(time.Time)
	return t
}
