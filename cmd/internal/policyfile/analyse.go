package policyfile

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/extauthz"
)

func (f *File) warn(line int, format string, args ...any) {
	f.Warnings = append(f.Warnings, fmt.Sprintf("line %d: %s", line, fmt.Sprintf(format, args...)))
}

// unreachable finds rules that an earlier one always matches first, host by host
// and method by method. One with a policy of its own that is never asked is a
// mistake: somebody relies on it. One that would change nothing is a warning, as
// is one of which a part is never asked.
func (d *decoder) unreachable(s *source, f *File) {
	beginnings := make([]string, len(s.rules))
	for j, r := range s.rules {
		beginnings[j] = beginning(r.Rule)
		parts, covered := pieces(r.Rule), 0
		var by ruleSource // the last that covers a part, rather one of another policy
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
			d.wrong(r.line, "this rule is never asked: the one on line %d always matches first", by.line)
		}
	}
}

// beginning is what every path that the rule matches begins with, decoded: a rule
// can cover another only where its own is the shorter one. To compare it first
// spares most of a million comparisons of whole rules.
func beginning(r extauthz.Rule) string {
	text, _, _ := strings.Cut(r.PathTemplate, "{")
	text, err := url.PathUnescape(r.Path + r.PathPrefix + text)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(text, "/")
}

// pieces are rules of one host and one method, or any, that are together r.
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

// unused finds policies that nothing in the file names.
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

// dodges finds rules that a client could get around by a request that many
// upstreams take for the same: with a slash more or less at the end, or with HEAD
// for GET. It asks the server about one request of each rule, and about its twin.
func (f *File) dodges(server *extauthz.Server, s *source) {
	for i, r := range s.rules {
		sample := sampleOf(r.Rule)
		if f.chosen(server, sample).rule != i+1 {
			continue // an earlier rule takes it
		}
		twins := []Request{sample, sample}
		twins[0].Path = otherSlash(sample.Path)
		if sample.Method == "GET" {
			twins[1].Method = "HEAD"
		}
		for _, twin := range twins {
			got := f.chosen(server, twin)
			if twin.Path == "" || f.atLeast(got.policy, r.Policy) {
				continue
			}
			f.warn(r.line, "this rule lets %s %s past, to policy %s: many upstreams take it for %s %s",
				twin.Method, twin.Path, got.policy, sample.Method, sample.Path)
		}
	}
}

// A chosen policy is what the server decides a request by.
type chosen struct {
	policy string
	rule   int // from 1; 0: none
}

func (f *File) chosen(server *extauthz.Server, r Request) chosen {
	explanation, err := server.Explain(context.Background(), r.CheckRequest(nil), extauthz.WithSession(nil, nil))
	if err != nil || explanation.Rule == nil {
		return chosen{policy: explanation.Policy}
	}
	return chosen{explanation.Policy, explanation.Rule.Number}
}

// sampleOf is a request that the rule matches.
func sampleOf(r extauthz.Rule) Request {
	sample := Request{Method: "GET", Host: "host.example", Path: "/"}
	if len(r.Hosts) > 0 {
		sample.Host = strings.Replace(r.Hosts[0], "*", "any", 1)
	}
	if len(r.Methods) > 0 {
		sample.Method = r.Methods[0]
		if slices.Contains(r.Methods, "GET") {
			sample.Method = "GET"
		}
	}
	switch {
	case r.Path != "":
		sample.Path = escaped(r.Path)
	case r.PathPrefix != "":
		sample.Path = escaped(r.PathPrefix)
	case r.PathTemplate != "":
		segments := strings.Split(r.PathTemplate, "/")
		for i, segment := range segments {
			if strings.HasPrefix(segment, "{") {
				segments[i] = "0"
			}
		}
		sample.Path = escaped(strings.Join(segments, "/"))
	}
	return sample
}

// otherSlash is the path with a slash more or less at its end; "" for "/".
func otherSlash(path string) string {
	if path == "/" {
		return ""
	}
	if shorter, ok := strings.CutSuffix(path, "/"); ok {
		return shorter
	}
	return path + "/"
}

// atLeast reports whether one policy asks for no less than another: the same one
// does, and, where the other asks for no more than a session, one that asks for
// no less.
func (f *File) atLeast(name, than string) bool {
	return name == than || f.demand(than) <= f.demand(name) && f.demand(than) < special
}

const special = 3

// demand ranks policies; what a special one asks for cannot be compared.
func (f *File) demand(name string) int {
	i := slices.IndexFunc(f.Policies.Policies, func(p extauthz.Policy) bool { return p.Name == name })
	if i < 0 {
		return 0
	}
	switch p := f.Policies.Policies[i]; {
	case p.Shadow:
		return 0
	case p.AnyRole != nil || p.AllRoles != nil || p.Condition != nil || p.Origins != nil:
		return special
	case p.Session == "none":
		return 0
	case p.Session == "optional":
		return 1
	}
	return 2
}
