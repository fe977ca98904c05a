package extauthz

import (
	"bytes"
	"encoding/json"
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
		parent := spanContext(text)
		if sound := ok && !strings.HasPrefix(text, "ff") && strings.Trim(trace, "0") != "" && strings.Trim(span, "0") != ""; sound != parent.IsValid() ||
			sound && (parent.TraceID().String() != trace || parent.SpanID().String() != span || parent.IsSampled() != strings.ContainsAny(text[54:], "13579bdf")) {
			t.Fatalf("%q: the span continues %+v", text, parent)
		}
	})
}

// FuzzConnection: a Connection header that names a managed header is seen in each form in
// which the next hop may read it, as a regular expression has them.
func FuzzConnection(f *testing.F) {
	for _, seed := range []string{"", "close", "x-user-id", "Upgrade, X_User.Roles", "upgrade,\t x-user-", "x-user", "a x-user-id", "\xa0x-user-id", "ax-user-id", "1x-user-id", "x\xc3\xa9user-id", "x-us,er-id", ";x-user-id", "\"x-user-id\"", "x\xffuser\x00"} {
		f.Add([]byte(seed))
	}
	named := regexp.MustCompile(`(?i)\A[^a-z]*x[^a-z0-9]user[^a-z0-9]`)
	f.Fuzz(func(t *testing.T, text []byte) {
		plain := make([]byte, len(text)) // of one byte each, and never a letter to (?i)
		for i, c := range text {
			plain[i] = min(c, '~')
		}
		want := false
		for part := range bytes.SplitSeq(plain, []byte(",")) {
			want = want || named.Match(part)
		}
		if nominates(text, "x-user-") != want {
			t.Fatalf("%q: want %v", text, want)
		}
	})
}

// FuzzExplanation: a text is refused, or read as an explanation that is written as it is
// read.
func FuzzExplanation(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"rule":"2: prefix /admin"}`, `{"rule":"2"}`, `{"rule":": x"}`, `{"rule":"+02: a: b"}`, `{"rule":2}`, `{"Rule":"1: x","rule":""}`, `{"rule":"99999999999999999999: x"}`, `{"rule":{"number":1,"rule":"x"}}`,
		`{"verdict":"deny","reason":"no_cookie","status":401,"needs":[{"by":"route","met":false}],"roles":[],"passed":[{"number":1,"rule":"a","why":"host"}],"parts":[{"text":"a","values":[{"name":"b","value":"c"}]}],"set":[{"name":"a","value":"\ud800"}],"removed":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var e, again Explanation
		if err := json.Unmarshal(text, &e); err != nil {
			return
		}
		written, err := json.Marshal(e)
		if err == nil {
			err = json.Unmarshal(written, &again)
		}
		if err != nil || (again.Rule == nil) != (e.Rule == nil) || e.Rule != nil && *again.Rule != *e.Rule || again.Reason != e.Reason || again.Status != e.Status {
			t.Fatalf("%s: written as %s, and read as %+v, %v", text, written, again, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(twice, written) {
			t.Fatalf("%s: written as %s, and then as %s, %v", text, written, twice, err)
		}
	})
}
