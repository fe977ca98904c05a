package extauthz

import "errors"

// A RuleList finds the rule that decides a request as a check does, without
// policies and sessions. It is safe for concurrent use.
type RuleList struct{ index ruleIndex }

// NewRuleList compiles rules, whose policies may be missing. Its error names every
// mistake.
func NewRuleList(list []Rule) (*RuleList, error) {
	rules := make([]rule, len(list))
	var errs []error
	for i, source := range list {
		compiled, err := source.compile()
		compiled.number = i + 1
		errs = append(errs, inside("rule "+source.String(), err))
		rules[i] = compiled
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &RuleList{newRuleIndex(rules)}, nil
}

// Find returns the number of the first rule that matches, from 1, or 0. Host and
// path are in normal form, as in [Input]. Of a path that rules which ignore letter
// case can read in two ways it reports so; a check refuses it.
func (l *RuleList) Find(method, host, path string) (number int, once bool) {
	found, once := l.index.find(method, host, path)
	if found == nil {
		return 0, once
	}
	return found.number, once
}

// Matches reports whether the rule of that number, from 1, matches a request as
// [RuleList.Find] takes it, whichever rules stand before it.
func (l *RuleList) Matches(number int, method, host, path string) bool {
	return l.index.rules[number-1].mismatch(method, host, path, foldNarrow(path)) == ""
}
