package policyfile

import (
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
	"github.com/coatcheck/coatcheck/internal/suggest"
)

// names records names that are used and not defined, or defined twice.
func (d *decoder) names(s *source) {
	known := make([]string, 0, len(s.named))
	lines := make(map[string]int)
	for _, p := range s.named {
		if first, twice := lines[p.Name]; twice && p.Name != "" {
			d.Wrong(p.line, "policy %s is defined on line %d already", strictyaml.Excerpt(p.Name), first)
		}
		lines[p.Name] = p.line
		known = append(known, p.Name)
	}
	used := func(line int, name string) {
		if _, ok := lines[name]; ok || name == "" {
			return
		}
		d.Wrong(line, "there is no policy %s%s", strictyaml.Excerpt(name), suggest.DidYouMean(name, known))
	}
	used(s.defaultLine, s.defaultPolicy)
	for _, r := range s.rules {
		used(r.line, r.Policy)
	}
	for _, t := range s.tests {
		used(t.Line, t.Expect.Policy)
	}
	if len(s.rules) > 0 && s.defaultPolicy == "" && s.defaultLine == 0 {
		d.Wrong(s.rules[0].line, "rules need a default_policy, for requests that no rule matches")
	}
}

// validate has extauthz look at what it alone understands, a part at a time, so
// that it is known which line it speaks of; then at all of it. Only a file
// without a mistake is analysed.
func (d *decoder) validate(s *source, f *File) error {
	if err := f.cfg.Validate(); err != nil {
		return err
	}
	d.About(s.refusalLine, extauthz.PolicySet{Refusal: s.refusal}.Validate(f.cfg))
	for _, p := range s.named {
		if p.Name != "" {
			d.About(p.line, p.Validate(f.cfg))
		}
	}
	for _, r := range s.rules {
		d.About(r.line, r.Validate())
	}
	if d.Count() == 0 {
		d.unreachable(s, f)
	}
	if d.Count() == 0 {
		d.About(1, f.Policies.Validate(f.cfg))
	}
	if d.Count() == 0 {
		f.unused(s)
		f.hidden(s)
		return f.bypassed(s)
	}
	return d.Err()
}
