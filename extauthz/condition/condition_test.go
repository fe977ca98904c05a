package condition

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// ada is who asks, a minute after she has signed in.
func ada() extauthz.Input {
	return extauthz.Input{
		Session: &sessions.Session{
			UserID: "42", Username: "ada", Roles: []string{"staff", "admin"}, CreatedAt: now.Add(-time.Minute),
			Fields: map[string]string{"tenant": "acme", "plan": "7"},
		},
		Now: now, Method: "GET", Host: "shop.example", Path: "/tenants/acme/orders",
		Headers:       map[string]string{"x-channel": "web"},
		SourceAddress: "10.1.2.3", SourcePrincipal: "spiffe://example/ns/web",
	}
}

func holds(t *testing.T, text string, in extauthz.Input) (bool, error) {
	t.Helper()
	c, err := Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c.Holds(t.Context(), in)
}

func TestHolds(t *testing.T) {
	for text, want := range map[string]bool{
		`true`:                                       true,
		`session.user_id == "42"`:                    true,
		`session.username != "ada"`:                  false,
		`"admin" in session.roles`:                   true,
		`session.roles.exists(r, r == "boss")`:       false,
		`session.roles.all(r, r.size() > 3)`:         true,
		`session.age < duration("5m")`:               true,
		`session.age < duration("30s")`:              false,
		`session.fields["tenant"] == "acme"`:         true,
		`session.fields.tenant == "acme"`:            true,
		`has(session.fields.locale)`:                 false,
		`"tenant" in session.fields`:                 true,
		`int(session.fields.plan) > 5`:               true,
		`request.method == "GET"`:                    true,
		`request.method in ["POST", "PUT"]`:          false,
		`request.host.endsWith(".example")`:          true,
		`request.path == "/tenants/acme/orders"`:     true,
		`request.path.matches("^/tenants/[a-z]+/")`:  true,
		`request.segments[1]==session.fields.tenant`: true,
		`request.segments.size() == 3`:               true,
		`request.headers["x-channel"] == "web"`:      true,
		`"x-other" in request.headers`:               false,
		`source.address.inCIDR("10.0.0.0/8")`:        true,
		`source.address.inCIDR("192.168.0.0/16")`:    false,
		`source.principal.startsWith("spiffe://")`:   true,
		// An error does not matter where the other side decides.
		`has(session.fields.locale) && session.fields.locale == "de"`: false,
		`session.fields.locale == "de" || true`:                       true,
	} {
		if got, err := holds(t, text, ada()); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// TestErrors: an absent value is an error and not false, and no error holds a value.
func TestErrors(t *testing.T) {
	absent := func(in *extauthz.Input) { in.Session = nil }
	for _, test := range []struct {
		text   string
		change func(*extauthz.Input)
		want   error
	}{
		{`session.user_id != "43"`, absent, ErrNoSession},
		{`!has(session.fields.locale)`, absent, ErrNoSession},
		{`session.age > duration("0s")`, absent, ErrNoSession},
		{`session.age < duration("5m")`, func(in *extauthz.Input) { in.Session.CreatedAt = time.Time{} }, ErrAge},
		{`session.age < duration("5m")`, func(in *extauthz.Input) { in.Session.CreatedAt = now.Add(time.Hour) }, ErrAge},
		{`session.fields.locale != "de"`, nil, ErrAbsent},
		{`session.fields["locale"] != "de"`, func(in *extauthz.Input) { in.Session.Fields = nil }, ErrAbsent},
		{`request.headers["x-other"] != "a"`, nil, ErrAbsent},
		{`request.headers["x-other"] != "a"`, func(in *extauthz.Input) { in.Headers = nil }, ErrAbsent},
		{`request.segments[7] != "a"`, nil, ErrFailed},
		{`int(session.username) == 1`, nil, ErrFailed},
		{`timestamp(session.fields.tenant) == timestamp("2026-01-01T00:00:00Z")`, nil, ErrFailed},
		{`{"a": 1}[session.username] == 1`, nil, ErrFailed},
		{`"a".matches(session.fields.tenant + "[")`, nil, ErrFailed},
		{`1 / (session.username.size() - 3) == 1`, nil, ErrFailed},
		{`!source.address.inCIDR("10.0.0.0/8")`, func(in *extauthz.Input) { in.SourceAddress = "" }, ErrFailed},
		{`!source.address.inCIDR("10.0.0.0/8")`, func(in *extauthz.Input) { in.SourceAddress = "ada" }, ErrFailed},
	} {
		in := ada()
		if test.change != nil {
			test.change(&in)
		}
		got, err := holds(t, test.text, in)
		if got || !errors.Is(err, test.want) {
			t.Errorf("%s: %v, %v; want %v", test.text, got, err, test.want)
			continue
		}
		for _, value := range []string{"42", "ada", "acme", "staff", "web", "10.1.2.3"} {
			if strings.Contains(err.Error(), value) {
				t.Errorf("%s: the error holds %s: %v", test.text, value, err)
			}
		}
	}
}

// TestSegments: how a canonical path falls into segments.
func TestSegments(t *testing.T) {
	for path, want := range map[string][]string{
		"/": nil, "/a": {"a"}, "/a/": {"a", ""}, "/a/b": {"a", "b"}, "/Ä b/...": {"Ä b", "..."},
	} {
		if got := (&input{extauthz.Input{Path: path}}).segments(); !slices.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	in := ada()
	in.Path = "/"
	if got, err := holds(t, `request.segments.size() == 0`, in); err != nil || !got {
		t.Error(got, err)
	}
}

// TestAddresses: an IPv4 address is one in the form of IPv6, too, and a zone is
// not a matter of the network.
func TestAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"10.0.0.1": true, "::ffff:10.0.0.1": true, "11.0.0.1": false, "::1": false, "fe80::1%eth0": false,
	} {
		in := ada()
		in.SourceAddress = address
		if got, err := holds(t, `source.address.inCIDR("10.0.0.0/8")`, in); err != nil || got != want {
			t.Errorf("%s: %v, %v", address, got, err)
		}
	}
	in := ada()
	in.SourceAddress = "fe80::1%eth0"
	if got, err := holds(t, `source.address.inCIDR("fe80::/10")`, in); err != nil || !got {
		t.Error(got, err)
	}
}

func TestNames(t *testing.T) {
	c, err := Compile(`(has(session.fields.tenant) || "plan" in session.fields) && session.fields["plan"] != request.headers["x-plan"]
		&& request.headers.accept != "" && ["a"].exists(x, session.fields.deep == x)`)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Fields(); !slices.Equal(got, []string{"deep", "plan", "tenant"}) {
		t.Errorf("fields %q", got)
	}
	if got := c.Headers(); !slices.Equal(got, []string{"accept", "x-plan"}) {
		t.Errorf("headers %q", got)
	}
	if c, err = Compile(`session.age < duration("5m")`); err != nil || !slices.Equal(c.Fields(), []string{sessions.FieldCreatedAt}) {
		t.Errorf("%v, %q", err, c.Fields())
	}
	if c, err = Compile(`session.user_id == "42"`); err != nil || c.Fields() != nil || c.Headers() != nil {
		t.Errorf("%v, %q, %q", err, c.Fields(), c.Headers())
	}
}

// TestRefused: a mistake is found when it is compiled, and says what it is.
func TestRefused(t *testing.T) {
	roles := `session.roles.exists(%s, `
	for text, want := range map[string]string{
		``:                                                            "column 1",
		`session.user_id ==`:                                          "column",
		"session.user_id == \"a\"\n  && sesion":                       "its line 2, column 6: undeclared reference",
		`session.user_id`:                                             "of type string",
		`session.userid == "42"`:                                      "undeclared reference",
		`session == null`:                                             "undeclared reference",
		`session.user_id == 42`:                                       "no matching overload",
		`session.age < "5m"`:                                          "no matching overload",
		`session.fields[session.username] == ""`:                      "needs a name in quotes",
		`["a"].exists(n, session.fields[n] == "")`:                    "needs a name in quotes",
		`session.fields.size() > 0`:                                   "needs a name in quotes",
		`session.fields.exists(n, true)`:                              "needs a name in quotes",
		`session.fields == {}`:                                        "needs a name in quotes",
		`[session.fields][0].tenant == ""`:                            "needs a name in quotes",
		`request.headers.exists(n, n == "a")`:                         "needs a name in quotes",
		`session.fields.roles == ""`:                                  "reserved name",
		`request.headers["Accept"] == ""`:                             "lower case",
		`request.headers["cookie"] == ""`:                             "session ID",
		`source.address.inCIDR("10.0.0.0")`:                           "not a network",
		`source.address.inCIDR("10.0.0.1/8")`:                         "the network is 10.0.0.0/8",
		`source.address.inCIDR("::ffff:10.0.0.0/104")`:                "write it as IPv4",
		`source.address.inCIDR(session.username)`:                     "a network in quotes",
		`request.path.matches("[")`:                                   "",
		fmt.Sprintf(roles, "a") + fmt.Sprintf(roles, "b") + `a < b))`: "it could cost",
		strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100):  "",
		strings.Repeat("true && ", 600) + "true":                      "",
		`session.user_id == "` + strings.Repeat("x", 5000) + `"`:      "bytes",
		`request.path.matches("((a{1,99}){1,9}){1,9}")`:               "",
	} {
		c, err := Compile(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.80s: %v, %v", text, c, err)
		}
	}
}

// TestCostAtRunTime: what is larger than the estimate assumes meets a limit, too.
func TestCostAtRunTime(t *testing.T) {
	in := ada()
	in.Headers["x-channel"] = strings.Repeat("x", 1<<20)
	if _, err := holds(t, `request.headers["x-channel"].matches("(a|b|c|d|e|f)+$")`, in); !errors.Is(err, ErrCost) {
		t.Error(err)
	}
}

// TestConcurrent: one condition, many checks.
func TestConcurrent(t *testing.T) {
	c, err := Compile(`session.fields.tenant == request.segments[1] && "admin" in session.roles`)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 200 {
				in := ada()
				in.Session.Fields = map[string]string{"tenant": "acme"}
				if i%2 == 1 {
					in.Path = "/tenants/other"
				}
				if got, err := c.Holds(t.Context(), in); err != nil || got != (i%2 == 0) {
					t.Errorf("%d: %v, %v", i, got, err)
					return
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkHolds(b *testing.B) {
	for name, text := range map[string]string{
		"constant":  `true`,
		"step-up":   `session.age < duration("5m")`,
		"tenant":    `request.segments[1] == session.fields["tenant"]`,
		"network":   `source.address.inCIDR("10.0.0.0/8")`,
		"of it all": `session.age < duration("5m") && request.segments[1] == session.fields["tenant"] && source.address.inCIDR("10.0.0.0/8")`,
	} {
		c, err := Compile(text)
		if err != nil {
			b.Fatal(err)
		}
		in := ada()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := c.Holds(b.Context(), in); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
