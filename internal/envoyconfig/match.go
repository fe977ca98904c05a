package envoyconfig

import (
	"fmt"
	"slices"
	"strings"
)

// maxClauses is more than a match has in any version of Envoy.
const maxClauses = 64

// matches reports whether a request takes a route, as far as the configuration
// decides it.
func (m *Manager) matches(match Value, r *Request) truth {
	result := yes
	names := match.Names()
	if len(names) > maxClauses {
		return undecided(fmt.Sprintf("the match has %d fields", len(names)))
	}
	for _, name := range names {
		result = result.and(func() truth { return m.clause(name, match, r) })
		if result == no {
			return no
		}
	}
	return result
}

// clause is one part of a match; all of them must hold.
func (m *Manager) clause(name string, match Value, r *Request) truth {
	v := match.Get(name)
	sensitive := !match.Get("case_sensitive").Exists() || match.Get("case_sensitive").Bool()
	path := m.pathToMatch(r)
	switch name {
	case "case_sensitive":
		return yes
	case "prefix":
		return decided(!r.connect() && hasPrefix(path, v.Text(), sensitive))
	case "path":
		return decided(!r.connect() && equal(path, v.Text(), sensitive))
	case "path_separated_prefix":
		return decided(!r.connect() && hasSegments(path, v.Text(), sensitive))
	case "safe_regex":
		if r.connect() {
			return no
		}
		return fullMatch(v, path)
	case "path_match_policy":
		return pathPolicy(v, withoutQuery(r.Path)) // with its parameters, whatever the routes ignore
	case "connect_matcher":
		return decided(r.connect())
	case "headers":
		return m.all(v, func(h Value) truth { return m.header(h, r) })
	case "query_parameters":
		return m.all(v, func(q Value) truth { return queryParameter(q, r.Path) })
	case "grpc":
		return m.grpc(r)
	case "runtime_fraction":
		return fraction("runtime_fraction", v)
	}
	return undecided("the match has " + clean(name))
}

func (m *Manager) all(list Value, holds func(Value) truth) truth {
	result := yes
	for _, item := range list.Items() {
		result = result.and(func() truth { return holds(item) })
	}
	return result
}

// pathToMatch is the path without its query, and where the routes ignore parameters,
// without those of each segment.
func (m *Manager) pathToMatch(r *Request) string {
	path := withoutQuery(r.Path)
	if !strings.Contains(path, ";") || !m.Routes.Get("ignore_path_parameters_in_path_matching").Bool() {
		return path
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i], _, _ = strings.Cut(segment, ";")
	}
	return strings.Join(segments, "/")
}

func withoutQuery(path string) string {
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		return path[:end]
	}
	return path
}

func hasPrefix(path, prefix string, sensitive bool) bool {
	return len(path) >= len(prefix) && equal(path[:len(prefix)], prefix, sensitive)
}

func equal(a, b string, sensitive bool) bool {
	return a == b || !sensitive && lower(a) == lower(b)
}

// hasSegments is a prefix that ends where a segment of the path does.
func hasSegments(path, prefix string, sensitive bool) bool {
	return hasPrefix(path, prefix, sensitive) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// grpc is what Envoy takes for a gRPC request.
func (m *Manager) grpc(r *Request) truth {
	value, _, open := m.headerOf("content-type", r)
	if open != "" {
		return undecided(open)
	}
	rest, ok := strings.CutPrefix(value, "application/grpc")
	return decided(ok && (rest == "" || rest[0] == '+'))
}

// fraction is a RuntimeFractionalPercent, which the runtime can override by its key.
func fraction(what string, v Value) truth {
	share, of := v.Get("default_value", "numerator").Int(), int64(100)
	switch v.Get("default_value", "denominator").Text() {
	case "TEN_THOUSAND", "1":
		of = 10_000
	case "MILLION", "2":
		of = 1_000_000
	}
	key := v.Get("runtime_key").Text()
	switch {
	case key != "":
		return undecided(fmt.Sprintf("%s: the runtime key %s decides, with %d of %d as its default", what, clean(key), share, of))
	case share >= of:
		return yes
	case share <= 0:
		return no
	}
	return undecided(fmt.Sprintf("%s: chance decides, with %d of %d", what, share, of))
}

// header is one HeaderMatcher.
func (m *Manager) header(h Value, r *Request) truth {
	name := lower(h.Get("name").Text())
	value, there, open := m.headerOf(name, r)
	if open != "" {
		return undecided(open)
	}
	inverted, asEmpty := h.Get("invert_match").Bool(), h.Get("treat_missing_header_as_empty").Bool()
	if wanted, ok := presence(h); ok {
		if !there && asEmpty {
			return undecided("header " + clean(name) + " is matched by its presence, and taken for an empty one")
		}
		return decided(there == wanted).not(inverted)
	}
	if !there && !asEmpty {
		return no // also where the match is inverted
	}
	return headerValue(h, value).not(inverted)
}

// presence reports whether a matcher asks only if the header is there, and what for.
func presence(h Value) (wanted, asked bool) {
	if v := h.Get("present_match"); v.Exists() {
		return v.Bool(), true
	}
	for _, name := range h.Names() {
		if !slices.Contains([]string{"name", "invert_match", "treat_missing_header_as_empty"}, name) {
			return false, false
		}
	}
	return true, true
}

// headerValue compares a header's value.
func headerValue(h Value, value string) truth {
	for _, name := range h.Names() {
		v := h.Get(name)
		switch name {
		case "name", "invert_match", "treat_missing_header_as_empty":
		case "string_match":
			return stringMatch(v, value)
		case "exact_match":
			return decided(value == v.Text())
		case "prefix_match":
			return decided(strings.HasPrefix(value, v.Text()))
		case "suffix_match":
			return decided(strings.HasSuffix(value, v.Text()))
		case "contains_match":
			return decided(strings.Contains(value, v.Text()))
		case "safe_regex_match":
			return fullMatch(v, value)
		case "range_match":
			return inRange(v, value)
		default:
			return undecided("a header is matched by " + clean(name))
		}
	}
	return yes
}

// queryParameter is one QueryParameterMatcher. Envoy decodes neither name nor value,
// and takes the first of several.
func queryParameter(q Value, path string) truth {
	value, there := firstParameter(path, q.Get("name").Text())
	switch {
	case q.Get("string_match").Exists():
		if !there {
			return no
		}
		return stringMatch(q.Get("string_match"), value)
	case q.Get("present_match").Exists() && !q.Get("present_match").Bool():
		return undecided("a query parameter is matched by present_match: false")
	}
	return decided(there)
}

func firstParameter(path, name string) (value string, there bool) {
	_, query, _ := strings.Cut(path, "?")
	query, _, _ = strings.Cut(query, "#")
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(pair, "="); pair != "" && key == name {
			return value, true
		}
	}
	return "", false
}
