package clients_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// cases are what every language must pass. Each gets a user ID of its own.
var cases = []struct {
	name string
	run  func(t *testing.T, c *client, user string)
}{
	{"a session of the client is one of Coatcheck's", testCreate},
	{"the least that a session has", testCreateLeast},
	{"an account that breaks the limits", testCreateInvalid},
	{"half of a surrogate pair", testHalf},
	{"a client that decodes answers", testDecoding},
	{"a session of Coatcheck's", testRead},
	{"touch slides, get does not", testSlide},
	{"malformed IDs and keys", testMalformed},
	{"past its absolute timeout", testExpired},
	{"records that break the layout", testBroken},
	{"a hash of another program", testForeign},
	{"fields are added, all or none", testAdd},
	{"fields that must not be added", testAddInvalid},
	{"adding to a session that is gone", testAddGone},
	{"adding at the same time", testAddRace},
	{"ending a session", testRevoke},
	{"ending a session that a login has listed", testRevokeListed},
	{"a login while all sessions are ended", testEnded},
	{"logins that race with a revocation of all", testEndedRace},
	{"a login after a revocation of all", testAfterEnded},
	{"a login that Redis interrupts", testInterrupted},
	{"200 ends that race with slides", testEndRace},
}

func TestSessions(t *testing.T) {
	for _, c := range at.clients {
		start := time.Now()
		t.Run(c.language, func(t *testing.T) {
			for i, test := range cases {
				t.Run(test.name, func(t *testing.T) { test.run(t, c, fmt.Sprintf("%s-%d, ü%%", c.language, i)) })
			}
		})
		say("%s: %d cases in %v", c.language, len(cases), time.Since(start).Round(10*time.Millisecond))
	}
}

// hostile is an account of which every part needs an encoding.
func hostile(user string) call {
	return call{
		UserID: user, Username: "Ádá \"%41,\n\\ 🦊\u2028+", Roles: []string{"staff", "ü %2C\"\\", "\t\u007f<&>+"},
		Address: "2001:db8::1", UserAgent: "curl/8 (ü)", Fields: map[string]string{"tenant": "ac%me, ü\"\x00\n", "ein Feld": "", "ü": "1"},
	}
}

func testCreate(t *testing.T, c *client, user string) {
	began := time.Now()
	it := hostile(user)
	id := c.create(t, it).ID
	at.verified(t, id)
	parsed, err := sessions.ParseID(id)
	if err != nil {
		t.Fatal("the ID is not canonical")
	}
	s, err := at.manager.Inspect(t.Context(), parsed.Key())
	if err != nil {
		t.Fatal(err)
	}
	if s.UserID != user || s.Username != it.Username || !slices.Equal(s.Roles, it.Roles) || s.Address != it.Address || s.UserAgent != it.UserAgent || !maps.Equal(s.Fields, it.Fields) {
		t.Errorf("Coatcheck reads %+v", s)
	}
	if s.CreatedAt.Before(began.Add(-time.Second)) || s.CreatedAt.After(time.Now().Add(time.Second)) || !s.ExpiresAt.Equal(s.CreatedAt.Add(absolute)) {
		t.Errorf("it was created at %v and ends at %v", s.CreatedAt, s.ExpiresAt)
	}
	record := at.redis.HGetAll(t.Context(), string(s.Key)).Val()
	if len(record) != 8+len(it.Fields) || !strings.HasSuffix(record["expires_at"], "Z") || !strings.HasSuffix(record["created_at"], "Z") {
		t.Errorf("the record is %q", record)
	}
	wantIdle(t, s.Key, began)
	index := "user-sessions:" + user
	if score := at.redis.ZScore(t.Context(), index, s.Key.Hash()).Val(); int64(score) != s.ExpiresAt.UnixMilli() {
		t.Errorf("it is listed with %v", score)
	}
	if left := at.redis.PTTL(t.Context(), index).Val(); left < absolute+24*time.Hour-time.Minute {
		t.Errorf("the list ends in %v", left)
	}
	if status := ask(t, "go", "required", "whoami", cookie(id)).StatusCode; status != http.StatusOK {
		t.Errorf("Envoy answers %d", status)
	}
	got := c.must(t, call{Do: "touch", ID: id, Names: []string{"tenant", "absent", "ein Feld"}}).Session
	if got == nil || got.Username != it.Username || got.ExpiresAt != s.ExpiresAt.UnixMilli() || !maps.Equal(got.Fields, map[string]string{"tenant": it.Fields["tenant"], "ein Feld": ""}) {
		t.Errorf("the client reads %+v", got)
	}
}

// wantIdle fails unless a session used since then ends as a check would have it.
func wantIdle(t *testing.T, key sessions.Key, since time.Time) {
	t.Helper()
	end := at.redis.PExpireTime(t.Context(), string(key)).Val()
	const step = time.Minute
	low := since.Add(idle)
	if at := time.UnixMilli(end.Milliseconds()); end%step != 0 || at.Before(low) || at.After(time.Now().Add(idle+step)) {
		t.Errorf("it idles out at %v, want within a minute behind %v, at a full one", at, low)
	}
}

func testCreateLeast(t *testing.T, c *client, user string) {
	id := c.create(t, call{UserID: user}).ID
	at.verified(t, id)
	parsed, _ := sessions.ParseID(id)
	record := at.redis.HGetAll(t.Context(), string(parsed.Key())).Val()
	if len(record) != 5 || record["roles"] != "[]" || record["v"] != "1" {
		t.Errorf("the record is %q", record)
	}
	if s := c.must(t, call{Do: "touch", ID: id}).Session; s == nil || s.Username != "" || len(s.Roles) != 0 {
		t.Errorf("the client reads %+v", s)
	}
}

func testCreateInvalid(t *testing.T, c *client, user string) {
	keys := at.redis.DBSize(t.Context()).Val()
	long := strings.Repeat("ü", 129)
	for name, change := range map[string]func(*call){
		"no user":           func(it *call) { it.UserID = "" },
		"a long user":       func(it *call) { it.UserID = long },
		"a long name":       func(it *call) { it.Username = long },
		"a long address":    func(it *call) { it.Address = long },
		"a long user agent": func(it *call) { it.UserAgent = strings.Repeat("x", 1025) },
		"an empty role":     func(it *call) { it.Roles = []string{"a", ""} },
		"a long role":       func(it *call) { it.Roles = []string{long} },
		"257 roles":         func(it *call) { it.Roles = strings.Split(strings.Repeat("r,", 256)+"r", ",") },
		"a reserved field":  func(it *call) { it.Fields = map[string]string{"created_at": "canary-value"} },
		"no name":           func(it *call) { it.Fields = map[string]string{"": "canary-value"} },
		"a control":         func(it *call) { it.Fields = map[string]string{"a\u0085b": "canary-value"} },
		"a long field name": func(it *call) { it.Fields = map[string]string{long: "canary-value"} },
		"a long value":      func(it *call) { it.Fields = map[string]string{"a": strings.Repeat("canary-value", 1<<17)} },
	} {
		it := call{UserID: user}
		change(&it)
		it.Do = "create"
		if a := c.do(t, it); a.Error != "invalid" {
			t.Errorf("%s: %q %s", name, a.Error, a.Text)
		}
	}
	if now := at.redis.DBSize(t.Context()).Val(); now != keys {
		t.Errorf("%d keys, want %d as before", now, keys)
	}
}

// testDecoding: a redis-py that makes text of every answer is refused at once, and not by
// an error in each call that says something else.
func testDecoding(t *testing.T, c *client, _ string) {
	if c.language != "python" {
		return
	}
	if a := c.do(t, call{Do: "decoding"}); a.Error != "invalid" || !strings.Contains(a.Text, "decode_responses") {
		t.Errorf("%q %s", a.Error, a.Text)
	}
}

// testHalf: what is no text is refused, and not turned into another, which may be another user's.
func testHalf(t *testing.T, c *client, user string) {
	_, key := at.make(t, sessions.NewSession{UserID: user})
	keys := at.redis.DBSize(t.Context()).Val()
	cases := map[string]call{
		"begin":       {Do: "begin", UserID: user + c.half()},
		"user":        {Do: "create", UserID: user + c.half()},
		"name":        {Do: "create", UserID: user, Username: c.half()},
		"role":        {Do: "create", UserID: user, Roles: []string{c.half()}},
		"user agent":  {Do: "create", UserID: user, UserAgent: c.half()},
		"field":       {Do: "create", UserID: user, Fields: map[string]string{"a": "canary-value" + c.half()}},
		"added field": {Do: "add", Key: string(key), Fields: map[string]string{"a": "canary-value" + c.half()}},
		"added name":  {Do: "add", Key: string(key), Fields: map[string]string{c.half(): "canary-value"}},
	}
	if c.language == "go" { // which has no mark, and whose values are any bytes
		for _, name := range []string{"begin", "field", "added field"} {
			delete(cases, name)
		}
	}
	for name, it := range cases {
		if a := c.do(t, it); a.Error != "invalid" && (c.language != "go" || !strings.Contains(a.Text, "UTF-8")) || strings.Contains(a.Text, "ud800") {
			t.Errorf("%s: %q %s", name, a.Error, a.Text)
		}
	}
	if s, err := at.manager.Inspect(t.Context(), key); err != nil || len(s.Fields) != 0 || at.redis.DBSize(t.Context()).Val() != keys {
		t.Errorf("something was written: %v, %v", s, err)
	}
}

func testRead(t *testing.T, c *client, user string) {
	it := hostile(user)
	it.Roles = append(it.Roles, "a,b") // which no route can ask for, and every reader must read
	id, key := at.make(t, sessions.NewSession{UserID: user, Username: it.Username, Roles: it.Roles, Fields: it.Fields})
	for _, a := range []answer{
		c.must(t, call{Do: "touch", ID: id, Names: []string{"tenant", "ü"}}),
		c.must(t, call{Do: "get", Key: string(key), Names: []string{"tenant", "ü"}}),
	} {
		s := a.Session
		if s == nil || s.Key != string(key) || s.UserID != user || s.Username != it.Username || !slices.Equal(s.Roles, it.Roles) ||
			!maps.Equal(s.Fields, map[string]string{"tenant": it.Fields["tenant"], "ü": "1"}) {
			t.Errorf("the client reads %+v", s)
		}
	}
	if s := c.must(t, call{Do: "touch", ID: sessions.NewID().Reveal()}).Session; s != nil {
		t.Errorf("the client reads %+v of nothing", s)
	}
}

func testSlide(t *testing.T, c *client, user string) {
	id, key := at.make(t, sessions.NewSession{UserID: user})
	at.redis.PExpire(t.Context(), string(key), 2*time.Minute)
	c.must(t, call{Do: "get", Key: string(key)})
	if left := at.redis.PTTL(t.Context(), string(key)).Val(); left > 2*time.Minute {
		t.Errorf("get slides to %v", left)
	}
	began := time.Now()
	c.must(t, call{Do: "touch", ID: id})
	wantIdle(t, key, began)
	at.redis.PExpire(t.Context(), string(key), time.Hour)
	c.must(t, call{Do: "touch", ID: id})
	if left := at.redis.PTTL(t.Context(), string(key)).Val(); left < 59*time.Minute {
		t.Errorf("touch shortens to %v", left)
	}
	at.redis.Del(t.Context(), string(key))
	if s := c.must(t, call{Do: "touch", ID: id}).Session; s != nil || at.redis.Exists(t.Context(), string(key)).Val() != 0 {
		t.Error("touch revives a session")
	}
}

// malformed are no IDs, and no hash parts of keys.
func malformed() []string {
	id := sessions.NewID().Reveal()
	return []string{
		"", id[:42], id + "A", id[:42] + "B", id[:42] + "=", id + "=", id + "\n", id + "\x00", " " + id[:42], id[:42] + "+", id[:42] + "é",
		strings.Repeat("A", 42) + "１", strings.Repeat("é", 43), id[:40] + "/AA", "*" + id[1:], strings.Repeat("A", 1<<16), "٣" + id[1:],
	}
}

func testMalformed(t *testing.T, c *client, _ string) {
	for _, user := range []string{c.login, c.reader} { // so that a command that reached Redis would be an error
		if err := at.Redis.SetUser(user, "on", ">"+password, "-@all"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = at.permit(user, "", "") }()
	}
	if a := c.do(t, call{Do: "touch", ID: sessions.NewID().Reveal()}); a.Error != "unknown" {
		t.Fatalf("a command that reaches Redis makes no error, but %q", a.Error)
	}
	for _, text := range malformed() {
		if a := c.must(t, call{Do: "touch", ID: text}); a.Session != nil {
			t.Errorf("%q is read", text)
		}
		for _, key := range []string{text, "session:" + text, "sessions:" + text} {
			if a := c.do(t, call{Do: "get", Key: key}); a.Session != nil || a.Error == "unknown" {
				t.Errorf("%q is read: %s", key, a.Text)
			}
			if a := c.do(t, call{Do: "revoke", Key: key}); a.Ended || a.Error == "unknown" {
				t.Errorf("%q is ended: %s", key, a.Text)
			}
			if a := c.do(t, call{Do: "add", Key: key, Fields: map[string]string{"a": "b"}}); a.Error != "not_found" {
				t.Errorf("adding to %q: %q", key, a.Error)
			}
		}
	}
}

// record writes a record as it is, and returns its ID and key.
func record(t *testing.T, user string, change func(map[string]any)) (string, string) {
	t.Helper()
	fields := map[string]any{"v": "1", "user_id": user, "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}
	if change != nil {
		change(fields)
	}
	id := sessions.NewID()
	at.redis.HSet(t.Context(), string(id.Key()), fields)
	at.redis.PExpire(t.Context(), string(id.Key()), 10*time.Minute)
	return id.Reveal(), string(id.Key())
}

func testExpired(t *testing.T, c *client, user string) {
	past := func(fields map[string]any) {
		fields["expires_at"] = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	}
	id, key := record(t, user, past)
	if s := c.must(t, call{Do: "get", Key: key}).Session; s != nil {
		t.Errorf("get: %+v", s)
	}
	if a := c.do(t, call{Do: "add", Key: key, Fields: map[string]string{"a": "b"}}); a.Error != "not_found" {
		t.Errorf("add: %q", a.Error)
	}
	if at.redis.Exists(t.Context(), key).Val() != 1 {
		t.Error("get ends it")
	}
	if s := c.must(t, call{Do: "touch", ID: id}).Session; s != nil {
		t.Errorf("touch: %+v", s)
	}
	if at.redis.Exists(t.Context(), key).Val() != 0 {
		t.Error("touch has not given it its own end")
	}
}

// broken are records, each with what becomes of it by the library.
var broken = map[string]func(map[string]any){
	"sound":                func(map[string]any) {},
	"no v":                 func(f map[string]any) { delete(f, "v") },
	"an empty v":           func(f map[string]any) { f["v"] = "" },
	"v 2":                  func(f map[string]any) { f["v"] = "2" },
	"v 2 and nothing else": func(f map[string]any) { clear(f); f["v"] = "2" },
	"v that is no UTF-8":   func(f map[string]any) { f["v"] = "\xff" },
	"no user":              func(f map[string]any) { delete(f, "user_id") },
	"an empty user":        func(f map[string]any) { f["user_id"] = "" },
	"a user of 256 bytes":  func(f map[string]any) { f["user_id"] = strings.Repeat("ü", 128) },
	"a user of 257 bytes":  func(f map[string]any) { f["user_id"] = strings.Repeat("u", 257) },
	"a user in Latin-1":    func(f map[string]any) { f["user_id"] = "\xfc" },
	"a long name":          func(f map[string]any) { f["username"] = strings.Repeat("ü", 129) },
	"a name in Latin-1":    func(f map[string]any) { f["username"] = "\xfc" },
	"no end":               func(f map[string]any) { delete(f, "expires_at") },
	"an empty end":         func(f map[string]any) { f["expires_at"] = "" },
	"an end in seconds":    func(f map[string]any) { f["expires_at"] = fmt.Sprint(time.Now().Unix() + 1000) },
	"an end without zone": func(f map[string]any) {
		f["expires_at"] = time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05")
	},
	"an end with a blank": func(f map[string]any) {
		f["expires_at"] = time.Now().Add(time.Hour).UTC().Format("2006-01-02 15:04:05Z")
	},
	"an end at 24:00": func(f map[string]any) { f["expires_at"] = time.Now().UTC().Format("2006-01-02") + "T24:00:00Z" },
	"an end at +01:00": func(f map[string]any) {
		f["expires_at"] = time.Now().Add(time.Hour).In(time.FixedZone("", 3600)).Format(time.RFC3339)
	},
	"an end at +25:00": func(f map[string]any) {
		f["expires_at"] = time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05") + "+25:00"
	},
	"an end in µs": func(f map[string]any) {
		f["expires_at"] = time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z")
	},
	"an end in 13 months":   func(f map[string]any) { f["expires_at"] = time.Now().AddDate(1, 1, 0).UTC().Format(time.RFC3339) },
	"the 13th month":        func(f map[string]any) { f["expires_at"] = time.Now().UTC().Format("2006") + "-13-01T00:00:00Z" },
	"an end in 35 hours":    func(f map[string]any) { f["expires_at"] = time.Now().Add(35 * time.Hour).UTC().Format(time.RFC3339) },
	"an end in 37 hours":    func(f map[string]any) { f["expires_at"] = time.Now().Add(37 * time.Hour).UTC().Format(time.RFC3339) },
	"roles":                 func(f map[string]any) { f["roles"] = `["a","\u00fc"]` },
	"no roles":              func(f map[string]any) { f["roles"] = "[]" },
	"empty roles":           func(f map[string]any) { f["roles"] = "" },
	"roles in commas":       func(f map[string]any) { f["roles"] = "a,b" },
	"roles without quotes":  func(f map[string]any) { f["roles"] = "[a]" },
	"null":                  func(f map[string]any) { f["roles"] = "null" },
	"null as a role":        func(f map[string]any) { f["roles"] = `["a",null]` },
	"a number as a role":    func(f map[string]any) { f["roles"] = `["a",1]` },
	"a list as a role":      func(f map[string]any) { f["roles"] = `["a",["b"]]` },
	"roles in an object":    func(f map[string]any) { f["roles"] = `{"0":"a"}` },
	"a role as a text":      func(f map[string]any) { f["roles"] = `"admin"` },
	"roles and more":        func(f map[string]any) { f["roles"] = `["a"] ["b"]` },
	"a role of 129 bytes":   func(f map[string]any) { f["roles"] = `["` + strings.Repeat("r", 129) + `"]` },
	"lists in lists":        func(f map[string]any) { f["roles"] = strings.Repeat("[", 100_000) },
	"256 roles":             func(f map[string]any) { f["roles"] = `["r"` + strings.Repeat(`,"r"`, 255) + `]` },
	"257 roles":             func(f map[string]any) { f["roles"] = `["r"` + strings.Repeat(`,"r"`, 256) + `]` },
	"roles in Latin-1":      func(f map[string]any) { f["roles"] = "[\"\xfc\"]" },
	"a broken created_at":   func(f map[string]any) { f["created_at"] = "yesterday" },
	"an address in Latin-1": func(f map[string]any) { f["address"] = "\xfc" },
}

func testBroken(t *testing.T, c *client, user string) {
	both := func(name, id, key string) {
		t.Helper()
		touched, got := c.do(t, call{Do: "touch", ID: id}), c.do(t, call{Do: "get", Key: key})
		want := at.oracle(t.Context(), id)
		for verb, a := range map[string]answer{"touch": touched, "get": got} {
			is := "absent"
			if a.Error != "" {
				is = a.Error
			} else if a.Session != nil {
				is = "live"
			}
			if is != want {
				t.Errorf("%s: %s says %s, the library %s\n%s", name, verb, is, want, a.Text)
			}
		}
	}
	for name, change := range broken {
		id, key := record(t, user, change)
		both(name, id, key)
	}
	id, key := record(t, user, nil)
	at.redis.Persist(t.Context(), key)
	both("no expiry", id, key)
	for kind, write := range map[string]func(key string){
		"a string": func(key string) { at.redis.Set(t.Context(), key, "x", time.Minute) },
		"a list":   func(key string) { at.redis.LPush(t.Context(), key, "x") },
	} {
		id := sessions.NewID()
		write(string(id.Key()))
		both(kind, id.Reveal(), string(id.Key()))
	}
}

func testForeign(t *testing.T, c *client, _ string) {
	id := sessions.NewID()
	at.redis.HSet(t.Context(), string(id.Key()), "cart", "3")
	at.redis.PExpire(t.Context(), string(id.Key()), time.Minute)
	if s := c.must(t, call{Do: "touch", ID: id.Reveal()}).Session; s != nil {
		t.Errorf("read as %+v", s)
	}
}

func testAdd(t *testing.T, c *client, user string) {
	_, key := at.make(t, sessions.NewSession{UserID: user, Fields: map[string]string{"plan": "old"}})
	fields := map[string]string{"cart": "3 äpfel", "ü,%": "", "null": "\x00"}
	c.must(t, call{Do: "add", Key: string(key), Fields: fields})
	for _, again := range []map[string]string{{"cart": "4"}, {"new": "1", "plan": "new"}, {"plan": "new", "new": "1", "zzz": "1"}} {
		if a := c.do(t, call{Do: "add", Key: string(key), Fields: again}); a.Error != "exists" {
			t.Errorf("%v: %q %s", again, a.Error, a.Text)
		}
	}
	s, err := at.manager.Inspect(t.Context(), key)
	fields["plan"] = "old"
	if err != nil || !maps.Equal(s.Fields, fields) {
		t.Errorf("the fields are %q, %v", s.Fields, err)
	}
}

func testAddInvalid(t *testing.T, c *client, user string) {
	_, key := at.make(t, sessions.NewSession{UserID: user})
	for _, name := range []string{"v", "user_id", "roles", "username", "expires_at", "created_at", "address", "user_agent", "", "a\nb", "a\u007f", strings.Repeat("n", 129)} {
		if a := c.do(t, call{Do: "add", Key: string(key), Fields: map[string]string{"fine": "1", name: "canary-value"}}); a.Error != "invalid" {
			t.Errorf("%q: %q %s", name, a.Error, a.Text)
		}
	}
	if a := c.do(t, call{Do: "add", Key: string(key), Fields: map[string]string{"a": strings.Repeat("x", 1<<20+1)}}); a.Error != "invalid" {
		t.Errorf("a long value: %q", a.Error)
	}
	if s, err := at.manager.Inspect(t.Context(), key); err != nil || len(s.Fields) != 0 {
		t.Errorf("%v, %v", s, err)
	}
}

func testAddGone(t *testing.T, c *client, _ string) {
	key := sessions.NewID().Key()
	if a := c.do(t, call{Do: "add", Key: string(key), Fields: map[string]string{"a": "b"}}); a.Error != "not_found" {
		t.Errorf("%q %s", a.Error, a.Text)
	}
	if at.redis.Exists(t.Context(), string(key)).Val() != 0 {
		t.Error("a record is there")
	}
}

// testAddRace: of two who add the same field one wins, and no field is lost.
func testAddRace(t *testing.T, c *client, user string) {
	_, key := at.make(t, sessions.NewSession{UserID: user})
	won := 0
	for i := range 50 {
		fields := map[string]string{fmt.Sprint("f", i): "client", "own": "client"}
		delete(fields, "own")
		var other error
		var both sync.WaitGroup
		both.Go(func() {
			other = at.manager.Add(t.Context(), key, map[string]string{fmt.Sprint("f", i): "other", fmt.Sprint("o", i): ""})
		})
		a := c.do(t, call{Do: "add", Key: string(key), Fields: fields})
		both.Wait()
		if (a.Error == "") == (other == nil) {
			t.Fatalf("the client %q, the other %v", a.Error, other)
		}
		if a.Error == "" {
			won++
		}
		owner := at.redis.HGet(t.Context(), string(key), fmt.Sprint("f", i)).Val()
		if (owner == "client") != (a.Error == "") {
			t.Fatalf("it is the %s's", owner)
		}
	}
	if s, err := at.manager.Inspect(t.Context(), key); err != nil || len(s.Fields) != 50+50-won {
		t.Errorf("%d fields, %v; want %d", len(s.Fields), err, 100-won)
	}
}

func testRevoke(t *testing.T, c *client, user string) {
	own := c.create(t, call{UserID: user}).ID
	other, otherKey := at.make(t, sessions.NewSession{UserID: user})
	stays, staysKey := at.make(t, sessions.NewSession{UserID: user})
	parsed, _ := sessions.ParseID(own)
	for id, key := range map[string]sessions.Key{own: parsed.Key(), other: otherKey} {
		if a := c.must(t, call{Do: "revoke", Key: string(key)}); !a.Ended {
			t.Error("it was not there")
		}
		if status := ask(t, "go", "required", "whoami", cookie(id)).StatusCode; status != http.StatusUnauthorized {
			t.Errorf("Envoy answers %d", status)
		}
		if a := c.must(t, call{Do: "revoke", Key: string(key)}); a.Ended {
			t.Error("it ends twice")
		}
	}
	if listed := at.redis.ZRange(t.Context(), "user-sessions:"+user, 0, -1).Val(); !slices.Equal(listed, []string{staysKey.Hash()}) {
		t.Errorf("listed are %v", listed)
	}
	at.verified(t, stays)
}

// testRevokeListed: a login has listed its session and will write it in a moment.
func testRevokeListed(t *testing.T, c *client, user string) {
	key := sessions.NewID().Key()
	at.redis.ZAdd(t.Context(), "user-sessions:"+user, redis.Z{Score: 1e15, Member: key.Hash()})
	if a := c.must(t, call{Do: "revoke", Key: string(key)}); a.Ended {
		t.Error("it was there")
	}
	if at.redis.ZScore(t.Context(), "user-sessions:"+user, key.Hash()).Err() != nil {
		t.Error("it is not listed any more: the next revocation of all would not find it")
	}
}

func testEnded(t *testing.T, c *client, user string) {
	at.make(t, sessions.NewSession{UserID: user})
	mark := c.must(t, call{Do: "begin", UserID: user})
	time.Sleep(5 * time.Millisecond) // as a login that looks at an account
	if out, err := at.Command("", "session", "revoke", "--all", "--user", user); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	a := c.do(t, call{Do: "create", UserID: user, Mark: mark.Mark})
	if a.Error != "ended" || a.ID != "" {
		t.Errorf("%q %s", a.Error, a.Text)
	}
	if list, _, err := at.manager.List(t.Context(), user); err != nil || len(list) != 0 {
		t.Errorf("%d sessions live, %v", len(list), err)
	}
}

// testEndedRace: a login that began before a revocation of all has no session when both
// are over.
func testEndedRace(t *testing.T, c *client, user string) {
	made := 0
	for i := range 60 {
		mark := c.must(t, call{Do: "begin", UserID: user})
		time.Sleep(2 * time.Millisecond)
		var both sync.WaitGroup
		var failed error
		both.Go(func() {
			time.Sleep(time.Duration(i) * 50 * time.Microsecond)
			_, failed = at.manager.RevokeUser(t.Context(), user)
		})
		a := c.do(t, call{Do: "create", UserID: user, Mark: mark.Mark})
		both.Wait()
		if failed != nil || a.Error != "" && a.Error != "ended" {
			t.Fatalf("%v, %s", failed, a.Text)
		}
		if a.Error == "" {
			made++
		}
		if list, _, err := at.manager.List(t.Context(), user); err != nil || len(list) != 0 {
			t.Fatalf("round %d: %d sessions live, %v", i, len(list), err)
		}
		if a.ID != "" && c.must(t, call{Do: "touch", ID: a.ID}).Session != nil {
			t.Fatalf("round %d: its session lives", i)
		}
	}
	t.Logf("%d of 60 logins were over before the revocation", made)
}

func testAfterEnded(t *testing.T, c *client, user string) {
	if _, err := at.manager.RevokeUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	id := c.create(t, call{UserID: user}).ID
	at.verified(t, id)
	if list, _, err := at.manager.List(t.Context(), user); err != nil || len(list) != 1 {
		t.Errorf("%d sessions live, %v", len(list), err)
	}
}

// testInterrupted: a login that dies behind any step leaves no session that a revocation
// does not find, and none that lasts.
func testInterrupted(t *testing.T, c *client, user string) {
	written := 0
	for _, command := range []string{"zadd", "hset", "hmget", "pexpireat"} {
		user := user + command
		mark := c.must(t, call{Do: "begin", UserID: user})
		if err := at.permit(c.login, "+"+command, ""); err != nil {
			t.Fatal(err)
		}
		a := c.do(t, call{Do: "create", UserID: user, Mark: mark.Mark})
		if err := at.permit(c.login, "", ""); err != nil {
			t.Fatal(err)
		}
		if a.Error == "" || a.ID != "" {
			t.Errorf("without %s a session is made", command)
		}
		listed := make(map[string]bool)
		for _, hash := range at.redis.ZRange(t.Context(), "user-sessions:"+user, 0, -1).Val() {
			listed[sessions.KeyPrefix+hash] = true
		}
		for _, key := range at.redis.Keys(t.Context(), sessions.KeyPrefix+"*").Val() {
			if at.redis.HGet(t.Context(), key, "user_id").Val() != user {
				continue
			}
			written++
			if !listed[key] {
				t.Errorf("without %s there is a session that is not listed", command)
			}
			if left := at.redis.PTTL(t.Context(), key).Val(); left < 0 || left > 5*time.Minute {
				t.Errorf("without %s a session is left for %v", command, left)
			}
		}
	}
	if written == 0 && c.language != "go" { // where the mark is read first, too
		t.Error("no login came to its record: the test would see nothing")
	}
}

// testEndRace: a session that was ended is never there again.
func testEndRace(t *testing.T, c *client, user string) {
	slid := 0
	for i := range 200 {
		id, key := at.make(t, sessions.NewSession{UserID: user})
		var failed error
		var both sync.WaitGroup
		both.Go(func() {
			time.Sleep(time.Duration(i) * 5 * time.Microsecond)
			failed = at.manager.Revoke(t.Context(), key)
		})
		if c.must(t, call{Do: "touch", ID: id}).Session != nil {
			slid++
		}
		both.Wait()
		if failed != nil || at.redis.Exists(t.Context(), string(key)).Val() != 0 {
			t.Fatalf("round %d: the session is there again; %v", i, failed)
		}
	}
	t.Logf("%d of 200 slides were before the end", slid)
	if n := at.redis.ZCard(t.Context(), "user-sessions:"+user).Val(); n != 0 {
		t.Errorf("%d sessions are listed", n)
	}
}

// TestErrorsHoldNoValues: no error, and no line that a client prints, holds an ID or a value,
// whichever command Redis refuses.
func TestErrorsHoldNoValues(t *testing.T) {
	for _, c := range at.clients {
		t.Run(c.language, func(t *testing.T) {
			user := "canary-user-" + c.language
			id := c.create(t, call{UserID: user, Username: "canary-name"}).ID
			parsed, _ := sessions.ParseID(id)
			it := call{
				UserID: user, Username: "canary-name", Roles: []string{"canary-role"}, Address: "canary-address", UserAgent: "canary-agent",
				ID: id, Key: string(parsed.Key()), Fields: map[string]string{"cart": "canary-value"}, Names: []string{"cart"},
			}
			// Each command refused in its turn, so that each pipeline and transaction fails.
			for _, command := range []string{"hset", "pexpireat", "zadd", "hmget", "pttl", "eval", "exists", "del", "zrem", "exec", "multi"} {
				for _, user := range []string{c.login, c.reader} {
					if err := at.permit(user, "+"+command, ""); err != nil {
						t.Fatal(err)
					}
				}
				for _, do := range []string{"begin", "create", "touch", "get", "add", "revoke"} {
					it.Do = do
					if a := c.do(t, it); a.Error != "" && a.Error != "unknown" && a.Error != "not_found" && a.Error != "exists" && a.Error != "ended" {
						t.Errorf("%s without %s: %q %s", do, command, a.Error, a.Text)
					}
				}
			}
			for _, user := range []string{c.login, c.reader} {
				if err := at.permit(user, "", ""); err != nil {
					t.Fatal(err)
				}
			}
			said := c.said.String() + c.stderr.String()
			if !strings.Contains(strings.ToUpper(said), "NOPERM") {
				t.Fatalf("nothing was refused: %s", said)
			}
			for _, secret := range []string{id, "canary"} {
				if at := strings.Index(said, secret); at >= 0 {
					t.Errorf("an error holds %q: %s", secret, said[max(0, at-300):min(len(said), at+200)])
				}
			}
		})
	}
}

// TestNodeHoldsNoValues: Node's own errors show a value of another type.
func TestNodeHoldsNoValues(t *testing.T) {
	program, err := node()
	if err != nil {
		t.Fatal(err)
	}
	const script = `
const { encode, checkFields } = require('./session-record');
const said = (run) => { try { run(); console.log('taken') } catch (error) { console.log(error.name, error.message) } };
for (const part of ['userId', 'username', 'address', 'userAgent']) said(() => encode({ userId: 'u', [part]: 424242 }, 0, 0));
said(() => encode({ userId: 'u', roles: [424242] }, 0, 0));
said(() => checkFields({ cart: 424242 }));
`
	cmd := exec.Command(program, "-e", script)
	cmd.Dir = filepath.Join(at.dir, "node", "dist")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "424242") || strings.Count(string(out), "RangeError ") != 6 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestNodeDays: what JavaScript takes for a date, and RFC 3339 does not.
func TestNodeDays(t *testing.T) {
	program, err := node()
	if err != nil {
		t.Fatal(err)
	}
	const script = `
const { decode } = require('./session-record');
for (const end of ['2027-02-28T23:00:00Z', '2027-02-28T24:00:00Z', '2027-02-29T01:00:00Z', '2027-02-30T01:00:00Z', '2027-02-32T01:00:00Z']) {
  const values = ['1', 'u', '', '[]', end].map((text) => Buffer.from(text));
  try { console.log(new Date(decode(values, 1000, Date.parse('2027-02-28T12:00:00Z')).expiresAt).toISOString()); } catch (error) { console.log(error.message); }
}`
	cmd := exec.Command(program, "-e", script)
	cmd.Dir = filepath.Join(at.dir, "node", "dist")
	out, err := cmd.CombinedOutput()
	if want := "2027-02-28T23:00:00.000Z\n" + strings.Repeat("a record breaks the layout\n", 4); err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
}

// asJSON is for messages.
func asJSON(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}
