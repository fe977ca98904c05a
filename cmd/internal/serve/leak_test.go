package serve

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	reloadEvery = 250 * time.Millisecond
	goleak.VerifyTestMain(m)
}
