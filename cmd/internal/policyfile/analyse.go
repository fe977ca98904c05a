package policyfile

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/extauthz"
)

func (f *File) warn(line int, format string, args ...any) {
	f.Warnings = append(f.Warnings, fmt.Sprintf("line %d: %s", line, fmt.Sprintf(format, args...)))
}

// unreachable finds rules that an earlier rule always matches first, host by host and
// method by method. A rule with another policy that is never asked is a mistake,
// because its author relies on it. A rule that would change nothing is a warning, and
// so is a rule of which a part is never asked.
func (d *decoder) unreachable(s *source, f *File) {
	beginnings := make([]string, len(s.rules))
	for j, r := range s.rules {
		beginnings[j] = beginning(r.Rule)
		parts, covered := pieces(r.Rule), 0
		var by ruleSource // the last that covers a part, preferably with another policy
		for _, part := range parts {
			for i, earlier := range s.rules[:j] {
				if !strings.HasPrefix(beginnings[j], beginnings[i]) || !earlier.Covers(part) {
					continue
				}
				if covered++; by.line == 0 || earlier.Policy != r.Policy {
					by = earlier
				}
				break
			}
		}
		same := by.Policy == r.Policy
		switch {
		case covered == 0 || covered < len(parts) && same:
		case covered < len(parts):
			f.warn(r.line, "for a part of its hosts and methods this rule is never asked: the one on line %d always matches first", by.line)
		case same:
			f.warn(r.line, "this rule changes nothing: the one on line %d always matches first, with the same policy", by.line)
		default:
			d.Wrong(r.line, "this rule is never asked: the one on line %d always matches first", by.line)
		}
	}
}

// beginning is the common beginning of all paths that the rule matches, decoded and in
// lower case. A rule covers another only if its own beginning is a prefix of the
// other's. To compare these first spares most of a million comparisons of rules.
func beginning(r extauthz.Rule) string {
	text, _, _ := strings.Cut(r.PathTemplate, "{")
	text, err := url.PathUnescape(r.Path + r.PathPrefix + text)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(text, "/"))
}

// pieces splits r into rules of one host and one method, or of any.
func pieces(r extauthz.Rule) []extauthz.Rule {
	single := func(list []string) [][]string {
		if len(list) == 0 {
			return [][]string{nil}
		}
		var singles [][]string
		for _, name := range list {
			singles = append(singles, []string{name})
		}
		return singles
	}
	var all []extauthz.Rule
	for _, hosts := range single(r.Hosts) {
		for _, methods := range single(r.Methods) {
			r.Hosts, r.Methods = hosts, methods
			all = append(all, r)
		}
	}
	return all
}

// unused finds policies that no rule, default or test of the file names.
func (f *File) unused(s *source) {
	used := map[string]bool{s.defaultPolicy: true}
	for _, r := range s.rules {
		used[r.Policy] = true
	}
	for _, t := range s.tests {
		used[t.Route.Policy] = true
	}
	for _, p := range s.named {
		if !used[p.Name] {
			f.warn(p.line, "no rule, default_policy or test names policy %s: it is there for routes alone, by coatcheck.policy", p.Name)
		}
	}
}

// hidden warns of conditions that hold because a header is absent. Coatcheck cannot
// know: the header may have come, and Envoy may have hidden it.
func (f *File) hidden(s *source) {
	for _, p := range s.named {
		c, ok := p.Condition.(interface{ AbsentHeaders() []string })
		if !ok {
			continue
		}
		for _, name := range c.AbsentHeaders() {
			f.warn(p.line, "the condition of policy %s can hold because header %s is absent: a client can leave it out, and Envoy's allowed_headers can hide it; ask for a value that it must have", p.Name, name)
		}
	}
}

// RequestHeaders lists, sorted, the request headers that Envoy must send to a server
// with these policies. A name that ends in * is a prefix.
func (f *File) RequestHeaders() []string {
	names := f.Policies.RequestHeaders()
	if f.cfg.Bearer {
		names = append(names, "authorization")
	}
	for i, name := range names {
		if strings.HasSuffix(name, "-") {
			names[i] = name + "*"
		}
	}
	slices.Sort(names)
	return names
}
