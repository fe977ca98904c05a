package browser_test

import (
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// TestPlainHTTP goes to a name that is not this machine's, by plain http, where browsers
// drop the cookie and send no Sec-Fetch header. The page and the refusal say https, and no
// session is made.
func TestPlainHTTP(t *testing.T) {
	keepsPort := func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) { m.StripPortMode = nil })
	}
	for name, test := range map[string]struct {
		change func(*bootstrapv3.Bootstrap)
		says   []string
		code   string
	}{
		"port-stripped": {nil, []string{"https://", "strip_any_host_port"}, `"code":"hidden_port"`},
		"port-kept":     {keepsPort, []string{"https://", "over plain http"}, `"code":"plain_http"`},
	} {
		s := startBehind(t, test.change)
		b := open(t, s)
		b.front = strings.Replace(s.URL, "127.0.0.1", "shop.test", 1)
		b.shows(b.visit("/orders"), 200, "If the address of this page begins with http://, open it with https://")
		if secure := value[bool](b, "isSecureContext"); secure {
			t.Fatalf("%s is a secure context: the test shows nothing", b.front)
		}
		b.look("plain-http-hint-" + name)
		b.kept("plain-http-hint", "light", 390)
		status := b.signIn("lea", password)
		for _, text := range test.says {
			b.shows(status, 403, text)
		}
		if page := b.reads("body"); strings.Contains(page, "another site") {
			t.Errorf("%s: %s", name, page)
		}
		b.look("plain-http-" + name)
		b.kept("plain-http-"+name, "light", 1280)
		if cookies := b.cookies(); len(cookies) > 0 {
			t.Errorf("%s: %d cookies", name, len(cookies))
		}
		if count, err := s.Command("", "session", "count", "--username", "lea"); err != nil || !strings.HasPrefix(count, "sessions  0\n") {
			t.Errorf("%s: %v\n%s", name, err, count)
		}
		log := s.Coatcheck.Output()
		if !strings.Contains(log, test.code) || !strings.Contains(log, `"host":"shop.test`) || strings.Count(log, "may have come by plain http") != 1 {
			t.Errorf("%s: the log does not say so:\n%s", name, log)
		}
	}
}
