// Package testleaks has goleak wait for goroutines that are about to end: by itself it does
// so for less than half a second, which a busy machine exceeds.
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }
package testleaks

import (
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end.
const patience = 20 * time.Second

// Patient runs the tests of m, and then waits until no goroutine is left, for 20 s at most.
// The options are those of goleak.
func Patient(m goleak.TestingM, options ...goleak.Option) goleak.TestingM {
	return patient{m, options}
}

type patient struct {
	goleak.TestingM
	options []goleak.Option
}

// Run is that of a testing.M.
func (p patient) Run() int {
	code := p.TestingM.Run()
	for end := time.Now().Add(patience); code == 0 && time.Now().Before(end); {
		if goleak.Find(p.options...) == nil {
			break
		}
	}
	return code
}
