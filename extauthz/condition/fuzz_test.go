package condition

import (
	"strings"
	"testing"
	"time"
)

// FuzzCompile: any text is compiled or refused, without a panic and
// soon; and what is compiled can be evaluated, just as soon.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`session.age < duration("5m")`, `request.segments[1] == session.fields["tenant"]`,
		`source.address.inCIDR("10.0.0.0/8")`, `has(session.fields.a) && session.roles.exists(r, r in ["a", "b"])`,
		`request.headers["x-a"].matches("^(a|b)+$")`, `{"a": [1, 2.0, 3u, b"x", null]}.size() == 1`, `((((`, "\x00\xff", `"\U0010ffff"`,
		`[1,2,3].map(x, x * 2).filter(x, x > 2).all(x, [x].exists_one(y, y == x))`, `timestamp("2026-01-01T00:00:00Z").getHours("Europe/Berlin") == 1`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		start := time.Now()
		c, err := Compile(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("a mistake of several lines: %q", err)
			}
		} else {
			_, err = c.Holds(t.Context(), ada())
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%v for %q, %v", took, text, err)
		}
	})
}
