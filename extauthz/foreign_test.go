package extauthz_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// A reversed is a format whose cookie has the ID behind "r.".
type reversed struct{ sessions.Cookie }

func (r reversed) Read(h sessions.CookieHeader) (sessions.ID, error) {
	value, err := r.Value(h)
	if err != nil {
		return sessions.ID{}, err
	}
	return r.Parse(value)
}

func (reversed) Parse(value string) (sessions.ID, error) {
	id, ok := strings.CutPrefix(value, "r.")
	if !ok {
		return sessions.ID{}, sessions.ErrMalformed
	}
	return sessions.ForeignID(id)
}

func (r reversed) Cut(h sessions.CookieHeader) (string, bool) { return r.CutValue(h) }

func (r reversed) Lookalikes(h sessions.CookieHeader) []string {
	return r.LookalikesOf(h, func(value string) bool { return strings.HasPrefix(value, "r.") })
}
func (reversed) Place() sessions.Place { return sessions.Place{Prefix: "r:"} }
func (reversed) Decode(sessions.ForeignRecord, []string) (f sessions.ForeignSession, err error) {
	return f, sessions.ErrNotFound
}
func (reversed) ValidateField(name string) error {
	if strings.Contains(name, "..") {
		return fmt.Errorf("field %q has two dots", name)
	}
	return nil
}
func (reversed) Fields(sessions.ForeignRecord) map[string]string { return nil }

// TestForeign: a session of another format is decided as one of ours, but for its key and
// its ID, which appear nowhere.
func TestForeign(t *testing.T) {
	const sid = "foreign-session-id-of-a-user"
	id, err := sessions.ForeignID(sid)
	if err != nil {
		t.Fatal(err)
	}
	former := liveID
	liveID = id
	defer func() { liveID = former }()
	var log bytes.Buffer
	config := extauthz.Config{
		Format: reversed{sessions.Cookie{Name: "sid"}}, Fields: []extauthz.FieldHeader{{Field: "tenant", Header: "x-user-tenant"}},
		Logger: slog.New(slog.NewJSONHandler(&log, nil)), Log: extauthz.LogConfig{Decisions: extauthz.LogAll},
	}
	f := &fake{session: ada}
	for _, keep := range []bool{false, true} {
		config.KeepCookie = keep
		server := policed(t, f, config, extauthz.PolicySet{Policies: []extauthz.Policy{{Name: "few", Headers: []string{"id"}}}})
		for policy, set := range map[string][]string{"": {"x-user-id", "x-user-name", "x-user-roles", "x-user-tenant"}, "few": {"x-user-id"}} {
			extensions := map[string]string{"coatcheck.session": "required"}
			if policy != "" {
				extensions["coatcheck.policy"] = policy
			}
			c := check{request: "GET /" + sid + "/x", lines: []string{"cookie: a=b;  sid = r." + sid + " ; c=d", "x-user-session: forged", "X_User.Session: forged"}, extensions: extensions}
			response, err := server.Check(t.Context(), c.message())
			ok := response.GetOkResponse()
			if err != nil || ok == nil {
				t.Fatalf("%v, %v", response, err)
			}
			cookie := ""
			var names []string
			for _, h := range ok.GetHeaders() {
				if name := h.GetHeader().GetKey(); name == "cookie" {
					cookie = h.GetHeader().GetValue()
				} else {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			if policy == "few" && !slices.Equal(names, set) || policy == "" && !slices.Contains(names, "x-user-id") || slices.Contains(names, "x-user-session") {
				t.Errorf("%q sets %v", policy, names)
			}
			for _, name := range []string{"x-user-session", "X_User.Session"} {
				if !slices.Contains(ok.GetHeadersToRemove(), name) {
					t.Errorf("%q: %s is not removed: %v", policy, name, ok.GetHeadersToRemove())
				}
			}
			if want := map[bool]string{false: "a=b; c=d", true: ""}[keep]; cookie != want {
				t.Errorf("keep %v: the cookie is %q", keep, cookie)
			}
			if handle := response.GetDynamicMetadata().GetFields()["session"].GetStringValue(); handle != id.Key().Handle() {
				t.Errorf("the handle is %q", handle)
			}
			if text := response.String(); strings.Contains(text, sid) {
				t.Errorf("the answer has the ID: %s", text)
			}
			e, err := server.Explain(t.Context(), c.message())
			if err != nil || !e.Allow || strings.Contains(e.Path, sid) {
				t.Errorf("%+v, %v", e, err)
			}
		}
	}
	// Nor where no session is asked for, or the path is refused.
	server := policed(t, f, config, extauthz.PolicySet{})
	for _, path := range []string{"/" + sid, "/" + sid + "/%2e%2e/x"} {
		c := check{request: "GET " + path, lines: []string{"cookie: sid=r." + sid, "x-request-id: " + sid}, extensions: map[string]string{"coatcheck.session": "none"}}
		if _, err := server.Check(t.Context(), c.message()); err != nil {
			t.Fatal(err)
		}
		if e, err := server.Explain(t.Context(), c.message()); err != nil || strings.Contains(e.Path+e.RequestID, sid) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	if strings.Contains(log.String(), sid) || !strings.Contains(log.String(), id.Key().Handle()) {
		t.Errorf("the log: %s", &log)
	}
}

// A counted format counts how often a cookie is read.
type counted struct {
	reversed
	reads *int
}

func (c counted) Read(h sessions.CookieHeader) (sessions.ID, error) {
	*c.reads++
	return c.reversed.Read(h)
}

// TestForeignReadOnce: a cookie is verified once for a decision, and once more only for a
// line in the log that must not have its ID. A refused cookie costs no more than another.
func TestForeignReadOnce(t *testing.T) {
	const sid = "foreign-session-id-of-a-user"
	for name, c := range map[string]struct {
		session, cookie string
		log             extauthz.LogDecisions
		want            int
	}{
		"public, no line":     {session: "none", cookie: "r." + sid, log: extauthz.LogDenied},
		"public, a line":      {session: "none", cookie: "r." + sid, log: extauthz.LogAll, want: 1},
		"malformed, no line":  {session: "required", cookie: sid, log: extauthz.LogFaults, want: 1},
		"malformed, a line":   {session: "required", cookie: sid, log: extauthz.LogAll, want: 2},
		"a session, a line":   {session: "required", cookie: "r." + sid, log: extauthz.LogAll, want: 1},
		"a session, no lines": {session: "required", cookie: "r." + sid, log: extauthz.LogFaults, want: 1},
	} {
		var log bytes.Buffer
		reads := 0
		config := extauthz.Config{
			Format: counted{reversed{sessions.Cookie{Name: "sid"}}, &reads},
			Logger: slog.New(slog.NewJSONHandler(&log, nil)), Log: extauthz.LogConfig{Decisions: c.log},
		}
		server := policed(t, &fake{session: ada}, config, extauthz.PolicySet{})
		m := check{request: "GET /", lines: []string{"cookie: sid=" + c.cookie}, extensions: map[string]string{"coatcheck.session": c.session}}
		if _, err := server.Check(t.Context(), m.message()); err != nil {
			t.Fatal(err)
		}
		if reads != c.want {
			t.Errorf("%s: the cookie was read %d times, want %d", name, reads, c.want)
		}
	}
}

// TestForeignConfig: what such sessions cannot have is refused.
func TestForeignConfig(t *testing.T) {
	config := extauthz.Config{Format: reversed{sessions.Cookie{Name: "sid"}}}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	age := extauthz.Policy{Name: "p", Condition: condition{fields: []string{sessions.FieldCreatedAt}}}
	for what, err := range map[string]error{
		"age of the session":   age.Validate(config),
		`"a..b" has two dots`:  extauthz.Policy{Name: "p", Condition: condition{fields: []string{"a.b", "a..b"}}}.Validate(config),
		`"c..d" has two dots`:  extauthz.Config{Format: config.Format, Fields: []extauthz.FieldHeader{{Field: "c..d", Header: "x-user-d"}}}.Validate(),
		"it is one of":         extauthz.Policy{Name: "p", Headers: []string{"session"}}.Validate(config),
		"Authorization header": extauthz.Config{Format: config.Format, Bearer: true}.Validate(),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := age.Validate(extauthz.Config{}); err != nil {
		t.Errorf("the age of our own: %v", err)
	}
	dotted := extauthz.Policy{Name: "p", Condition: condition{fields: []string{"a..b"}}}
	if err := dotted.Validate(extauthz.Config{}); err != nil {
		t.Errorf("dots in a name of our own: %v", err)
	}
}
