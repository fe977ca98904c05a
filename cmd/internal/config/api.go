package config

import (
	"errors"
	"math"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/sessions/api"
)

// apiKeys are about the session API.
func (c *Config) apiKeys() []key {
	return []key{
		{name: "api.listen", value: text(&c.APIListen, ""), common: true,
			usage: "address of the session API (gRPC, gRPC-Web and JSON): host:port or unix:///path; empty: not served"},
		{name: "api.callers_file", value: file(&c.APICallersFile), common: true,
			usage: "YAML file of the services that may call, with their rights; read again when it, or a token file " +
				"that it names, changes; required with api.listen"},
		{name: "api.tls.cert_file", value: file(&c.APITLS.CertFile), common: true,
			usage: "certificate chain (PEM) of the session API; read again when it changes; empty: plaintext, on this " +
				"machine alone or with api.plaintext"},
		{name: "api.tls.key_file", value: file(&c.APITLS.KeyFile), usage: "private key (PEM) of api.tls.cert_file"},
		{name: "api.tls.client_ca_file", value: file(&c.APITLS.CAFile), common: true,
			usage: "authorities (PEM) that sign callers' certificates (mTLS); read again when it changes; empty: callers " +
				"have tokens alone"},
		{name: "api.client_names", value: list(&c.APIClientNames),
			usage: "DNS names or URIs (SPIFFE IDs); a client's certificate must bear one of them, or the connection is " +
				"refused; needs api.tls.client_ca_file; empty: a client may present no certificate, and is then known " +
				"by its token"},
		{name: "api.plaintext", value: boolean(&c.APIPlaintext, false),
			usage: "serve the session API without TLS to other machines, too, where an attacker on the way can read " +
				"tokens and sessions: only in a mesh that encrypts"},
		{name: "api.timeout", value: duration(&c.APITimeout, api.DefaultTimeout),
			usage: "time that a call may wait for Redis; then it is UNAVAILABLE"},
		{name: "api.max_in_flight", value: integer(&c.APIMaxInFlight, api.DefaultMaxInFlight),
			usage: "calls at the same time, without the streams of Watch; a caller may have half of them; further ones are " +
				"RESOURCE_EXHAUSTED at once"},
		{name: "api.max_message_bytes", value: integer(&c.APIMaxMessageBytes, api.DefaultMaxMessageBytes),
			usage: "largest message of a caller, in bytes"},
		{name: "api.max_header_bytes", value: integer(&c.APIMaxHeaderBytes, 16<<10),
			usage: "largest list of headers of one call, in bytes"},
		{name: "api.max_streams", value: integer(&c.APIMaxStreams, 256),
			usage: "concurrent calls on one connection"},
		{name: "api.max_connections", value: integer(&c.APIMaxConnections, 1024),
			usage: "concurrent connections; further ones are closed at once"},
		{name: "api.max_watched", value: integer(&c.APIMaxWatched, api.DefaultMaxWatched),
			usage: "sessions that all streams of Watch may name together, about 250 bytes each; a caller may name half of " +
				"them; further streams are RESOURCE_EXHAUSTED"},
	}
}

func (c *Config) validateAPI() []error {
	errs := []error{
		between("api.timeout", c.APITimeout, time.Millisecond, time.Minute),
		between("api.max_in_flight", c.APIMaxInFlight, 1, 1<<20),
		between("api.max_message_bytes", c.APIMaxMessageBytes, 1<<10, 16<<20),
		between("api.max_header_bytes", c.APIMaxHeaderBytes, 4<<10, 1<<20),
		between("api.max_streams", c.APIMaxStreams, 1, math.MaxUint16),
		between("api.max_watched", c.APIMaxWatched, 10_000, 100_000_000),
		between("api.max_connections", c.APIMaxConnections, 1, math.MaxUint16),
		together("api.tls.cert_file", c.APITLS.CertFile, "api.tls.key_file", c.APITLS.KeyFile),
	}
	mistake := func(why string, names ...string) { errs = append(errs, About(errors.New(why), names...)) }
	if c.APITLS.CAFile != "" && c.APITLS.CertFile == "" {
		mistake("without TLS no client presents a certificate", "api.tls.client_ca_file", "api.tls.cert_file")
	}
	if len(c.APIClientNames) > 0 && c.APITLS.CAFile == "" {
		mistake("it also needs "+inFull("api.tls.client_ca_file"), "api.client_names")
	}
	if c.APIListen == "" {
		return errs
	}
	errs = append(errs, address("api.listen", c.APIListen))
	if c.APICallersFile == "" {
		mistake("no caller is named, so that no service could call", "api.callers_file")
	}
	unix := strings.HasPrefix(c.APIListen, unixScheme)
	if c.APITLS.CertFile == "" && !unix && !loopback(c.APIListen) && !c.APIPlaintext {
		mistake("without TLS an attacker on the way could read tokens and sessions; in a mesh that encrypts, set "+inFull("api.plaintext"), "api.tls.cert_file")
	}
	return errs
}
