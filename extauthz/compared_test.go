package extauthz_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestLogAndExplainAgree: each field of a line in the decision log is in the JSON of
// the explanation, with the same value.
func TestLogAndExplainAgree(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	staff := sessions.Session{UserID: "42", Username: "Ada", Roles: []string{"staff"}, Key: liveID.Key(), Fields: map[string]string{"note": strings.Repeat("x", 9000)}}
	policies := extauthz.PolicySet{
		Policies: []extauthz.Policy{
			{Name: "open", Session: "none"}, {Name: "billing", AnyRole: []string{"billing", "admin"}}, {Name: "shadow", AllRoles: []string{"x"}, Shadow: true},
			{Name: "error", Condition: always(false, errors.New("it is not there"))}, {Name: "signed-in"},
		},
		Rules:   []extauthz.Rule{{PathPrefix: "/public", Policy: "open"}, {PathPrefix: "/billing", Policy: "billing"}, {PathPrefix: "/shadow", Policy: "shadow"}, {PathPrefix: "/error", Policy: "error"}},
		Default: "signed-in",
	}
	live := []string{"cookie: " + ours(liveID), "x-request-id: r1", "traceparent: " + parent}
	seen := make(map[extauthz.Reason]bool)
	for _, c := range []check{
		{request: "GET /?a=b", lines: live}, {request: "GET /public", lines: live}, {request: "GET /billing", lines: live}, {request: "GET /billing"},
		{request: "GET /shadow", lines: live}, {request: "GET /error", lines: live}, {request: "GET /a//b", lines: live}, {request: "get /", lines: live},
		{request: "GET /public", extensions: map[string]string{"coatcheck.session": "optional"}, lines: live},
		{request: "GET /", extensions: map[string]string{"coatcheck.roles": "a,b"}, lines: live},
		{request: "GET /", extensions: map[string]string{"coatcheck.policy": "biling"}, lines: live},
		{request: "GET /", extensions: map[string]string{"coatcheck.session": "None"}, lines: live},
		{request: "GET /", extensions: map[string]string{"coatcheck.policy": "open"}, lines: live},
		{request: "GET /" + strings.Repeat("é", 300), lines: live},
	} {
		var out bytes.Buffer
		f := &fake{session: staff}
		server := policed(t, f, extauthz.Config{
			Log: extauthz.LogConfig{Decisions: extauthz.LogAll}, Logger: slog.New(slog.NewJSONHandler(&out, nil)),
			Fields: []extauthz.FieldHeader{{Field: "note", Header: "x-user-note"}},
		}, policies)
		out.Reset() // of what it says about shadow mode
		if _, err := server.Check(t.Context(), c.message()); err != nil {
			t.Fatal(err)
		}
		e, err := server.Explain(t.Context(), c.message())
		if err != nil {
			t.Fatal(err)
		}
		seen[e.Reason] = true
		agree(t, c.request, out.Bytes(), e)
	}
	for _, reason := range []extauthz.Reason{extauthz.OK, extauthz.Public, extauthz.NoCookie, extauthz.MissingRole, extauthz.ConditionError, extauthz.UnknownPolicy, extauthz.BadRoute, extauthz.BadRequest, extauthz.NoncanonicalPath} {
		if !seen[reason] {
			t.Errorf("no check was decided for %s; seen are %v", reason, slices.Collect(maps.Keys(seen)))
		}
	}
}

func agree(t *testing.T, name string, line []byte, e extauthz.Explanation) {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var logged, explained map[string]any
	if err := errors.Join(json.Unmarshal(line, &logged), json.Unmarshal(text, &explained)); err != nil {
		t.Fatalf("%s: %v: %s, %s", name, err, line, text)
	}
	for _, of := range []string{"time", "level", "msg", "duration", "lookup_duration"} {
		delete(logged, of)
	}
	for key, value := range logged {
		if !reflect.DeepEqual(explained[key], value) {
			t.Errorf("%s: %s is %v in the log, and %v when it is explained", name, key, value, explained[key])
		}
	}
	var again extauthz.Explanation
	if err := json.Unmarshal(text, &again); err != nil || fmt.Sprint(again.Rule == nil) != fmt.Sprint(e.Rule == nil) || e.Rule != nil && *again.Rule != *e.Rule {
		t.Errorf("%s: read back as %+v, %v", name, again.Rule, err)
	}
}

// TestWhatWasCompared: the log and the explanation say what a route or a policy asked
// for, and what was there instead.
func TestWhatWasCompared(t *testing.T) {
	odd := []string{"a,b", "", liveID.Reveal()}
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprint("r", i)
	}
	policies := extauthz.PolicySet{Policies: []extauthz.Policy{
		{Name: "billing", AnyRole: []string{"billing", "admin"}}, {Name: "both", AnyRole: []string{"x", "y"}, AllRoles: []string{"staff", "z"}}, {Name: "many", AllRoles: many},
	}}
	for _, test := range []struct {
		extensions map[string]string
		roles      []string
		want       string
	}{
		{map[string]string{"coatcheck.policy": "billing"}, []string{"staff"}, "needs any of billing, admin; has staff"},
		{map[string]string{"coatcheck.policy": "billing"}, nil, "needs any of billing, admin; has no role"},
		{map[string]string{"coatcheck.policy": "both"}, []string{"staff", "a"}, "needs any of x, y and all of staff, z; has staff, a"},
		{map[string]string{"coatcheck.roles": "staf, admin"}, []string{"staff"}, "needs any of staf, admin; has staff"},
		{map[string]string{"coatcheck.roles": "staff", "coatcheck.policy": "billing"}, []string{"staff"}, "needs any of billing, admin; has staff"},
		{map[string]string{"coatcheck.roles": "admin"}, odd, `needs any of admin; has "a,b", "", ` + sessions.ID{}.String()},
		{map[string]string{"coatcheck.policy": "many"}, many[1:2], "r14, r15, and 24 more; has r1"},
		{map[string]string{"coatcheck.policy": "biling"}, nil, `there is no policy "biling"; did you mean billing?`},
		{map[string]string{"coatcheck.policy": "nothing-like-it"}, nil, `there is no policy "nothing-like-it"`},
		{map[string]string{"coatcheck.session": "None"}, nil, `coatcheck.session: "None" is not required, optional or none (lower case)`},
		{map[string]string{"coatcheck.session": "optionl"}, nil, `coatcheck.session: "optionl" is not required, optional or none; did you mean optional?`},
		{map[string]string{"coatcheck.paths": "Strict"}, nil, `coatcheck.paths: "Strict" is not safe, parameters or strict (lower case)`},
		{map[string]string{"coatcheck.role": "admin"}, nil, `unknown key "coatcheck.role"; did you mean coatcheck.roles?`},
		{map[string]string{"roles": "admin"}, nil, `unknown key "roles"; did you mean coatcheck.roles?`},
		{map[string]string{"coatchek.polcy": "a"}, nil, `unknown key "coatchek.polcy"; did you mean coatcheck.policy?`},
		{map[string]string{"coatcheck.x": "a"}, nil, `unknown key "coatcheck.x"`},
		{map[string]string{"host": "a"}, nil, `unknown key "host"; if it is there for another filter, name it in route.ignore_keys`},
		{map[string]string{"coatcheck.session": strings.Repeat("x", 60_000)}, nil, "is not required, optional or none"},
	} {
		var out bytes.Buffer
		f := &fake{session: sessions.Session{UserID: "42", Username: "ada", Roles: test.roles}}
		server := policed(t, f, extauthz.Config{Logger: slog.New(slog.NewJSONHandler(&out, nil))}, policies)
		m := check{request: "GET /x", lines: []string{"cookie: " + ours(liveID)}, extensions: test.extensions}.message()
		if _, err := server.Check(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		var line struct{ Detail, Error string }
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatal(err, out.String())
		}
		e, err := server.Explain(t.Context(), m)
		if got := line.Detail + line.Error; err != nil || !strings.HasSuffix(got, test.want) || e.Detail+e.Error != got || len(got) > 512 {
			t.Errorf("%v: the log has %q, explained %q, %v; want %q", test.extensions, got, e.Detail+e.Error, err, test.want)
		}
		if strings.Contains(out.String(), "ada") || strings.Contains(out.String(), liveID.Reveal()) {
			t.Errorf("the log names the user, or holds an ID: %s", out.String())
		}
	}
}
