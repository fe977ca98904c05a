package policyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/coatcheck/coatcheck/extauthz"
)

// maxBytes bounds a file: thousands of rules are in it.
const maxBytes = 4 << 20

// A File is what a policy file holds, without a mistake.
type File struct {
	Policies extauthz.PolicySet
	Tests    []Test
	Warnings []string // one line each, which begins with the line in the file
	Text     []byte   // the file as it was read

	answers extauthz.Config
}

// Open is what a server and whoever reviews a file do: load it, run its tests, and
// take one that fails for a mistake. Its error names the file.
func Open(path string, answers extauthz.Config) (*File, error) {
	text, err := Read(path)
	if err != nil {
		return nil, Mistakes(path, err)
	}
	return Try(path, text, answers)
}

// Try is [Open] of a text at hand.
func Try(path string, text []byte, answers extauthz.Config) (*File, error) {
	f, err := Parse(text, answers)
	if err == nil {
		err = f.tested()
	}
	if err == nil {
		return f, nil
	}
	return nil, Mistakes(path, err)
}

// Mistakes says in which file they are, and counts them where they are several.
func Mistakes(path string, err error) error {
	mistakes := strings.Split(err.Error(), "\n")
	if len(mistakes) == 1 {
		return fmt.Errorf("%s: %w", shown(path), err)
	}
	return fmt.Errorf("%s has %d mistakes:\n  %s", shown(path), len(mistakes), strings.Join(mistakes, "\n  "))
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

// Load reads the policy file of a server with the given configuration, whose
// headers the policies name. Its error names every mistake, a line each.
func Load(path string, answers extauthz.Config) (*File, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(text, answers)
}

// Read returns the contents of a file that may be one of policies.
func Read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(text) > maxBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxBytes)
	}
	return text, nil
}

// cause is what the system says, without the call and the path.
func cause(err error) error {
	if errors.Is(err, syscall.EISDIR) {
		return errors.New("it is a directory")
	}
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// Parse is [Load] of a text at hand.
func Parse(text []byte, answers extauthz.Config) (*File, error) {
	answers.Logger, answers.Metrics = nil, nil
	d := new(decoder)
	parsed := new(source)
	if root := d.document(text); root != nil {
		d.file(root, parsed)
	} else if len(d.mistakes) == 0 {
		d.wrong(1, "it is empty")
	}
	f := &File{Policies: parsed.policies(), Tests: parsed.tests, Text: text, answers: answers}
	d.names(parsed)
	if err := d.validate(parsed, f); err != nil {
		return nil, err
	}
	return f, nil
}

// server is one with the file's policies, that nobody but tests asks.
func (f *File) server() (*extauthz.Server, error) {
	server, err := extauthz.New(nobody{}, f.answers)
	if err != nil {
		return nil, err
	}
	return server, server.SetPolicies(f.Policies)
}
