package doctor

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// A Finding is something unsafe in one place.
type Finding struct {
	ID       ID       `json:"id"`
	Severity Severity `json:"severity"`
	// File is what was read: a file, a URL without its password, or - for standard
	// input. Line and Column count from 1; they are 0 in JSON.
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Path is the place as a JSON path; in a file with several documents, below one
	// of them, which begins with its kind and name.
	Path string `json:"path"`
	// What is wrong, and Here, which is what stands there.
	What   string `json:"what"`
	Here   string `json:"here"`
	Why    string `json:"why"`
	Source string `json:"source"`
	Cure   string `json:"cure"`
}

// A document is one of those that a source holds.
type document struct {
	file string
	name string // of an object of Kubernetes: its kind and name; a text in a ConfigMap adds where it stands
	root envoyconfig.Value
}

// A place is a value in a document.
type place struct {
	*document
	value envoyconfig.Value
}

// at is a place in the document; where the value is not there, the first of the others
// that is.
func (d *document) at(value envoyconfig.Value, others ...envoyconfig.Value) place {
	for _, other := range append(others, d.root) {
		if !value.Exists() {
			value = other
		}
	}
	return place{d, value}
}

// maxFindings bounds a report: a mesh's dump can repeat one mistake ten thousand times.
const maxFindings = 1000

// A spot is a finding whose path is not looked up yet.
type spot struct {
	id    ID
	place place
	here  string
}

// A notebook collects spots.
type notebook struct {
	spots []spot
	left  int // that were found beyond maxFindings
}

// add notes a finding, once for each place and text.
func (n *notebook) add(id ID, at place, here string, args ...any) {
	s := spot{id, at, fmt.Sprintf(here, args...)}
	switch {
	case slices.Contains(n.spots, s):
	case len(n.spots) >= maxFindings:
		n.left++
	default:
		n.spots = append(n.spots, s)
	}
}

// findings looks up where the spots are, and orders them by file and line.
func (n *notebook) findings() []Finding {
	byDocument := make(map[*document][]int)
	for i, s := range n.spots {
		byDocument[s.place.document] = append(byDocument[s.place.document], i)
	}
	found := make([]Finding, len(n.spots))
	for d, indexes := range byDocument {
		values := make([]envoyconfig.Value, len(indexes))
		for i, index := range indexes {
			values[i] = n.spots[index].place.value
		}
		for i, path := range envoyconfig.Paths(d.root, values) {
			found[indexes[i]] = n.spots[indexes[i]].finding(path)
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Path, b.Path))
	})
	return found
}

func (s spot) finding(path string) Finding {
	rule := ruleOf(s.id)
	if name := s.place.name; name != "" && path != "" {
		path = name + ": " + path
	} else {
		path = cmp.Or(name, path, "the whole")
	}
	return Finding{
		ID: s.id, Severity: rule.Severity,
		File: s.place.file, Line: s.place.value.Line(), Column: s.place.value.Column(), Path: path,
		What: rule.What, Here: s.here, Why: rule.Why, Source: rule.From, Cure: rule.Cure,
	}
}
