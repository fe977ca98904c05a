package envoyconfig

import (
	"cmp"
	"maps"
	"slices"
)

// Headers are the request headers that Envoy sends to the service of the way: those
// that early_header_mutation_extensions leave, and of these the ones that
// allowed_headers lets through and disallowed_headers does not hold back. Names are in
// lower case. Of those in open it cannot be said; they are not among the headers.
func (w *Way) Headers(of map[string]string) (sent map[string]string, open []string) {
	sent = make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(of)) {
		switch shown := w.shows(lower(name)); {
		case shown.open != "":
			open = append(open, lower(name))
		case shown.holds:
			sent[lower(name)] = of[name]
		}
	}
	return sent, open
}

func (w *Way) shows(name string) truth {
	if w.manager == nil || w.filter == nil {
		return yes
	}
	switch removed, open := w.manager.mutates(name); {
	case open:
		return undecided("early_header_mutation_extensions")
	case removed:
		return no
	}
	result := yes
	if allowed := w.filter.Config.Get("allowed_headers"); allowed.Exists() {
		result = oneOf(allowed, name)
	}
	return result.and(func() truth { return oneOf(w.filter.Config.Get("disallowed_headers"), name).not(true) })
}

// oneOf reports whether a name matches one of a ListStringMatcher.
func oneOf(list Value, name string) truth {
	open := ""
	for _, pattern := range list.Get("patterns").Items() {
		match := stringMatch(pattern, name)
		if match.holds {
			return yes
		}
		open = cmp.Or(open, match.open)
	}
	return truth{open: open}
}
