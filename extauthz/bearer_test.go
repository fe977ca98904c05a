package extauthz_test

import (
	"slices"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
)

// TestBearer: an ID in the Authorization header is as good as one in the cookie
// where that is configured, but never beside it; it goes no further; and other
// credentials are left alone.
func TestBearer(t *testing.T) {
	mine, others := "authorization: Bearer "+liveID.Reveal(), "authorization: Bearer eyJhbGciOiJFZERTQSJ9.e30.c2ln"
	cookie := "cookie: " + ours(liveID)
	on := extauthz.Config{Bearer: true}
	for _, test := range []struct {
		name    string
		config  extauthz.Config
		lines   []string
		joined  bool
		routes  map[string]string
		status  int
		reason  string
		removed bool
	}{
		{"not configured", extauthz.Config{}, []string{mine}, false, nil, 401, "no_cookie", false},
		{"bearer", on, []string{mine}, false, nil, 200, "ok", true},
		{"bearer in the map", on, []string{mine}, true, nil, 200, "ok", true},
		{"unknown", on, []string{"authorization: bearer " + otherID.Reveal()}, false, nil, 401, "not_found", false},
		{"cookie", on, []string{cookie}, false, nil, 200, "ok", false},
		{"cookie and a JWT", on, []string{cookie, others}, false, nil, 200, "ok", false},
		{"both", on, []string{cookie, mine}, false, nil, 401, "ambiguous_cookie", false},
		{"both, optional", on, []string{cookie, mine}, false, optional, 200, "ambiguous_cookie", true},
		{"another cookie, and bearer", on, []string{"cookie: a=1", mine}, false, nil, 200, "ok", true},
		{"a malformed cookie and bearer", on, []string{"cookie: " + ours(liveID) + "x", mine}, false, nil, 401, "ambiguous_cookie", false},
		{"twice", on, []string{mine, mine}, false, nil, 401, "ambiguous_cookie", false},
		{"twice in the map", on, []string{mine, mine}, true, nil, 401, "ambiguous_cookie", false},
		{"public", on, []string{mine}, false, public, 200, "public", true},
		{"kept", extauthz.Config{Bearer: true, KeepCookie: true}, []string{mine}, false, nil, 200, "ok", false},
		{"a JWT alone", on, []string{others}, false, nil, 401, "no_cookie", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := both(t, &fake{session: ada}, test.config, check{request: "GET /x", lines: test.lines, joined: test.joined, extensions: test.routes})
			if a.status != test.status || a.reason != test.reason {
				t.Errorf("%d %s, want %d %s", a.status, a.reason, test.status, test.reason)
			}
			if got := slices.Contains(a.removed, "authorization"); got != test.removed {
				t.Errorf("authorization removed: %v", got)
			}
		})
	}
}
