package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/policyfile"
	"github.com/coatcheck/coatcheck/extauthz"
)

// policies are what checks go by of the policy file: its contents as they were
// when they were last without a mistake.
type policies struct {
	path    string
	answers extauthz.Config
	set     func(extauthz.PolicySet) error // hands a whole file to the checks
	file    *policyfile.File

	inUse   []byte // the contents that checks go by
	seen    []byte // those of the last look
	refused []byte // those that cannot be used, and have been tried
	failing bool   // what is there now cannot be used
	told    string // the error that has been reported
}

// openPolicies reads the file at start, when a mistake is still somebody's to
// mend.
func openPolicies(path string, answers extauthz.Config) (*policies, error) {
	file, err := policyfile.Open(path, answers)
	if err != nil {
		return nil, err
	}
	return &policies{path: path, answers: answers, file: file, inUse: file.Text}, nil
}

// reload takes the file up as it is now, and tells whether that changed anything.
// After an error what was in use before stays.
func (p *policies) reload() (changed bool, err error) {
	text, err := policyfile.Read(p.path)
	if err != nil {
		return false, fmt.Errorf("%s: %w", p.path, err)
	}
	return p.take(text)
}

func (p *policies) take(text []byte) (changed bool, err error) {
	if bytes.Equal(text, p.inUse) {
		p.refused = nil
		return false, nil
	}
	file, err := policyfile.Try(p.path, text, p.answers)
	if err == nil {
		err = p.set(file.Policies)
	}
	if err != nil {
		p.refused = text
		return false, err
	}
	p.file, p.inUse, p.refused = file, text, nil
	return true, nil
}

// errNotYet is a look's that has nothing to say.
var errNotYet = errors.New("nothing to say of the file at this look")

// look is a reload for a file that may be in the middle of being written: half of
// a list of rules is a list of rules, too. So contents count when two looks in a
// row find them. What could not be used is not tried again.
func (p *policies) look() (changed bool, err error) {
	text, err := policyfile.Read(p.path)
	if err != nil {
		err = fmt.Errorf("%s: %w", p.path, err)
		text = []byte(err.Error())
	}
	again := bytes.Equal(text, p.seen)
	p.seen = text
	switch {
	case !again && !bytes.Equal(text, p.inUse):
		return false, errNotYet
	case err != nil:
		return false, err
	case p.refused != nil && bytes.Equal(text, p.refused):
		return false, errNotYet
	}
	return p.take(text)
}

// watch takes up changes of the file until ctx is done: each interval, and at once
// whenever something comes from now. It calls report when the file has changed
// (nil), also back to what is in use, and when it can no longer be used, once for
// each error.
func (p *policies) watch(ctx context.Context, interval time.Duration, now <-chan os.Signal, report func(error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		step := p.look
		select {
		case <-ctx.Done():
			return
		case <-now:
			step, p.told = p.reload, "" // whoever asks is told again
		case <-ticker.C:
		}
		if changed, err := guarded(step); !errors.Is(err, errNotYet) {
			p.tell(changed, err, report)
		}
	}
}

// guarded makes an error of a panic: a file that shows a bug ends no process that
// has good policies.
func guarded(step func() (changed bool, err error)) (changed bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			changed, err = false, fmt.Errorf("a bug in reading it: panic of type %T", p)
		}
	}()
	return step()
}

// tell reports what came of a step, unless it is nothing new.
func (p *policies) tell(changed bool, err error, report func(error)) {
	switch {
	case err == nil && (changed || p.failing):
		p.failing, p.told = false, ""
		report(nil)
	case err != nil && err.Error() != p.told:
		p.failing, p.told = true, err.Error()
		report(err)
	}
}

// readPolicies reads the policy file, if there is one.
func (s *server) readPolicies(context.Context) (err error) {
	if s.config.PolicyFile == "" {
		return nil
	}
	s.policies, err = openPolicies(s.config.PolicyFile, s.config.ExtAuthz())
	return config.About(err, "policy_file")
}

// usePolicies has checks go by the policies, and by their changes from then on. A
// SIGHUP makes it look at once.
func (s *server) usePolicies(authorization *extauthz.Server) error {
	if s.policies == nil {
		return nil
	}
	s.policies.set = authorization.SetPolicies
	if err := s.policies.set(s.policies.file.Policies); err != nil {
		return config.About(err, "policy_file")
	}
	s.sayPolicies("policies are in use")
	s.running.Go(func() {
		s.policies.watch(s.background, reloadEvery, s.hangups, func(err error) {
			s.metrics.reloaded(policySource, err)
			if err != nil {
				s.logger.Error("the policy file cannot be used; the policies as they were before stay in use", "error", shortened(err.Error()))
				return
			}
			s.sayPolicies("changed policies are in use")
		})
	})
	return nil
}

func (s *server) sayPolicies(what string) {
	f := s.policies.file
	s.logger.Info(what, "file", s.config.PolicyFile, "policies", len(f.Policies.Policies), "rules", len(f.Policies.Rules), "tests", len(f.Tests))
	for _, warning := range f.Warnings {
		s.logger.Warn("policy file: " + warning)
	}
}

// shortened leaves of many mistakes as many as fit in a line of the log.
func shortened(text string) string {
	const enough = 20
	lines := strings.Split(text, "\n")
	if len(lines) <= enough {
		return text
	}
	return strings.Join(lines[:enough], "\n") + "\n  ..."
}
