// Package canonicaltest reads paths as other programs do. Tests hold package canonical,
// and what rests on it, to these readings.
package canonicaltest

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Targets of requests: that have one reading, that have one only with parameters, and
// that have several.
var (
	Safe = []string{
		"/", "/a", "/a/", "/a/b?x=/c", "/a?b;c", "/a?", "/?..;/#%00%zz", "/.well-known/x", "/..a", "/a..", "/a..b/.c", "/A", "/Inc.", "/a%20b", "/%C3%B6", "/%c3%b6", "/%F0%9f%A7%a5",
		"/a|b", "/a[b]", "/a^b", "/a`b", `/a"b`, "/a<b>", "/a{b}", "/%7c%5b", "/@me", "/%40me", "/a:b,c=d+e!$&'()*~-_", "/%3A%2b%26", "/%EF%BC%9F", "/%E2%80%A6a", "/a%E2%80%8Cb", "/a%C2%AD-b",
	}
	Parameters = []string{"/a;x=1", "/a;x=1;y=2/b", "/a;jsessionid=1F.node-1", "/a;x=", "/a;x=%C3%b6,2", "/a/b;v=1.2/"}
	Refused    = []string{
		"", "a", "*", "?", "http://h/a", "//", "//a", "/a//b", "/a//", "/.", "/..", "/./a", "/../a", "/a/.", "/a/..", "/a/../b", "/...", "/a/..../b",
		"/%2e", "/%2E%2e/a", "/.%2e", "/%2e./a", "/a%2ejs", "/%61", "/%7e", "/%2D", "/a%2fb", "/a%2Fb", "/a%5cb", `/a\b`, `/\a`, "/a%00", "/%00", "/a%0a", "/a%09", "/a%7f", "/a%1b", "/%25", "/a%252e", "/%252F", "/a%3f", "/a%3Fb", "/a%23", "/a#b", "/#",
		"/a%", "/a%2", "/a%zz", "/%u002e", "/%%32%65", "/a b", "/a\tb", "/a\x00", "/a\x7f", "/\u00f6", "/\xff", "/%FF", "/%C3", "/%C3/%B6", "/%c0%ae", "/%C0%AF", "/%e0%80%af", "/%ed%a0%80", "/%f8%80%80%80%ae", "/%C2%85", "/%C2%9B2J",
		"/%EF%BC%8E", "/%ef%bc%8e%EF%BC%8E/a", "/%E2%80%A5", "/.%e2%80%a4/a", "/a%EF%BC%8Fb", "/a%ef%bc%bcb", "/a%E2%88%95b", "/a%E2%81%84b", "/%e3%80%82%E3%80%82", "/%E2%84%80", "/..%C2%A5a", "/a%c2%a5b", "/a%E2%82%A9b", "/%EF%B8%B0", "/%ef%b8%b0/a",
		"/%20", "/a/%20/b", "/%20..", "/..%20/a", "/.%20.", "/a%20", "/%20a", "/a%C2%A0", "/%E2%80%8B", "/.%E2%80%8C./a", "/a%EF%BB%BF", "/..%C2%AD",
		"/..;", "/..;/a", "/..;x=1/a", "/.;x=1/a", "/;", "/;x=1", "/;x=1/a", "/a/;x=1", "/a;", "/a;x", "/a;=1", "/a;x=1;", "/a;;x=1", "/a;x=1=2", "/a;x/b", "/a%3b", "/a%3Bx=1", "/a;x%3d1", "/a;x=%2f", "/a;x=%00", `/a;x=\`, "/a;x=%25", "/a;x=#", "/%2e%2e;/a", "/%2e%2e;x=1/a", "/a;x=\xff", "/%20;x=1", "/..%20;x=1/a", "/a;..=1", "/%EF%BC%8E.;x=1",
	}
)

// Encode encodes what cannot stand in a path as it is.
func Encode(decoded string) string {
	var b strings.Builder
	for i := range len(decoded) {
		if c := decoded[i]; c == '/' || strings.IndexByte(asItStands, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + string(hexDigits[c>>4]) + string(hexDigits[c&15]))
		}
	}
	return b.String()
}

const (
	// asItStands may stand in a segment without encoding (RFC 3986, section 3.3), but ";".
	asItStands = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,=:@"
	hexDigits  = "0123456789ABCDEF"
)

// readers are slow readings of a path by programs of other origin: what each makes
// of it, segment by segment, after resolving dots.
var readers = map[string]func(string) string{
	"net/url":        Decode,
	"twice":          func(p string) string { return Decode(Decode(p)) },
	"servlet":        func(p string) string { return Decode(cutParameters(p)) },
	"decodes, cuts":  func(p string) string { return cutParameters(Decode(p)) },
	"cuts, twice":    func(p string) string { return cutParameters(Decode(cutParameters(Decode(p)))) },
	"Express":        func(p string) string { before, _, _ := strings.Cut(p, "?"); return Decode(before) },
	"URL of decoded": func(p string) string { before, _, _ := strings.Cut(Decode(p), "?"); return before },
	"fragment":       func(p string) string { before, _, _ := strings.Cut(Decode(p), "#"); return before },
	"C string":       func(p string) string { before, _, _ := strings.Cut(Decode(p), "\x00"); return before },
	"Windows":        func(p string) string { return strings.ReplaceAll(Decode(p), `\`, "/") },
	"WHATWG": func(p string) string {
		return Decode(strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(p))
	},
	"trims":            func(p string) string { return eachSegment(Decode(p), strings.TrimSpace) },
	"lenient UTF-8":    func(p string) string { return overlong.Replace(Decode(p)) },
	"Unicode":          func(p string) string { return compatible.Replace(Decode(p)) },
	"merges, resolves": func(p string) string { return eachSegment(Decode(p), func(s string) string { return s }) },
}

var (
	overlong   = strings.NewReplacer("\xc0\xae", ".", "\xc0\xaf", "/", "\xe0\x80\xae", ".", "\xe0\x80\xaf", "/", "\xc1\x9c", `\`)
	compatible = strings.NewReplacer("\uff0e", ".", "\u2024", ".", "\u2025", "..", "\ufe52", ".", "\uff0f", "/", "\uff3c", "/", "\u00a5", "/", "\u20a9", "/", "\ufe30", "..", "\u2215", "/", "\u2044", "/")
)

// Decode decodes what can be decoded, and leaves the rest.
func Decode(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if text, err := url.PathUnescape(p[i:min(i+3, len(p))]); p[i] == '%' && err == nil {
			b.WriteString(text)
			i += 2
		} else {
			b.WriteByte(p[i])
		}
	}
	return b.String()
}

func cutParameters(p string) string {
	return eachSegment(p, func(s string) string { before, _, _ := strings.Cut(s, ";"); return before })
}

func eachSegment(p string, change func(string) string) string {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i] = change(s)
	}
	return strings.Join(segments, "/")
}

// ReadAlike compares the readings of a path that has been taken.
func ReadAlike(raw string) error {
	want := Decode(cutParameters(raw))
	if clean := path.Clean(cutParameters(raw)); clean != cutParameters(raw) && clean+"/" != cutParameters(raw) {
		return fmt.Errorf("%q: resolved to %q before it is decoded", raw, clean)
	}
	for name, read := range readers {
		got := read(raw)
		bare := cutParameters(got)
		if strings.Count(got, "/") != strings.Count(want, "/") || compatible.Replace(bare) != compatible.Replace(want) {
			return fmt.Errorf("%q: %s reads %q, others %q", raw, name, got, want)
		}
		if clean := path.Clean(bare); clean != bare && clean+"/" != bare {
			return fmt.Errorf("%q: %s resolves %q to %q", raw, name, bare, clean)
		}
	}
	return nil
}
