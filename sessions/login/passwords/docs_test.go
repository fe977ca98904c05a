package passwords_test

import (
	"testing"

	"github.com/coatcheck/coatcheck/internal/docstest"
)

// TestExamples: an example shows every exported name.
func TestExamples(t *testing.T) { docstest.Examples(t, "sessions/login/passwords") }
