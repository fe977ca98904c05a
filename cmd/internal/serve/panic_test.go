package serve

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/coatcheck/coatcheck/extauthz"
)

// TestHealthSurvives: a bug in the health service fails a call and no more.
func TestHealthSurvives(t *testing.T) {
	broken := healthService{lasting: context.Background()} // without a server
	if _, err := broken.Check(t.Context(), new(healthv1.HealthCheckRequest)); status.Code(err) != codes.Internal {
		t.Errorf("%v", err)
	}
	if err := broken.Watch(new(healthv1.HealthCheckRequest), nil); status.Code(err) != codes.Internal {
		t.Errorf("%v", err)
	}
}

// TestReloadSurvives: a policy file that shows a bug is reported, and the process
// goes on.
func TestReloadSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policies.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("policies: [{name: a}]")
	p, err := openPolicies(path, extauthz.Config{})
	if err != nil {
		t.Fatal(err)
	}
	p.set = func(extauthz.PolicySet) error { panic("bug") }
	write("policies: [{name: b}]")
	ctx, cancel := context.WithCancel(t.Context())
	reported := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.watch(ctx, time.Millisecond, nil, func(err error) { reported <- err })
	}()
	if err := <-reported; err == nil {
		t.Error("nothing is wrong")
	}
	cancel()
	<-ended
}
