package envoyconfig

import (
	"regexp"
	"strconv"
	"strings"
)

// normalise gives the request the host and the path that routes are matched by. It
// returns what Envoy answers itself, without asking any filter, or "".
func (m *Manager) normalise(r *Request, port int64) (answered string, open string) {
	if r.Path == "" && r.connect() {
		r.Host = m.normalHost(r.Host, port)
		return "", ""
	}
	if !strings.HasPrefix(r.Path, "/") {
		return "Envoy answers a path without / at its beginning itself, with 404", ""
	}
	if strings.Contains(r.Path, "#") {
		return "Envoy refuses a path with # itself, with 400", ""
	}
	if strings.ContainsFunc(r.Path, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune("^`{|}", c) }) {
		return "", "some versions of HTTP refuse a character of it; write it percent-encoded"
	}
	path, query := r.Path, ""
	if at := strings.IndexByte(path, '?'); at >= 0 {
		path, query = path[:at], path[at:]
	}
	redirect := false
	switch action := m.Get("path_with_escaped_slashes_action").Text(); action {
	case "", "IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED", "0", "1":
	default:
		unescaped := escapedSlashes.Replace(path)
		if unescaped != path && (action == "REJECT_REQUEST" || action == "2") {
			return "Envoy refuses an encoded slash in the path itself, with 400 (path_with_escaped_slashes_action)", ""
		}
		redirect = unescaped != path && (action == "UNESCAPE_AND_REDIRECT" || action == "3")
		path = unescaped
	}
	if m.Get("normalize_path").Bool() {
		if strings.Contains(path, "/.;") || strings.Contains(path, "/..;") {
			return "", "versions of Envoy read a segment . or .. with parameters differently"
		}
		if nestedEscape.MatchString(path) {
			return "", "the path has an escape within an escape"
		}
		var ok bool
		if path, ok = canonicalPath(path); !ok {
			return "Envoy refuses the path itself, with 400 (normalize_path)", ""
		}
	}
	if m.Get("merge_slashes").Bool() {
		path = mergeSlashes(path)
	}
	if redirect {
		return "Envoy redirects to " + clean(path) + " itself (path_with_escaped_slashes_action)", ""
	}
	r.Path, r.Host = path+query, m.normalHost(r.Host, port)
	return "", ""
}

var escapedSlashes = strings.NewReplacer("%2F", "/", "%2f", "/", "%5C", `\`, "%5c", `\`)

// nestedEscape is a % that begins no escape, near to one that does: Envoy looks at the
// two together once more.
var nestedEscape = regexp.MustCompile(`%[0-9A-Fa-f]?%`)

// mergeSlashes makes one of each row of slashes, and two of a path of slashes alone.
func mergeSlashes(path string) string {
	if len(path) > 1 && strings.Trim(path, "/") == "" {
		return "//"
	}
	var b strings.Builder
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}

func portSuffix(port int64) string { return ":" + strconv.FormatInt(port, 10) }

// normalHost takes away the dot at the end and the port.
func (m *Manager) normalHost(host string, port int64) string {
	name, suffix := splitPort(host)
	if m.Get("strip_trailing_host_dot").Bool() {
		name = strings.TrimSuffix(name, ".")
	}
	if m.Get("strip_any_host_port").Bool() || m.Get("strip_matching_host_port").Bool() && suffix == portSuffix(port) {
		suffix = ""
	}
	return name + suffix
}

// splitPort cuts a host before the colon of its port.
func splitPort(host string) (name, suffix string) {
	at := strings.LastIndexByte(host, ':')
	if at < 0 || strings.LastIndexByte(host, ']') > at || strings.Count(host, ":") > 1 && !strings.Contains(host, "]") {
		return host, ""
	}
	if digits := host[at+1:]; digits == "" || strings.Trim(digits, "0123456789") != "" {
		return host, ""
	}
	return host[:at], host[at:]
}

// canonicalPath is a path as Envoy's normalize_path makes it, which is Chromium's way:
// segments . and .. are resolved, \ becomes /, encoded letters, digits and -._~ are
// decoded, and characters that may not stand in a path are encoded. It reports false
// for a path with an encoded or a plain NUL.
func canonicalPath(path string) (string, bool) {
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); {
		c, width := path[i], 1
		if dots := dotAt(path, i); dots > 0 {
			out, width = resolveDot(out, path, i, dots)
			i += width
			continue
		}
		switch decoded, escaped := unescape(path, i); {
		case escaped && decoded == 0, c == 0:
			return "", false
		case escaped && unreserved(decoded):
			out, width = append(out, decoded), 3
		case escaped:
			out, width = append(out, path[i:i+3]...), 3
		case c == '\\':
			out = append(out, '/')
		case mustEscape(c):
			const digits = "0123456789ABCDEF"
			out = append(out, '%', digits[c>>4], digits[c&15])
		default:
			out = append(out, c)
		}
		i += width
	}
	return string(out), true
}

// resolveDot takes a dot at i, of width bytes, and what belongs to it.
func resolveDot(out []byte, path string, i, width int) ([]byte, int) {
	if len(out) == 0 || out[len(out)-1] != '/' {
		return append(out, '.'), width
	}
	after := i + width
	if after == len(path) {
		return out, width
	}
	if isSlash(path[after]) {
		return out, width + 1
	}
	second := dotAt(path, after)
	switch end := after + second; {
	case second > 0 && end == len(path):
		return parent(out), width + second
	case second > 0 && isSlash(path[end]):
		return parent(out), width + second + 1
	}
	return append(out, '.'), width
}

// parent cuts the last segment, before its slash.
func parent(out []byte) []byte {
	if len(out) == 1 {
		return out
	}
	return out[:strings.LastIndexByte(string(out[:len(out)-1]), '/')+1]
}

func isSlash(c byte) bool { return c == '/' || c == '\\' }

// dotAt is the width of a dot at i, plain or encoded, or 0.
func dotAt(path string, i int) int {
	switch {
	case path[i] == '.':
		return 1
	case strings.HasPrefix(lower(path[i:min(len(path), i+3)]), "%2e"):
		return 3
	}
	return 0
}

// unescape decodes the escape at i.
func unescape(path string, i int) (decoded byte, ok bool) {
	if path[i] != '%' || i+2 >= len(path) {
		return 0, false
	}
	high, low := hex(path[i+1]), hex(path[i+2])
	return byte(high<<4 | low), high >= 0 && low >= 0
}

func hex(c byte) int { return strings.IndexByte("0123456789abcdef", lower(string(rune(c)))[0]) }

func unreserved(c byte) bool {
	switch {
	case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '~':
		return true
	}
	return false
}

func mustEscape(c byte) bool {
	return c <= ' ' || c >= 0x7f || strings.IndexByte("\"#<>?^`{|}", c) >= 0
}
