package extauthz_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// held lets lookups in one by one and keeps them until the test lets them go.
type held struct {
	arrived chan struct{}
	release chan struct{}
}

func (h held) Touch(context.Context, sessions.ID, ...string) (*sessions.Session, error) {
	h.arrived <- struct{}{}
	<-h.release
	return &sessions.Session{UserID: "42"}, nil
}

// TestOverload: what does not fit is answered at once, with 503, on optional
// routes as well; a check without a lookup always fits; and a check that was inside gets
// an answer.
func TestOverload(t *testing.T) {
	h := held{make(chan struct{}), make(chan struct{})}
	registry := prometheus.NewRegistry()
	server, err := extauthz.New(h, extauthz.Config{MaxInFlight: 2, Timeout: time.Minute, Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	live := check{request: "GET /x", lines: []string{"cookie: " + ours(liveID)}}
	ask := func(c check) answer {
		response, err := server.Check(t.Context(), c.message())
		if err != nil {
			t.Error(err)
		}
		return read(t, response)
	}
	var inside sync.WaitGroup
	for range 2 {
		inside.Go(func() {
			if a := ask(live); a.status != 200 {
				t.Errorf("inside: %d %s", a.status, a.reason)
			}
		})
		<-h.arrived
	}
	for _, routes := range []map[string]string{nil, optional} {
		if a := ask(check{request: live.request, lines: live.lines, extensions: routes}); a.status != 503 || a.reason != "overloaded" || a.set["retry-after"] == "" {
			t.Errorf("one too many: %d %s %v", a.status, a.reason, a.set)
		}
	}
	if a := ask(check{request: live.request, lines: live.lines, extensions: public}); a.status != 200 {
		t.Errorf("without a lookup: %d", a.status)
	}
	if a := ask(check{request: live.request}); a.status != 401 {
		t.Errorf("without a cookie: %d", a.status)
	}
	want := "# HELP coatcheck_checks_in_flight Checks that are waiting for their session.\n# TYPE coatcheck_checks_in_flight gauge\ncoatcheck_checks_in_flight "
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want+"2\n"), "coatcheck_checks_in_flight"); err != nil {
		t.Error(err)
	}
	close(h.release)
	inside.Wait()
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want+"0\n"), "coatcheck_checks_in_flight"); err != nil {
		t.Error(err)
	}
	go func() { <-h.arrived }()
	if a := ask(live); a.status != 200 {
		t.Errorf("with room again: %d %s", a.status, a.reason)
	}
}
