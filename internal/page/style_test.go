package page

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

func TestNewStyle(t *testing.T) {
	s, err := NewStyle(Sheet, DefaultAccent)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSuffix(strings.TrimPrefix(string(s.Element), "<style>"), "</style>")
	sum := sha256.Sum256([]byte(text))
	if s.Source != "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'" || !strings.HasPrefix(text, ":root{--accent:#1f5c4d;--on-accent:#ffffff}") {
		t.Errorf("%s of %.80s", s.Source, text)
	}
	for _, bad := range [][2]string{{"", "green"}, {"", "#12345"}, {"", "#123456;"}, {"</Style><script>", DefaultAccent}} {
		if _, err := NewStyle(bad[0], bad[1]); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestLegibleOn(t *testing.T) {
	for accent, want := range map[string]string{"#1f5c4d": "#ffffff", "#000000": "#ffffff", "#ffffff": "#000000", "#ffcc00": "#000000", "#0000ff": "#ffffff", "#00FF00": "#000000"} {
		if got := legibleOn(accent); got != want {
			t.Errorf("on %s: %s, want %s", accent, got, want)
		}
	}
}
