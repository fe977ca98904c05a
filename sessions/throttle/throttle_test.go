package throttle

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"go.uber.org/goleak"
	"golang.org/x/text/collate"
	"golang.org/x/text/language"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

func TestAddressPrefix(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.77": "192.0.2.0/24", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "": "unknown"} {
		a, _ := netip.ParseAddr(address)
		if got := addressPrefix(a); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	for address, want := range map[string]string{"192.0.2.77": "", "2001:db8:1:2:3:4:5:6": "2001:db8:1::/48", "": ""} {
		a, _ := netip.ParseAddr(address)
		if got := addressSite(a); got != want {
			t.Errorf("%s is at the site %s, want %s", address, got, want)
		}
	}
}

// TestFold: the spellings of one name are one, and of others are others.
func TestFold(t *testing.T) {
	for _, same := range [][]string{
		{"ada", "ADA", "Ada", " ada\t", "ａｄａ", "𝒶𝒹𝒶", "a\u200bd\u00ada", "ádà", "a\u0301da"},
		{"strasse", "STRASSE", "straße", "STRAẞE"}, {"fi", "ﬁ", "FI"}, {"i", "I", "İ", "ı"}, {"σ", "ς", "Σ"}, {"ada lovelace", "AdaLovelace", "ada\u00a0lovelace"},
		{"soren", "søren", "SØREN", "so\u0338ren"}, {"lukasz", "Łukasz"}, {"aeon", "Æon", "ǽon"}, {"dordevic", "Đorđević"}, {"thor", "Þór"},
		{"o'brien", "O’Brien", "oʼbrien", "ŏ‘brien"}, {"anne-marie", "Anne–Marie"},
	} {
		for _, name := range same {
			if Fold(name) != Fold(same[0]) || accountHash(name) != accountHash(same[0]) {
				t.Errorf("%q is not %q: %q, %q", name, same[0], Fold(name), Fold(same[0]))
			}
		}
	}
	all := []string{"ada", "adam", "bob", "ада", "a.da", "a-da", "ada@example.com", ""}
	for i, a := range all {
		for _, b := range all[i+1:] {
			if Fold(a) == Fold(b) {
				t.Errorf("%q is %q", a, b)
			}
		}
	}
}

// TestFoldAsCollations: letters that a collation without case and accents takes for letters
// of ASCII have no counters of their own.
func TestFoldAsCollations(t *testing.T) {
	root := collate.New(language.Und, collate.Loose)
	var buffer collate.Buffer
	key := func(s string) string {
		buffer.Reset()
		return string(root.KeyFromString(&buffer, s))
	}
	names := make(map[string]string) // by what they are to the collation
	for a := 'a'; a <= 'z'; a++ {
		names[key(string(a))] = string(a)
		for b := 'a'; b <= 'z'; b++ {
			names[key(string([]rune{a, b}))] = string([]rune{a, b})
		}
	}
	same := 0
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		name, ok := names[key(string(r))]
		if !ok || !unicode.IsLetter(r) || strings.Contains(Fold(string(r)), "·") { // ŀ is l and a point
			continue
		}
		if same++; Fold(string(r)) != name {
			t.Errorf("%c is %s to a collation, and %s here", r, name, Fold(string(r)))
		}
	}
	if same < 1000 {
		t.Errorf("it was asked of %d letters only", same)
	}
}

// TestKnownAsTyped: two names that fold to one text count together, but a login to the one
// account does not free its prefix of the limit of the other.
func TestKnownAsTyped(t *testing.T) {
	address := netip.MustParseAddr("192.0.2.1")
	own, other := NewAttempt("ádá", address), NewAttempt("ada", address)
	if own.pair.Key != other.pair.Key || own.others[0].Key != other.others[0].Key {
		t.Error("they do not count together")
	}
	if own.known == other.known || own.others[0].Unless != own.known {
		t.Error("a login to the one account frees the other")
	}
	if again := NewAttempt("ada", netip.MustParseAddr("192.0.2.99")); again.known != other.known {
		t.Error("the prefix is not known again")
	}
}

func FuzzFold(f *testing.F) {
	for _, name := range []string{"ada", "İ", "ﬁ", "\xff", "ẞ", "ᾳ", "\u0345", "ꮙ"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		once := Fold(name)
		if Fold(once) != once {
			t.Fatalf("%q becomes %q and then %q", name, once, Fold(once))
		}
		// Letter case as PostgreSQL's lower and citext see it.
		if utf8.ValidString(name) && Fold(strings.ToLower(name)) != once {
			t.Fatalf("%q is not its lower case: %q, %q", name, once, Fold(strings.ToLower(name)))
		}
	})
}

// TestKeys: nothing that was typed, and one node of a Cluster for all.
func TestKeys(t *testing.T) {
	here, neighbour, elsewhere := netip.MustParseAddr("2001:db8:1:1::1"), netip.MustParseAddr("2001:db8:1:2::1"), netip.MustParseAddr("2001:db8:2:1::1")
	a, b, c, d := NewAttempt("ada", here), NewAttempt("bob", here), NewAttempt("ada", neighbour), NewAttempt("ada", elsewhere)
	keys := []string{a.known}
	for _, counter := range a.all() {
		keys = append(keys, counter.Key)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, keyPrefix) || strings.Contains(key, "ada") || strings.Contains(key, "2001") {
			t.Errorf("the key %s", key)
		}
	}
	slices.Sort(keys)
	if len(slices.Compact(keys)) != 5 || len(NewAttempt("ada", netip.MustParseAddr("192.0.2.1")).all()) != 3 {
		t.Errorf("the keys are %q", keys)
	}
	const account, prefix, site = 1, 2, 3
	shared := func(x, y Attempt) (which []int) {
		for i, counter := range x.all() {
			if counter.Key == y.all()[i].Key {
				which = append(which, i)
			}
		}
		return which
	}
	for name, test := range map[string]struct{ got, want []int }{
		"two accounts at a prefix":             {shared(a, b), []int{prefix, site}},
		"an account at two prefixes of a site": {shared(a, c), []int{account, site}},
		"an account at two sites":              {shared(a, d), []int{account}},
	} {
		if !slices.Equal(test.got, test.want) {
			t.Errorf("%s share the counters %v, want %v", name, test.got, test.want)
		}
	}
	for i, counter := range a.all() {
		if marked := i == account || i == site; (counter.Unless == a.known) != marked {
			t.Errorf("counter %d is left out where %q is marked", i, counter.Unless)
		}
	}
}
