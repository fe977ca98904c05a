package extauthz

import "strings"

// A ruleIndex finds the rules that a path can match by its first segment, so that
// a gateway before many services does not ask the rules of all of them. It keeps
// their order: the first that matches in a list is the first that matches.
type ruleIndex struct {
	bySegment map[string][]*rule // those of this first segment, and the open ones
	open      []*rule            // those that any first segment can match
}

func newRuleIndex(rules []rule) ruleIndex {
	index := ruleIndex{bySegment: make(map[string][]*rule)}
	for i := range rules {
		rule := &rules[i]
		first, literal := rule.path.first()
		if !literal {
			index.open = append(index.open, rule)
			for first, list := range index.bySegment {
				index.bySegment[first] = append(list, rule)
			}
			continue
		}
		list, found := index.bySegment[first]
		if !found {
			list = append(list, index.open...)
		}
		index.bySegment[first] = append(list, rule)
	}
	return index
}

// find returns the first rule that matches a request in normal form, or nil. It
// allocates nothing.
func (index ruleIndex) find(method, host, path string) *rule {
	first, _, _ := strings.Cut(path[1:], "/")
	rules, found := index.bySegment[first]
	if !found {
		rules = index.open
	}
	for _, rule := range rules {
		if rule.mismatch(method, host, path) == "" {
			return rule
		}
	}
	return nil
}
