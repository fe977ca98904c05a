package envoyconfig

import (
	"slices"
	"strings"
)

// A Request is what a client sends, as far as routes look at it.
type Request struct {
	// Scheme is http or https, and "" where it is not known.
	Scheme string
	// Method is as it came; "" stands for GET.
	Method string
	// Host may have a port, and Path a query.
	Host, Path string
	// Headers are by their names in lower case. A header that is not there was not
	// sent.
	Headers map[string]string
	// Hidden names, in lower case, headers of which it is not known whether they came,
	// and with which value.
	Hidden []string
}

func (r *Request) connect() bool { return r.Method == "CONNECT" }

// headerOf returns the value of a header as routes see it. What Envoy itself sets or
// changes before, and what is hidden, is open.
func (m *Manager) headerOf(name string, r *Request) (value string, there bool, open string) {
	switch name {
	case ":method":
		return r.Method, true, ""
	case ":authority", "host":
		return r.Host, true, ""
	case ":path":
		return r.Path, true, ""
	case ":scheme":
		return r.Scheme, true, openIf(r.Scheme == "", "the request's scheme is not given")
	}
	if slices.Contains(r.Hidden, name) || setByEnvoy(name) {
		return "", false, "header " + clean(name) + " is not known"
	}
	switch removed, open := m.mutates(name); {
	case open:
		return "", false, "header " + clean(name) + " may be changed by early_header_mutation_extensions"
	case removed:
		return "", false, ""
	}
	value, there = r.Headers[name]
	return value, there, ""
}

func openIf(open bool, on string) string {
	if open {
		return on
	}
	return ""
}

// setByEnvoy reports whether a connection manager sets a header, or takes it from
// clients that are not trusted, before it chooses a route.
func setByEnvoy(name string) bool {
	return strings.HasPrefix(name, "x-envoy-") || strings.HasPrefix(name, "x-forwarded-") ||
		slices.Contains([]string{"x-request-id", "via", "user-agent", "x-b3-traceid"}, name)
}

const headerMutationType = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"

// mutates says what becomes of a header before routes see it: it is removed for sure,
// or perhaps changed.
func (m *Manager) mutates(name string) (removed, open bool) {
	for _, extension := range m.Get("early_header_mutation_extensions").Items() {
		config, kind := extension.Get("typed_config").Unwrapped()
		if kind != headerMutationType {
			return false, true
		}
		for _, mutation := range config.Get("mutations").Items() {
			match := removal(mutation, name)
			changed := lower(mutation.Get("append", "header", "key").Text()) == name
			removed, open = removed || match.holds, open || match.open != "" || changed
		}
	}
	return removed, open
}

// removal says whether a mutation of headers removes the one of a name in lower case.
func removal(mutation Value, name string) truth {
	if key := mutation.Get("remove_on_match", "key_matcher"); key.Exists() {
		return stringMatch(key, name)
	}
	return decided(mutation.Get("remove").Exists() && lower(mutation.Get("remove").Text()) == name)
}

// Removes reports whether a HeaderMutation certainly removes the header of a name.
func Removes(mutation Value, name string) bool { return removal(mutation, lower(name)).holds }
