package waysin_test

import (
	"strings"
	"testing"
)

// pieces are what random paths are made of.
var pieces = []string{
	"/", "/", "/", "/", "//", "/./", "/../", ".", "..", "%2e", "%2E", "%2e%2e", ".%2e", "%2e.", "...", ";", ";", ";x=1", ";a", ";a=b;c", "..;", "%2e%2e;", ".%2e;a", ".;", "%3b", "%3B",
	"%2f", "%2F", "%5c", `\`, "%00", "%09", "%0a", "%20", "%25", "%252e", "%252f", "%253b", "%c0%ae", "%c0%af", "%e0%80%ae", "%ef%bc%8e", "%ef%bc%8f", "\uff0e", "%u002e", "?", "#", "%23", "%3f", "%",
	"public", "optional", "secret", "admin", "secret.txt", "page.txt", "x", "%73ecret", "%61dmin", "SECRET", "Admin", "+", "~", "|", "{", "*", ",", "=", "&", ":", "@", "\xff", "%ff",
}

// A dice is a seeded source of numbers (splitmix64): the same seed is the same
// test.
type dice uint64

func (d *dice) below(n int) int {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) % uint64(n))
}

// path begins at an open page, or anywhere, and often ends at a closed one.
func (d *dice) path() string {
	var b strings.Builder
	b.WriteString([]string{"/public", "/public", "/public/", "/optional", "/optional/", "/admin", "/secret", "/", ""}[d.below(9)])
	for range 1 + d.below(7) {
		b.WriteString(pieces[d.below(len(pieces))])
	}
	b.WriteString([]string{"/secret", "/secret", "/admin", "/admin/x", "/secret.txt", "/admin/page.txt", "secret", "admin", "", ""}[d.below(10)])
	return b.String()
}

// TestRandomPaths sends paths that a seeded generator makes of tricky pieces to
// every upstream.
func TestRandomPaths(t *testing.T) {
	n := 300
	if full {
		n = 10_000
	}
	l := theLot(t)
	onEvery(t, everyUpstream, func(t *testing.T, name string) {
		const class = "random"
		d := dice(10)
		var guards [2][]*sender
		var opens [2]*sender
		for i, protocol := range protocols {
			for _, f := range []front{shipped, alone, bare} {
				guards[i] = append(guards[i], l.sender(t, door{f, name}, protocol))
			}
			opens[i] = l.sender(t, door{open, name}, protocol)
		}
		for i := range n {
			r := get(class, d.path())
			side := d.below(2)
			guards[side][0].try(anonymous, r)
			if d.below(3) > 0 {
				guards[1-side][1+d.below(2)].try(anonymous, r)
			} else {
				guards[1-side][d.below(3)].try(staff, r)
			}
			if i%8 == 0 {
				opens[side].tryOpen(r)
			}
			if n > 1000 && i%(n/4) == n/4-1 {
				say("random paths: %s has seen %d of %d", name, i+1, n)
			}
		}
		for i := range protocols {
			opens[i].client.close()
			for _, s := range guards[i] {
				s.client.close()
			}
		}
		if full && strings.HasPrefix(name, "tomcat") && seen.get(name, class).escapes == 0 {
			t.Errorf("no random path is a way in at the open control of %s: the test shows little", name)
		}
	})
}
