package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
)

// tracingKeys are about where spans go.
func (c *Config) tracingKeys() []key {
	return []key{
		{name: "tracing.endpoint", value: text(&c.TracingEndpoint, ""), common: true,
			usage: "host:port or unix:///path of an OpenTelemetry collector that takes spans (OTLP over gRPC); empty: no " +
				"spans"},
		{name: "tracing.sample", value: integer(&c.TracingSample, 0),
			usage: "of the requests that come without a trace, one in this many begins one; 0: none. Of the others Envoy " +
				"has decided whether the trace is recorded"},
		{name: "tracing.headers_file", value: file(&c.TracingHeadersFile),
			usage: "file with headers for the collector, such as a token, a line each (name: value); read again for each " +
				"export"},
		{name: "tracing.tls.enabled", value: boolean(&c.TracingTLS, false), usage: "use TLS to the collector"},
		{name: "tracing.tls.ca_file", value: file(&c.TracingTLSFiles.CAFile),
			usage: "authorities (PEM) that sign the collector's certificate; read again when it changes; empty: the " +
				"system's"},
		{name: "tracing.tls.cert_file", value: file(&c.TracingTLSFiles.CertFile),
			usage: "certificate (PEM) to present to the collector (mTLS); read again when it changes"},
		{name: "tracing.tls.key_file", value: file(&c.TracingTLSFiles.KeyFile),
			usage: "private key (PEM) of tracing.tls.cert_file"},
		{name: "tracing.tls.server_name", value: text(&c.TracingTLSServerName, ""),
			usage: "name that the collector's certificate must bear; empty: the host of its address"},
	}
}

func (c *Config) validateTracing() []error {
	errs := []error{
		between("tracing.sample", c.TracingSample, 0, 1<<20),
		together("tracing.tls.cert_file", c.TracingTLSFiles.CertFile, "tracing.tls.key_file", c.TracingTLSFiles.KeyFile),
	}
	if !c.TracingTLS && (c.TracingTLSFiles != tlsfiles.Files{} || c.TracingTLSServerName != "") {
		errs = append(errs, About(errors.New("it is false, but other tracing.tls keys are set"), "tracing.tls.enabled"))
	}
	if c.TracingEndpoint == "" {
		return errs
	}
	errs = append(errs, address("tracing.endpoint", c.TracingEndpoint))
	unix := strings.HasPrefix(c.TracingEndpoint, unixScheme)
	if unix && c.TracingTLS {
		errs = append(errs, About(errors.New("a Unix socket speaks no TLS"), "tracing.endpoint", "tracing.tls.enabled"))
	}
	if c.TracingHeadersFile != "" && !c.TracingTLS && !unix && !loopback(c.TracingEndpoint) {
		errs = append(errs, About(errors.New("without TLS an attacker on the way could read the headers"), "tracing.headers_file", "tracing.tls.enabled"))
	}
	return errs
}

// loopback reports whether host:port is on this machine.
func loopback(hostPort string) bool {
	host, _, _ := net.SplitHostPort(hostPort)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// TracingHeaders reads the headers for the collector. Names are in lower case, as gRPC
// has them. An error names the file and the line, and never what they hold.
func (c *Config) TracingHeaders() (map[string]string, error) {
	if c.TracingHeadersFile == "" {
		return nil, nil
	}
	f, err := os.Open(c.TracingHeadersFile)
	if err != nil {
		return nil, About(err, "tracing.headers_file")
	}
	defer func() { _ = f.Close() }()
	headers, err := readHeaders(f)
	if err != nil {
		return nil, About(fmt.Errorf("%s: %w", c.TracingHeadersFile, err), "tracing.headers_file")
	}
	return headers, nil
}

// readHeaders reads headers, a line each. Empty lines and those that begin with # do not
// count, and of a name that stands twice the last line does.
func readHeaders(from io.Reader) (map[string]string, error) {
	headers := make(map[string]string)
	lines := bufio.NewScanner(from)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value); !ok || !headerName(name) || !visible(value) {
			return nil, fmt.Errorf("line %d is not a header (name: value)", n)
		}
		headers[name] = value
	}
	return headers, lines.Err()
}

// headerName reports whether gRPC lets a caller send a header of this name as text.
func headerName(name string) bool {
	odd := func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_.", r) }
	return name != "" && !strings.ContainsFunc(name, odd) && !strings.HasPrefix(name, "grpc-") && !strings.HasSuffix(name, "-bin")
}

func visible(value string) bool {
	return value != "" && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' })
}
