package envoyconfig

import (
	"cmp"
	"maps"
	"slices"
	"strings"
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
	return w.filter.shows(name)
}

// shows reports whether a header of that name, in lower case, is sent to the service.
func (f *Filter) shows(name string) truth {
	result := yes
	if allowed := f.Config.Get("allowed_headers"); allowed.Exists() {
		result = oneOf(allowed, name)
	}
	return result.and(func() truth { return oneOf(f.Config.Get("disallowed_headers"), name).not(true) })
}

// Hides reports whether allowed_headers or disallowed_headers keep a header, named in
// lower case, from the service. It is false where that cannot be said.
func (f *Filter) Hides(name string) bool { return f.shows(name) == no }

// Drops reports whether a header of a client, named in lower case, never gets to
// filters: early_header_mutation_extensions remove it, or its underscores are refused.
func (m *Manager) Drops(name string) bool {
	removed, _ := m.mutates(name)
	switch m.Get("common_http_protocol_options", "headers_with_underscores_action").Text() {
	case "REJECT_REQUEST", "DROP_HEADER", "1", "2":
		return removed || strings.Contains(name, "_")
	}
	return removed
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
