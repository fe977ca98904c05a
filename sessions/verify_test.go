package sessions_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// A foreign writes a session as docs/sessions.md says, with what a test changes.
type foreign struct {
	id     sessions.ID
	fields map[string]any
	ttl    time.Duration // of the key; 0: none
	score  float64       // 0: not listed
	listed time.Duration // expiry of the listing; 0: none
}

func newForeign() *foreign {
	end := time.Now().Add(11 * time.Hour)
	return &foreign{
		id: sessions.NewID(), ttl: 20 * time.Minute, score: float64(end.UnixMilli()), listed: 36 * time.Hour,
		fields: map[string]any{
			"v": "1", "user_id": "77", "username": "Ada", "roles": `["staff"]`, "tenant": "secret-tenant",
			"created_at": end.Add(-12 * time.Hour).UTC().Format(time.RFC3339), "expires_at": end.UTC().Format(time.RFC3339),
		},
	}
}

func (f *foreign) write(t *testing.T, client *redis.Client) {
	t.Helper()
	key, index := string(f.id.Key()), "user-sessions:77"
	_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Del(t.Context(), index)
		if f.score != 0 {
			p.ZAdd(t.Context(), index, redis.Z{Score: f.score, Member: f.id.Key().Hash()})
		}
		if f.listed > 0 {
			p.PExpire(t.Context(), index, f.listed)
		}
		if f.fields != nil {
			p.HSet(t.Context(), key, f.fields)
		}
		if f.ttl > 0 {
			p.PExpire(t.Context(), key, f.ttl)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestVerify: each mistake of a program that writes sessions is found, with its field
// and a cure, and checks refuse the session exactly where a finding says so.
func TestVerify(t *testing.T) {
	store, client := newStore(t)
	m := newManager(t, store, sessions.Config{})
	set := func(name string, value any) func(*foreign) { return func(f *foreign) { f.fields[name] = value } }
	drop := func(name string) func(*foreign) { return func(f *foreign) { delete(f.fields, name) } }
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	for _, test := range []struct {
		name   string
		change func(*foreign)
		want   []string // parts of the findings, in their order
	}{
		{"nothing", func(*foreign) {}, nil},
		{"no v", drop("v"), []string{"v: is missing"}},
		{"a newer v", set("v", "2"), []string{"v: is a version"}},
		{"no user_id", drop("user_id"), []string{"user_id: is missing"}},
		{"a long user_id", set("user_id", strings.Repeat("7", 257)), []string{"user_id: is too long", "the listing: does not have"}},
		{"a long username", set("username", strings.Repeat("a", 257)), []string{"username: is too long"}},
		{"Latin-1", set("username", "L\xf6we"), []string{"username: is not UTF-8"}},
		{"roles by commas", set("roles", "staff,ops"), []string{"roles: is not a JSON array"}},
		{"a null role", set("roles", `["a",null]`), []string{"roles: is not a JSON array"}},
		{"many roles", set("roles", `["`+strings.Repeat(`a","`, 256)+`a"]`), []string{"roles: has too many"}},
		{"a long role", set("roles", `["`+strings.Repeat("a", 129)+`"]`), []string{"roles: has a name that is too long"}},
		{"a role with a comma", set("roles", `["a,b"]`), []string{"roles: has a name with a comma"}},
		{"an empty role", set("roles", `[""]`), []string{"roles: has an empty name"}},
		{"no expires_at", drop("expires_at"), []string{"expires_at: is not an RFC 3339 time"}},
		{"Python's isoformat", set("expires_at", "2026-11-24T22:00:00.123456"), []string{"expires_at: is not an RFC 3339 time"}},
		{"Unix time", set("expires_at", "1790000000"), []string{"expires_at: is not an RFC 3339 time"}},
		{"ten years", set("expires_at", in(87600*time.Hour)), []string{"expires_at: lies further away", "expires_at: lies 8", "the listing: has another time", "the listing: it ends before"}},
		{"a day and twelve hours", set("expires_at", in(35*time.Hour)), []string{"expires_at: lies 3", "the listing: has another time"}},
		{"over", set("expires_at", in(-time.Hour)), []string{"expires_at: is past", "created_at: is not before", "the listing: has another time"}},
		{"a bad created_at", set("created_at", "today"), []string{"created_at: is not an RFC 3339 time"}},
		{"created in the future", set("created_at", in(time.Hour)), []string{"created_at: lies "}},
		{"a binary address", set("address", "\xff"), []string{"address: is not UTF-8"}},
		{"a long user agent", set("user_agent", strings.Repeat("a", 1025)), []string{"user_agent: is too long"}},
		{"a field with a line end", set("a\nb", "secret-value"), []string{`"a\nb": is no name`}},
		{"a reserved name in other letters", set("userId", "secret-value"), []string{"userId: is a field of the application"}},
		{"a huge value", set("huge", strings.Repeat("x", 1<<20+1)), []string{`"huge": is longer`}},
		{"no expiry", func(f *foreign) { f.ttl = 0 }, []string{"the key: it has no expiry"}},
		{"the absolute timeout as the expiry", func(f *foreign) { f.ttl = 11 * time.Hour }, []string{"the key: it ends in 1"}},
		{"not listed", func(f *foreign) { f.score = 0 }, []string{"the listing: does not have the session"}},
		{"seconds as the score", func(f *foreign) { f.score = float64(int(f.score / 1000)) }, []string{"the listing: has another time"}},
		{"a time that Coatcheck gave", func(f *foreign) { f.score = float64(time.Now().UnixMilli()) + .5 }, nil},
		{"a listing without expiry", func(f *foreign) { f.listed = 0 }, []string{"the listing: it has no expiry"}},
		{"a listing that ends early", func(f *foreign) { f.listed = time.Hour }, []string{"the listing: it ends before"}},
		{"nothing of the layout", func(f *foreign) { f.fields = map[string]any{"userId": "77"} }, []string{"the key: the hash has no field"}},
		{"three at once", func(f *foreign) { f.ttl = 0; delete(f.fields, "v"); f.fields["roles"] = "x" }, []string{"v: ", "roles: ", "the key: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newForeign()
			test.change(f)
			f.write(t, client)
			findings, err := m.VerifyID(t.Context(), f.id)
			if err != nil {
				t.Fatal(err)
			}
			matches(t, findings, test.want)
			all := 0
			for v, err := range m.VerifyAll(t.Context(), nil) {
				if err != nil {
					t.Fatal(err)
				}
				if all++; v.Key != f.id.Key() || test.name != "over" && len(v.Findings) != len(findings) {
					t.Errorf("by a scan: %v", v)
				}
			}
			if all != 1 {
				t.Errorf("a scan verifies %d records", all)
			}
			_, err = m.Touch(t.Context(), f.id)
			refused := slices.ContainsFunc(findings, func(f sessions.Finding) bool { return f.Refused })
			if refused != (err != nil) {
				t.Errorf("refused by the findings: %v; by a check: %v", refused, err)
			}
			client.FlushAll(t.Context())
		})
	}
}

// matches holds findings against the parts that are wanted of them, and looks for values
// of the record in them.
func matches(t *testing.T, findings []sessions.Finding, want []string) {
	t.Helper()
	texts := make([]string, len(findings))
	for i, f := range findings {
		texts[i] = f.Field + ": " + f.Problem
		if f.Cure == "" {
			t.Errorf("no cure: %s", texts[i])
		}
		if text := texts[i] + f.Cure; strings.Contains(text, "secret-") || strings.Contains(text, "77") {
			t.Errorf("a value of the record is in %s", text)
		}
	}
	same := len(texts) == len(want)
	for i := range min(len(texts), len(want)) {
		same = same && strings.HasPrefix(texts[i], want[i])
	}
	if !same {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(texts, "\n"), strings.Join(want, "\n"))
	}
}

// TestVerifyOtherTypes: what stands in the place of a record, or of a listing.
func TestVerifyOtherTypes(t *testing.T) {
	store, client := newStore(t)
	m := newManager(t, store, sessions.Config{})
	f := newForeign()
	f.write(t, client)
	client.Set(t.Context(), "user-sessions:77", "x", 0)
	findings, err := m.Verify(t.Context(), f.id.Key())
	is(t, "a listing of another type", err, nil)
	matches(t, findings, []string{"the listing: there is no sorted set"})
	key := sessions.NewID().Key()
	client.Set(t.Context(), string(key), "x", time.Minute)
	findings, err = m.Verify(t.Context(), key)
	is(t, "a record of another type", err, nil)
	matches(t, findings, []string{"the key: it is no hash"})
	_, err = m.Verify(t.Context(), sessions.NewID().Key())
	is(t, "no record", err, sessions.ErrNotFound)
	client.Close()
	if _, err := m.Verify(t.Context(), key); err == nil || errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("without Redis: %v", err)
	}
}

// TestMisplaced: a record in the place that another way of hashing gives is found by the
// ID, and its key is not printed, since it may be the ID.
func TestMisplaced(t *testing.T) {
	store, client := newStore(t)
	m := newManager(t, store, sessions.Config{})
	id, err := sessions.ParseID("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
	is(t, "the ID", err, nil)
	for key, want := range map[string]string{
		"session:Yw3NKWbEM2aRElRIu7JbT_QSpJxzLbLIq8G4WBvXEN0":  "the 32 bytes of the ID",
		"session:6oZqdX5MOLq/qBJ8vppAnT4fk6AP8UiP9zX8+Rev/9A=": "standard base64",
		"session:6oZqdX5MOLq_qBJ8vppAnT4fk6AP8UiP9zX8-Rev_9A=": "padding",
		fmt.Sprintf("session:%x", "\xea\x86\x6a\x75\x7e\x4c\x38\xba\xbf\xa8\x12\x7c\xbe\x9a\x40\x9d\x3e\x1f\x93\xa0\x0f\xf1\x48\x8f\xf7\x35\xfc\xf9\x17\xaf\xff\xd0"): "hexadecimal",
	} {
		client.HSet(t.Context(), key, "v", "1")
		findings, err := m.VerifyID(t.Context(), id)
		is(t, want, err, nil)
		if len(findings) != 1 || !strings.Contains(findings[0].Problem, want) || !findings[0].Refused || strings.Contains(fmt.Sprint(findings), id.Reveal()) {
			t.Errorf("%s: %v", want, findings)
		}
		client.FlushAll(t.Context())
	}
	client.HSet(t.Context(), "session:"+id.Reveal(), "v", "1")
	_, err = m.VerifyID(t.Context(), id)
	is(t, "the ID itself is not asked for", err, sessions.ErrNotFound)
	client.FlushAll(t.Context())
	_, err = m.VerifyID(t.Context(), id)
	is(t, "no record", err, sessions.ErrNotFound)
}
