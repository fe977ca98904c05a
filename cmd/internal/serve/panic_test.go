package serve

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// TestHealthSurvives: a bug in the health service fails a call and no more.
func TestHealthSurvives(t *testing.T) {
	broken := healthService{stopping: context.Background()} // without a server
	if _, err := broken.Check(t.Context(), new(healthv1.HealthCheckRequest)); status.Code(err) != codes.Internal {
		t.Errorf("%v", err)
	}
	if err := broken.Watch(new(healthv1.HealthCheckRequest), nil); status.Code(err) != codes.Internal {
		t.Errorf("%v", err)
	}
}
