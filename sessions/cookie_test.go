package sessions

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
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
		{"empty lines and pairs", []string{"", ";; ;\t;", "a=1;;b=2;"}, false, ErrNoCookie, "a=1; b=2", false},
		{"bare name", []string{DefaultCookieName}, false, ErrMalformed, "", true},
		{"bare name with blanks", []string{"a; " + DefaultCookieName + " \t; b"}, false, ErrMalformed, "a; b", true},
		{"empty value", []string{DefaultCookieName + "="}, false, ErrMalformed, "", true},
		{"alone", []string{ours}, false, nil, "", true},
		{"between others", []string{`a=1; ` + ours + `; b="2"; c`}, false, nil, `a=1; b="2"; c`, true},
		{"blanks around it", []string{"a=1; \t" + ours + " \t;b=2"}, false, nil, "a=1; b=2", true},
		{"on a line of its own", []string{"a=1", ours, "b=2"}, false, nil, "a=1; b=2", true},
		{"twice", []string{ours + "; a=1; " + ours}, false, ErrAmbiguousCookie, "a=1", true},
		{"twice with two values", []string{ours + "; " + DefaultCookieName + "=" + testID[1:] + "A"}, false, ErrAmbiguousCookie, "", true},
		{"on two lines", []string{ours, ours}, false, ErrAmbiguousCookie, "", true},
		{"on two lines among others", []string{"a=1; " + ours, ours + "; b=2"}, false, ErrAmbiguousCookie, "a=1; b=2", true},
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
		{"foreign junk", []string{"=; ==; =x; a==; \"; \\; a b; {}; " + ours + "; %00; :"}, false, nil, "=; ==; =x; a==; \"; \\; a b; {}; %00; :", true},
		{"another's value", []string{"a=" + ours}, false, ErrNoCookie, "a=" + ours, false},
		{"order and repetition of others", []string{"b=1; a=2; b=1", ours + "; a=0;b=3"}, false, nil, "b=1; a=2; b=1; a=0; b=3", true},
		{"foreign UTF-8", []string{"a=ö; " + ours + "; ключ=значение"}, false, nil, "a=ö; ключ=значение", true},
		{"foreign tab", []string{"a=1\t2; " + ours}, false, nil, "a=1\t2", true},
		{"foreign bytes", []string{"a=\xff; " + ours + "; b=2"}, false, nil, "b=2", true},
		{"foreign control bytes", []string{"a=\x01; " + ours + "; b=\x7f; c=3"}, false, nil, "c=3", true},
		{"behind a comma in a raw line", []string{"a=1," + ours}, false, ErrNoCookie, "a=1," + ours, false},

		{"joined: alone", []string{ours}, true, nil, "", true},
		{"joined: behind a comma", []string{"a=1; x=2," + ours + "; b=2"}, true, nil, "a=1; x=2; b=2", true},
		{"joined: before and behind", []string{ours + "," + ours}, true, ErrAmbiguousCookie, "", true},
		{"joined: with another line behind", []string{ours + ",b=2"}, true, ErrMalformed, "b=2", true},
		{"joined: in the middle", []string{"a=1," + ours + ",b=2; c=3"}, true, ErrMalformed, "a=1,b=2; c=3", true},
		{"joined: not directly behind", []string{"a=1, " + ours}, true, ErrNoCookie, "a=1, " + ours, false},
		{"joined: bare name behind a comma", []string{"a=1," + DefaultCookieName}, true, ErrMalformed, "a=1", true},
		{"joined: twice behind commas", []string{"a=1," + ours + "," + ours}, true, ErrAmbiguousCookie, "a=1", true},
		{"joined: another's prefix", []string{"a=1," + DefaultCookieName + "2=x"}, true, ErrNoCookie, "a=1," + DefaultCookieName + "2=x", false},
		// What stands behind the cut must not become ours by it.
		{"joined: another behind a blank", []string{ours + ", " + ours}, true, ErrMalformed, "", true},
		{"joined: another behind a tab", []string{ours + ",\t " + ours + ", b=2; c=3"}, true, ErrMalformed, "b=2; c=3", true},
		{"joined: bare before another", []string{DefaultCookieName + ", " + ours}, true, ErrMalformed, "", true},
		{"joined: blanks of others", []string{"a=1 ," + ours + ", b=2"}, true, ErrMalformed, "a=1 , b=2", true},
		{"joined: commas of others", []string{"a=1,2,3; " + ours}, true, nil, "a=1,2,3", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			forms := []bool{test.joined}
			if !strings.Contains(strings.Join(test.lines, ""), ",") {
				forms = []bool{false, true} // without a comma they are one
			}
			for _, joined := range forms {
				h := CookieHeader{Lines: test.lines, Joined: joined}
				id, err := Cookie{}.Read(h)
				if !errors.Is(err, test.err) || (err == nil) != (id.Reveal() == testID) {
					t.Errorf("Read, joined %v: %q, %v; want %v", joined, id.Reveal(), err, test.err)
				}
				if rest, found := (Cookie{}).Cut(h); rest != test.rest || found != test.found {
					t.Errorf("Cut, joined %v: %q, %v; want %q, %v", joined, rest, found, test.rest, test.found)
				}
			}
		})
	}
}

// TestCookieName: another name is read, and the usual one is then foreign.
func TestCookieName(t *testing.T) {
	c, h := Cookie{Name: "sid"}, CookieHeader{Lines: []string{DefaultCookieName + "=x; sid=" + testID}}
	if id, err := c.Read(h); err != nil || id.Reveal() != testID {
		t.Errorf("Read: %q, %v", id.Reveal(), err)
	}
	if rest, found := c.Cut(h); rest != DefaultCookieName+"=x" || !found {
		t.Errorf("Cut: %q, %v", rest, found)
	}
}

// TestCutBytes puts every byte into a foreign cookie. Those that an answer
// cannot hold are dropped with their pair; none keeps ours from being read.
func TestCutBytes(t *testing.T) {
	for c := range 256 {
		b := string([]byte{byte(c)})
		want := "a=x" + b + "y; b=2"
		switch {
		case c == ';':
			want = "a=x; y; b=2"
		case c >= 0x80, c < ' ' && c != '\t', c == 0x7f:
			want = "b=2"
		}
		for _, joined := range []bool{false, true} {
			h := CookieHeader{Lines: []string{"a=x" + b + "y; " + DefaultCookieName + "=" + testID + "; b=2"}, Joined: joined}
			if rest, found := (Cookie{}).Cut(h); rest != want || !found {
				t.Errorf("byte %#x, joined %v: %q, %v; want %q", c, joined, rest, found, want)
			}
			if id, err := (Cookie{}).Read(h); err != nil || id.Reveal() != testID {
				t.Errorf("byte %#x, joined %v: Read: %v", c, joined, err)
			}
		}
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

// TestCookieAttributes: what browsers refuse is refused at the start.
func TestCookieAttributes(t *testing.T) {
	for _, test := range []struct {
		cookie Cookie
		good   bool
	}{
		{Cookie{}, true},
		{Cookie{Domain: "example.com"}, false}, // the default name is a __Host- one
		{Cookie{Insecure: true}, false},
		{Cookie{Name: "__host-x", Domain: "example.com"}, false},
		{Cookie{Name: "__HOST-x", Insecure: true}, false},
		{Cookie{Name: "__Host-Http-x", Insecure: true}, false},
		{Cookie{Name: "__Secure-x", Domain: "example.com"}, true},
		{Cookie{Name: "__secure-x", Insecure: true}, false},
		{Cookie{Name: "__Http-x", Insecure: true}, false},
		{Cookie{Name: "sid", Domain: "Sub.Example-1.com", Insecure: true}, true},
		{Cookie{Name: "sid", Domain: ".example.com"}, false},
		{Cookie{Name: "sid", Domain: "example.com."}, false},
		{Cookie{Name: "sid", Domain: "example..com"}, false},
		{Cookie{Name: "sid", Domain: "-a.com"}, false},
		{Cookie{Name: "sid", Domain: "a-.com"}, false},
		{Cookie{Name: "sid", Domain: "localhost"}, false},
		{Cookie{Name: "sid", Domain: "192.0.2.1"}, false},
		{Cookie{Name: "sid", Domain: "::1"}, false},
		{Cookie{Name: "sid", Domain: "example.com:8080"}, false},
		{Cookie{Name: "sid", Domain: "https://example.com"}, false},
		{Cookie{Name: "sid", Domain: "a.com; Secure"}, false},
		{Cookie{Name: "sid", Domain: "ö.com"}, false},
		{Cookie{Name: "sid", Domain: strings.Repeat("a", 64) + ".com"}, false},
		{Cookie{Name: "sid", Domain: strings.Repeat("a.", 127) + "com"}, false},
	} {
		if err := test.cookie.Validate(); (err == nil) != test.good {
			t.Errorf("%+v: %v", test.cookie, err)
		}
	}
}

// TestSetCookie: each attribute is there, and net/http drops none as invalid.
func TestSetCookie(t *testing.T) {
	id, _ := ParseID(testID)
	const gone = "=; Path=/; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; HttpOnly; Secure; SameSite=Lax"
	for want, got := range map[string]*http.Cookie{
		DefaultCookieName + "=" + testID + "; Path=/; HttpOnly; Secure; SameSite=Lax":           Cookie{}.Set(id),
		"__Secure-x=" + testID + "; Path=/; Domain=example.com; HttpOnly; Secure; SameSite=Lax": Cookie{Name: "__Secure-x", Domain: "example.com"}.Set(id),
		"sid=" + testID + "; Path=/; HttpOnly; SameSite=Lax":                                    Cookie{Name: "sid", Insecure: true}.Set(id),
		DefaultCookieName + gone: Cookie{}.Clear(),
		"sid" + strings.Replace(strings.Replace(gone, "/;", "/; Domain=a.b;", 1), "HttpOnly; Secure", "HttpOnly", 1): Cookie{Name: "sid", Domain: "a.b", Insecure: true}.Clear(),
	} {
		if got.String() != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	read, err := Cookie{}.Read(CookieHeader{Lines: []string{DefaultCookieName + "=" + Cookie{}.Set(id).Value}})
	if err != nil || read != id {
		t.Errorf("read back: %v", err)
	}
}

// TestCookieReadAllocatesNothing, however much a client sends.
func TestCookieReadAllocatesNothing(t *testing.T) {
	const ours = DefaultCookieName + "=" + testID
	for name, line := range map[string]string{
		"good": strings.Repeat("junk=x; ", 5000) + ours, "none": strings.Repeat("junk=\xff,y; ", 5000),
		"malformed": strings.Repeat("junk=x,", 5000) + ours + "=", "many": strings.Repeat(ours+"; ", 500),
	} {
		for _, joined := range []bool{false, true} {
			h := CookieHeader{Lines: []string{line, "a=1"}, Joined: joined}
			if n := testing.AllocsPerRun(10, func() { _, _ = Cookie{}.Read(h) }); n != 0 {
				t.Errorf("%s, joined %v: %v allocations", name, joined, n)
			}
		}
	}
}

// FuzzCookie compares with other parsers: how often ours stands there, by
// regular expressions; which ID, by net/http; what the others are, by pieces.
func FuzzCookie(f *testing.F) {
	const ours = DefaultCookieName + "=" + testID
	for _, line := range []string{
		"", ours, "a=1; " + ours, ours + "," + ours, "a=\xff;" + ours, `x="; ` + ours + `; "`, DefaultCookieName + " =;;,",
		"a=1," + ours + ",b", ours + ", " + ours, ours + ",, " + ours + ",\t" + ours, "a=\x01, " + ours, "\u00a0" + ours + ";" + DefaultCookieName + "\t",
	} {
		f.Add(line, "", false)
		f.Add("b=2", line, true)
	}
	f.Fuzz(func(t *testing.T, first, second string, joined bool) {
		h := CookieHeader{Lines: []string{first, second}, Joined: joined}
		id, err := Cookie{}.Read(h)
		n := countOurs(h)
		if (n == 0) != errors.Is(err, ErrNoCookie) || (n > 1) != errors.Is(err, ErrAmbiguousCookie) {
			t.Fatalf("ours stands there %d times, and Read says %v", n, err)
		}
		if err == nil {
			checkNetHTTP(t, h, id)
		}
		rest, found := Cookie{}.Cut(h)
		if found != (n > 0) {
			t.Fatalf("ours stands there %d times, and Cut found it: %v", n, found)
		}
		if !forwardable(rest) {
			t.Fatalf("%q cannot be sent", rest)
		}
		again := CookieHeader{Lines: []string{rest}, Joined: joined}
		if countOurs(again) > 0 || countOurs(CookieHeader{Lines: again.Lines}) > 0 {
			t.Fatalf("ours is still in %q", rest)
		}
		if _, err := (Cookie{}).Read(again); !errors.Is(err, ErrNoCookie) {
			t.Fatalf("ours is still in %q: %v", rest, err)
		}
		if twice, _ := (Cookie{}).Cut(again); twice != rest {
			t.Fatalf("%q became %q", rest, twice)
		}
		if joined && behindBlank.MatchString(first+";"+second) {
			return // it may go or stay, by what stands before it
		}
		if got, want := pieces(again), pieces(h); !slices.Equal(got, want) {
			t.Fatalf("left is %q, want %q", got, want)
		}
	})
}

// Ours begins a pair, or stands behind a comma that may have joined lines.
// Separators are doubled before, so that one match leaves the next its own.
var (
	oursRaw    = regexp.MustCompile(`(?:^|;)[ \t]*` + DefaultCookieName + `[ \t]*(?:=|;|$)`)
	oursJoined = regexp.MustCompile(`(?:(?:^|;)[ \t]*|,)` + DefaultCookieName + `[ \t]*(?:[=;,]|$)`)
	// What would be ours but for a blank behind the comma.
	behindBlank = regexp.MustCompile(`,[ \t]+` + DefaultCookieName)
)

func countOurs(h CookieHeader) (n int) {
	for _, line := range h.Lines {
		if h.Joined {
			n += len(oursJoined.FindAllString(strings.NewReplacer(";", ";;", ",", ",,").Replace(line), -1))
		} else {
			n += len(oursRaw.FindAllString(strings.ReplaceAll(line, ";", ";;"), -1))
		}
	}
	return n
}

// checkNetHTTP asks another parser, for lines that no comma has joined.
func checkNetHTTP(t *testing.T, h CookieHeader, id ID) {
	if h.Joined {
		return
	}
	r := &http.Request{Header: http.Header{"Cookie": h.Lines}}
	if c := r.CookiesNamed(DefaultCookieName); len(c) != 1 || c[0].Value != id.Reveal() {
		t.Fatalf("net/http reads %v", c)
	}
}

// pieces are the others' pairs that can be sent; of joined lines, what stands
// between the commas of those.
func pieces(h CookieHeader) (all []string) {
	for _, line := range h.Lines {
		for pair := range strings.SplitSeq(line, ";") {
			parts := []string{trimBlanks(pair)}
			if h.Joined {
				parts = strings.Split(pair, ",")
			}
			var others []string
			for _, part := range parts {
				part = trimBlanks(part)
				name, _, _ := strings.Cut(part, "=")
				if part != "" && trimBlanks(name) != DefaultCookieName {
					others = append(others, part)
				}
			}
			if forwardable(strings.Join(others, ",")) {
				all = append(all, others...)
			}
		}
	}
	return all
}
