package sessions_test

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/sessions"
)

func TestReadBearer(t *testing.T) {
	id, other := sessions.NewID().Reveal(), sessions.NewID().Reveal()
	for _, test := range []struct {
		name  string
		lines []string
		n     int
	}{
		{"none", nil, 0},
		{"one", []string{"Bearer " + id}, 1},
		{"in any case", []string{"bEARER " + id}, 1},
		{"blanks around", []string{" \tBearer  " + id + "\t "}, 1},
		{"behind another's", []string{"Basic YTpi", "Bearer " + id}, 1},
		{"joined with another's", []string{"Basic YTpi,Bearer " + id}, 1},
		{"twice", []string{"Bearer " + other, "Bearer " + id}, 2},
		{"twice in one line", []string{"Bearer " + other + ", Bearer " + id}, 2},
		{"the same twice", []string{"Bearer " + id + ",Bearer " + id}, 2},
		{"a JWT", []string{"Bearer eyJhbGciOiJFZERTQSJ9.e30.c2ln"}, 0},
		{"another scheme", []string{"Basic " + id}, 0},
		{"no scheme", []string{id}, 0},
		{"no blank", []string{"Bearer" + id}, 0},
		{"quoted", []string{`Bearer "` + id + `"`}, 0},
		{"padded", []string{"Bearer " + id + "="}, 0},
		{"half", []string{"Bearer " + id[:42]}, 0},
		{"two IDs behind one scheme", []string{"Bearer " + id + " " + id}, 0},
		{"a tab for the blank", []string{"Bearer\t" + id}, 0},
		{"not canonical", []string{"Bearer " + strings.Repeat("A", 42) + "B"}, 0},
	} {
		got, n := sessions.ReadBearer(test.lines)
		if n != test.n || n == 1 && got.Reveal() != id {
			t.Errorf("%s: %d, want %d", test.name, n, test.n)
		}
	}
	for text, want := range map[string]bool{
		"Bearer " + id: true, "Bearer\t" + id: true, `Bearer "` + id + `"`: true, "Bearer " + id + "=": true, "Bearer " + id + " x": true,
		id: true, "Basic YTpi,x " + id: true, "Bearer eyJhbGciOiJIUzI1NiJ9.e30." + id: false, "Bearer " + id[1:]: false, "Basic YTpi": false, "": false,
		"Basic " + base64.StdEncoding.EncodeToString([]byte("someone:a password of 24 letters")): false, "Basic " + id: true, "Basic " + id + "=": true,
	} {
		if sessions.HoldsBearer([]string{"Basic x", text}) != want {
			t.Errorf("%q holds one: %v", text, !want)
		}
	}
	lines := []string{"Basic YTpi,Bearer " + id}
	if n := testing.AllocsPerRun(100, func() { sessions.ReadBearer(lines) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// credential is one of ours between two commas, which are doubled before, so that
// one match leaves the next its own.
var credential = regexp.MustCompile(`(?:^|,)[ \t]*[Bb][Ee][Aa][Rr][Ee][Rr] [ \t]*([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])[ \t]*(?:,|$)`)

// FuzzBearer: nothing but an ID behind the scheme is one, each counts, and those
// are presented and no other.
func FuzzBearer(f *testing.F) {
	id := sessions.NewID().Reveal()
	f.Add("Bearer "+id, "")
	f.Add("Basic YTpi,bearer "+id, "Bearer x")
	f.Add("Basic "+id+"=", "basic YTpi\tBearer a.b")
	f.Fuzz(func(t *testing.T, a, b string) {
		var want []string
		for _, line := range []string{a, b} {
			for _, match := range credential.FindAllStringSubmatch(strings.ReplaceAll(line, ",", ",,"), -1) {
				want = append(want, match[1])
			}
		}
		got, n := sessions.ReadBearer([]string{a, b})
		if n != len(want) || n > 0 && got.Reveal() != want[n-1] {
			t.Fatalf("%d IDs, want %q", n, want)
		}
		if n > 0 && !sessions.HoldsBearer([]string{a, b}) {
			t.Fatalf("%q and %q would be sent on", a, b)
		}
		slices.Sort(want)
		want = slices.Compact(want)
		presented, more := sessions.Cookie{}.AllPresented(sessions.CookieHeader{}, []string{a, b})
		if more != (len(want) > sessions.MaxPresented) || len(presented) != min(len(want), sessions.MaxPresented) {
			t.Fatalf("%d are presented, more %v, want %q", len(presented), more, want)
		}
		for _, id := range presented {
			if !slices.Contains(want, id.Reveal()) {
				t.Fatalf("an ID is presented that is not in %q", want)
			}
		}
	})
}
