package rules

import (
	"errors"
	"fmt"
)

// A List is compiled rules. It is safe for concurrent use.
type List struct {
	rules  []rule
	narrow segmentIndex
	wide   *segmentIndex // nil where no rule ignores letter case
	beyond bool          // a rule that ignores it has letters beyond ASCII
}

// Compile makes rules ready to be searched. Its error names every mistake, a line for
// each, with the number and the words of its rule.
func Compile(list []Rule) (*List, error) {
	rules := make([]rule, len(list))
	var errs []error
	for i, source := range list {
		compiled, err := source.compile()
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %d: %s: %w", i+1, source, err))
		}
		compiled.number = i + 1
		rules[i] = compiled
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return index(rules), nil
}

func index(rules []rule) *List {
	list := &List{rules: rules}
	wide := make([]rule, len(rules))
	folds := false
	for i, r := range rules {
		if r.path.folded {
			folds = true
			list.beyond = list.beyond || !ascii(r.path.text())
			r.path = r.wide
		}
		wide[i] = r
	}
	if !folds {
		list.narrow = newSegmentIndex(rules, exact)
		return list
	}
	list.narrow = newSegmentIndex(rules, foldNarrow)
	list.wide = new(newSegmentIndex(wide, foldWide))
	return list
}

// Find returns the number of the first rule that matches, from 1, or 0. Host and
// path are in normal form, as a condition gets them. Of a path for which the letters
// beyond ASCII decide which rule that is, Find reports that it can be read in two
// ways (once is false), and the number means nothing. It allocates nothing but to
// fold.
func (l *List) Find(method, host, path string) (number int, once bool) {
	number = l.narrow.find(method, host, path)
	if l.wide != nil && (l.beyond || !ascii(path)) && l.wide.find(method, host, path) != number {
		return 0, false
	}
	return number, true
}

// Mismatch returns which part of a request the rule of that number, from 1, does not
// match: path, host or method, and "" if it matches all. The rules before it do not
// count. The request is as for [List.Find].
func (l *List) Mismatch(number int, method, host, path string) string {
	return l.rules[number-1].mismatch(method, host, path, foldNarrow(path))
}
