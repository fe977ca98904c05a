package serve

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) {
	reloadEvery, exportTimeout = 250*time.Millisecond, 3*time.Second
	lookEvery = time.Millisecond                                // that is, with each probe
	spanQueue = 512                                             // a test fills it
	probeTimeout, firstTimeout = 10*time.Second, 10*time.Second // of a busy machine
	goleak.VerifyTestMain(testleaks.Patient(m))
}
