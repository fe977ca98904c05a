package suggest

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

func TestNearest(t *testing.T) {
	known := []string{"listen", "timeout", "log.level", "redis.addresses", "redis.address", "a"}
	for name, want := range map[string]string{
		"timout":            "timeout",
		"tiemout":           "timeout", // two letters in each other's place
		"itmeuot":           "timeout",
		"timeout":           "timeout",
		"time":              "",
		"lisen":             "listen",
		"lisn":              "", // too short for two
		"log_level":         "log.level",
		"redis.adresses":    "redis.addresses",
		"redis.addresse":    "redis.addresses", // the first of two that are as near
		"redis.addr":        "",
		"b":                 "",
		"":                  "",
		"session.something": "",
		"lïsten":            "listen",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q is near %q, want %q", name, got, want)
		}
	}
}
