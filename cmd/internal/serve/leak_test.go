package serve

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	reloadEvery, exportTimeout = 250*time.Millisecond, 3*time.Second
	goleak.VerifyTestMain(m)
}
