package canonical

import (
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical/canonicaltest"
)

func TestPath(t *testing.T) {
	for target, want := range map[string]string{
		"/": "/", "/a": "/a", "/a/": "/a/", "/a/b?x=/c": "/a/b", "/a?": "/a", "/a?b?c=//..": "/a",
		"/.well-known/x": "/.well-known/x", "/...": "/...", "/a..b/.c": "/a..b/.c", "/A": "/A",
		"/a%20b": "/a b", "/Ada%20L%C3%B6we": "/Ada Löwe", "/%F0%9F%A7%A5": "/🧥",
		"/@me": "/@me", "/%40me": "/@me", "/a:b,c=d+e!$&'()*~-_": "/a:b,c=d+e!$&'()*~-_",
		"/%22%3C%3E%5B%5D%5E%60%7B%7C%7D": "/\"<>[]^`{|}", "/%3A%2B%26": "/:+&",
	} {
		if got, ok := Path(target); !ok || got != want {
			t.Errorf("%q: %q, %v, want %q", target, got, ok, want)
		}
	}
	for _, target := range []string{
		"", "a", "*", "http://h/a", "?a", "//", "//a", "/a//b", "/a//", "/.", "/..", "/./a", "/../a", "/a/.", "/a/..", "/a/./b", "/a/../b",
		"/%2e", "/%2E%2E/a", "/%2E", "/.%2E/a", "/a%2fb", "/a%2Fb", "/a%5cb", "/a%5Cb", `/a\b`, "/a%00", "/a%01", "/a%0A", "/a%7F", "/a%09",
		"/%61dmin", "/%41", "/%30", "/%7E", "/%2D", "/%5F", "/a%25b", "/%252e", "/%252F", "/a%3Fb", "/a%3fb", "/a#b", "/a?b#c", "/a%23b",
		"/a;b", "/a;", "/a%3Bb", "/a%", "/a%2", "/a%zz", "/a%C3%b6", "/a%c3%B6", "/a b", "/a\tb", "/a\x00", "/a\x7f", "/ö", "/\xff",
		"/%FF", "/%C3", "/%C3/%B6", "/%C0%AF", "/%E0%80%AF", "/%ED%A0%80", "/%F8%80%80%80", "/%u002e", "/a|b", "/a[b]", "/a^b", "/a`b", "/a<b", "/a\"b", "/a{b}",
	} {
		if got, ok := Path(target); ok {
			t.Errorf("%q is canonical: %q", target, got)
		}
	}
}

// FuzzPath: what is canonical is read in one way by programs of other origin: by
// net/url, by path.Clean, by a browser's rules, and by a program that decodes once more.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"/", "/a/b?c#d", "/a%20b", "/%C3%B6/", "/a/../b", "//a", "/%2e%2e/a", `/a\b`, "/a;b=c", "/%41", "/a%2Fb", "/%25", "/a/./", "/@%40", "/%7B%7D", "/\xff", "/%zz", "/a%",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		got, ok := Path(target)
		if !ok {
			return
		}
		raw, _, _ := strings.Cut(target, "?")
		u, err := url.ParseRequestURI(raw)
		if err != nil || u.Path != got || u.RawQuery != "" || u.Fragment != "" || u.Host != "" {
			t.Fatalf("%q: net/url reads %+v, %v; we %q", target, u, err, got)
		}
		if clean := path.Clean(got); clean != got && clean+"/" != got {
			t.Fatalf("%q: path.Clean makes %q of %q", target, clean, got)
		}
		if browser := resolved(raw); browser != raw {
			t.Fatalf("%q: a browser makes it %q", target, browser)
		}
		if !utf8.ValidString(got) || strings.ContainsAny(got, "%\\;?#\x00") {
			t.Fatalf("%q: decoded to %q", target, got)
		}
		if twice, err := url.PathUnescape(got); err != nil || twice != got {
			t.Fatalf("%q: decoded twice it is %q, %v", target, twice, err)
		}
		again := canonicaltest.Encode(got)
		if back, ok := Path(again); !ok || back != got {
			t.Fatalf("%q: encoded again as %q it is %q, %v", target, again, back, ok)
		}
		if !encodesWhatMayStand(raw) && again != raw {
			t.Fatalf("%q: encoded again it is %q", target, again)
		}
	})
}

// encodesWhatMayStand reports whether raw encodes one of the characters that
// have two spellings.
func encodesWhatMayStand(raw string) bool {
	for _, c := range "!$&'()*+,=:@" {
		if strings.Contains(raw, "%"+string(hexDigits[c>>4])+string(hexDigits[c&15])) {
			return true
		}
	}
	return false
}

// resolved is the path state of the WHATWG URL parser for a special scheme: "\"
// is "/", tabs and line ends vanish, dot segments are resolved in every spelling,
// and what must be is percent-encoded.
func resolved(raw string) string {
	raw = strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(raw)
	var out []string
	segments := strings.Split(raw[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch strings.ReplaceAll(strings.ToLower(s), "%2e", ".") {
		case "..":
			out = out[:max(len(out)-1, 0)]
		case ".":
		default:
			out = append(out, encodedByBrowser(s))
			continue
		}
		if last {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// encodedByBrowser applies the path percent-encode set.
func encodedByBrowser(segment string) string {
	var b strings.Builder
	for i := range len(segment) {
		if c := segment[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"#<>?^`{}", c) >= 0 {
			b.WriteString("%" + string(hexDigits[c>>4]) + string(hexDigits[c&15]))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
