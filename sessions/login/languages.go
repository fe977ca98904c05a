package login

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/page"
)

// translations are the texts by language; English is [DefaultTexts].
var translations = map[string]map[string]string{"de": german, "pt": portuguese, "es": spanish, "fr": french}

// A language is one in which the pages come.
type language struct {
	tag  string // as in HTML and in Content-Language
	text map[string]string
}

// languagesOf are the languages of c with their texts. The first is Lang, which a
// browser gets that asks for none of them.
func languagesOf(c Config) (list []language, err error) {
	if err := page.CheckTag(c.Lang); err != nil {
		return nil, err
	}
	offered := c.Languages
	if len(offered) == 0 && slices.Contains(page.Languages, primary(c.Lang)) {
		offered = page.Languages
	}
	list = []language{{tag: c.Lang, text: textsIn(primary(c.Lang))}}
	var errs []error
	for _, tag := range offered {
		switch {
		case slices.ContainsFunc(list, func(l language) bool { return primary(l.tag) == tag }) || tag == c.Lang:
		case !slices.Contains(page.Languages, tag):
			errs = append(errs, fmt.Errorf("languages: there are no texts in %q; there are some in %s", tag, strings.Join(page.Languages, ", ")))
		default:
			list = append(list, language{tag: tag, text: textsIn(tag)})
		}
	}
	return list, errors.Join(append(errs, replaceTexts(list, c.Texts))...)
}

// primary is the language of a tag without its region.
func primary(tag string) string {
	tag, _, _ = strings.Cut(tag, "-")
	return strings.ToLower(tag)
}

// textsIn returns a copy of the texts in a language, in English where there are none.
func textsIn(tag string) map[string]string {
	if text, ok := translations[tag]; ok {
		return maps.Clone(text)
	}
	return DefaultTexts()
}

// replaceTexts puts the texts of own in their places: "name" in the first language, and
// "de.name" in German.
func replaceTexts(list []language, own map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(own)) {
		l, name := list[0], key
		if tag, rest, ok := strings.Cut(key, "."); ok {
			i := slices.IndexFunc(list, func(l language) bool { return l.tag == tag || primary(l.tag) == tag })
			if i < 0 {
				return fmt.Errorf("texts: %q: the pages do not come in %q", key, tag)
			}
			l, name = list[i], rest
		}
		if _, ok := l.text[name]; !ok {
			return fmt.Errorf("texts: there is no text called %q", name)
		}
		l.text[name] = own[key]
		// The form for 1 is one more text, which a translation for an older version lacks.
		one := strings.TrimSuffix(key, oneSuffix) + oneSuffix
		if _, given := own[one]; !given && l.text[name+oneSuffix] != "" {
			l.text[name+oneSuffix] = own[key]
		}
	}
	return nil
}

// missingTexts are the texts of the first language that are neither the operator's nor
// in that language, and so stand there in English.
func missingTexts(lang string, own map[string]string) (names []string) {
	if slices.Contains(page.Languages, primary(lang)) {
		return nil
	}
	for name := range DefaultTexts() {
		_, one := own[strings.TrimSuffix(name, oneSuffix)]
		if _, ok := own[name]; !ok && !one {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// rightToLeft are the languages and scripts that are written so.
var rightToLeft = []string{"ar", "ckb", "dv", "fa", "he", "ks", "ps", "sd", "ug", "ur", "yi", "adlm", "arab", "hebr", "nkoo", "rohg", "syrc", "thaa"}

// direction is the dir of a language, empty for the usual one. A script beside the
// language decides (RFC 5646, section 2.2.3): az-Arab, but not ks-Deva.
func direction(tag string) string {
	parts := strings.Split(strings.ToLower(tag), "-")
	decides := parts[0]
	if len(parts) > 1 && len(parts[1]) == len("arab") {
		decides = parts[1]
	}
	if slices.Contains(rightToLeft, decides) {
		return "rtl"
	}
	return ""
}

// in are the pages in the language that a request asks for.
func (h *Handler) in(r *http.Request) *pages {
	return h.pages[page.Language(strings.Join(r.Header.Values("Accept-Language"), ","), h.languages)]
}

// speak is in for an answer that holds texts: it says in which language.
func (h *Handler) speak(w http.ResponseWriter, r *http.Request) *pages {
	p := h.in(r)
	w.Header().Set("Content-Language", p.frame.Lang)
	w.Header().Set("Vary", "Accept-Language")
	return p
}
