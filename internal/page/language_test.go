package page

import (
	"slices"
	"strings"
	"testing"
)

// TestLanguage: what browsers and other programs send.
func TestLanguage(t *testing.T) {
	for accept, want := range map[string]string{
		"": "en", "de": "de", "DE": "de", "de-AT": "de", "pt-BR,pt;q=0.9,en-US;q=0.8,en;q=0.7": "pt", "pt-PT": "pt", "zh-Hant-TW": "en",
		"es-419,es;q=0.9": "es", "fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5": "fr", "it,fr;q=0.5": "fr", "it": "en", "it, *;q=0.1": "en",
		"*": "en", "*;q=0": "en", "en;q=0, *": "de", "en;q=0": "en", "en;q=0,de;q=0,pt;q=0,es;q=0,fr;q=0": "en", "en-US;q=0.1,de;q=0.2": "de", "de;q=0.1,*": "en",
		"de-AT, en;q=0.9, de;q=0.5": "de", "pt;q=0, pt-BR, fr;q=0.1": "fr", "pt-BR;q=0, pt;q=0.8": "pt", "de,fr": "de", "fr,de": "fr", "en,de": "en",
		// Not valid, or not a language.
		"de;q=": "en", "de;q=1.5": "en", "de;q=1.001": "en", "de;q=0.1234": "en", "de;q=x,fr;q=0.1": "fr", "de;level=1": "en", "de;q=1.": "de", "de;q=1.000": "de", "de ; Q=0.5": "de", "deu": "en", "d": "en", "-": "en",
		",,de,,": "de", ";;;": "en", "\x00,\xff-,de": "de", "de_AT": "en", "\u212a": "en",
		strings.Repeat("x,", 31) + "de": "de", strings.Repeat("x,", 32) + "de": "en", strings.Repeat("x", maxLanguages-4) + ",de-AT": "en", strings.Repeat("x", maxLanguages-3) + ",de": "de",
	} {
		if got := Language(accept, Languages); got != want {
			t.Errorf("%.80q: %s, want %s", accept, got, want)
		}
	}
	if got := Language("pt", []string{"en", "pt-BR"}); got != "pt-BR" {
		t.Errorf("a range without the region: %s", got)
	}
	if n := testing.AllocsPerRun(100, func() { Language("pt-BR,pt;q=0.9,en-US;q=0.8,en;q=0.7", Languages) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzLanguage: any bytes lead to a language that is offered, and one that is asked
// for before all others is had.
func FuzzLanguage(f *testing.F) {
	for _, seed := range []string{"", "de", "pt-BR,pt;q=0.9,en;q=0.8", "*;q=0", ";q=,-,*", strings.Repeat("de;q=0,", 500)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		if got := Language(accept, Languages); !slices.Contains(Languages, got) {
			t.Fatalf("%q: %q", accept, got)
		}
		if strings.Contains(accept, "0") {
			return // "fr" may be refused
		}
		if got := Language("fr,"+accept, Languages); got != "fr" {
			t.Fatalf("fr before %q: %q", accept, got)
		}
	})
}

func BenchmarkLanguage(b *testing.B) {
	for name, accept := range map[string]string{"usual": "pt-BR,pt;q=0.9,en-US;q=0.8,en;q=0.7", "hostile": strings.Repeat("a;q=0.001,", 200)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Language(accept, Languages)
			}
		})
	}
}
