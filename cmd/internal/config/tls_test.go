package config

import (
	"errors"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
)

func TestAboutTLS(t *testing.T) {
	f := tlsfiles.Files{CertFile: "a.crt", KeyFile: "a.key", CAFile: "ca.crt"}
	for _, test := range []struct{ section, err, want string }{
		{"tls", "open a.crt: gone", "tls.cert_file (COATCHECK_TLS_CERT_FILE, --tls-cert-file): open a.crt: gone"},
		{"tls", "ca.crt: bad", "tls.client_ca_file (COATCHECK_TLS_CLIENT_CA_FILE, --tls-client-ca-file): ca.crt: bad"},
		{"redis.tls", "ca.crt: bad", "redis.tls.ca_file (COATCHECK_REDIS_TLS_CA_FILE, --redis-tls-ca-file): ca.crt: bad"},
		{"redis.tls", "a.crt and a.key: bad", "redis.tls.cert_file (COATCHECK_REDIS_TLS_CERT_FILE, --redis-tls-cert-file), " +
			"redis.tls.key_file (COATCHECK_REDIS_TLS_KEY_FILE, --redis-tls-key-file): a.crt and a.key: bad"},
		{"login.tls", "ca.crt: bad", "login.tls.client_ca_file (COATCHECK_LOGIN_TLS_CLIENT_CA_FILE, --login-tls-client-ca-file): ca.crt: bad"},
		{"tls", "bad", "tls: bad"},
	} {
		cause := errors.New(test.err)
		if err := AboutTLS(cause, test.section, f); err.Error() != test.want || !errors.Is(err, cause) {
			t.Errorf("%v, want %s", err, test.want)
		}
	}
	if AboutTLS(nil, "tls", f) != nil || About(nil, "listen") != nil {
		t.Error("nothing is about something")
	}
}
