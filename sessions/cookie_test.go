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
		{"bare name is another cookie", []string{DefaultCookieName}, false, ErrNoCookie, DefaultCookieName, false},
		{"bare name with blanks is another cookie", []string{"a; " + DefaultCookieName + " \t; b"}, false, ErrNoCookie, "a; " + DefaultCookieName + " \t; b", false},
		{"bare name of a sibling domain", []string{DefaultCookieName + "; " + ours}, false, nil, DefaultCookieName, true},
		{"empty value", []string{DefaultCookieName + "="}, false, ErrMalformed, "", true},
		{"alone", []string{ours}, false, nil, "", true},
		{"between others", []string{`a=1; ` + ours + `; b="2"; c`}, false, nil, `a=1; b="2"; c`, true},
		{"blanks before it", []string{"a=1; \t " + ours + ";b=2"}, false, nil, "a=1; b=2", true},
		{"a blank behind the value", []string{"a=1;" + ours + " ;b=2"}, false, ErrMalformed, "a=1; b=2", true},
		{"blanks around others", []string{"a=1 ; \tb = 2\t;" + ours + "; c=3 "}, false, nil, "a=1 ; b = 2\t; c=3", true},
		{"on a line of its own", []string{"a=1", ours, "b=2"}, false, nil, "a=1; b=2", true},
		{"twice", []string{ours + "; a=1; " + ours}, false, ErrAmbiguousCookie, "a=1", true},
		{"twice with two values", []string{ours + "; " + DefaultCookieName + "=" + testID[1:] + "A"}, false, ErrAmbiguousCookie, "", true},
		{"on two lines", []string{ours, ours}, false, ErrAmbiguousCookie, "", true},
		{"on two lines among others", []string{"a=1; " + ours, ours + "; b=2"}, false, ErrAmbiguousCookie, "a=1; b=2", true},
		{"twice, once empty", []string{ours + "; " + DefaultCookieName + "="}, false, ErrAmbiguousCookie, "", true},
		{"beside a bare name", []string{ours + "; " + DefaultCookieName}, false, nil, DefaultCookieName, true},
		{"in quotes", []string{DefaultCookieName + `="` + testID + `"`}, false, ErrMalformed, "", true},
		{"padded", []string{ours + "="}, false, ErrMalformed, "", true},
		{"blank before the value", []string{DefaultCookieName + "= " + testID}, false, ErrMalformed, "", true},
		{"blank before the equals sign makes another cookie", []string{DefaultCookieName + " =" + testID}, false, ErrNoCookie, DefaultCookieName + " =" + testID, false},
		{"tab before the equals sign makes another cookie", []string{DefaultCookieName + "\t=" + testID + "; " + ours}, false, nil, DefaultCookieName + "\t=" + testID, true},
		{"two equals signs", []string{DefaultCookieName + "==" + testID}, false, ErrMalformed, "", true},
		{"comma behind the value", []string{ours + ",b=2"}, false, ErrMalformed, "", true},
		{"no-break space before it", []string{"\u00a0" + ours}, false, ErrNoCookie, "\u00a0" + ours, false},
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
		{"joined: alone behind a comma", []string{"a=1; x=2," + ours + "; b=2"}, true, ErrAmbiguousCookie, "a=1; x=2; b=2", true},
		{"joined: behind a comma that begins the line", []string{"," + ours}, true, ErrAmbiguousCookie, "", true},
		{"joined: behind a comma that begins a pair", []string{"a=1; ," + ours}, true, ErrAmbiguousCookie, "a=1", true},
		{"joined: behind two commas", []string{"a=1,," + ours}, true, ErrAmbiguousCookie, "a=1,", true},
		{"joined: behind a blank and a comma", []string{"a=1 ," + ours}, true, ErrAmbiguousCookie, "a=1", true},
		{"joined: behind a comma in quotes", []string{`a="1,` + ours + `"; b=2`}, true, ErrAmbiguousCookie, `a="1; b=2`, true},
		{"joined: malformed behind a comma", []string{"a=1," + DefaultCookieName + "=x"}, true, ErrAmbiguousCookie, "a=1", true},
		{"joined: empty behind a comma", []string{"a=1," + DefaultCookieName + "="}, true, ErrAmbiguousCookie, "a=1", true},
		{"joined: on one line, planted on another", []string{ours, "a=1," + ours}, true, ErrAmbiguousCookie, "a=1", true},
		{"joined: blank before the equals sign behind a comma", []string{"a=1," + DefaultCookieName + " =" + testID}, true, ErrNoCookie, "a=1," + DefaultCookieName + " =" + testID, false},
		{"joined: another case behind a comma", []string{"a=1," + strings.ToLower(ours)}, true, ErrNoCookie, "a=1," + strings.ToLower(ours), false},
		{"joined: before and behind", []string{ours + "," + ours}, true, ErrAmbiguousCookie, "", true},
		{"joined: with another line behind", []string{ours + ",b=2"}, true, ErrMalformed, "b=2", true},
		{"joined: in the middle", []string{"a=1," + ours + ",b=2; c=3"}, true, ErrAmbiguousCookie, "a=1,b=2; c=3", true},
		{"joined: not directly behind", []string{"a=1, " + ours}, true, ErrNoCookie, "a=1, " + ours, false},
		{"joined: beside one not directly behind", []string{ours + "; a=1, " + ours}, true, nil, "a=1, " + ours, true},
		{"joined: bare name behind a comma", []string{"a=1," + DefaultCookieName}, true, ErrNoCookie, "a=1," + DefaultCookieName, false},
		{"joined: twice behind commas", []string{"a=1," + ours + "," + ours}, true, ErrAmbiguousCookie, "a=1", true},
		{"joined: another's prefix", []string{"a=1," + DefaultCookieName + "2=x"}, true, ErrNoCookie, "a=1," + DefaultCookieName + "2=x", false},
		// What stands behind the cut must not become ours by it.
		{"joined: another behind a blank", []string{ours + ", " + ours}, true, ErrMalformed, "", true},
		{"joined: another behind a tab", []string{ours + ",\t " + ours + ", b=2; c=3"}, true, ErrMalformed, "b=2; c=3", true},
		{"joined: bare before another", []string{DefaultCookieName + "," + ours}, true, ErrAmbiguousCookie, DefaultCookieName, true},
		{"joined: blanks of others", []string{"a=1 ," + ours + ", b=2"}, true, ErrAmbiguousCookie, "a=1 , b=2", true},
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
		DefaultCookieName + "=" + testID + "; Path=/; HttpOnly; Secure; SameSite=Lax":           Cookie{}.New(id),
		"__Secure-x=" + testID + "; Path=/; Domain=example.com; HttpOnly; Secure; SameSite=Lax": Cookie{Name: "__Secure-x", Domain: "example.com"}.New(id),
		"sid=" + testID + "; Path=/; HttpOnly; SameSite=Lax":                                    Cookie{Name: "sid", Insecure: true}.New(id),
		DefaultCookieName + gone: Cookie{}.Clear(),
		"sid" + strings.Replace(strings.Replace(gone, "/;", "/; Domain=a.b;", 1), "HttpOnly; Secure", "HttpOnly", 1): Cookie{Name: "sid", Domain: "a.b", Insecure: true}.Clear(),
	} {
		if got.String() != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	read, err := Cookie{}.Read(CookieHeader{Lines: []string{DefaultCookieName + "=" + Cookie{}.New(id).Value}})
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

// FuzzCookie compares with other readings: what Read says, by an automaton that
// goes through the bytes; which ID, by net/http; what the others are, by pieces.
func FuzzCookie(f *testing.F) {
	const ours = DefaultCookieName + "=" + testID
	for _, line := range []string{
		"", ours, "a=1; " + ours, ours + "," + ours, "a=\xff;" + ours, `x="; ` + ours + `; "`, DefaultCookieName + " =;;,",
		"a=1," + ours + ",b", ours + ", " + ours, ours + ",, " + ours + ",\t" + ours, "a=\x01, " + ours, "\u00a0" + ours + ";" + DefaultCookieName + "\t",
		"," + ours, "a=1 ," + ours + " ;b", DefaultCookieName + "=; " + ours, DefaultCookieName + "\t=" + testID + ";" + ours, DefaultCookieName + DefaultCookieName + "=",
	} {
		f.Add(line, "", false)
		f.Add("b=2", line, true)
	}
	f.Fuzz(func(t *testing.T, first, second string, joined bool) {
		h := CookieHeader{Lines: []string{first, second}, Joined: joined}
		id, err := Cookie{}.Read(h)
		seen := scan(h)
		if want := seen.verdict(); !errors.Is(err, want) {
			t.Fatalf("Read says %v, want %v", err, want)
		}
		if err == nil {
			checkNetHTTP(t, h, id)
		}
		checkPresented(t, h, seen)
		rest, found := Cookie{}.Cut(h)
		if found != (seen.begin+seen.behind > 0) {
			t.Fatalf("ours stands there %d times, and Cut found it: %v", seen.begin+seen.behind, found)
		}
		if !forwardable(rest) || strings.Trim(rest, " \t") != rest {
			t.Fatalf("%q cannot be sent", rest)
		}
		again := CookieHeader{Lines: []string{rest}, Joined: joined}
		if left := scan(again); left.begin+left.behind > 0 {
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

// FuzzLookalikes: a cookie is named as one that may hold our IDs only if it does, under a name
// that a login can set; and no other text of a client's is.
func FuzzLookalikes(f *testing.F) {
	for _, line := range []string{
		"", "sid=" + testID, DefaultCookieName + "=" + testID, "a=" + testID + "; b=" + testID + "x;c =" + testID, "a=1,b=" + testID, strings.Repeat("a="+testID+";", 10), "a\xff=" + testID, "=" + testID, "__Secure-a=" + testID, strings.Repeat("a", 257) + "=" + testID, testID + "=" + testID,
	} {
		f.Add(line, false)
		f.Add(line, true)
	}
	value := regexp.MustCompile(`\A[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\z`)
	token := regexp.MustCompile("\\A[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}\\z")
	f.Fuzz(func(t *testing.T, line string, joined bool) {
		names := Cookie{}.Lookalikes(CookieHeader{Lines: []string{line}, Joined: joined})
		if len(names) > 8 {
			t.Fatalf("%q: %d names", line, len(names))
		}
		var want []string
		for pair := range strings.SplitSeq(line, ";") {
			name, v, _ := strings.Cut(strings.TrimLeft(pair, " \t"), "=")
			if value.MatchString(v) && token.MatchString(name) && name != DefaultCookieName {
				want = append(want, name)
			}
		}
		if want = want[:min(8, len(want))]; !slices.Equal(names, want) {
			t.Fatalf("%q: %q, want %q", line, names, want)
		}
	})
}

// behindBlank is what would be ours but for a blank behind the comma.
var behindBlank = regexp.MustCompile(`,[ \t]+` + DefaultCookieName)

// A sighting is how often ours stands where a pair begins, and how often behind a
// comma that may have joined lines; and the last value of a pair's.
type sighting struct {
	begin, behind int
	value         string
}

// scan goes through the bytes of each line. fresh is where a pair may begin, and
// comma directly behind a comma of joined lines.
func scan(h CookieHeader) (s sighting) {
	const name = DefaultCookieName + "="
	for _, line := range h.Lines {
		fresh, comma := true, false
		for i := 0; i < len(line); i++ {
			here := strings.HasPrefix(line[i:], name)
			switch {
			case here && fresh:
				s.begin++
				s.value, _, _ = strings.Cut(line[i+len(name):], ";")
			case here && comma:
				s.behind++
			}
			fresh = line[i] == ';' || fresh && (line[i] == ' ' || line[i] == '\t')
			comma = h.Joined && line[i] == ','
		}
	}
	return s
}

// canonicalID is 43 letters of base64url, the last of which has no spare bits.
var canonicalID = regexp.MustCompile(`^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$`)

func (s sighting) verdict() error {
	switch {
	case s.behind > 0 || s.begin > 1:
		return ErrAmbiguousCookie
	case s.begin == 0:
		return ErrNoCookie
	case !canonicalID.MatchString(s.value):
		return ErrMalformed
	}
	return nil
}

// checkNetHTTP asks another parser, which passes over blanks before the equals
// sign, and so gets none.
func checkNetHTTP(t *testing.T, h CookieHeader, id ID) {
	if h.Joined {
		return
	}
	var lines []string
	for _, line := range h.Lines {
		lines = append(lines, regexp.MustCompile(`[ \t]+=`).ReplaceAllString(line, "_="))
	}
	r := &http.Request{Header: http.Header{"Cookie": lines}}
	if c := r.CookiesNamed(DefaultCookieName); len(c) != 1 || c[0].Value != id.Reveal() {
		t.Fatalf("net/http reads %v", c)
	}
}

// checkPresented: the ID that signs in is presented, and a presented ID was there.
func checkPresented(t *testing.T, h CookieHeader, seen sighting) {
	ids, _ := Cookie{}.AllPresented(h, nil)
	if seen.verdict() == nil && (len(ids) == 0 || ids[0].Reveal() != seen.value) {
		t.Fatalf("%d IDs are presented, and not the one that signs in", len(ids))
	}
	for i, id := range ids {
		if !strings.Contains(strings.Join(h.Lines, ";"), id.Reveal()) || slices.Contains(ids[:i], id) {
			t.Fatalf("ID %d was not there, or twice", i)
		}
	}
}

// pieces are the others' pairs that can be sent; of joined lines, what stands
// between the commas of those.
func pieces(h CookieHeader) (all []string) {
	for _, line := range h.Lines {
		for pair := range strings.SplitSeq(line, ";") {
			parts := []string{pair}
			if h.Joined {
				parts = strings.Split(pair, ",")
			}
			var others []string
			for i, part := range parts {
				if i == 0 {
					part = strings.TrimLeft(part, " \t")
				}
				if !strings.HasPrefix(part, DefaultCookieName+"=") {
					others = append(others, part)
				}
			}
			if !forwardable(strings.TrimLeft(strings.Join(others, ","), " \t")) {
				continue
			}
			for _, part := range others {
				if part = strings.Trim(part, " \t"); part != "" {
					all = append(all, part)
				}
			}
		}
	}
	return all
}

// TestAllPresented: every ID that signing out has to end, in each form.
func TestAllPresented(t *testing.T) {
	const ours = DefaultCookieName + "="
	var id [12]string
	for i := range id {
		id[i] = NewID().Reveal()
	}
	pairs := func(ids ...string) (line string) {
		for _, id := range ids {
			line += ours + id + "; "
		}
		return line
	}
	for _, test := range []struct {
		name   string
		lines  []string
		bearer []string
		want   []string
		more   bool
	}{
		{"nothing", []string{"a=1", ""}, []string{"Basic YTpi"}, nil, false},
		{"one", []string{"a=1; " + ours + id[0]}, nil, id[:1], false},
		{"two cookies", []string{pairs(id[:2]...)}, nil, id[:2], false},
		{"beside rubbish", []string{ours + id[0] + "; " + ours + "x"}, nil, id[:1], false},
		{"on two lines", []string{ours + id[0], ours + id[1]}, nil, id[:2], false},
		{"the same twice", []string{pairs(id[0], id[0])}, []string{"Bearer " + id[0]}, id[:1], false},
		{"cookie and bearer", []string{ours + id[0]}, []string{"bearer " + id[1]}, id[:2], false},
		{"two bearers", nil, []string{"Bearer " + id[0] + ",Bearer " + id[1]}, id[:2], false},
		{"in quotes", []string{ours + `"` + id[0] + `"`}, nil, id[:1], false},
		{"with blanks", []string{ours + " " + id[0] + " ; b"}, nil, id[:1], false},
		{"behind a comma", []string{"a=1," + ours + id[0]}, nil, id[:1], false},
		{"behind a comma and a blank", []string{"a=1, " + ours + id[0] + ", " + ours + id[1]}, nil, id[:2], false},
		{"before a comma", []string{ours + id[0] + ",b=2"}, nil, id[:1], false},
		{"another's", []string{"a=" + id[0] + "; " + DefaultCookieName + id[1] + "; " + DefaultCookieName + " =" + id[2] + "; x" + ours + id[3]}, nil, nil, false},
		{"no ID", []string{ours + id[0] + "="}, []string{"Bearer x"}, nil, false},
		{"eight", []string{pairs(id[:8]...)}, nil, id[:8], false},
		{"nine", []string{pairs(id[:9]...)}, nil, id[:8], true},
		{"nine with the bearer", []string{pairs(id[:8]...)}, []string{"Bearer " + id[8]}, id[:8], true},
		{"nine behind commas", []string{"a=," + strings.ReplaceAll(pairs(id[1:10]...), "; ", ",") + "; " + ours + id[0]}, nil, id[:8], false},
	} {
		ids, more := Cookie{}.AllPresented(CookieHeader{Lines: test.lines}, test.bearer)
		var got []string
		for _, id := range ids {
			got = append(got, id.Reveal())
		}
		if !slices.Equal(got, test.want) || more != test.more {
			t.Errorf("%s: %d IDs, more %v", test.name, len(got), more)
		}
	}
}
