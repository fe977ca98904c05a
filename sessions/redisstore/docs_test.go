package redisstore_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// document is docs/sessions.md, which other programs are written against.
func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/sessions.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is the fenced block of a language.
func block(t *testing.T, language string) string {
	t.Helper()
	found := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindStringSubmatch(document(t))
	if found == nil {
		t.Fatalf("no block of %s", language)
	}
	return found[1]
}

func TestVector(t *testing.T) {
	row := func(name string) string {
		found := regexp.MustCompile(`\| ` + name + " \\| `([^`]+)` \\|").FindStringSubmatch(document(t))
		if found == nil {
			t.Fatalf("no %s", name)
		}
		return found[1]
	}
	id, err := sessions.ParseID(row("ID"))
	if err != nil {
		t.Fatal(err)
	}
	if key := id.Key(); string(key) != row("key") || key.Handle() != row("handle") {
		t.Errorf("the key is %s with the handle %s", key, key.Handle())
	}
}

// TestPython runs the document's program: Go reads the session that it makes,
// and it reads one that Go made.
func TestPython(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	m := newManager(t, newClient(t, server.Addr), sessions.Config{})
	python := func(id string) (made struct {
		ID      string
		Session map[string]any
	}) {
		t.Helper()
		cmd := exec.Command("python3", "-c", block(t, "python"))
		_, port, _ := strings.Cut(server.Addr, ":")
		cmd.Env = append(os.Environ(), "REDIS_PORT="+port, "REDIS_PASSWORD="+redistest.Password, "SESSION_ID="+id)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := json.Unmarshal(out, &made); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return made
	}

	id, err := sessions.ParseID(python("").ID)
	if err != nil {
		t.Fatal(err)
	}
	session, err := m.Touch(t.Context(), id, "tenant")
	if err != nil {
		t.Fatal(err)
	}
	if session.UserID != "42" || session.Username != "Ada" || strings.Join(session.Roles, " ") != "staff" || session.Fields["tenant"] != "acme" {
		t.Errorf("Go reads %+v", session)
	}
	if list, _, err := m.List(t.Context(), "42"); err != nil || len(list) != 1 || list[0].Key != id.Key() || list[0].IdleExpiresAt.IsZero() {
		t.Errorf("listed are %v, %v", list, err)
	}

	id, _, err = m.Create(t.Context(), sessions.NewSession{UserID: "43", Username: "Löwe", Roles: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	got := python(id.Reveal()).Session
	if got["user_id"] != "43" || got["username"] != "Löwe" || len(got["roles"].([]any)) != 2 {
		t.Errorf("Python reads %v", got)
	}
	if got := python(sessions.NewID().Reveal()).Session; got != nil {
		t.Errorf("Python reads %v of nothing", got)
	}
}

// TestVectorRecord: the document's record is a session, with all that it says.
func TestVectorRecord(t *testing.T) {
	var record sessions.Record
	if err := json.Unmarshal([]byte(block(t, "json")), &record); err != nil {
		t.Fatal(err)
	}
	s, err := record.Decode("session:x")
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2026, 11, 24, 22, 0, 0, 0, time.UTC)
	if s.UserID != "42" || s.Username != "Ada" || strings.Join(s.Roles, " ") != "staff ops" || !s.ExpiresAt.Equal(end) ||
		!s.CreatedAt.Equal(end.Add(-12*time.Hour)) || s.Address != "192.0.2.1" || s.UserAgent != "curl/8" || len(s.Fields) != 1 || s.Fields["tenant"] != "acme" {
		t.Errorf("the record is read as %+v", s)
	}
}

// TestScript sends the document's script, which other programs copy.
func TestScript(t *testing.T) {
	client := newClient(t, redistest.Start(t).Addr)
	m := newManager(t, client, sessions.Config{})
	_, session, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		key  sessions.Key
		want int
	}{
		{"new fields", session.Key, 1},
		{"fields that are there", session.Key, -1},
		{"a session that is gone", sessions.NewID().Key(), 0},
	} {
		got, err := client.Eval(t.Context(), block(t, "lua"), []string{string(test.key)}, "cart", "3", "lang", "de").Int()
		if err != nil || got != test.want {
			t.Errorf("%s: %d, %v; want %d", test.name, got, err, test.want)
		}
	}
	if s, err := m.Inspect(t.Context(), session.Key); err != nil || len(s.Fields) != 2 || s.Fields["cart"] != "3" {
		t.Errorf("%+v, %v", s, err)
	}
	if n := client.DBSize(t.Context()).Val(); n != 2 {
		t.Errorf("%d keys, want the record and its listing", n)
	}
}
