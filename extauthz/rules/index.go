package rules

import "strings"

// A segmentIndex finds the rules that a path can match by its first segment, so
// that a gateway before many services does not ask the rules of all of them. It
// keeps their order: the first that matches in a list is the first that matches.
type segmentIndex struct {
	fold      folding
	bySegment map[string][]*rule // of this first segment, folded, and the open ones
	open      []*rule            // that any first segment can match
}

func newSegmentIndex(rules []rule, fold folding) segmentIndex {
	index := segmentIndex{fold: fold, bySegment: make(map[string][]*rule)}
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
		first = fold(first)
		list, found := index.bySegment[first]
		if !found {
			list = append(list, index.open...)
		}
		index.bySegment[first] = append(list, rule)
	}
	return index
}

// find returns the number of the first rule that matches, or 0.
func (index *segmentIndex) find(method, host, path string) int {
	folded := index.fold(path)
	first, _, _ := strings.Cut(folded[1:], "/")
	rules, found := index.bySegment[first]
	if !found {
		rules = index.open
	}
	for _, rule := range rules {
		if rule.mismatch(method, host, path, folded) == "" {
			return rule.number
		}
	}
	return 0
}
