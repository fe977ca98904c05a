package login

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

// unasked stands for users, sessions and counters that these tests do not ask.
type unasked struct {
	Sessions
	throttle.Counters
}

func (unasked) Authenticate(context.Context, string, string) (User, error) {
	return User{}, ErrBadCredentials
}

func minimal() Config { return Config{Users: unasked{}, Sessions: unasked{}, Counters: unasked{}} }

// TestNewNamesEveryMistake in one error.
func TestNewNamesEveryMistake(t *testing.T) {
	if _, err := New(minimal()); err != nil {
		t.Fatalf("the smallest configuration: %v", err)
	}
	_, err := New(Config{
		Cookie: sessions.Cookie{Insecure: true}, BasePath: "auth", ReturnOrigins: []string{"https://a.example/", "x"}, TrustedHops: -1, IdleTimeout: -1,
		Accent: "red", Logo: []byte("GIF89a"), Texts: map[string]string{"sing_in": "x"},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"users", "sessions", "counters", "__Host-", "base path", `"https://a.example/"`, `"x"`, "trusted hops", "idle timeout", "accent", "logo", "sing_in"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %s: %v", want, err)
		}
	}
	for name, change := range map[string]func(*Config){
		"a template that does not parse": func(c *Config) { c.Templates = fstest.MapFS{"login.html": {Data: []byte("{{")}} },
		"a template with a misspelt text": func(c *Config) {
			c.Templates = fstest.MapFS{"login.html": {Data: []byte(`{{define "main"}}{{.Text.sing_in}}{{end}}`)}}
		},
		"a template with a missing value": func(c *Config) { c.Templates = fstest.MapFS{"layout.html": {Data: []byte(`{{.Password}}`)}} },
		"a stylesheet that ends itself":   func(c *Config) { c.Templates = fstest.MapFS{"style.css": {Data: []byte("</Style><script>")}} },
		"a large logo":                    func(c *Config) { c.Logo = append([]byte("<svg"), make([]byte, maxLogo)...) },
		"no users":                        func(c *Config) { c.Users = nil },
		"many hops":                       func(c *Config) { c.TrustedHops, c.TrustUnix = 17, true },
		"hops without proxies":            func(c *Config) { c.TrustedHops = 1 },
		"a proxy that is none":            func(c *Config) { c.TrustedProxies = []netip.Prefix{{}} },
		"a proxy that is never seen so":   func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")} },
	} {
		c := minimal()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	c := minimal()
	c.Metrics = prometheus.NewRegistry()
	_, first := New(c)
	if _, second := New(c); first != nil || second == nil {
		t.Errorf("two on one registry: %v, %v", first, second)
	}
}

func TestValidateBasePath(t *testing.T) {
	for path, good := range map[string]bool{
		"/.auth/": true, "/a/b_c-d.e~f/": true, "/": false, "": false, "//": false, "/a": false, "a/": false, "/a//": false, "/a/../b/": false, "/a b/": false,
		"/ö/": false, "/a?/": false, "/a#/": false, "/a%20/": false, `/a"/`: false, "https://x/": false,
	} {
		if err := validateBasePath(path); (err == nil) != good {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// TestInsecureIsLoud: plain HTTP must be asked for, and is warned of.
func TestInsecureIsLoud(t *testing.T) {
	var log bytes.Buffer
	c := minimal()
	c.Cookie, c.Logger = sessions.Cookie{Name: "sid", Insecure: true}, slog.New(slog.NewTextHandler(&log, nil))
	if _, err := New(c); err != nil || !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("%v; the log says %q", err, log.String())
	}
}

func TestClientAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}
	for _, test := range []struct {
		hops       int
		connection string
		forwarded  []string
		want       string
	}{
		{0, "192.0.2.1:1234", nil, "192.0.2.1"},
		{0, "192.0.2.1:1234", []string{"198.51.100.1"}, "192.0.2.1"},
		{1, "192.0.2.1:1234", nil, "192.0.2.1"},
		{1, "192.0.2.1:1234", []string{"198.51.100.1"}, "198.51.100.1"},
		{1, "192.0.2.1:1234", []string{"10.0.0.1, 198.51.100.1"}, "198.51.100.1"},
		{1, "192.0.2.1:1234", []string{"10.0.0.1", "10.0.0.2,198.51.100.1"}, "198.51.100.1"},
		{1, "192.0.2.1:1234", []string{"198.51.100.1, "}, "192.0.2.1"},
		{1, "192.0.2.1:1234", []string{"198.51.100.1, unknown"}, "192.0.2.1"},
		{1, "192.0.2.1:1234", []string{"198.51.100.1:5678"}, "198.51.100.1"},
		{1, "192.0.2.1:1234", []string{"[2001:db8::1]:5678"}, "2001:db8::1"},
		{1, "192.0.2.1:1234", []string{"2001:db8::1%eth0"}, "2001:db8::1"},
		{1, "192.0.2.1:1234", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{1, "192.0.2.1:1234", []string{"198.51.100.01"}, "192.0.2.1"},
		{2, "192.0.2.1:1234", []string{"10.0.0.1, 198.51.100.1, 192.0.2.9"}, "198.51.100.1"},
		{2, "192.0.2.1:1234", []string{"10.0.0.1, 198.51.100.1, 203.0.113.1"}, "203.0.113.1"}, // who is no proxy is the client
		{2, "192.0.2.1:1234", []string{"203.0.113.1"}, "203.0.113.1"},
		{2, "192.0.2.1:1234", []string{"198.51.100.1, unknown"}, "192.0.2.1"},
		{2, "192.0.2.1:1234", []string{"unknown, 192.0.2.9"}, "192.0.2.9"},
		{3, "192.0.2.1:1234", []string{"198.51.100.1, 2001:db8:1::1, ::ffff:192.0.2.9"}, "198.51.100.1"},
		{16, "192.0.2.1:1234", []string{"203.0.113.1"}, "203.0.113.1"},
		{16, "192.0.2.1:1234", []string{"192.0.2.3, 192.0.2.2"}, "192.0.2.3"},
		// A peer that is not a trusted proxy is the client.
		{1, "192.0.3.1:1234", []string{"198.51.100.1"}, "192.0.3.1"},
		{1, "203.0.113.1:1234", []string{"198.51.100.1", "192.0.2.1"}, "203.0.113.1"},
		{2, "[2001:db8:2::1]:1234", []string{"198.51.100.1, 192.0.2.1"}, "2001:db8:2::1"},
		{1, "[2001:db8:1::1]:1234", []string{"198.51.100.1"}, "198.51.100.1"},
		{1, "[::ffff:192.0.2.1]:1234", []string{"198.51.100.1"}, "198.51.100.1"},
		{1, "@", []string{"203.0.113.1"}, ""},
		{0, "@", nil, ""},
		{0, "[fe80::1%eth0]:1", nil, "fe80::1"},
	} {
		h := &Handler{config: Config{TrustedHops: test.hops, TrustedProxies: proxies, Logger: slog.New(slog.DiscardHandler)}}
		r := &http.Request{RemoteAddr: test.connection, Header: http.Header{"X-Forwarded-For": test.forwarded}}
		if got := addressText(h.clientAddress(r)); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}

// TestUnixPeer: what connects over a Unix socket is a proxy where that was asked
// for, and alone then, too.
func TestUnixPeer(t *testing.T) {
	for _, trust := range []bool{false, true} {
		h := &Handler{config: Config{TrustedHops: 1, TrustUnix: trust, Logger: slog.New(slog.DiscardHandler)}}
		want := map[string]string{"@": "", "": "", "192.0.2.1:1": "192.0.2.1"}
		if trust {
			want["@"], want[""] = "198.51.100.1", "198.51.100.1"
		}
		for connection, want := range want {
			r := &http.Request{RemoteAddr: connection, Header: http.Header{"X-Forwarded-For": {"198.51.100.1"}}}
			if got := addressText(h.clientAddress(r)); got != want {
				t.Errorf("trusted: %v, from %q: %q, want %q", trust, connection, got, want)
			}
		}
	}
	c := minimal()
	c.TrustedHops, c.TrustUnix = 1, true
	if _, err := New(c); err != nil {
		t.Errorf("hops over a Unix socket: %v", err)
	}
}

// TestProxyAmiss: a peer that forwards in vain is named, once; and trust in every address is
// told.
func TestProxyAmiss(t *testing.T) {
	var log bytes.Buffer
	c := minimal()
	c.TrustedHops, c.TrustedProxies, c.Logger = 1, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, slog.New(slog.NewTextHandler(&log, nil))
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, connection := range []string{"10.0.0.1:1", "192.0.2.1:1", "192.0.2.2:1"} {
		h.clientAddress(&http.Request{RemoteAddr: connection, Header: http.Header{"X-Forwarded-For": {"198.51.100.1"}}})
	}
	h.clientAddress(&http.Request{RemoteAddr: "192.0.2.3:1"})
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "address=192.0.2.1") {
		t.Errorf("the log says %s", text)
	}
	log.Reset()
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("::/0")}
	if _, err := New(c); err != nil || !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("%v; the log says %q", err, log.String())
	}
}

// TestHSTS: two years unless told otherwise, and never beside a cookie for plain
// HTTP.
func TestHSTS(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"by itself": {func(*Config) {}, "max-age=63072000"},
		"a day":     {func(c *Config) { c.HSTS = 24 * time.Hour }, "max-age=86400"},
		"off":       {func(c *Config) { c.HSTS = -1 }, ""},
		"insecure":  {func(c *Config) { c.Cookie = sessions.Cookie{Name: "sid", Insecure: true} }, ""},
	} {
		c := minimal()
		test.change(&c)
		h, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		header := make(http.Header)
		h.protect(header)
		if got := header.Get("Strict-Transport-Security"); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestHopsAmiss: a proxy in front that is not configured.
func TestHopsAmiss(t *testing.T) {
	var log bytes.Buffer
	notices, err := notice.NewBoard(slog.New(slog.NewTextHandler(&log, nil)), nil, notice.TrustedHops)
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{notices: notices}
	for _, connection := range []string{"192.0.2.1:1", "127.0.0.1:1", "10.0.0.1:1"} {
		h.clientAddress(&http.Request{RemoteAddr: connection, Header: http.Header{"X-Forwarded-For": {"198.51.100.1"}}})
	}
	if n := strings.Count(log.String(), "trusted hops"); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
	for _, want := range []string{"login.trusted_hops=0", "address=127.0.0.1", "set login.trusted_hops to", "login.trusted_proxies"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s: %s", want, log.String())
		}
	}
}

func TestBrowserName(t *testing.T) {
	p := &pages{text: DefaultTexts()}
	const apple, gecko = " AppleWebKit/605.1.15 (KHTML, like Gecko) ", " Gecko/20100101 "
	for userAgent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:143.0)" + gecko + "Firefox/143.0":                                             "Firefox 143 on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64)" + apple + "Chrome/141.0.0.0 Safari/537.36":                            "Chrome 141 on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64)" + apple + "Chrome/141.0.0.0 Safari/537.36 Edg/141.0.3537.57":          "Edge 141 on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)" + apple + "Version/18.6 Safari/605.1.15":                        "Safari 18 on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X)" + apple + "Version/18.6 Mobile/15E148 Safari/604.1":      "Safari 18 on iPhone",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X)" + apple + "CriOS/141.0 Mobile/15E148 Safari/604.1":       "Chrome 141 on iPhone",
		"Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X)" + apple + "FxiOS/143.0 Mobile/15E148 Safari/605.1.15":             "Firefox 143 on iPad",
		"Mozilla/5.0 (Linux; Android 15; SM-S921B)" + apple + "SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36": "Samsung Internet 28 on Android",
		"Mozilla/5.0 (Linux; Android 10; K)" + apple + "Chrome/141.0.0.0 Mobile Safari/537.36 OPR/90.0.0.0":               "Opera 90 on Android",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0)" + apple + "Chrome/141.0.0.0 Safari/537.36":                             "Chrome 141 on ChromeOS",
		"curl/8.5.0": "curl 8", "okhttp/5.1.0": "okhttp", "Go-http-client/1.1": "Go-http-client", "python-requests/2.32 x": "python-requests", "": "Unknown browser", "  ": "Unknown browser", "Mozilla/5.0 (compatible; X/1)": "Unknown browser", "call.0800-5550123": "Unknown browser", "<b>x": "Unknown browser", strings.Repeat("x", 24): strings.Repeat("x", 24), strings.Repeat("x", 25): "Unknown browser",
		"Firefox/": "Firefox", strings.Repeat("ö", 5): "Unknown browser", "\u202eevil": "Unknown browser",
	} {
		if got := p.browserName(userAgent); got != want {
			t.Errorf("%q is %q, want %q", userAgent, got, want)
		}
	}
}

func TestUserAgent(t *testing.T) {
	for name, sent := range map[string]string{"long": strings.Repeat("a", 5000), "cut in a letter": "a" + strings.Repeat("ö", 2000), "no UTF-8": strings.Repeat("\xffx", 2000)} {
		got := userAgent(&http.Request{Header: http.Header{"User-Agent": {sent}}})
		if len(got) > sessions.MaxUserAgent || len(got) < sessions.MaxUserAgent-3 || !utf8.ValidString(got) {
			t.Errorf("%s: %d bytes, UTF-8 %v", name, len(got), utf8.ValidString(got))
		}
	}
}

func TestDurations(t *testing.T) {
	p := &pages{text: DefaultTexts()}
	for d, want := range map[time.Duration]string{
		time.Millisecond: "1 second", 30 * time.Second: "30 seconds", 2 * time.Minute: "120 seconds", 121 * time.Second: "3 minutes", 20 * time.Minute: "20 minutes", 3 * time.Hour: "3 hours", 72 * time.Hour: "3 days",
	} {
		if got := p.lasting(d); got != want {
			t.Errorf("%v lasts %s, want %s", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "just now", 59 * time.Second: "just now", 90 * time.Second: "2 minutes ago", 2 * time.Hour: "120 minutes ago", 12 * time.Hour: "12 hours ago"} {
		if got := p.ago(d); got != want {
			t.Errorf("%v was %s, want %s", d, got, want)
		}
	}
}

// TestLastUsed goes by the idle expiry and stays within the session's life.
func TestLastUsed(t *testing.T) {
	h := &Handler{config: Config{IdleTimeout: 30 * time.Minute}}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	created := now.Add(-time.Hour)
	for name, test := range map[string]struct{ idle, want time.Time }{
		"ten minutes ago":         {now.Add(20 * time.Minute), now.Add(-10 * time.Minute)},
		"just now, rounded up":    {now.Add(30*time.Minute + 40*time.Second), now},
		"at the absolute timeout": {now.Add(-40 * time.Minute), created},
		"unknown":                 {time.Time{}, created},
		"never since it was made": {created.Add(30 * time.Minute), created},
	} {
		if got := h.lastUsed(&sessions.Session{CreatedAt: created, IdleExpiresAt: test.idle}, now); !got.Equal(test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
