package config

import (
	"maps"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
)

// FuzzReadSettings: what stands in coatcheck:state is refused, or it is settings; either
// way what is said of it is a few short lines, each on one line, and settings come back
// as they were written.
func FuzzReadSettings(f *testing.F) {
	ours := Settings{"bearer": "false", "cookie.name": "__Host-session", "session.idle_timeout": "30m0s"}
	for _, seed := range []string{
		ours.Encode(), "", "null", "{}", "[]", `{"settings":null}`, `{"settings":{"cookie.name":"a\nb"}}`, `{"settings":{"cookie.name":1}}`, `{"settings":{"x":"y"}} z`,
		`{"settings":{"session.idle_timeout":"` + strings.Repeat("9", 500) + `m0s"}}`, `{"settings":{"bearer":"\u001b[2J"},"fingerprint":7}`, `{"Settings":{"bearer":"true"}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		theirs, err := ReadSettings(text)
		if err != nil {
			if len(theirs) > 0 || text != "" && len(text) > 40 && strings.Contains(err.Error(), text) {
				t.Fatalf("%q: %v, %v", text, theirs, err)
			}
			return
		}
		differences := ours.Differences(theirs)
		if len(differences) > len(ours) {
			t.Fatalf("%q: %q", text, differences)
		}
		for _, line := range differences {
			if strings.ContainsFunc(line, unicode.IsControl) || len(line) > 1024 {
				t.Fatalf("%q: %q", text, line)
			}
		}
		again, err := ReadSettings(theirs.Encode())
		if err != nil || !reflect.DeepEqual(again, theirs) || len(theirs.Fingerprint()) != 12 {
			t.Fatalf("%q: %v, %v, %v", text, theirs, again, err)
		}
	})
}

// FuzzHeaders: the headers for the collector are those that a regular expression finds in
// the lines, and gRPC can send each; and no error repeats a value, which may be a token.
func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{"", "# a\n\nAuthorization: Bearer x\r\n", "a:b\nA: c", "a", ":a", "a:", "a: b:c", "grpc-timeout: x", "x-bin: y", "a b: c", "a: \x7f", "\u212aey: v", "\xef\xbb\xbfa: b", "a: b\rc", "\u2028a: b\u00a0"} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`\A([a-z0-9_.-]+)\s*:\s*([ -~]+)\z`)
	f.Fuzz(func(t *testing.T, text string) {
		headers, err := readHeaders(strings.NewReader(text))
		want, sound := make(map[string]string), len(text) < 1<<15
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			name, value, _ := strings.Cut(line, ":")
			found := form.FindStringSubmatch(strings.ToLower(name) + ":" + value) // the Kelvin sign becomes a k
			if found == nil {
				sound = false
				if err != nil && len(value) > 20 && strings.Contains(err.Error(), value) {
					t.Fatalf("%q: %v", text, err)
				}
				continue
			}
			sound = sound && !strings.HasPrefix(found[1], "grpc-") && !strings.HasSuffix(found[1], "-bin")
			want[found[1]] = found[2]
		}
		if sound != (err == nil) && len(text) < 1<<15 || err == nil && !maps.Equal(headers, want) {
			t.Fatalf("%q: %q, want %q, %v", text, headers, want, err)
		}
	})
}

// FuzzValues: of each kind of setting, what a flag or a variable says is refused and
// changes nothing, or it is taken, and comes back from the text that is printed of it.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{"", "0", "-1", "1e3", "0x10", "010", "1_000", "99999999999999999999", "30m", "30", "1h1m1s", "-5s", "106751d", "true", "TRUE", "t", "yes", "a,b", ",", "a, b", "\x00", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var (
			s string
			b bool
			n int
			d time.Duration
			l []string
			c = "one"
		)
		for _, v := range []value{stringValue(&s), boolean(&b, false), integer(&n, 5), duration(&d, time.Second), list(&l), choice(&c, "one", "one", "two")} {
			before := v.get()
			if err := v.set(text); err != nil {
				if after := v.get(); !reflect.DeepEqual(before, after) {
					t.Fatalf("%s: %q is refused (%v) and makes %v of %v", v.kind, text, err, after, before)
				}
				continue
			}
			taken := v.get()
			if err := v.set(taken); err != nil || !reflect.DeepEqual(v.get(), taken) {
				t.Fatalf("%s: %q is %v, and that %v, %v", v.kind, text, taken, v.get(), err)
			}
		}
		if c != "one" && c != "two" {
			t.Fatalf("%q", c)
		}
	})
}

func stringValue(p *string) value { return text(p, "") }
