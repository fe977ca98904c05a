package policyfile

import "github.com/coatcheck/coatcheck/extauthz"

// names notes down names that are used and not defined, or defined twice.
func (d *decoder) names(s *source) {
	known := make([]string, 0, len(s.named))
	lines := make(map[string]int)
	for _, p := range s.named {
		if first, twice := lines[p.Name]; twice && p.Name != "" {
			d.wrong(p.line, "policy %s is defined on line %d already", shown(p.Name), first)
		}
		lines[p.Name] = p.line
		known = append(known, p.Name)
	}
	used := func(line int, name string) {
		if _, ok := lines[name]; ok || name == "" {
			return
		}
		d.wrong(line, "there is no policy %s%s", shown(name), didYouMean(name, known))
	}
	used(s.defaultLine, s.defaultPolicy)
	for _, r := range s.rules {
		used(r.line, r.Policy)
	}
	for _, t := range s.tests {
		used(t.Line, t.Expect.Policy)
	}
	if len(s.rules) > 0 && s.defaultPolicy == "" && s.defaultLine == 0 {
		d.wrong(s.rules[0].line, "rules need a default_policy, for what none of them matches")
	}
}

// validate has extauthz look at what it alone understands, a part at a time, so
// that it is known which line it speaks of; then at all of it. Only a file
// without a mistake is analysed.
func (d *decoder) validate(s *source, f *File) error {
	if err := f.answers.Validate(); err != nil {
		return err
	}
	d.about(s.refusalLine, extauthz.PolicySet{Refusal: s.refusal}.Validate(f.answers))
	for _, p := range s.named {
		if p.Name != "" {
			d.about(p.line, p.Validate(f.answers))
		}
	}
	for _, r := range s.rules {
		d.about(r.line, r.Validate())
	}
	if len(d.mistakes) == 0 {
		d.unreachable(s, f)
	}
	if len(d.mistakes) == 0 {
		d.about(1, f.Policies.Validate(f.answers))
	}
	if len(d.mistakes) == 0 {
		f.unused(s)
		f.hidden(s)
		return f.bypassed(s)
	}
	return d.err()
}
