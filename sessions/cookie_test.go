package sessions

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

const testID = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

func TestCookie(t *testing.T) {
	const ours = DefaultCookieName + "=" + testID
	for _, test := range []struct {
		name   string
		lines  []string
		joined bool
		err    error
		rest   string
		found  bool
	}{
		{"nothing", nil, false, ErrNoCookie, "", false},
		{"an empty line", []string{""}, false, ErrNoCookie, "", false},
		{"alone", []string{ours}, false, nil, "", true},
		{"between others", []string{`a=1; ` + ours + `; b="2"; c`}, false, nil, `a=1; b="2"; c`, true},
		{"blanks around it", []string{"a=1; \t" + ours + " \t;b=2"}, false, nil, "a=1; b=2", true},
		{"on a line of its own", []string{"a=1", ours, "b=2"}, false, nil, "a=1; b=2", true},
		{"twice", []string{ours + "; a=1; " + ours}, false, ErrAmbiguousCookie, "a=1", true},
		{"on two lines", []string{ours, ours}, false, ErrAmbiguousCookie, "", true},
		{"twice, once empty", []string{ours + "; " + DefaultCookieName + "="}, false, ErrAmbiguousCookie, "", true},
		{"twice, once bare", []string{ours + "; " + DefaultCookieName}, false, ErrAmbiguousCookie, "", true},
		{"in quotes", []string{DefaultCookieName + `="` + testID + `"`}, false, ErrMalformed, "", true},
		{"padded", []string{ours + "="}, false, ErrMalformed, "", true},
		{"blank before the value", []string{DefaultCookieName + "= " + testID}, false, ErrMalformed, "", true},
		{"blank before the equals sign", []string{DefaultCookieName + " =" + testID}, false, nil, "", true},
		{"blank inside", []string{ours[:30] + " " + ours[31:]}, false, ErrMalformed, "", true},
		{"inside a quoted value", []string{`x="; ` + ours + `; "`}, false, nil, `x="; "`, true},
		{"another's suffix", []string{"x" + ours}, false, ErrNoCookie, "x" + ours, false},
		{"another's prefix", []string{DefaultCookieName + "2=" + testID}, false, ErrNoCookie, DefaultCookieName + "2=" + testID, false},
		{"another case", []string{strings.ToLower(DefaultCookieName) + "=" + testID}, false, ErrNoCookie, strings.ToLower(DefaultCookieName) + "=" + testID, false},
		{"foreign UTF-8", []string{"a=ö; " + ours}, false, nil, "a=ö", true},
		{"foreign bytes", []string{"a=\xff; " + ours + "; b=2"}, false, nil, "b=2", true},
		{"foreign control bytes", []string{"a=\x01; " + ours + "; b=\x7f; c=3"}, false, nil, "c=3", true},
		{"behind a comma in a raw line", []string{"a=1," + ours}, false, ErrNoCookie, "a=1," + ours, false},

		{"joined: alone", []string{ours}, true, nil, "", true},
		{"joined: behind a comma", []string{"a=1; x=2," + ours + "; b=2"}, true, nil, "a=1; x=2; b=2", true},
		{"joined: before and behind", []string{ours + "," + ours}, true, ErrAmbiguousCookie, "", true},
		{"joined: with another line behind", []string{ours + ",b=2"}, true, ErrMalformed, "b=2", true},
		{"joined: in the middle", []string{"a=1," + ours + ",b=2; c=3"}, true, ErrMalformed, "a=1,b=2; c=3", true},
		{"joined: not directly behind", []string{"a=1, " + ours}, true, ErrNoCookie, "a=1, " + ours, false},
		{"joined: commas of others", []string{"a=1,2,3; " + ours}, true, nil, "a=1,2,3", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := CookieHeader{Lines: test.lines, Joined: test.joined}
			id, err := Cookie{}.Read(h)
			if !errors.Is(err, test.err) || (err == nil) != (id.Reveal() == testID) {
				t.Errorf("Read: %q, %v; want %v", id.Reveal(), err, test.err)
			}
			if rest, found := (Cookie{}).Cut(h); rest != test.rest || found != test.found {
				t.Errorf("Cut: %q, %v; want %q, %v", rest, found, test.rest, test.found)
			}
		})
	}
}

func TestCookieValidate(t *testing.T) {
	for name, good := range map[string]bool{
		"": true, "session": true, "__Host-x.y_z~1": true, "a b": false, "a=b": false, "a;b": false, "ö": false, "a\n": false, `a"`: false,
	} {
		if err := (Cookie{Name: name}).Validate(); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestCookieReadAllocatesNothing, however much a client sends.
func TestCookieReadAllocatesNothing(t *testing.T) {
	h := CookieHeader{Lines: []string{strings.Repeat("junk=x; ", 5000) + DefaultCookieName + "=" + testID}, Joined: true}
	if n := testing.AllocsPerRun(10, func() { _, _ = Cookie{}.Read(h) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzCookie: an ID that is read stands in the header exactly once and net/http
// reads the same; what is left after the cut holds none of ours, all of the
// others' that can be sent, and stays as it is when cut again.
func FuzzCookie(f *testing.F) {
	const ours = DefaultCookieName + "=" + testID
	for _, line := range []string{"", ours, "a=1; " + ours, ours + "," + ours, "a=\xff;" + ours, `x="; ` + ours + `; "`, DefaultCookieName + " =;;,", "a=1," + ours + ",b"} {
		f.Add(line, "", false)
		f.Add("b=2", line, true)
	}
	f.Fuzz(func(t *testing.T, first, second string, joined bool) {
		h := CookieHeader{Lines: []string{first, second}, Joined: joined}
		id, err := Cookie{}.Read(h)
		if err == nil {
			if n := strings.Count(first+";"+second, id.Reveal()); n < 1 || !isHash(id.Reveal()) {
				t.Fatalf("%q was read and stands there %d times", id.Reveal(), n)
			}
			checkNetHTTP(t, h, id)
		}
		rest, found := Cookie{}.Cut(h)
		if found == errors.Is(err, ErrNoCookie) {
			t.Fatalf("found is %v, and Read says %v", found, err)
		}
		if !forwardable(rest) {
			t.Fatalf("%q cannot be sent", rest)
		}
		again := CookieHeader{Lines: []string{rest}, Joined: joined}
		if _, err := (Cookie{}).Read(again); !errors.Is(err, ErrNoCookie) {
			t.Fatalf("ours is still in %q: %v", rest, err)
		}
		if twice, _ := (Cookie{}).Cut(again); twice != rest {
			t.Fatalf("%q became %q", rest, twice)
		}
		if !joined {
			checkOthers(t, h, rest)
		}
	})
}

// checkNetHTTP asks another parser, for lines that no comma has joined.
func checkNetHTTP(t *testing.T, h CookieHeader, id ID) {
	if h.Joined {
		return
	}
	r := &http.Request{Header: http.Header{"Cookie": h.Lines}}
	if c, err := r.Cookie(DefaultCookieName); err != nil || c.Value != id.Reveal() {
		t.Fatalf("net/http reads %v, %v", c, err)
	}
}

// checkOthers compares the others' pairs, one by one.
func checkOthers(t *testing.T, h CookieHeader, rest string) {
	var want []string
	for _, line := range h.Lines {
		for pair := range strings.SplitSeq(line, ";") {
			pair = trimBlanks(pair)
			name, _, _ := strings.Cut(pair, "=")
			if pair != "" && forwardable(pair) && trimBlanks(name) != DefaultCookieName {
				want = append(want, pair)
			}
		}
	}
	if got := strings.Join(want, "; "); got != rest {
		t.Fatalf("left is %q, want %q", rest, got)
	}
}
