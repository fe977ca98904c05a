package login_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

// quiet is where go-redis complains about the Redis that a test has killed.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// TestMain fails if a goroutine is left over.
func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(testleaks.Patient(m))
}
