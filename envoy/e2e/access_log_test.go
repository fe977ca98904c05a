package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestAccessLog: Envoy's access log has our reason, the session's handle and how long
// the check took, of allows and refusals, and the trace if there is one.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	s := start(t, rig.Options{Patient: true})
	cookie, key := login(t, manager(t, s, sessions.Config{}), ada)
	send(t, s, "GET /allowed", "Cookie: "+cookie).is(t, 200)
	send(t, s, "GET /refused").is(t, 401)
	send(t, s, "GET /a;b").is(t, 400) // by Envoy alone
	type line struct {
		Path, Reason, Session string
		Status                int
		CheckUS               *float64 `json:"check_us,string"`
	}
	found := make(map[string]line)
	for deadline := time.Now().Add(time.Minute); len(found) < 3 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		for text := range strings.Lines(s.Envoy.Output()) {
			var l line
			if json.Unmarshal([]byte(text), &l) == nil && l.Path != "" {
				found[l.Path] = l
			}
		}
	}
	for path, want := range map[string]line{"/allowed": {Reason: "ok", Session: key.Handle(), Status: 200}, "/refused": {Reason: "no_cookie", Status: 401}} {
		got := found[path]
		if got.Reason != want.Reason || got.Session != want.Session || got.Status != want.Status || got.CheckUS == nil || *got.CheckUS <= 0 || *got.CheckUS > 1e7 {
			t.Errorf("%s: %+v, want %+v and a time\n%s", path, got, want, s.Envoy.Output())
		}
	}
	if got := found["/a;b"]; got.Status != 400 || got.CheckUS != nil || got.Reason != "" {
		t.Errorf("without a check: %+v", got)
	}
}
