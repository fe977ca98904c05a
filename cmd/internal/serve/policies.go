package serve

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/policyfile"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/filewatch"
)

// policyPart keeps checks on the policy file as it was when it was last without a
// mistake.
type policyPart struct {
	*process
	file *policyFile // nil: no policy file
}

// read reads the policy file, if one is configured. At start a mistake ends the
// process, because an operator is there to mend it.
func (p *policyPart) read(context.Context) (err error) {
	if p.config.PolicyFile == "" {
		return nil
	}
	p.file, err = openPolicies(p.config.PolicyFile, p.config.ExtAuthz())
	return config.About(err, "policy_file")
}

// start has checks use the policies, and their changes from then on.
func (p *policyPart) start(authorization *extauthz.Server) error {
	if p.file == nil {
		return nil
	}
	p.file.set = authorization.SetPolicies
	if err := p.file.set(p.file.inUse.Policies); err != nil {
		return config.About(err, "policy_file")
	}
	p.logInUse("policies are in use")
	hangups := p.hangups()
	p.running.Go(func() { p.file.watch(p.background, reloadEvery, hangups, p.report) })
	return nil
}

func (p *policyPart) report(err error) {
	p.metrics.reloaded(policySource, err)
	if err != nil {
		p.logger.Error("the policy file cannot be used; the policies as they were before stay in use", "error", shortened(err.Error()))
		return
	}
	p.logInUse("changed policies are in use")
}

func (p *policyPart) logInUse(message string) {
	f := p.file.inUse
	p.logger.Info(message, "file", p.file.path, "policies", len(f.Policies.Policies), "rules", len(f.Policies.Rules), "tests", len(f.Tests))
	for _, warning := range f.Warnings {
		p.logger.Warn("policy file: " + warning)
	}
}

// A policyFile is the policy file of checks.
type policyFile struct {
	path  string
	cfg   extauthz.Config
	set   func(extauthz.PolicySet) error // hands a whole file to checks
	inUse *policyfile.File
}

func openPolicies(path string, cfg extauthz.Config) (*policyFile, error) {
	file, err := policyfile.Open(path, cfg)
	if err != nil {
		return nil, err
	}
	return &policyFile{path: path, cfg: cfg, inUse: file}, nil
}

func (p *policyFile) read() ([]byte, error) {
	text, err := policyfile.Read(p.path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	return text, nil
}

// use takes a file's text into use. After an error the policies of before stay.
func (p *policyFile) use(text []byte) error {
	file, err := policyfile.Try(p.path, text, p.cfg)
	if err == nil {
		err = p.set(file.Policies)
	}
	if err == nil {
		p.inUse = file
	}
	return err
}

// watch takes changes of the file into use until ctx is done: see package filewatch.
func (p *policyFile) watch(ctx context.Context, interval time.Duration, now <-chan os.Signal, report func(error)) {
	filewatch.Watch(ctx, filewatch.Config{Interval: interval, Now: now, InUse: p.inUse.Text, Read: p.read, Use: p.use, Report: report})
}

// shortened keeps of many mistakes as many as fit in a line of the log.
func shortened(text string) string {
	const enough = 20
	lines := strings.Split(text, "\n")
	if len(lines) <= enough {
		return text
	}
	return strings.Join(lines[:enough], "\n") + "\n  ..."
}
