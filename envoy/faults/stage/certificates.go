package stage

import (
	"os"
	"path/filepath"

	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// certificates are the files of a stage with TLS. Both sides show one.
type certificates struct {
	ca, foreign *testca.CA
	// Redis's and Coatcheck's; each side believes the authorities of its own file.
	server, client pems
}

type pems struct{ cert, key, ca string }

func (s *Stage) pems(name string) pems {
	return pems{filepath.Join(s.dir, name+".pem"), filepath.Join(s.dir, name+"-key.pem"), filepath.Join(s.dir, name+"-ca.pem")}
}

func (s *Stage) writeCertificates() (err error) {
	c := &certificates{server: s.pems("redis"), client: s.pems("coatcheck")}
	s.certificates = c
	if c.ca, err = testca.New(); err != nil {
		return err
	}
	if c.foreign, err = testca.New(); err != nil {
		return err
	}
	for _, p := range []pems{c.server, c.client} {
		if err := c.ca.Write(p.ca); err != nil {
			return err
		}
		if err := c.ca.Issue(p.cert, p.key, testca.Leaf{}); err != nil {
			return err
		}
	}
	return nil
}

// serverTLS is nil where nothing speaks TLS.
func (s *Stage) serverTLS() *redistest.TLS {
	if !s.o.TLS {
		return nil
	}
	at := s.certificates.server
	return &redistest.TLS{CertFile: at.cert, KeyFile: at.key, CAFile: at.ca, ClientCerts: true}
}

// remember returns a function that puts files back as they are now.
func remember(paths ...string) (back func() error, err error) {
	texts := make([]string, len(paths))
	for i, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		texts[i] = string(text)
	}
	return func() error {
		for i, path := range paths {
			if err := replace(path, texts[i]); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
