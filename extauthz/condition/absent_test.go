package condition

import (
	"slices"
	"testing"
)

func TestAbsentHeaders(t *testing.T) {
	for text, want := range map[string][]string{
		`"x-flag" in request.headers`:                                                    nil,
		`has(request.headers.flag) && request.headers.flag == "on"`:                      nil,
		`!("x-flag" in request.headers)`:                                                 {"x-flag"},
		`!has(request.headers.flag)`:                                                     {"flag"},
		`!(!has(request.headers.flag))`:                                                  nil,
		`!(has(request.headers.flag) && request.headers.flag == "on")`:                   {"flag"},
		`request.method == "GET" || !("a" in request.headers) || "b" in request.headers`: {"a"},
		`has(request.headers.flag) == false`:                                             {"flag"},
		`has(request.headers.flag) ? request.headers.flag == "on" : true`:                {"flag"},
		`has(request.headers.flag) ? request.headers.flag == "on" : false`:               nil,
		`has(request.headers.flag) ? false : true`:                                       {"flag"},
		`!has(session.fields.flag)`:                                                      nil,
		`request.headers["x-flag"] != "off"`:                                             nil, // absent is an error, which denies
		`["a"].exists(n, !("x-flag" in request.headers))`:                                {"x-flag"},
	} {
		c, err := Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.AbsentHeaders(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// A chooser makes up expressions, the same in each run (Knuth's MMIX generator).
type chooser uint64

func (c *chooser) below(n int) int {
	*c = *c*6364136223846793005 + 1442695040888963407
	return int(*c>>33) % n
}

func (c *chooser) expression(depth int) string {
	leaves := []string{
		`has(request.headers.flag)`, `"flag" in request.headers`, `request.headers.flag == "on"`, `request.headers["flag"] != "on"`, `true`, `false`, `request.method == "GET"`,
	}
	if depth == 0 {
		return leaves[c.below(len(leaves))]
	}
	a, b, other := c.expression(depth-1), c.expression(depth-1), c.expression(depth-1)
	switch c.below(6) {
	case 0:
		return "!(" + a + ")"
	case 1:
		return "(" + a + ") && (" + b + ")"
	case 2:
		return "(" + a + ") || (" + b + ")"
	case 3:
		return "(" + a + ") ? (" + b + ") : (" + other + ")"
	case 4:
		return "(" + a + ") ? (" + b + ") : false"
	}
	return "(" + a + ") == (" + b + ")"
}

// TestAbsentHeadersHold: an expression that is true without the header, and not with
// some value of it, names the header, for any expression.
func TestAbsentHeadersHold(t *testing.T) {
	random, opened := new(chooser), 0
	for i := range 2000 {
		text := random.expression(1 + i%3)
		c, err := Compile(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		holds := func(headers map[string]string) bool {
			in := ada()
			in.Headers = headers
			ok, err := c.Holds(t.Context(), in)
			return ok && err == nil
		}
		if !holds(nil) || holds(map[string]string{"flag": "on"}) && holds(map[string]string{"flag": "off"}) {
			continue
		}
		opened++
		if len(c.AbsentHeaders()) == 0 {
			t.Errorf("%s is true without the header alone, and is not said to be", text)
		}
	}
	if opened < 100 {
		t.Errorf("only %d expressions open without the header", opened)
	}
}
