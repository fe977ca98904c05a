package login

import (
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/sessions"
)

// TestHostText: what clients send as a Host is logged where it is one, and holds no
// session ID.
func TestHostText(t *testing.T) {
	id := sessions.NewID().Reveal()
	plain := strings.NewReplacer("_", "-").Replace(id)
	for host, want := range map[string]string{
		"vm.lan": "vm.lan", "VM.lan:8000": "VM.lan:8000", "[2001:db8::1]:80": "[2001:db8::1]:80", "": "", "xn--bcher-kva.example": "xn--bcher-kva.example",
		plain + ".lan": "(redacted)", "a.x" + plain: "(redacted)", "[" + plain + "]": "(redacted)", plain[:42] + ".lan": plain[:42] + ".lan",
		"a_b": "(not a host name)", "a b": "(not a host name)", "a\x9b": "(not a host name)", "ä": "(not a host name)", strings.Repeat("a.", 200): "(not a host name)",
	} {
		if got := hostText(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
	if got := hostText(id); strings.Contains(got, id[:20]) {
		t.Errorf("a session ID: %q", got)
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST.": true, "a.localhost": true, "127.0.0.1": true, "127.255.0.1": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.example": false, "alocalhost": false, "10.0.0.1": false, "::": false, "0.0.0.0": false, "127.1": false,
	} {
		if loopback(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}
