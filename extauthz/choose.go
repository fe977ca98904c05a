package extauthz

import (
	"fmt"
	"maps"
	"slices"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical"
	"github.com/coatcheck/coatcheck/internal/suggest"
)

// A choice is the policy for a request, and what led to it.
type choice struct {
	policy *policy
	by     chosenBy
	rule   *compiledRule // that matched
	target target
}

// A chosenBy says what chose a policy.
type chosenBy int

const (
	byNone chosenBy = iota // the plain policy
	byRoute
	byRule
	byDefault
)

var chosenByNames = [...]string{byNone: "", byRoute: "route", byRule: "rule", byDefault: "default"}

func (b chosenBy) String() string { return chosenByNames[b] }

// A target is host and path in normal form, as rules and conditions read them. It is
// empty until one of them asks.
type target struct{ host, path string }

// read finds the normal form of host and path, or returns why r has none.
func (t *target) read(r *request) Reason {
	if t.host != "" {
		return holds // read already
	}
	var ok bool
	if t.path, ok = canonical.Path(r.path); !ok {
		return NoncanonicalPath
	}
	if t.host, ok = canonical.Host(r.host); !ok {
		return BadHost
	}
	return holds
}

// An unknownPolicyError is that a route names a policy that there is not. Its text is
// only made where it is read.
type unknownPolicyError struct {
	name string
	in   *policies
}

func (e *unknownPolicyError) Error() string {
	known := slices.Sorted(maps.Keys(e.in.named))
	near := ""
	if len(e.name) <= 64 {
		near = suggest.DidYouMean(e.name, known)
	}
	if known == nil {
		near = "; there are no policies at all"
	}
	return fmt.Sprintf("there is no policy %.64q%s", e.name, near)
}

// choose finds the policy for a request whose route names one, or "". A refusal
// comes with the plain policy, unless the route's is known. Every route has its path
// checked; rules are asked only about a path and a host that have one reading.
func (p *policies) choose(r *request, name string, paths Paths) (choice, Reason) {
	chosen := choice{policy: p.plain}
	if name != "" {
		named, ok := p.named[name]
		if !ok {
			return chosen, UnknownPolicy
		}
		chosen = choice{policy: named, by: byRoute}
	}
	if !r.makesSense() {
		return chosen, BadRequest
	}
	if !paths.admit(r.path) {
		return chosen, NoncanonicalPath
	}
	if name != "" || p.fallback == nil {
		return chosen, holds
	}
	if len(p.ruled) > 0 {
		return p.chooseByRule(r)
	}
	return choice{policy: p.fallback, by: byDefault}, holds
}

// chooseByRule finds the policy of the first rule that matches, or else the default.
func (p *policies) chooseByRule(r *request) (choice, Reason) {
	chosen := choice{policy: p.plain}
	if reason := chosen.target.read(r); reason != holds {
		return chosen, reason
	}
	number, once := p.rules.Find(r.method, chosen.target.host, chosen.target.path)
	if !once {
		return chosen, NoncanonicalPath
	}
	if number > 0 {
		rule := &p.ruled[number-1]
		return choice{policy: rule.policy, by: byRule, rule: rule, target: chosen.target}, holds
	}
	return choice{policy: p.fallback, by: byDefault, target: chosen.target}, holds
}
