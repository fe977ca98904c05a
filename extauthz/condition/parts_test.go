package condition

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// said is the parts of an expression, one a line.
func said(t *testing.T, text string, in extauthz.Input) string {
	t.Helper()
	c, err := Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var b strings.Builder
	for _, p := range c.Parts(t.Context(), in) {
		fmt.Fprintf(&b, "%s%s: %s", strings.Repeat("  ", p.Depth), p.Text, p.Result)
		for _, v := range p.Values {
			fmt.Fprintf(&b, "; %s = %s", v.Name, v.Value)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestParts: each part of a condition, and what it read.
func TestParts(t *testing.T) {
	anonymous := ada()
	anonymous.Session = nil
	id := sessions.NewID().Reveal()
	holdsID := ada()
	holdsID.Session.Fields["tenant"] = id
	undated := ada()
	undated.Session.CreatedAt = time.Time{}
	for _, test := range []struct {
		text string
		in   extauthz.Input
		want string
	}{
		{`request.segments[1] == session.fields["tenant"]`, ada(),
			`request.segments[1] == session.fields["tenant"]: true; request.segments[1] = "acme"; session.fields["tenant"] = "acme"` + "\n"},
		{`session.age < duration("30s") && (request.method == "POST" || "boss" in session.roles) && true`, ada(),
			`session.age < duration("30s"): false; session.age = 1m0s` + "\n" +
				`request.method == "POST" || "boss" in session.roles: false` + "\n" +
				`  request.method == "POST": false; request.method = "GET"` + "\n" +
				`  "boss" in session.roles: false; session.roles = ["staff", "admin"]` + "\n" +
				"true: true\n"},
		{`!(session.username == "ada")`, ada(), `session.username == "ada": true; session.username = "ada"` + "\n"},
		{`has(session.fields.locale) && session.fields.locale == "de"`, ada(),
			"has(session.fields.locale): false\n" + `session.fields.locale == "de": not there; session.fields.locale = not there` + "\n"},
		{`"x-bot" in request.headers || request.headers["x-channel"].startsWith("w")`, ada(),
			`"x-bot" in request.headers: false` + "\n" + `request.headers["x-channel"].startsWith("w"): true; request.headers["x-channel"] = "web"` + "\n"},
		{`session.roles.exists(r, r == session.username)`, ada(),
			`session.roles.exists(r, r == session.username): false; session.roles = ["staff", "admin"]; session.username = "ada"` + "\n"},
		{`source.address.inCIDR("192.0.2.0/24") ? session.user_id == "1" : request.path == "/"`, ada(),
			`source.address.inCIDR("192.0.2.0/24"): false; source.address = "10.1.2.3"` + "\n" +
				`session.user_id == "1": false; session.user_id = "42"` + "\n" +
				`request.path == "/": false; request.path = "/tenants/acme/orders"` + "\n"},
		{`session.user_id == "42"`, anonymous, `session.user_id == "42": no session; session.user_id = no session` + "\n"},
		{`session.age < duration("5m")`, undated, `session.age < duration("5m"): not in the record; session.age = not in the record` + "\n"},
		{`request.segments[7] == "a"`, ada(), `request.segments[7] == "a": not there; request.segments[7] = not there` + "\n"},
		{`session.fields.tenant == "acme"`, holdsID, `session.fields.tenant == "acme": false; session.fields.tenant = "` + sessions.ID{}.String() + `"` + "\n"},
	} {
		if got := said(t, test.text, test.in); got != test.want {
			t.Errorf("%s\n%s\nwant\n%s", test.text, got, test.want)
		}
	}
}
