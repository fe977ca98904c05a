package api

import (
	"testing"

	"github.com/coatcheck/coatcheck/internal/docstest"
)

func TestExamples(t *testing.T) { docstest.Examples(t, "sessions/api") }
