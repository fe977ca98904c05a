package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTracingMistakes: what cannot work is refused, and a token travels in the clear
// only on this machine.
func TestTracingMistakes(t *testing.T) {
	for text, why := range map[string]string{
		"{endpoint: collector:4317}":                                            "",
		"{endpoint: '127.0.0.1:4317', headers_file: h}":                         "",
		"{endpoint: 'unix:///run/collector', headers_file: h}":                  "",
		"{endpoint: 'c:4317', headers_file: h, tls: {enabled: true}}":           "",
		"{endpoint: collector}":                                                 "neither host:port nor unix",
		"{endpoint: 'http://collector:4317'}":                                   "neither host:port nor unix",
		"{endpoint: 'user:secret@collector:4317'}":                              "without a user or a password",
		"{endpoint: 'c:4317', headers_file: h}":                                 "without TLS",
		"{endpoint: 'c:4317', sample: -1}":                                      "not between",
		"{endpoint: 'c:4317', tls: {ca_file: x}}":                               "it is false",
		"{endpoint: 'c:4317', tls: {enabled: true, cert_file: x}}":              "it also needs",
		"{endpoint: 'unix:///run/collector', tls: {enabled: true}}":             "speaks no TLS",
		"{endpoint: 'c:4317', tls: {enabled: true, key_file: x}, sample: many}": "not a whole number",
	} {
		path := filepath.Join(t.TempDir(), "coatcheck.yaml")
		if err := os.WriteFile(path, []byte("redis: {addresses: [a:1]}\ntracing: "+text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Check(path)
		if why == "" && err != nil || why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("%s: %v, want %q", text, err, why)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTracingHeaders(t *testing.T) {
	c := &Config{TracingHeadersFile: filepath.Join(t.TempDir(), "headers")}
	for text, want := range map[string]string{
		"Authorization: Bearer a:b\r\n\n# x\nX-Tenant:c": "", "": "",
		"authorization Bearer secret":        "line 1",
		"a: b\nauthorization: secret\x00":    "line 2",
		"a: b\nauthorization:":               "line 2",
		"gr\u00fc\u00dfe: secret":            "line 1",
		"grpc-timeout: secret":               "line 1",
		"token-bin: secret":                  "line 1",
		": secret":                           "line 1",
		"a: " + strings.Repeat("b", 100_000): "too long",
	} {
		if err := os.WriteFile(c.TracingHeadersFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		headers, err := c.TracingHeaders()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
		if text != "" && want == "" && (headers["authorization"] != "Bearer a:b" || headers["x-tenant"] != "c" || len(headers) != 2) {
			t.Errorf("%v", headers)
		}
	}
	c.TracingHeadersFile += ".gone"
	if _, err := c.TracingHeaders(); err == nil || !strings.Contains(err.Error(), "tracing.headers_file") {
		t.Errorf("%v", err)
	}
}
