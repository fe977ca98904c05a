package serve

import (
	"bytes"
	"maps"
	"net/http"
	"sync"
	"time"
)

// rendered is a handler whose answers cost much, and depend on the time and on what the
// client accepts alone. It makes them one at a time and with pauses. Clients that wait
// meanwhile share the next one, so that it is never older than their requests.
type rendered struct {
	http.Handler
	mu   sync.Mutex
	last time.Time          // when one was begun
	kept map[string]*answer // by what is accepted
}

const (
	// renderEvery is how often an answer is made at most.
	renderEvery = 25 * time.Millisecond
	// kinds is how many are kept, which differ in their form.
	kinds = 4
)

func (h *rendered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := h.answer(r, time.Now())
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes())
}

// answer is one that was begun after the request came.
func (h *rendered) answer(r *http.Request, came time.Time) *answer {
	accept := r.Header.Get("Accept") + "\n" + r.Header.Get("Accept-Encoding")
	h.mu.Lock()
	defer h.mu.Unlock()
	if a := h.kept[accept]; a != nil && came.Before(a.begun) {
		return a
	}
	time.Sleep(time.Until(h.last.Add(renderEvery)))
	a := &answer{header: make(http.Header), status: http.StatusOK, begun: time.Now()}
	h.Handler.ServeHTTP(a, r)
	if h.last = a.begun; h.kept == nil || len(h.kept) >= kinds {
		h.kept = make(map[string]*answer)
	}
	h.kept[accept] = a
	return a
}

// An answer is kept.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
	begun  time.Time
}

func (a *answer) Header() http.Header            { return a.header }
func (a *answer) WriteHeader(status int)         { a.status = status }
func (a *answer) Write(text []byte) (int, error) { return a.body.Write(text) }
