package policyfile

import (
	"errors"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// maxBytes bounds a file; thousands of rules fit.
const maxBytes = 4 << 20

// A File is a policy file without a mistake.
type File struct {
	Policies extauthz.PolicySet
	Tests    []Test
	Warnings []string // one line each, which begins with the line in the file
	Text     []byte   // the file as it was read

	cfg extauthz.Config
}

// Open loads the policy file of a server with the given configuration and runs its
// tests; one that fails is a mistake. Its error names the file and every mistake.
func Open(path string, cfg extauthz.Config) (*File, error) {
	text, err := Read(path)
	if err != nil {
		return nil, Mistakes(path, err)
	}
	return Try(path, text, cfg)
}

// Try is [Open] for a text at hand.
func Try(path string, text []byte, cfg extauthz.Config) (*File, error) {
	f, err := Parse(text, cfg)
	if err == nil {
		err = f.tested()
	}
	if err == nil {
		return f, nil
	}
	return nil, Mistakes(path, err)
}

// Mistakes adds the file to an error, and the number of mistakes if there are several.
func Mistakes(path string, err error) error {
	return strictyaml.Mistakes(strictyaml.Quote(path), err)
}

// tested names the tests that fail.
func (f *File) tested() error {
	failures, err := f.RunTests()
	errs := []error{err}
	for _, failure := range failures {
		errs = append(errs, failure)
	}
	return errors.Join(errs...)
}

// Load reads the policy file of a server with the given configuration, whose headers
// the policies name, and does not run its tests. Its error names every mistake, one a
// line, and not the file.
func Load(path string, cfg extauthz.Config) (*File, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(text, cfg)
}

// Read returns the contents of a file that may be one of policies. Its error does not
// name the file.
func Read(path string) ([]byte, error) { return strictyaml.ReadFile(path, maxBytes) }

// Parse is [Load] for a text at hand.
func Parse(text []byte, cfg extauthz.Config) (*File, error) {
	cfg.Logger, cfg.Metrics = nil, nil
	d := new(decoder)
	parsed := new(source)
	if root := d.Document(text); root != nil {
		d.file(root, parsed)
	} else if d.Count() == 0 {
		d.Wrong(1, "it is empty")
	}
	f := &File{Policies: parsed.policies(), Tests: parsed.tests, Text: text, cfg: cfg}
	d.names(parsed)
	if err := d.validate(parsed, f); err != nil {
		return nil, err
	}
	return f, nil
}

// server is a server with the file's policies, for the tests of the file.
func (f *File) server() (*extauthz.Server, error) {
	server, err := extauthz.New(noSessions{}, f.cfg)
	if err != nil {
		return nil, err
	}
	return server, server.SetPolicies(f.Policies)
}
