package login

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/internal/page"
)

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// TestTranslations: every language has every text and no other, with the same
// placeholders, and no text is left in English by mistake.
func TestTranslations(t *testing.T) {
	if got := append([]string{"en"}, slices.Sorted(maps.Keys(translations))...); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(page.Languages))) {
		t.Errorf("texts in %q, and the languages are %q", got, page.Languages)
	}
	// What is the same word.
	same := map[string]string{"clock": "de pt es fr", "first_day": "de es", "roles": "es", "minutes": "fr", "minutes_one": "fr"}
	english := DefaultTexts()
	for tag, translation := range translations {
		for name := range translation {
			if _, ok := english[name]; !ok {
				t.Errorf("%s: there is no text %s", tag, name)
			}
		}
		for name, text := range english {
			other := translation[name]
			switch {
			case strings.TrimSpace(other) == "" || other != strings.TrimSpace(other):
				t.Errorf("%s: %s is %q", tag, name, other)
			case other == text && !strings.Contains(same[name], tag):
				t.Errorf("%s: %s is English: %s", tag, name, other)
			case strings.HasSuffix(text, ".") != strings.HasSuffix(other, "."):
				t.Errorf("%s: %s ends in another way: %s", tag, name, other)
			}
			want, got := placeholder.FindAllString(text, -1), placeholder.FindAllString(other, -1)
			slices.Sort(want)
			slices.Sort(got)
			// "another session" needs no number.
			if !slices.Equal(want, got) && (!strings.HasSuffix(name, oneSuffix) || len(got) > 0) {
				t.Errorf("%s: %s has the values %q, want %q", tag, name, got, want)
			}
		}
	}
}

// TestTextsFit: what holds between the texts of one language.
func TestTextsFit(t *testing.T) {
	for _, tag := range page.Languages {
		text := textsIn(tag)
		if err := validateMonths(text); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
		for c := range refusals {
			if text[stateText(c)] == "" {
				t.Errorf("%s: no state for %s", tag, c)
			}
		}
		for _, name := range []string{"more_sessions", "more_sessions_one"} {
			if !strings.Contains(text[name], text["sign_out_others"]) {
				t.Errorf("%s: %s names another button than %q: %s", tag, name, text["sign_out_others"], text[name])
			}
		}
		for name := range text {
			if plural, ok := strings.CutSuffix(name, oneSuffix); ok && name != "state_ended_one" && name != "ended_one" && text[plural] == "" {
				t.Errorf("%s: %s is the form for 1 of no text", tag, name)
			}
		}
		// Each page says what it is, and so does the title after a sign-in that failed.
		titles := map[string]string{}
		for _, name := range []string{"title_login", "title_account", "title_logout", "title_sessions", "title_error", "state_bad_credentials", "state_throttled", "state_unavailable", "state_signed_out"} {
			if titles[text[name]] != "" {
				t.Errorf("%s: %s and %s are both %q", tag, name, titles[text[name]], text[name])
			}
			titles[text[name]] = name
		}
	}
}

// TestDates: the date in each language, the first of a month, and today.
func TestDates(t *testing.T) {
	late, first := time.Date(2026, 11, 26, 21, 5, 0, 0, time.UTC), time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	for tag, want := range map[string][4]string{
		"en": {"26 Nov 2026, 21:05 UTC", "1 Mar 2027, 00:00 UTC", "21:05 UTC, or 30 minutes without use", "3 days ago"},
		"de": {"26. November 2026, 21:05 UTC", "1. März 2027, 00:00 UTC", "21:05 UTC oder nach 30 Minuten ohne Nutzung", "vor 3 Tagen"},
		"pt": {"26 de novembro de 2026, 21:05 UTC", "1º de março de 2027, 00:00 UTC", "21:05 UTC, ou após 30 minutos sem uso", "há 3 dias"},
		"es": {"26 de noviembre de 2026, 21:05 UTC", "1 de marzo de 2027, 00:00 UTC", "21:05 UTC, o tras 30 minutos sin uso", "hace 3 días"},
		"fr": {"26 novembre 2026 à 21:05 UTC", "1er mars 2027 à 00:00 UTC", "21:05 UTC, ou après 30 minutes sans activité", "il y a 3 jours"},
	} {
		p := &pages{text: textsIn(tag)}
		zone := time.FixedZone("", 3600)
		got := [4]string{p.when(late.In(zone)), p.when(first), p.until(late, late.Add(-21*time.Hour), 30*time.Minute), p.ago(72 * time.Hour)}
		if got != want {
			t.Errorf("%s: %q, want %q", tag, got, want)
		}
		if next := p.until(first, late, time.Hour); !strings.HasPrefix(next, p.when(first)) {
			t.Errorf("%s: the end on another day is %s", tag, next)
		}
		for _, name := range []string{"seconds", "minutes", "hours", "days"} {
			if one, two := p.count(name, 1), p.count(name, 2); strings.Replace(one, "1", "2", 1) == two {
				t.Errorf("%s: one is %q, and two are %q", tag, one, two)
			}
		}
	}
}

// TestLanguages: which language a browser gets.
func TestLanguages(t *testing.T) {
	for _, test := range []struct {
		config Config
		accept string
		want   string
	}{
		{Config{}, "", "en"},
		{Config{}, "de-AT,de;q=0.9,en;q=0.8", "de"},
		{Config{}, "pt-BR", "pt"},
		{Config{}, "it,ja;q=0.9", "en"},
		{Config{Lang: "de"}, "it,ja;q=0.9", "de"},
		{Config{Lang: "de"}, "en", "en"},
		{Config{Lang: "de-AT"}, "de", "de-AT"},
		{Config{Lang: "de-AT"}, "fr", "fr"},
		{Config{Lang: "it"}, "de", "it"}, // as it was
		{Config{Lang: "it", Languages: []string{"de"}}, "de", "de"},
		{Config{Lang: "it", Languages: []string{"de"}}, "en", "it"},
		{Config{Lang: "it", Languages: []string{"de"}}, "it-CH, de;q=0.9", "it"},
		{Config{Languages: []string{"en"}}, "de", "en"}, // one language only
		{Config{Languages: []string{"de"}}, "fr", "en"},
		{Config{Lang: "ar"}, "", "ar"},
	} {
		all, languages, err := newPages(test.config.withDefaults())
		if err != nil {
			t.Fatal(err)
		}
		h := &Handler{pages: all, languages: languages}
		a := httptest.NewRecorder()
		h.show(a, &http.Request{Header: http.Header{"Accept-Language": {test.accept}}}, view{page: "login"})
		if got := a.Header(); got.Get("Content-Language") != test.want || got.Get("Vary") != "Accept-Language" || !strings.Contains(a.Body.String(), `<html lang="`+test.want+`"`) {
			t.Errorf("%q of %v: %v %.60s", test.accept, languages, got, a.Body)
		}
		if rtl := strings.Contains(a.Body.String(), ` dir="rtl"`); rtl != (test.want == "ar") {
			t.Errorf("%s is written from the right: %v", test.want, rtl)
		}
	}
}

// TestHostileLanguages: long and broken headers cost no more than a look at their
// beginning, and lead to a page.
func TestHostileLanguages(t *testing.T) {
	all, languages, err := newPages(Config{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{pages: all, languages: languages}
	for _, lines := range [][]string{nil, {""}, {"\x00\xff"}, {strings.Repeat("x-", 30000)}, {strings.Repeat("de;q=0.001,", 6000)}, slices.Repeat([]string{"xx"}, 5000)} {
		took := time.Hour
		for range 10 { // the machine may be busy for some of them
			began := time.Now()
			if p := h.in(&http.Request{Header: http.Header{"Accept-Language": lines}}); p == nil {
				t.Errorf("no pages for %.40q", lines)
			}
			took = min(took, time.Since(began))
		}
		if took > 100*time.Millisecond {
			t.Errorf("%.40q takes %v", lines, took)
		}
	}
	if p := h.in(&http.Request{Header: http.Header{"Accept-Language": {"it", "fr"}}}); p.frame.Lang != "fr" {
		t.Errorf("of two lines: %s", p.frame.Lang)
	}
}

func TestDirection(t *testing.T) {
	for tag, want := range map[string]string{"en": "", "ar": "rtl", "ar-EG": "rtl", "HE": "rtl", "fa": "rtl", "ur-PK": "rtl", "az": "", "az-Arab": "rtl", "ks-Deva": "", "ar-Latn": "", "arc": "", "en-AR": "", "pa-Arab-PK": "rtl"} {
		if got := direction(tag); got != want {
			t.Errorf("%s: %q, want %q", tag, got, want)
		}
	}
}

// TestTextsOfOnesOwn: they belong to one language, and a plural stands for its singular.
func TestTextsOfOnesOwn(t *testing.T) {
	list, err := languagesOf(Config{Lang: "de-AT", Texts: map[string]string{
		"sign_in": "Los", "en.sign_in": "Go", "de.username": "Kürzel", "minutes": "{n} Min.", "fr.hours": "{n} h", "fr.hours_one": "une h",
	}})
	if err != nil {
		t.Fatal(err)
	}
	text := make(map[string]map[string]string)
	for _, l := range list {
		text[l.tag] = l.text
	}
	got := []string{
		text["de-AT"]["sign_in"], text["de-AT"]["username"], text["de-AT"]["minutes_one"], text["en"]["sign_in"], text["en"]["username"], text["en"]["minutes_one"],
		text["fr"]["hours_one"], text["es"]["sign_in"],
	}
	if want := []string{"Los", "Kürzel", "{n} Min.", "Go", "Username", "{n} minute", "une h", "Iniciar sesión"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if german["sign_in"] != "Anmelden" || texts["sign_in"] != "Sign in" {
		t.Error("the package's own texts have changed")
	}
	for want, c := range map[string]Config{
		`there is no text called "sing_in"`:             {Lang: "en", Texts: map[string]string{"sing_in": "x"}},
		`there is no text called "x.sign_in"`:           {Lang: "en", Texts: map[string]string{"en.x.sign_in": "x"}},
		`"it.sign_in": the pages do not come in "it"`:   {Lang: "en", Texts: map[string]string{"it.sign_in": "x"}},
		`"de.sign_in": the pages do not come in "de"`:   {Lang: "en", Languages: []string{"en"}, Texts: map[string]string{"de.sign_in": "x"}},
		`there are no texts in "it"; there are some in`: {Lang: "en", Languages: []string{"it"}},
		`language "de_DE": it is a tag such as`:         {Lang: "de_DE"},
		`language "de\r\nX: y"`:                         {Lang: "de\r\nX: y"},
		"months: 3 names":                               {Lang: "en", Texts: map[string]string{"months": "a b c"}},
	} {
		if _, _, err := newPages(c.withDefaults()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestMissingTexts: a language of one's own says once which texts are in English.
func TestMissingTexts(t *testing.T) {
	if missing := missingTexts("de-AT", nil); missing != nil {
		t.Errorf("of German: %q", missing)
	}
	own := DefaultTexts()
	delete(own, "sign_in")
	delete(own, "minutes_one") // its plural stands for it
	if missing := fmt.Sprint(missingTexts("it", own)); missing != "[sign_in]" {
		t.Errorf("of Italian: %s", missing)
	}
}

// TestPlace: what the login page says of a return address, which other sites choose.
func TestPlace(t *testing.T) {
	h := &Handler{config: Config{ReturnOrigins: []string{"https://app.example.com"}}}
	for location, want := range map[string]string{
		"/reports": "/reports", "/reports/7?x=your+account+is+locked": "/reports", "/reports?x": "/reports", "/reports#x": "/reports", "/v2/x": "/v2", "/2026": "", "/y2026": "/y2026",
		"/": "", "": "", "/?q": "", "/.auth/sessions": "", "//x": "",
		"https://app.example.com": "app.example.com", "https://app.example.com/x": "app.example.com", "https://app.example.com.evil.example/": "", "https://evil.example/": "",
		"/call-0800-5550123": "", "/call08005550123": "", "/evil.example": "", "/a%20b": "", "/Your": "", "/your_account": "", "/accountislockedcallus": "", "/\u202e": "", "/<b>": "", "/ä": "",
	} {
		if got := h.placeOf(location); got != want {
			t.Errorf("%s: %q, want %q", location, got, want)
		}
	}
}
