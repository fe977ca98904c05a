package extauthz_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestExplainAssuming: with a session given, nothing is looked up.
func TestExplainAssuming(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	var seen time.Time
	f := &fake{session: ada}
	server := policed(t, f, extauthz.Config{}, extauthz.PolicySet{
		Policies: []extauthz.Policy{{Name: "p", AnyRole: []string{"staff"}, Condition: condition{holds: func(in extauthz.Input) (bool, error) {
			seen = in.Now
			return in.Path == "/a", nil
		}}}},
		Rules: []extauthz.Rule{{Path: "/b", Policy: "p"}, {Hosts: []string{"x"}, Policy: "p"}, {Methods: []string{"PUT"}, Policy: "p"}, {PathPrefix: "/a", Policy: "p"}}, Default: "p",
	})
	staff := ada
	for _, test := range []struct {
		session *sessions.Session
		err     error
		want    extauthz.Reason
	}{
		{&staff, nil, extauthz.OK}, {nil, nil, extauthz.NoCookie}, {nil, sessions.ErrExpired, extauthz.Expired}, {nil, sessions.ErrNotFound, extauthz.NotFound},
		{nil, errors.New("refused"), extauthz.Unavailable}, {&sessions.Session{UserID: "1"}, nil, extauthz.MissingRole},
	} {
		e, err := server.Explain(t.Context(), check{request: "GET /a?b", lines: signedIn}.message(), extauthz.WithSession(test.session, test.err), extauthz.WithTime(now))
		if err != nil || e.Reason != test.want || e.Allow != (test.want == extauthz.OK) || f.calls != 0 {
			t.Errorf("%+v, %v, asked %d times, want %s", e, err, f.calls, test.want)
		}
		if got := fmt.Sprint(e.Passed); got != "[{{1 /b} path} {{2 x} host} {{3 PUT} method}]" || e.Rule == nil || *e.Rule != (extauthz.RuleRef{Number: 4, Rule: "prefix /a"}) {
			t.Errorf("passed %s, by %+v", got, e.Rule)
		}
		if e.Policy != "p" || e.PolicyBy != "rule" || e.Condition != "as the test says" || e.Path != "/a" || e.Host != "shop.example" || e.Route != "none" {
			t.Errorf("%+v", e)
		}
	}
	if !seen.Equal(now) {
		t.Errorf("the condition saw %v", seen)
	}
	if _, err := server.Explain(t.Context(), nil); err == nil {
		t.Error("nothing is explained")
	}
}
