package redisstore_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
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
	if list, err := m.List(t.Context(), "42"); err != nil || len(list) != 1 || list[0].Key != id.Key() || list[0].IdleExpiresAt.IsZero() {
		t.Errorf("listed are %v, %v", list, err)
	}

	id, _, err = m.Create(t.Context(), sessions.New{UserID: "43", Username: "Löwe", Roles: []string{"a", "b"}})
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

// TestRights applies the document's ACL lines: each side can do its work, and
// the authorization side no more.
func TestRights(t *testing.T) {
	server := redistest.Start(t)
	admin := newClient(t, server.Addr)
	managers := make(map[string]*sessions.Manager)
	for line := range strings.Lines(block(t, "acl")) {
		words := strings.Fields(strings.Replace(line, ">PASSWORD", ">pw", 1))
		args := []any{"acl", "setuser"}
		for _, word := range words[1:] {
			args = append(args, word)
		}
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
		options := patient
		options.Addrs, options.Username, options.Password = []string{server.Addr}, words[1], "pw"
		client := redisstore.NewClient(options)
		t.Cleanup(func() { _ = client.Close() })
		store := redisstore.New(client, redisstore.Config{WaitReplicas: 1, WaitTimeout: 1})
		if warnings, err := store.Diagnose(t.Context()); err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", words[1], warnings, err)
		}
		m, err := sessions.NewManager(store, sessions.Config{})
		if err != nil {
			t.Fatal(err)
		}
		managers[words[1]] = m
	}
	check, manage := managers["coatcheck-check"], managers["coatcheck-manage"]

	var ids []sessions.ID
	for range 3 {
		id, _, err := manage.Create(t.Context(), sessions.New{UserID: "42"})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if _, err := check.Touch(t.Context(), ids[0]); err != nil {
		t.Error(err)
	}
	if err := check.SyncClock(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := check.Create(t.Context(), sessions.New{UserID: "42"}); err == nil {
		t.Error("the authorization side can create a session")
	}
	if err := check.Revoke(t.Context(), ids[0].Key()); err == nil {
		t.Error("the authorization side can revoke a session")
	}

	for what, do := range map[string]func() error{
		"sync":    func() error { return manage.SyncClock(t.Context()) },
		"touch":   func() error { _, err := manage.Touch(t.Context(), ids[0]); return err },
		"inspect": func() error { _, err := manage.Inspect(t.Context(), ids[0].Key()); return err },
		"add":     func() error { return manage.Add(t.Context(), ids[0].Key(), map[string]string{"a": "1"}) },
		"list":    func() error { _, err := manage.List(t.Context(), "42"); return err },
		"resolve": func() error { _, err := manage.Resolve(t.Context(), ids[0].Key().Handle(), ""); return err },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	// There is no replica here, so that is all that may be missing.
	if err := manage.Revoke(t.Context(), ids[1].Key()); err == nil || !strings.Contains(err.Error(), redisstore.ErrNotReplicated.Error()) {
		t.Errorf("revoke: %v", err)
	}
	if n, err := manage.RevokeUser(t.Context(), "42"); n != 2 || err == nil || !strings.Contains(err.Error(), redisstore.ErrNotReplicated.Error()) {
		t.Errorf("revoke all: %d, %v", n, err)
	}
}
