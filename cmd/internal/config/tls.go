package config

import (
	"strings"

	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
)

// AboutTLS adds to an error of tlsfiles the keys of the files that it names. The
// section is tls, login.tls, api.tls, redis.tls or tracing.tls.
func AboutTLS(err error, section string, f tlsfiles.Files) error {
	if err == nil {
		return nil
	}
	authorities := section + ".client_ca_file"
	if section == "redis.tls" || section == "tracing.tls" { // whose other side is a server
		authorities = section + ".ca_file"
	}
	names, text := []string(nil), " "+err.Error()
	for _, file := range []struct{ name, path string }{
		{section + ".cert_file", f.CertFile}, {section + ".key_file", f.KeyFile}, {authorities, f.CAFile},
	} {
		if file.path != "" && (strings.Contains(text, " "+file.path+":") || strings.Contains(text, " "+file.path+" ")) {
			names = append(names, file.name)
		}
	}
	if names == nil {
		names = []string{section}
	}
	return About(err, names...)
}
