package extauthz

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// FuzzAccept: the form of a refusal is the one of the highest weight that an Accept
// header names, as a reading in other words has it, and text where it names none.
func FuzzAccept(f *testing.F) {
	for _, seed := range []string{
		"", "*/*", "text/html", "TEXT/HTML;q=0.5, application/json", "application/json;q=NaN, text/html;q=0.1", "text/html;q=1e0", "text/html;q=-1", "text/html;q=0x1p-2", "a;q=1;q=0",
		"application/problem+json, text/plain", "application/+json", "text/html;level=1;Q=0.4, application/xhtml+xml;q=0.4", ",,,", "text/html;q=", "text/html ; q = 0.3", "TEXT/HTML;q",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		best, weight := textBody, 0.0
		for _, media := range strings.Split(accept, ",") {
			parts := strings.Split(media, ";")
			name := strings.ToLower(strings.TrimSpace(parts[0]))
			kind, named := map[string]bodyKind{
				"text/html": htmlBody, "application/xhtml+xml": htmlBody, "application/json": jsonBody, "text/plain": textBody,
			}[name]
			if strings.HasPrefix(name, "application/") && strings.HasSuffix(name, "+json") {
				kind, named = jsonBody, true
			}
			q := 1.0
			for _, p := range parts[1:] {
				p = strings.TrimSpace(p)
				if p != "q" && p != "Q" && !strings.HasPrefix(p, "q=") && !strings.HasPrefix(p, "Q=") {
					continue
				}
				var err error
				if q, err = strconv.ParseFloat(p[min(len(p), 2):], 64); err != nil || !(q >= 0 && q <= 1) {
					q = 0 // a weight that is none
				}
				break
			}
			if named && q > weight {
				best, weight = kind, q
			}
		}
		if got := preferred(accept); got != best {
			t.Fatalf("%q: %v, want %v", accept, got, best)
		}
	})
}

// FuzzTrace: a traceparent has the form of the standard, or names no trace.
func FuzzTrace(f *testing.F) {
	const sound = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, seed := range []string{"", sound, strings.ToUpper(sound), sound + "-", sound[1:], strings.ReplaceAll(sound, "-", "_"), strings.Repeat("\x00", 55)} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`\A[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\z`)
	f.Fuzz(func(t *testing.T, text string) {
		trace, span, ok := traceOf(text)
		want := form.FindStringSubmatch(text)
		if ok != (want != nil) || ok && (trace != want[1] || span != want[2]) {
			t.Fatalf("%q: %q %q %v", text, trace, span, ok)
		}
	})
}
