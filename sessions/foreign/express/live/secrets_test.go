package live_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSecrets: the session ID, which is also the name of a record, its signature, the
// secret, and the user's name are in no log, metric or answer of Coatcheck's, and in no
// log of Envoy's, however the request ends. The handle is.
func TestSecrets(t *testing.T) {
	t.Parallel()
	talkative := settings[slices.IndexFunc(settings, func(s setting) bool { return s.name == "rolling" })]
	talkative.arguments = append([]string{"--log-level", "debug"}, talkative.arguments...)
	v, a := runs(t, talkative)
	p := v.signIn(t, a, ada)
	text := new(strings.Builder)
	see := func(path, cookie string, status int) {
		w := send(t, v.URL, a.name, "GET "+path, cookie).came(t, status)
		if status != http.StatusOK { // an answer of Coatcheck's
			fmt.Fprintf(text, "%v %s\n", w.header, w.body)
		}
	}
	see("/echo", p.cookie, http.StatusOK)
	see("/echo", p.cookie+"x", http.StatusUnauthorized)
	see("/echo", p.cookie+"; "+p.cookie, http.StatusUnauthorized)
	see("/echo/admin", v.signIn(t, a, "uid=7&name=bob&roles=user").cookie, http.StatusForbidden)
	record := v.value(t, p)
	if !strings.Contains(record, `"userId":42`) {
		t.Fatalf("the record is %s", record)
	}
	for _, broken := range []string{"", record[:len(record)-2], strings.Replace(record, `"userId":42`, `"userId":[42]`, 1), record + p.sid} {
		v.set(t, p.key, broken, time.Hour)
		see("/echo", p.cookie, http.StatusUnauthorized)
	}
	v.redis.Del(t.Context(), p.key)
	must(t, v.redis.RPush(t.Context(), p.key, "x").Err())
	see("/echo", p.cookie, http.StatusUnauthorized)
	v.redis.Del(t.Context(), p.key)
	see("/echo", p.cookie, http.StatusUnauthorized)
	v.link.Cut()
	see("/echo", p.cookie, http.StatusServiceUnavailable)
	v.link.Heal()

	text.Write(send(t, v.Operator, "", "GET /metrics", "").body)
	text.WriteString(v.Coatcheck.Output())
	text.WriteString(v.Envoy.Output())
	sum := sha256.Sum256([]byte(p.sid))
	if !strings.Contains(text.String(), base64.RawURLEncoding.EncodeToString(sum[:])[:12]) {
		t.Error("the handle is not in the log: does the test see it?")
	}
	mac := signed(p.sid, "new secret")[len("s:"+p.sid+"."):]
	for what, secret := range map[string]string{
		"the session ID": p.sid[:16], "the signature": mac[:20], "the signature, encoded": url.QueryEscape(mac)[:20], "a secret": "keyboard", "the user's name": "Löwe", "the user's name, encoded": "L%C3%B6we",
	} {
		if at := strings.Index(text.String(), secret); at >= 0 {
			t.Errorf("%s is out: %s", what, text.String()[max(0, at-200):min(text.Len(), at+60)])
		}
	}
}
