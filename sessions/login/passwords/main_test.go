package passwords_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

// TestMain fails if a goroutine is left over.
func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }
