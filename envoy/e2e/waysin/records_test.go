package waysin_test

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// TestForgedRecords writes records as a program could that may write below
// session: and makes itself any user: one that would live forever, or longer than
// a session can, does not authenticate. One by the recipe of docs/sessions.md does: so
// the test would see a way in.
func TestForgedRecords(t *testing.T) {
	l := theLot(t)
	client := l.Redis.Client()
	defer client.Close()
	soon, late := time.Now().Add(time.Hour), time.Now().Add(40*24*time.Hour)
	for _, c := range []struct {
		name    string
		fields  map[string]string
		without []string
		ttl     time.Duration // 0: no end
		page    string
	}{
		{name: "by the recipe", ttl: time.Minute, page: "admin"},
		{name: "no end in Redis"},
		{name: "an end in forty days", fields: map[string]string{"expires_at": late.Format(time.RFC3339)}, ttl: time.Minute},
		{name: "an end in 2099", fields: map[string]string{"expires_at": "2099-01-01T00:00:00Z"}, ttl: time.Minute},
		{name: "neither", fields: map[string]string{"expires_at": "2099-01-01T00:00:00Z"}},
		{name: "an end that is no time", fields: map[string]string{"expires_at": "never"}, ttl: time.Minute},
		{name: "no end in the record", without: []string{"expires_at"}, ttl: time.Minute},
		{name: "an end that is over", fields: map[string]string{"expires_at": time.Now().Add(-time.Minute).Format(time.RFC3339)}, ttl: time.Minute},
		{name: "another layout", fields: map[string]string{"v": "2"}, ttl: time.Minute},
		{name: "no layout", without: []string{"v"}, ttl: time.Minute},
		{name: "no user", without: []string{"user_id"}, ttl: time.Minute},
		{name: "roles that are no list", fields: map[string]string{"roles": "admin"}, ttl: time.Minute},
		{name: "roles that are not text", fields: map[string]string{"roles": `[["admin"]]`}, ttl: time.Minute},
	} {
		id := sessions.NewID()
		roles, _ := json.Marshal([]string{"staff", "admin"})
		record := map[string]string{"v": "1", "user_id": "root", "roles": string(roles), "created_at": time.Now().Format(time.RFC3339), "expires_at": soon.Format(time.RFC3339)}
		maps.Copy(record, c.fields)
		for _, name := range c.without {
			delete(record, name)
		}
		key := string(id.Key())
		if err := client.HSet(t.Context(), key, record).Err(); err != nil {
			t.Fatal(err)
		}
		if c.ttl > 0 {
			client.PExpire(t.Context(), key, c.ttl)
		}
		for _, protocol := range protocols {
			s := l.sender(t, door{shipped, "tomcat"}, protocol)
			answer := s.client.send(get("forged records", "/admin", "Cookie: "+sessions.DefaultCookieName+"="+id.Reveal()))
			wrong := ""
			if answer.page() != "" && c.page == "" {
				wrong = "was served the page " + answer.page() + " by a record with " + c.name
			}
			s.count(anonymous, get("forged records", "/admin"), answer, wrong)
			if answer.page() != c.page {
				t.Errorf("a record with %s: served %q with status %d", c.name, answer.page(), answer.status)
			}
			s.client.close()
		}
	}
}
